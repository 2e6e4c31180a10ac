// Jobs that were done before, and jobs that are done though nothing more can be said of them: neither is a failure to
// whoever runs many.

import Index
import Storage

/// Finding what the same job has made before.
public enum FinishedJob {
    /// What the index at `path` is, where this job has made it; nil where nothing is there.
    ///
    /// - Throws: kind `exists` where it is another job's, or nothing tells whose; whatever opening it throws.
    public static func report(at path: String, of job: JobIdentity) throws -> BuildReport? {
        guard try exists(at: path, of: job) else { return nil }
        return BuildReport(of: try DiskIndex(path: path), stages: [])
    }

    /// Whether this job has made the directory at `path`; false where nothing is there.
    static func exists(at path: String, of job: @autoclosure () throws -> JobIdentity) throws -> Bool {
        guard Directory.exists(path) else { return false }
        let names = [IndexFiles(directory: path).manifest, path + "/" + SharedPartitions.manifestName]
        guard let name = names.first(where: { Directory.exists($0) }),
            let made = try Manifest.read(path: name).job
        else {
            throw taken(path, "exists already, and does not say which job made it")
        }
        guard made == (try job().digest) else {
            throw taken(path, "exists already, and is what another job has made")
        }
        return true
    }

    private static func taken(_ path: String, _ detail: String) -> StorageError {
        StorageError(.exists, path: path, detail: detail, advice: "remove it or choose another name")
    }
}

/// A result that is whole and has its name, and could not be read again to tell of it.
public struct UnreadResult: Error, CustomStringConvertible {
    public let path: String
    public let cause: any Error

    public var description: String {
        "\(path) is finished and published; it could not be read again to tell of it: \(cause)"
    }

    /// Reads a result that was just published.
    static func reading<Value>(_ path: String, _ body: () throws -> Value) throws -> Value {
        do {
            return try body()
        } catch {
            throw UnreadResult(path: path, cause: error)
        }
    }
}
