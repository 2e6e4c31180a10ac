// The journal of a long job: a small file beside its output that says what the job is and how much of it is
// finished. Written after the finished answers have reached the device, so that what it says is true after
// any kill; a last entry that a kill cut short counts as not written.
//
//     0   8 bytes  SONDEJNL
//     8   u32      format version, 1
//     12  u32      b, bytes of the identity
//     16  b bytes  the identity: lines "name: value"
//     ..  u32      CRC-32C of all bytes before
//     then an entry of 32 bytes for each finished block: u64 queries finished, u32 checksum of those queries,
//     u32 and u32 checksums of the answers' two stretches, 8 zero bytes, u32 CRC-32C of the 28 bytes before

import Glibc

/// A journal being appended to.
public final class JobJournal {
    /// How far a job has come: `position` in its answers, and the checksum of the queries answered.
    public struct Entry: Sendable, Equatable {
        public var position: ResultWriter.Position
        public var queryChecksum: UInt32

        public init(position: ResultWriter.Position = .init(), queryChecksum: UInt32 = 0) {
            self.position = position
            self.queryChecksum = queryChecksum
        }
    }

    public static let formatVersion: UInt32 = 1
    private static let headerByteCount = 16
    private static let entryByteCount = 32
    private static let identityMaximum: UInt32 = 1 << 16
    private static let advice = "give --restart to begin anew"
    private let path: String
    private let descriptor: Int32

    /// The journal of the output at `path`.
    public static func path(of path: String) -> String { path + ".journal" }

    /// Whether the output at `path` has a journal.
    public static func exists(of path: String) -> Bool { access(Self.path(of: path), F_OK) == 0 }

    /// Removes the journal of the output at `path`, if there is one.
    public static func remove(of path: String) throws(StorageError) {
        let name = Self.path(of: path)
        if unlink(name) != 0 && errno != ENOENT {
            throw StorageError.systemCall("unlink", path: name, errno: errno)
        }
    }

    /// Begins the journal of the output at `path` with its first entry; whole or not at all.
    public init(of output: String, identity: JobIdentity, first: Entry) throws(StorageError) {
        path = Self.path(of: output)
        let identityBytes = identity.encoded
        let head = Scratch(Self.headerByteCount + identityBytes.count + 4 + Self.entryByteCount)
        let end = Self.headerByteCount + identityBytes.count
        head.bytes.put("SONDEJNL", at: 0)
        head.bytes.put(Self.formatVersion, at: 8)
        head.bytes.put(UInt32(identityBytes.count), at: 12)
        for (place, byte) in identityBytes.enumerated() {
            head.bytes.storeBytes(of: byte, toByteOffset: Self.headerByteCount + place, as: UInt8.self)
        }
        head.bytes.put(Checksum.crc32c(head.raw, count: end), at: end)
        Self.encode(first, into: head.bytes + end + 4)
        _ = try OutputFile.write(head.raw, count: head.count, path: path, atomically: true)
        descriptor = try Self.open(path)
    }

    /// Continues the journal of the output at `path`, whose identity must be this one.
    ///
    /// - Throws: kind `invalidValue` where it is another job's, `corrupt` where it is damaged.
    public init(continuing output: String, identity: JobIdentity) throws(StorageError) {
        path = Self.path(of: output)
        let (found, entries, end) = try Self.read(path)
        if let difference = identity.difference(from: found) {
            throw StorageError(
                .invalidValue, path: path,
                detail: "is of another job: its \(difference.name) is not this one's",
                expected: difference.here, found: difference.there,
                advice: "repeat the command that wrote it, choose another --out, or \(Self.advice)")
        }
        last = entries
        descriptor = try Self.open(path)
        guard ftruncate(descriptor, off_t(end)) == 0 else {
            throw StorageError.systemCall("ftruncate", path: path, errno: errno)
        }
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// The entry after which the job goes on; nil in a journal that was begun.
    public private(set) var last: Entry?

    /// Appends an entry and brings it to the device.
    public func append(_ entry: Entry) throws(StorageError) {
        let bytes = Scratch(Self.entryByteCount)
        Self.encode(entry, into: bytes.bytes)
        let written = write(descriptor, bytes.bytes, bytes.count)
        guard written == bytes.count else {
            throw StorageError.systemCall("write", path: path, errno: written < 0 ? errno : ENOSPC)
        }
        guard fdatasync(descriptor) == 0 else {
            throw StorageError.systemCall("fdatasync", path: path, errno: errno)
        }
    }

    private static func open(_ path: String) throws(StorageError) -> Int32 {
        let descriptor = Glibc.open(path, O_WRONLY | O_APPEND | O_CLOEXEC)
        guard descriptor >= 0 else { throw StorageError.systemCall("open", path: path, errno: errno) }
        return descriptor
    }

    private static func encode(_ entry: Entry, into bytes: UnsafeMutableRawPointer) {
        bytes.put(entry.position.finished, at: 0)
        bytes.put(entry.queryChecksum, at: 8)
        bytes.put(entry.position.checksums[0], at: 12)
        bytes.put(entry.position.checksums[1], at: 16)
        bytes.put(UInt64(0), at: 20)
        bytes.put(Checksum.crc32c(bytes, count: 28), at: 28)
    }

    private static func damaged(_ path: String, _ what: String, offset: Int) -> StorageError {
        StorageError(
            .corrupt, path: path, detail: "\(what) is damaged", offset: UInt64(offset), advice: advice)
    }

    /// The identity, the last entry, and where entries end.
    private static func read(_ path: String) throws(StorageError) -> (JobIdentity, Entry, end: Int) {
        let all = try InputFile(path: path).readAll()
        let bytes = all.raw
        guard all.count >= headerByteCount, bytes.holds("SONDEJNL", at: 0) else {
            throw damaged(path, "the journal's header", offset: 0)
        }
        guard bytes.u32(8) == formatVersion else {
            throw .version(path: path, offset: 8, known: formatVersion, found: UInt64(bytes.u32(8)))
        }
        let end = headerByteCount + Int(min(bytes.u32(12), identityMaximum))
        guard all.count >= end + 4, Checksum.crc32c(bytes, count: end) == bytes.u32(end) else {
            throw damaged(path, "the journal's header", offset: 0)
        }
        let identity = JobIdentity(
            decoding: UnsafeRawBufferPointer(start: bytes + headerByteCount, count: end - headerByteCount))
        var last: Entry?
        var at = end + 4
        while at + entryByteCount <= all.count {
            let finished = bytes.u64(at)
            guard Checksum.crc32c(bytes + at, count: 28) == bytes.u32(at + 28),
                finished > last?.position.finished ?? 0
            else {
                // Only the last one can have been cut short.
                if at + 2 * entryByteCount > all.count && last != nil { break }
                throw damaged(path, "an entry of the journal", offset: at)
            }
            last = Entry(
                position: .init(finished: finished, checksums: [bytes.u32(at + 12), bytes.u32(at + 16)]),
                queryChecksum: bytes.u32(at + 8))
            at += entryByteCount
        }
        guard let last else { throw damaged(path, "the journal's first entry", offset: end + 4) }
        return (identity, last, at)
    }
}
