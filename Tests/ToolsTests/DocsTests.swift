// The pages that people read: every link leads somewhere, every file that is named is there, every page can be found
// from the index, and every table of figures is a table.

import Foundation
import Testing

@Suite struct DocsTests {
    private static let root = LayeringTests.sources.deletingLastPathComponent()

    /// A text file of the repository.
    private struct Page {
        /// Path from the root of the repository.
        var name: String
        var text: String

        var directory: String {
            name.contains("/") ? String(name[..<(name.lastIndex(of: "/") ?? name.startIndex)]) : ""
        }

        /// Targets of Markdown links and pictures, as they are written.
        var links: [String] { text.matches(of: /\]\(([^)\s]+)\)/).map { String($0.1) } }

        /// Anchors that GitHub makes of the headings.
        var anchors: Set<String> {
            Set(
                text.split(separator: "\n").filter { $0.hasPrefix("#") }.map { line in
                    line.drop { $0 == "#" || $0 == " " }.lowercased().filter {
                        $0.isLetter || $0.isNumber || $0 == " " || $0 == "-" || $0 == "_"
                    }.replacing(" ", with: "-")
                })
        }
    }

    /// All files below the folders named, and README.md, by path from the root.
    private static func pages(in folders: [String], endings: Set<String>) throws -> [Page] {
        var names: [String] = []
        for folder in folders {
            let start = root.appendingPathComponent(folder)
            let walk = try #require(FileManager.default.enumerator(atPath: start.path))
            while let name = walk.nextObject() as? String {
                let last = (name as NSString).lastPathComponent
                if last == ".build" || last == "out" || last == "__pycache__" {
                    walk.skipDescendants()
                } else if endings.contains((name as NSString).pathExtension),
                    walk.fileAttributes?[.type] as? FileAttributeType == .typeRegular
                {
                    names.append(folder + "/" + name)
                }
            }
        }
        return try (names.sorted() + ["README.md"]).map {
            Page(name: $0, text: try String(contentsOf: root.appendingPathComponent($0), encoding: .utf8))
        }
    }

    private static func documents() throws -> [Page] { try pages(in: ["docs"], endings: ["md"]) }

    private static func exists(_ path: String) -> Bool {
        FileManager.default.fileExists(atPath: root.appendingPathComponent(path).path)
    }

    /// A link of a page as a path from the root, without its anchor; nil where it leads out of the repository.
    private static func target(of link: String, in page: Page) -> (path: String, anchor: String?)? {
        guard link.firstMatch(of: /^[a-z]+:/) == nil else { return nil }
        let parts = link.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false).map(
            String.init)
        let joined = parts[0].isEmpty ? page.name : page.directory + "/" + parts[0]
        var path: [Substring] = []
        for step in joined.split(separator: "/") where step != "." {
            if step == ".." { _ = path.popLast() } else { path.append(step) }
        }
        return (path.joined(separator: "/"), parts.count > 1 ? parts[1] : nil)
    }

    @Test func everyLinkLeadsSomewhere() throws {
        let documents = try Self.documents()
        #expect(documents.count > 20)
        let anchors = Dictionary(uniqueKeysWithValues: documents.map { ($0.name, $0.anchors) })
        for page in documents {
            for link in page.links {
                guard let (path, anchor) = Self.target(of: link, in: page) else { continue }
                #expect(Self.exists(path), "\(page.name) links to \(link)")
                if let anchor, let known = anchors[path] {
                    #expect(
                        known.contains(anchor), "\(page.name) links to \(link), which has no such heading")
                }
            }
        }
    }

    @Test func everyPageIsFoundFromTheIndex() throws {
        let documents = try Self.documents()
        let byName = Dictionary(uniqueKeysWithValues: documents.map { ($0.name, $0) })
        var found: Set<String> = ["README.md"]
        var open = ["README.md"]
        while let name = open.popLast() {
            guard let page = byName[name] else { continue }
            for link in page.links {
                guard let (path, _) = Self.target(of: link, in: page), found.insert(path).inserted else {
                    continue
                }
                open.append(path)
            }
        }
        let data = try Self.pages(in: ["docs"], endings: ["csv", "svg"]).filter { $0.name != "README.md" }
        for page in documents + data {
            let isFound = found.contains(page.name)
            #expect(isFound, "no page links to \(page.name)")
        }
    }

    @Test func everyFileThatIsNamedIsThere() throws {
        let sources = try Self.pages(
            in: ["Sources", "Tests", "bench"], endings: ["swift", "c", "h", "py"])
        let baseNames = Set(sources.map { ($0.name as NSString).lastPathComponent })
        let drawings = try Self.pages(in: ["docs"], endings: ["svg"]).filter { $0.text.contains("<text") }
        for page in try Self.documents() + drawings {
            // A name may go on in the next line of a drawing.
            let text = page.text.replacing(/<tspan[^>]*>/, with: "")
            for match in text.matches(
                of: /\b(?:Sources|Tests|bench|docs|scripts)\/[A-Za-z0-9_\/.+-]*[A-Za-z0-9_]/)
            {
                let path = String(match.0)
                if path.hasPrefix("bench/out") { continue }
                #expect(Self.exists(path), "\(page.name) names \(path)")
            }
            for match in text.matches(of: /\b[A-Za-z][A-Za-z0-9_+]*\.(?:swift|c|h)\b/) {
                let isThere = baseNames.contains(String(match.0))
                #expect(isThere, "\(page.name) names \(match.0)")
            }
        }
    }

    @Test func sourcesNameOnlyPagesThatAreThere() throws {
        let sources = try Self.pages(
            in: ["Sources", "Tests", "bench"], endings: ["swift", "c", "h", "py", ""])
        for page in sources where !page.name.hasSuffix("DocsTests.swift") {
            for match in page.text.matches(of: /\bdocs\/[A-Za-z0-9_\/.-]+\.(?:md|svg|csv)\b/) {
                #expect(Self.exists(String(match.0)), "\(page.name) names \(match.0)")
            }
        }
        for page in try sources + Self.documents() where !page.name.hasSuffix("DocsTests.swift") {
            // Notes that lie outside of the repository.
            let hidden = page.text.firstMatch(of: /(?:^|[^A-Za-z-])(?:(?:methods|architecture)\.md|shared\/)/)
            let isOpen = hidden == nil
            #expect(isOpen, "\(page.name) names a file that nobody can open")
        }
    }

    @Test func everyTableOfFiguresIsATable() throws {
        let tables = try Self.pages(in: ["docs/results/data"], endings: ["csv"]).filter {
            $0.name != "README.md"
        }
        let index = try #require(tables.first { $0.name.hasSuffix("/index.csv") })
        for table in tables {
            let lines = table.text.split(separator: "\n").map { Self.fieldCount(String($0)) }
            #expect(
                lines.count > 1 && lines.allSatisfy { $0 == lines[0] }, "\(table.name): rows differ in length"
            )
            let name = (table.name as NSString).lastPathComponent
            if name != "index.csv" {
                #expect(
                    index.text.contains("\n\(name),"),
                    "\(name) has no line in index.csv: its conditions are lost")
            }
        }
    }

    /// Fields of a line of CSV.
    private static func fieldCount(_ line: String) -> Int {
        var (count, isQuoted) = (1, false)
        for character in line {
            if character == "\"" { isQuoted.toggle() }
            if character == "," && !isQuoted { count += 1 }
        }
        return count
    }
}
