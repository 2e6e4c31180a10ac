// The journal of a long job: a small file beside its output that says what the job is and how much of it is
// finished. Written after what is finished has reached the device, so that what it says is true after any kill;
// entries at the end that a kill cut short count as not written.
//
//     0   8 bytes  SONDEJNL
//     8   u32      format version, 1
//     12  u32      b, bytes of the identity
//     16  b bytes  the identity: lines "name: value"
//     ..  u32      CRC-32C of all bytes before
//     then entries of 32 bytes: 28 that the kind of job gives a meaning, u32 CRC-32C of them

import Glibc

/// What one kind of job writes into its journal.
public protocol JournalEntry: Sendable, Equatable {
    /// The entry that 28 bytes hold.
    init(decoding bytes: UnsafeRawPointer)
    /// Writes 28 bytes, which are zeros before.
    func encode(into bytes: UnsafeMutableRawPointer)
    /// Whether what stands up to this entry counts. Entries at the end of a journal that none of this kind follows
    /// were cut short and are dropped.
    var isCommit: Bool { get }
    /// Whether this entry may stand behind the commit before.
    func follows(_ previous: Self?) -> Bool
}

/// A journal being appended to.
public final class JobJournal<Entry: JournalEntry> {
    private let path: String
    private let descriptor: Int32

    /// What an earlier run has finished; empty in a journal that was begun.
    public let entries: [Entry]

    /// Begins the journal at `path` with its first entries; whole or not at all.
    public init(at path: String, identity: JobIdentity, first: [Entry] = []) throws(StorageError) {
        self.path = path
        entries = []
        var status = stat()
        if lstat(path, &status) == 0, status.st_mode & S_IFMT != S_IFREG {
            throw StorageError(
                .unsupported, path: path,
                detail: "a journal of this name is needed, and it is no regular file",
                advice: "remove it or choose another output")
        }
        let identityBytes = identity.encoded
        let end = JobJournalFile.headerByteCount + identityBytes.count
        let head = Scratch(end + 4 + first.count * JobJournalFile.entryByteCount)
        head.bytes.put("SONDEJNL", at: 0)
        head.bytes.put(JobJournalFile.formatVersion, at: 8)
        head.bytes.put(UInt32(identityBytes.count), at: 12)
        for (place, byte) in identityBytes.enumerated() {
            head.bytes.storeBytes(
                of: byte, toByteOffset: JobJournalFile.headerByteCount + place, as: UInt8.self)
        }
        head.bytes.put(Checksum.crc32c(head.raw, count: end), at: end)
        Self.encode(first, into: head.bytes + end + 4)
        _ = try OutputFile.write(
            head.raw, count: end + 4 + first.count * JobJournalFile.entryByteCount, path: path,
            atomically: true)
        descriptor = try JobJournalFile.open(path)
    }

    /// Continues the journal at `path`, whose identity must be this one.
    ///
    /// - Throws: kind `invalidValue` where it is another job's, `corrupt` where it is damaged, `unsupportedVersion`.
    public init(continuing path: String, identity: JobIdentity) throws(StorageError) {
        self.path = path
        let file = try JobJournalFile(path)
        if let difference = identity.difference(from: file.identity) {
            throw StorageError(
                .invalidValue, path: path,
                detail: "is of another job: its \(difference.name) is not this one's",
                expected: difference.here, found: difference.there,
                advice:
                    "repeat the command that wrote it, choose another output, or \(JobJournalFile.advice)",
                remedy: .beginAnew)
        }
        let (found, end) = try Self.entries(of: file)
        entries = found
        descriptor = try JobJournalFile.open(path)
        guard ftruncate(descriptor, off_t(end)) == 0 else {
            throw StorageError.systemCall("ftruncate", path: path, errno: errno)
        }
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// Appends entries, of which the last is a commit, and brings them to the device.
    public func append(_ entries: [Entry]) throws(StorageError) {
        let bytes = Scratch(entries.count * JobJournalFile.entryByteCount)
        Self.encode(entries, into: bytes.bytes)
        let count = entries.count * JobJournalFile.entryByteCount
        let written = write(descriptor, bytes.bytes, count)
        guard written == count else {
            throw StorageError.systemCall("write", path: path, errno: written < 0 ? errno : ENOSPC)
        }
        guard fdatasync(descriptor) == 0 else {
            throw StorageError.systemCall("fdatasync", path: path, errno: errno)
        }
    }

    private static func encode(_ entries: [Entry], into bytes: UnsafeMutableRawPointer) {
        for (index, entry) in entries.enumerated() {
            let at = bytes + index * JobJournalFile.entryByteCount
            entry.encode(into: at)
            at.put(Checksum.crc32c(at, count: 28), at: 28)
        }
    }

    /// The entries up to the last commit, and where they end.
    private static func entries(of file: JobJournalFile) throws(StorageError) -> ([Entry], end: Int) {
        var entries: [Entry] = []
        var (committed, previous, end) = (0, Entry?.none, file.entriesOffset)
        let size = JobJournalFile.entryByteCount
        for at in stride(from: file.entriesOffset, to: file.byteCount - size + 1, by: size) {
            guard let entry = file.entry(at, as: Entry.self), !entry.isCommit || entry.follows(previous)
            else {
                // Only the last ones can have been cut short.
                for later in stride(from: at + size, to: file.byteCount - size + 1, by: size)
                where file.entry(later, as: Entry.self)?.isCommit ?? false {
                    throw JobJournalFile.damaged(file.path, "an entry of the journal", offset: at)
                }
                break
            }
            entries.append(entry)
            if entry.isCommit { (committed, previous, end) = (entries.count, entry, at + size) }
        }
        return (Array(entries[..<committed]), end)
    }
}

/// What journals of all kinds have in common.
public enum JobJournals {
    /// The journal of the output file at `path`.
    public static func path(of path: String) -> String { path + ".journal" }

    /// Whether there is a journal at `path`.
    public static func exists(at path: String) -> Bool { access(path, F_OK) == 0 }

    /// Removes the journal at `path`, if there is one.
    public static func remove(at path: String) throws(StorageError) {
        if unlink(path) != 0 && errno != ENOENT {
            throw StorageError.systemCall("unlink", path: path, errno: errno)
        }
    }

    /// What the job is that the journal at `path` belongs to.
    ///
    /// - Throws: kind `corrupt` where it is damaged, `unsupportedVersion`.
    public static func identity(at path: String) throws(StorageError) -> JobIdentity {
        try JobJournalFile(path).identity
    }
}

/// A journal as it lies in its file, its header checked.
private struct JobJournalFile {
    static let formatVersion: UInt32 = 1
    static let headerByteCount = 16
    static let entryByteCount = 32
    static let identityMaximum: UInt32 = 1 << 16
    static let advice = "begin anew"

    let path: String
    let identity: JobIdentity
    let entriesOffset: Int
    private let all: Scratch
    var byteCount: Int { all.count }

    init(_ path: String) throws(StorageError) {
        self.path = path
        all = try InputFile(path: path).readAll()
        let bytes = all.raw
        guard all.count >= Self.headerByteCount, bytes.holds("SONDEJNL", at: 0) else {
            throw Self.damaged(path, "the journal's header", offset: 0)
        }
        guard bytes.u32(8) == Self.formatVersion else {
            throw .version(path: path, offset: 8, known: Self.formatVersion, found: UInt64(bytes.u32(8)))
        }
        let end = Self.headerByteCount + Int(min(bytes.u32(12), Self.identityMaximum))
        guard all.count >= end + 4, Checksum.crc32c(bytes, count: end) == bytes.u32(end) else {
            throw Self.damaged(path, "the journal's header", offset: 0)
        }
        identity = JobIdentity(
            decoding: UnsafeRawBufferPointer(
                start: bytes + Self.headerByteCount, count: end - Self.headerByteCount))
        entriesOffset = end + 4
    }

    /// The entry at an offset, or nil where its checksum fails.
    func entry<Entry: JournalEntry>(_ at: Int, as type: Entry.Type) -> Entry? {
        Checksum.crc32c(all.raw + at, count: 28) == all.raw.u32(at + 28)
            ? Entry(decoding: all.raw + at) : nil
    }

    static func damaged(_ path: String, _ what: String, offset: Int) -> StorageError {
        StorageError(
            .corrupt, path: path, detail: "\(what) is damaged", offset: UInt64(offset), advice: advice,
            remedy: .beginAnew)
    }

    static func open(_ path: String) throws(StorageError) -> Int32 {
        let descriptor = Glibc.open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else { throw StorageError.systemCall("open", path: path, errno: errno) }
        return descriptor
    }
}
