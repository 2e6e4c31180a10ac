// Temporary files of a build: records appended in large writes and later read back from the start. Some go with the
// process that made them; those that a journal tells of stay until they are removed, and can be gone on with.

import Glibc

/// A file that is appended to, then read. Used by one thread.
public final class SpillFile {
    public let path: String
    /// Bytes appended so far.
    public private(set) var byteCount: UInt64 = 0
    private var descriptor: Int32
    private let isKept: Bool
    private let buffer: UnsafeMutableRawPointer
    private let capacity: Int
    private var checksum: UInt32 = 0
    private var buffered = 0
    private var readOffset: UInt64 = 0
    private var readEnd = 0
    private var readPosition = 0

    /// Creates a file that is removed with this value; its name must not be taken.
    public init(path: String, bufferByteCount: Int = 1 << 18) throws(StorageError) {
        self.path = path
        isKept = false
        capacity = bufferByteCount
        buffer = .allocate(byteCount: capacity, alignment: 4096)
        descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw StorageError.systemCall("open", path: path, errno: errno) }
    }

    /// Creates a file that stays until `remove`, in place of one that has its name; or goes on with it behind the
    /// bytes of `continuing`.
    ///
    /// - Throws: kind `missing` or `truncated` where the bytes of `continuing` are not there. What they are is not
    ///   looked at: see `FileDigest.check`.
    public init(keeping path: String, continuing: FileDigest?, bufferByteCount: Int = 1 << 18)
        throws(StorageError)
    {
        self.path = path
        isKept = true
        capacity = bufferByteCount
        buffer = .allocate(byteCount: capacity, alignment: 4096)
        descriptor = open(
            path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (continuing == nil ? O_CREAT | O_TRUNC : 0), 0o600)
        guard descriptor >= 0 else { throw StorageError.systemCall("open", path: path, errno: errno) }
        guard let continuing else { return }
        try Self.cut(descriptor, path: path, to: continuing.byteCount)
        byteCount = continuing.byteCount
        checksum = continuing.crc32c
    }

    /// Lets the process have so many of these files open at a time, where the system allows it.
    ///
    /// - Throws: kind `unsupported` where it does not.
    public static func allow(open count: Int, in directory: String) throws(StorageError) {
        // Beside them the base, the output, the journal, and what the process had open before.
        let needed = rlim_t(count + 64)
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0, limit.rlim_cur < needed
        else { return }
        let found = limit.rlim_max
        limit.rlim_cur = needed
        guard needed <= found, setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else {
            throw StorageError(
                .unsupported, path: directory, detail: "so many files cannot be open at a time",
                expected: "\(needed)", found: "\(found)",
                advice: "give more memory, or raise the limit (ulimit -Hn)", remedy: .moreMemory)
        }
    }

    deinit {
        buffer.deallocate()
        if isKept { close() } else { remove() }
    }

    /// Cuts a file to a size that it must have at least.
    static func cut(_ descriptor: Int32, path: String, to byteCount: UInt64) throws(StorageError) {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw StorageError.systemCall("fstat", path: path, errno: errno)
        }
        guard status.st_size >= byteCount else {
            throw .truncated(
                path: path, offset: 0, expected: byteCount, found: UInt64(max(0, status.st_size)))
        }
        guard ftruncate(descriptor, off_t(byteCount)) == 0, lseek(descriptor, off_t(byteCount), SEEK_SET) >= 0
        else {
            throw StorageError.systemCall("ftruncate", path: path, errno: errno)
        }
    }

    private func close() {
        guard descriptor >= 0 else { return }
        Glibc.close(descriptor)
        descriptor = -1
    }

    /// Removes the file; nothing can be appended or read after it.
    public func remove() {
        guard descriptor >= 0 else { return }
        close()
        unlink(path)
    }

    /// Appends bytes; they reach the file in large writes.
    public func append(_ bytes: UnsafeRawPointer, count: Int) throws(StorageError) {
        var (from, left) = (bytes, count)
        while left > 0 {
            let part = min(left, capacity - buffered)
            (buffer + buffered).copyMemory(from: from, byteCount: part)
            buffered += part
            from += part
            left -= part
            if buffered == capacity { try flush() }
        }
        byteCount += UInt64(count)
    }

    private func flush() throws(StorageError) {
        checksum = Checksum.crc32c(buffer, count: buffered, continuing: checksum)
        var done = 0
        while done < buffered {
            let written = write(descriptor, buffer + done, buffered - done)
            if written < 0 && errno == EINTR { continue }
            guard written > 0 else {
                throw StorageError.systemCall("write", path: path, errno: written < 0 ? errno : ENOSPC)
            }
            done += written
        }
        buffered = 0
    }

    /// Brings what was appended to the device, and says what it is.
    public func sync() throws(StorageError) -> FileDigest {
        try flush()
        guard fdatasync(descriptor) == 0 else {
            throw StorageError.systemCall("fdatasync", path: path, errno: errno)
        }
        return FileDigest(byteCount: byteCount, crc32c: checksum)
    }

    /// Ends appending and goes back to the start.
    public func rewind() throws(StorageError) {
        try flush()
        readOffset = 0
        readEnd = 0
        readPosition = 0
    }

    /// The next `count` bytes; the file must hold them.
    public func read(into target: UnsafeMutableRawPointer, count: Int) throws(StorageError) {
        var (to, left) = (target, count)
        while left > 0 {
            if readPosition == readEnd { try fill() }
            let part = min(left, readEnd - readPosition)
            to.copyMemory(from: buffer + readPosition, byteCount: part)
            readPosition += part
            to += part
            left -= part
        }
    }

    private func fill() throws(StorageError) {
        let got = pread(descriptor, buffer, capacity, off_t(readOffset))
        if got < 0 && errno == EINTR { return }
        if got < 0 { throw StorageError.systemCall("pread", path: path, errno: errno, offset: readOffset) }
        if got == 0 {
            throw StorageError.truncated(
                path: path, offset: readOffset, expected: byteCount, found: readOffset)
        }
        readOffset += UInt64(got)
        readEnd = got
        readPosition = 0
    }
}
