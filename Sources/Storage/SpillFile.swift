// Temporary bytes of a build that do not fit its memory: appended once, read back once from the start,
// gone when the object goes. Sequential input and output only.

import Glibc

/// An anonymous-to-be file in the directory of a build under way.
public final class SpillFile {
    public let path: String
    /// Bytes appended so far.
    public private(set) var byteCount: UInt64 = 0
    private var descriptor: Int32
    private let buffer: UnsafeMutableRawPointer
    private static let bufferByteCount = 1 << 18
    private var buffered = 0
    private var readOffset: UInt64 = 0
    private var readEnd = 0
    private var readPosition = 0

    /// Creates the file; its name must not be taken.
    public init(path: String) throws(StorageError) {
        self.path = path
        descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        buffer = .allocate(byteCount: Self.bufferByteCount, alignment: 4096)
        guard descriptor >= 0 else {
            throw StorageError.systemCall("open", path: path, errno: errno)
        }
    }

    deinit {
        buffer.deallocate()
        remove()
    }

    /// Removes the file; nothing can be appended or read after it.
    public func remove() {
        guard descriptor >= 0 else { return }
        close(descriptor)
        unlink(path)
        descriptor = -1
    }

    /// Appends bytes; they reach the file in large writes.
    public func append(_ bytes: UnsafeRawPointer, count: Int) throws(StorageError) {
        var (from, left) = (bytes, count)
        while left > 0 {
            let part = min(left, Self.bufferByteCount - buffered)
            (buffer + buffered).copyMemory(from: from, byteCount: part)
            buffered += part
            from += part
            left -= part
            if buffered == Self.bufferByteCount { try flush() }
        }
        byteCount += UInt64(count)
    }

    private func flush() throws(StorageError) {
        var done = 0
        while done < buffered {
            let written = write(descriptor, buffer + done, buffered - done)
            if written < 0 && errno == EINTR { continue }
            guard written > 0 else { throw StorageError.systemCall("write", path: path, errno: errno) }
            done += written
        }
        buffered = 0
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
        let got = pread(descriptor, buffer, Self.bufferByteCount, off_t(readOffset))
        if got < 0 && errno == EINTR { return }
        if got < 0 { throw StorageError.systemCall("pread", path: path, errno: errno) }
        if got == 0 {
            throw StorageError.truncated(
                path: path, offset: readOffset, expected: byteCount, found: readOffset)
        }
        readOffset += UInt64(got)
        readEnd = got
        readPosition = 0
    }
}
