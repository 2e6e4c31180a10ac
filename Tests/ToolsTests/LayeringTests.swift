// Which room may know which: a sibling import without a declared dependency builds silently, so this reads the
// import lines. Also the few rules of house that a machine can check.

import Foundation
import Testing

@Suite struct LayeringTests {
    /// What each room may import of ours.
    static let allowed: [String: Set<String>] = [
        "Vectors": ["CKernels"],
        "Storage": ["Vectors", "CKernels", "CUring"],
        "Router": ["Vectors", "CKernels", "CBLAS"],
        "Index": ["Vectors", "Storage", "Router"],
        "Learn": ["Vectors", "Storage", "Router", "Index"],
        "Build": ["Vectors", "Storage", "Router", "Index", "Learn"],
        "Tools": ["Vectors", "Storage", "Router", "Index", "Learn", "Build", "ArgumentParser"],
    ]
    /// What everybody may import.
    static let system: Set<String> = ["Foundation", "Glibc", "Synchronization", "Dispatch"]

    static let sources = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Sources")

    @Test func roomsImportOnlyWhatTheyMayKnow() throws {
        let files = try Self.files(endings: ["swift"])
        #expect(files.count > 5)
        for file in files {
            let allowed = try #require(Self.allowed[file.room], "no rule for the room of \(file.name)")
            for module in file.swiftImports where !Self.system.contains(module) {
                #expect(allowed.contains(module), "\(file.name) imports \(module)")
            }
        }
    }

    @Test func onlyTheRingKnowsTheShimAndOnlyTheShimKnowsLiburing() throws {
        for file in try Self.files(endings: ["swift"]) where file.swiftImports.contains("CUring") {
            #expect(file.name == "Storage/Devices/Ring.swift")
        }
        for file in try Self.files(endings: ["c", "h"]) where file.text.contains("<liburing") {
            #expect(file.name == "CUring/uring.c")
        }
    }

    @Test func noFileOutgrowsItsSubject() throws {
        for file in try Self.files(endings: ["swift", "c", "h"]) {
            let lines = file.text.split(separator: "\n", omittingEmptySubsequences: false).count
            #expect(lines <= 450, "\(file.name) has \(lines) lines")
        }
    }

    @Test func nothingEndsTheProcessOnInput() throws {
        for file in try Self.files(endings: ["swift"]) {
            for banned in ["try" + "!", "as" + "! ", "fatalError" + "("] {
                #expect(!file.text.contains(banned), "\(file.name) has \(banned)")
            }
        }
    }

    /// A library knows parameters; what they are called on a command line is the command's to say.
    @Test func noMessageOfALibrarySpeaksOfOptions() throws {
        for file in try Self.files(endings: ["swift"]) where file.room != "Tools" {
            for line in file.text.split(separator: "\n") {
                let code = line.trimmingCharacters(in: .whitespaces)
                guard !code.hasPrefix("//") else { continue }
                #expect(
                    code.range(of: #"".*--[a-z]"#, options: .regularExpression) == nil,
                    "\(file.name) has an option in a message: \(code)")
            }
        }
    }

    struct SourceFile {
        /// Path below Sources.
        var name: String
        var text: String

        var room: String { String(name.prefix { $0 != "/" }) }

        var swiftImports: [String] {
            text.split(separator: "\n").compactMap { line in
                var words = line.split(separator: " ").map(String.init)
                while let first = words.first,
                    first.hasPrefix("@") || ["public", "package", "internal"].contains(first)
                {
                    words.removeFirst()
                }
                guard words.first == "import", words.count >= 2 else { return nil }
                // `import struct JobProgress` names the module second.
                let path = words.count > 2 ? words[2] : words[1]
                return String(path.prefix { $0 != "." })
            }
        }
    }

    static func files(endings: [String]) throws -> [SourceFile] {
        let root = sources.path
        guard let walker = FileManager.default.enumerator(atPath: root) else { return [] }
        var files: [SourceFile] = []
        for case let name as String in walker where endings.contains((name as NSString).pathExtension) {
            files.append(
                SourceFile(name: name, text: try String(contentsOfFile: root + "/" + name, encoding: .utf8)))
        }
        return files
    }
}
