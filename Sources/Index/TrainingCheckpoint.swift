// Checkpoints of a training: what the trainer needs to go on after a kill, written after every epoch. A checkpoint is
// found by what it belongs to (index, pairs, parameters), so that several trainings of one command share a directory
// and none takes up another's.

import Foundation
import Router
import Storage

/// A directory of checkpoints.
public struct TrainingCheckpoints: Sendable {
    public let directory: String
    private static let suffix = ".training"
    private static let (identityTag, stateTag) = ("identity", "state")

    /// - Parameter directory: made when the first checkpoint is written.
    public init(directory: String) { self.directory = directory }

    /// Gives the trainer back the state that was kept for `identity`, if there is one.
    ///
    /// - Throws: `StorageError` for a checkpoint that is damaged.
    func restore(_ trainer: PredictorTrainer, identity: String) throws {
        let path = path(identity)
        guard FileManager.default.fileExists(atPath: path) else { return }
        let sections = try TaggedFile.read(path: path)
        guard sections[Self.identityTag] == Array(identity.utf8), let bytes = sections[Self.stateTag] else {
            return
        }
        let state = bytes.withUnsafeBytes { raw in
            (0..<raw.count / 4).map {
                Float(
                    bitPattern: UInt32(
                        littleEndian: raw.loadUnaligned(fromByteOffset: $0 * 4, as: UInt32.self)))
            }
        }
        guard trainer.restore(state) else {
            throw IndexError.inconsistent(
                path: path, detail: "holds no state of this training; remove the file to train from the start"
            )
        }
    }

    /// Keeps the trainer's state in place of the one before.
    func store(_ trainer: PredictorTrainer, identity: String) throws {
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let path = path(identity)
        let fresh = path + ".new"
        try? FileManager.default.removeItem(atPath: fresh)
        let state = trainer.state.flatMap { value in
            withUnsafeBytes(of: value.bitPattern.littleEndian, Array.init)
        }
        try TaggedFile.write(
            path: fresh, sections: [(Self.identityTag, Array(identity.utf8)), (Self.stateTag, state)])
        guard rename(fresh, path) == 0 else {
            throw StorageError.systemCall("rename", path: path, errno: errno)
        }
    }

    /// Removes all checkpoints, and the directory where nothing else lies in it.
    public func discard() {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        for name in names where name.hasSuffix(Self.suffix) || name.hasSuffix(Self.suffix + ".new") {
            try? FileManager.default.removeItem(atPath: directory + "/" + name)
        }
        rmdir(directory)
    }

    private func path(_ identity: String) -> String {
        let bytes = Array(identity.utf8)
        return directory + "/" + Checksum.text(Checksum.crc32c(bytes, count: bytes.count)) + Self.suffix
    }
}

extension DiskIndex {
    /// What a training hangs on: the segments, the pairs and every parameter.
    func trainingIdentity(pairs: TrainingPairs, parameters: PredictorParameters) -> String {
        let queries = Checksum.crc32c(pairs.queries.bytes, count: pairs.queries.byteCount)
        let neighbours = pairs.neighbours.withUnsafeBytes { raw in
            raw.baseAddress.map { Checksum.crc32c($0, count: raw.count) } ?? 0
        }
        var described = parameters.description
        described["segments"] = manifest.files[IndexFiles.segmentsName].map {
            "\($0.byteCount) \(Checksum.text($0.crc32c))"
        }
        described["queries"] = "\(pairs.queries.count) \(Checksum.text(queries))"
        described["neighbours"] = "\(pairs.neighbourCount) \(Checksum.text(neighbours))"
        described["held-out"] = String(pairs.heldOutCount)
        described["batch"] = String(parameters.training.batchSize)
        described["rate"] = String(parameters.training.rate)
        described["patience"] = String(parameters.training.patience)
        described["candidates"] = String(parameters.trainingCandidates)
        return described.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }.joined(separator: "\n")
    }
}
