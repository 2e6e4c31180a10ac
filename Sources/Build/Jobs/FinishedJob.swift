// Jobs that were done before, and jobs that are done though nothing more can be said of them: neither is a failure to
// whoever runs many.

import Index
import Storage

/// Finding what the same job has made before.
public enum FinishedJob {
    /// What the index at `path` is, where this job has made it; nil where nothing is there.
    ///
    /// - Throws: `storage` of kind `exists` where it is another job's, or nothing tells whose; whatever opening it
    ///   throws.
    public static func report(at path: String, of job: JobIdentity) throws(IndexError) -> BuildReport? {
        guard try IndexError.door({ try exists(at: path, of: job) }) else { return nil }
        return BuildReport(of: try DiskIndex(path: path), stages: [])
    }

    /// Reads a result that was just published.
    static func reading<Value>(_ path: String, _ body: () throws -> Value) throws(IndexError) -> Value {
        do {
            return try body()
        } catch {
            throw .unread(IndexError(error), path: path)
        }
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
