// A directory that goes with its test, and the bytes of what lies in one.

import Foundation
import Testing

/// A directory of one test, removed with it.
package final class TemporaryDirectory: Sendable {
    package let path: String

    /// On the disk of the temporary directory, or where `parent` says.
    package init(parent: String = NSTemporaryDirectory()) throws {
        path = parent + (parent.hasSuffix("/") ? "" : "/") + "sonde-test-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    package func file(_ name: String) -> String { path + "/" + name }

    /// What lies in the directory, hidden names too.
    package var names: [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: path).sorted()) ?? []
    }

    /// Without syncing, which Foundation's own writing does: tests damage files thousands of times.
    package func write(_ bytes: [UInt8], as name: String) throws -> String {
        // Truncating a file and writing it again makes ext4 flush it; removing it does not.
        unlink(file(name))
        let handle = try #require(fopen(file(name), "w"))
        defer { fclose(handle) }
        try #require(fwrite(bytes, 1, bytes.count, handle) == bytes.count)
        return file(name)
    }
}

/// The bytes of every file in a directory, by name.
package func contents(of directory: String) throws -> [String: Data] {
    var files: [String: Data] = [:]
    for name in try FileManager.default.contentsOfDirectory(atPath: directory) {
        files[name] = try Data(contentsOf: URL(fileURLWithPath: directory + "/" + name))
    }
    return files
}

/// Names of files whose bytes differ, or that only one of the two directories has.
package func differences(_ a: String, _ b: String) throws -> [String] {
    let (left, right) = (try contents(of: a), try contents(of: b))
    return Set(left.keys).union(right.keys).filter { left[$0] != right[$0] }.sorted()
}
