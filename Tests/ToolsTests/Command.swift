// Runs the built `sonde` as a user does: arguments in, exit code and text out.

import Foundation
import Testing

/// One finished run of the command.
struct CommandResult {
    var code: Int32
    var out: String
    var err: String

    /// The error's one line, or nil where stderr is not exactly that.
    var errorLine: String? {
        let lines = err.split(separator: "\n", omittingEmptySubsequences: false)
        guard lines.count == 2, lines[1].isEmpty, lines[0].hasPrefix("sonde: ") else { return nil }
        return String(lines[0])
    }
}

/// A directory of its own for one test, gone when the test ends.
final class Scratch {
    let path: String

    init(in parent: URL = FileManager.default.temporaryDirectory) throws {
        path = parent.appendingPathComponent("sonde-tools-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String) -> String { path + "/" + name }

    func bytes(_ name: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: file(name))) }

    var names: [String] { (try? FileManager.default.contentsOfDirectory(atPath: path).sorted()) ?? [] }
}

/// Where the test bundle and the command lie.
let productDirectory = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    .deletingLastPathComponent()

/// Runs the binary that lies beside the test bundle.
func sonde(_ arguments: [String], environment: [String: String] = [:]) throws -> CommandResult {
    try run(productDirectory.appendingPathComponent("sonde").path, arguments, environment: environment)
}

/// What a command prints that has nothing to complain of.
@discardableResult
func succeed(_ arguments: [String], _ location: SourceLocation = #_sourceLocation) throws -> String {
    let result = try sonde(arguments)
    #expect(result.code == 0 && result.err.isEmpty, "\(arguments): \(result.err)", sourceLocation: location)
    return result.out
}

/// Runs a program to its end, with `environment` besides this process's own.
func run(_ program: String, _ arguments: [String], environment: [String: String] = [:]) throws
    -> CommandResult
{
    let process = Process()
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = arguments
    if !environment.isEmpty {
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    }
    // Files instead of pipes: a pipe that fills up while the other one is read would stop the command.
    let scratch = try Scratch()
    for name in ["out", "err"] {
        _ = FileManager.default.createFile(atPath: scratch.file(name), contents: nil)
    }
    process.standardOutput = try FileHandle(forWritingTo: URL(fileURLWithPath: scratch.file("out")))
    process.standardError = try FileHandle(forWritingTo: URL(fileURLWithPath: scratch.file("err")))
    try process.run()
    process.waitUntilExit()
    return CommandResult(
        code: process.terminationReason == .exit ? process.terminationStatus : -1,
        out: String(decoding: try scratch.bytes("out"), as: UTF8.self),
        err: String(decoding: try scratch.bytes("err"), as: UTF8.self))
}
