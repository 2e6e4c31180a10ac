// Answers of a long job, written block by block to where they belong in the file: ids (of 32 or 64 bits) in
// one stretch, distances in another, or rows of ids (ivecs). The file lies beside its name until it is whole; what was
// written before a kill is checked and kept.

import CKernels
import Glibc

/// A file of neighbours being written in the order of the queries, under `NAME.part` until `publish`.
public final class ResultWriter {
    /// How far writing has come, and the checksums of what was written in each stretch.
    public struct Position: Sendable, Equatable {
        public var finished: UInt64 = 0
        public var checksums: [UInt32] = [0, 0]

        public init(finished: UInt64 = 0, checksums: [UInt32] = [0, 0]) {
            self.finished = finished
            self.checksums = checksums
        }
    }

    /// Rows of a fixed size, one after the other.
    private struct Stretch {
        var offset: UInt64
        var rowByteCount: Int
    }

    public let path: String
    public let count: Int
    public let k: Int
    public private(set) var position = Position()
    /// What is written in place gets the whole at the end, and cannot be continued.
    public var isStream: Bool { claim.place.isStream }
    /// Whether a run before had published the whole file and died before it had said so.
    public private(set) var isPublished = false
    private let claim: ResultClaim
    private var partPath: String { claim.partPath }
    private var descriptor: Int32 { claim.descriptor }
    private let isIvecs: Bool
    private let idByteCount: Int
    private let stretches: [Stretch]
    private var isSettled = false

    /// Where a file lies while it is being written.
    public static func partPath(of path: String) -> String { path + ".part" }

    /// Begins the file at `path`, or continues it after `continuing`, where what was written is still there.
    ///
    /// - Parameters:
    ///   - headerByteCount: bytes before the first row; unused for ivecs.
    ///   - idByteCount: 4 or 8; 4 for ivecs.
    public init(
        path: String, count: Int, k: Int, headerByteCount: Int = 8, idByteCount: Int = 4, isIvecs: Bool,
        continuing: Position? = nil, claim: ResultClaim? = nil
    ) throws(StorageError) {
        precondition(idByteCount == 4 || (idByteCount == 8 && !isIvecs))
        guard count <= Int(UInt32.max), k <= Int(Int32.max) else {
            throw StorageError(
                .unsupported, path: path, detail: "result files count queries and neighbours in 32 bits",
                expected: "at most \(UInt32.max) queries", found: "\(count)",
                advice: "split the queries", remedy: .split)
        }
        self.path = path
        self.count = count
        self.k = k
        self.isIvecs = isIvecs
        self.idByteCount = idByteCount
        if let claim { self.claim = claim } else { self.claim = try ResultClaim(path) }
        let head = UInt64(headerByteCount)
        stretches =
            isIvecs
            ? [Stretch(offset: 0, rowByteCount: 4 + k * 4)]
            : [
                Stretch(offset: head, rowByteCount: k * idByteCount),
                Stretch(offset: head + UInt64(count) * UInt64(k * idByteCount), rowByteCount: k * 4),
            ]
        let size = stretches.reduce(head) { max($0, $1.offset + UInt64(count * $1.rowByteCount)) }
        if let continuing {
            if self.claim.isNew, continuing.finished == UInt64(count),
                (try? check(continuing, size: size, path: self.claim.place.path)) != nil
            {
                isPublished = true
                self.claim.discard()
            } else {
                guard !self.claim.isNew else {
                    self.claim.discard()
                    throw StorageError(
                        .missing, path: partPath,
                        detail: "the answers that the journal tells of are not there",
                        advice: "begin anew", remedy: .beginAnew)
                }
                try check(continuing, size: size, path: partPath)
            }
            position = continuing
        } else {
            guard ftruncate(descriptor, 0) == 0, ftruncate(descriptor, off_t(size)) == 0 else {
                throw StorageError.systemCall("ftruncate", path: partPath, errno: errno)
            }
        }
    }

    /// Appends the answers of the next queries: `k` ids and as many distances each. Ids of all ones (places
    /// that nothing filled) stay that in 32 bits; others must fit.
    public func append(
        ids: UnsafePointer<UInt64>, distances: UnsafePointer<Float>, queries: Int
    ) throws(StorageError) {
        precondition(Int(position.finished) + queries <= count)
        if idByteCount == 8 {
            try write(ids, queries: queries, to: 0)
        } else {
            let prefix = isIvecs ? 4 : 0
            let rows = Scratch(queries * (prefix + k * 4))
            for query in 0..<queries {
                let row = rows.bytes + query * (prefix + k * 4)
                if isIvecs { row.put(UInt32(k), at: 0) }
                for rank in 0..<k {
                    row.put(UInt32(truncatingIfNeeded: ids[query * k + rank]), at: prefix + rank * 4)
                }
            }
            try write(rows.raw, queries: queries, to: 0)
        }
        if !isIvecs { try write(distances, queries: queries, to: 1) }
        position.finished += UInt64(queries)
    }

    /// Brings what was written to the device.
    public func sync() throws(StorageError) {
        guard fdatasync(descriptor) == 0 else {
            throw StorageError.systemCall("fdatasync", path: partPath, errno: errno)
        }
    }

    /// Writes the header and brings the whole file to the device; `publish` names it.
    public func finish(header: [UInt8]) throws(StorageError) {
        precondition(Int(position.finished) == count)
        if isPublished { return }
        if !isIvecs {
            let bytes = Scratch(header.count)
            for (index, byte) in header.enumerated() {
                bytes.bytes.storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
            }
            try write(bytes.raw, count: header.count, at: 0)
        }
        guard fsync(descriptor) == 0 else {
            throw StorageError.systemCall("fsync", path: partPath, errno: errno)
        }
    }

    /// Gives the file its name.
    public func publish() throws(StorageError) {
        if isPublished { return }
        isSettled = try claim.publish()
        if !isStream { try Directory.sync(Directory.parent(of: claim.place.path)) }
    }

    /// Removes what was written; harmless after `publish`.
    public func discard() {
        if !isSettled && !isPublished { claim.discard() }
        isSettled = true
    }

    private func write(_ rows: UnsafeRawPointer, queries: Int, to stretch: Int) throws(StorageError) {
        let (place, size) = (stretches[stretch], stretches[stretch].rowByteCount)
        position.checksums[stretch] = Checksum.crc32c(
            rows, count: queries * size, continuing: position.checksums[stretch])
        try write(rows, count: queries * size, at: place.offset + position.finished * UInt64(size))
    }

    private func write(_ bytes: UnsafeRawPointer, count: Int, at offset: UInt64) throws(StorageError) {
        var done = 0
        while done < count {
            let written = pwrite(
                descriptor, bytes + done, min(count - done, 1 << 30), off_t(offset) + off_t(done))
            if written < 0 && errno == EINTR { continue }
            guard written > 0 else {
                throw StorageError.systemCall(
                    "pwrite", path: partPath, errno: written < 0 ? errno : ENOSPC,
                    offset: offset + UInt64(done))
            }
            done += written
        }
    }

    /// Compares what lies in the file with the checksums of what was written.
    private func check(_ written: Position, size: UInt64, path partPath: String) throws(StorageError) {
        let file = try InputFile(path: partPath)
        guard file.byteCount == size else {
            throw StorageError(
                .corrupt, path: partPath, detail: "is not of the size that the job gave it",
                expected: "\(size) bytes", found: "\(file.byteCount)", advice: "begin anew",
                remedy: .beginAnew)
        }
        guard written.finished <= UInt64(count) else {
            throw StorageError(
                .corrupt, path: partPath, detail: "the journal tells of more answers than there are queries",
                expected: "at most \(count)", found: "\(written.finished)",
                advice: "begin anew", remedy: .beginAnew)
        }
        for (index, stretch) in stretches.enumerated() {
            let found = try file.checksum(
                at: stretch.offset, byteCount: written.finished * UInt64(stretch.rowByteCount))
            guard found == written.checksums[index] else {
                throw StorageError(
                    .corrupt, path: partPath,
                    detail: "the answers that the journal tells of fail their checksum",
                    offset: stretch.offset, expected: Checksum.text(written.checksums[index]),
                    found: Checksum.text(found), advice: "begin anew", remedy: .beginAnew)
            }
        }
    }
}
