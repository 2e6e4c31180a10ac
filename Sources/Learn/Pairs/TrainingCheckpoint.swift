// Checkpoints of a training: what the trainer needs to go on after a kill, written after every epoch, and labels, written
// after every block of queries. A checkpoint is found by what it belongs to (index, pairs, parameters), so that several
// trainings of one command share a directory and none takes up another's.

import Foundation
import Index
import Router
import Storage
import Synchronization

/// A directory of checkpoints.
public struct TrainingCheckpoints: Sendable {
    public let directory: String
    /// Called after each checkpoint. What it throws ends the training.
    package var afterStore: (@Sendable () throws -> Void)?
    /// Queries of a block of labels for each record that is read for it, about.
    package var queriesARecord = 1024
    /// Files that this run has read or written: what lies there besides is another's.
    private let own = OwnFiles()
    private static let suffix = ".training"
    private static let (identityTag, stateTag) = ("identity", "state")

    /// - Parameter directory: made when the first checkpoint is written.
    public init(directory: String) { self.directory = directory }

    /// Hands over the state that was kept for `identity`, if there is one.
    ///
    /// - Throws: `StorageError` for a checkpoint that is damaged, `IndexError.inconsistent` for one that `take` refuses.
    func restore(_ identity: String, take: ([UInt8]) -> Bool) throws {
        let path = path(identity)
        guard FileManager.default.fileExists(atPath: path) else { return }
        let sections = try TaggedFile.read(path: path)
        guard sections[Self.identityTag] == Array(identity.utf8), let state = sections[Self.stateTag] else {
            return
        }
        own.add(path)
        guard take(state) else {
            throw IndexError.inconsistent(
                path: path, detail: "holds no state of this training; remove the file to train from the start"
            )
        }
    }

    /// Keeps a state in place of the one before.
    func store(_ state: [UInt8], identity: String) throws {
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let path = path(identity)
        let fresh = path + ".new"
        own.add(path)
        own.add(fresh)
        try? FileManager.default.removeItem(atPath: fresh)
        try TaggedFile.write(
            path: fresh, sections: [(Self.identityTag, Array(identity.utf8)), (Self.stateTag, state)])
        guard rename(fresh, path) == 0 else {
            throw StorageError.systemCall("rename", path: path, errno: errno)
        }
        try afterStore?()
    }

    /// Removes the checkpoints that this run has read or written, and the directory where nothing else lies in it.
    public func discard() {
        for path in own.paths { unlink(path) }
        rmdir(directory)
    }

    private func path(_ identity: String) -> String {
        let bytes = Array(identity.utf8)
        return directory + "/" + Checksum.text(Checksum.crc32c(bytes, count: bytes.count)) + Self.suffix
    }
}

/// Paths, noted from any thread.
private final class OwnFiles: Sendable {
    private let noted = Mutex<Set<String>>([])

    var paths: Set<String> { noted.withLock { $0 } }

    func add(_ path: String) { noted.withLock { _ = $0.insert(path) } }
}

extension DiskIndex {
    /// Tells these segments from others.
    package var segmentsIdentity: String? {
        manifest.files[IndexFiles.segmentsName].map { "\($0.byteCount) \(Checksum.text($0.crc32c))" }
    }

    /// What a training hangs on: the segments, the pairs, where vectors live (planning tries homes that no segments
    /// have), and every parameter. Empty where nothing is kept.
    func trainingIdentity(pairs: TrainingPairs, homes: Homes, parameters: PredictorParameters) -> String {
        guard parameters.checkpoints != nil else { return "" }
        let queries = Checksum.crc32c(pairs.queries.bytes, count: pairs.queries.byteCount)
        func checksum(_ numbers: [UInt32]) -> String {
            Checksum.text(
                numbers.withUnsafeBytes { raw in
                    raw.baseAddress.map { Checksum.crc32c($0, count: raw.count) } ?? 0
                })
        }
        var described = parameters.description
        // Changes with what a state holds.
        described["version"] = "2"
        described["segments"] = segmentsIdentity
        described["queries"] = "\(pairs.queries.count) \(Checksum.text(queries))"
        described["neighbours"] = "\(pairs.neighbourCount) \(checksum(pairs.neighbours))"
        described["homes"] = "\(checksum(homes.starts)) \(checksum(homes.partitions))"
        described["held-out"] = String(pairs.heldOutCount)
        described["batch"] = String(parameters.training.batchSize)
        described["rate"] = String(parameters.training.rate)
        described["patience"] = String(parameters.training.patience)
        described["candidates"] = String(parameters.trainingCandidates)
        return described.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }.joined(separator: "\n")
    }
}
