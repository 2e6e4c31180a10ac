// A file written once from its start: large writes, a running checksum, an fsync before it counts as
// written. With `atomically` it is written beside its name and renamed, so that the name never holds half
// a file; what is no regular file (a device, a FIFO, /dev/stdout) gets the whole at the end, in place.

import Glibc

/// A file being written by one thread.
package final class OutputFile {
    let path: String
    /// Bytes appended so far.
    var byteCount: UInt64 { flushed + UInt64(filled) }
    private let writingPath: String
    private let atomically: Bool
    private let descriptor: Int32
    /// Where the whole goes when it is finished, for outputs written in place; else -1.
    private let stream: Int32
    private let place: OutputPlace?
    private let buffer: UnsafeMutableRawPointer
    private let capacity: Int
    private var filled = 0
    private var flushed: UInt64 = 0
    private var checksum: UInt32 = 0
    private var finished = false

    /// - Parameter continuing: goes on behind these bytes of a file that is there, and whose further bytes are cut
    ///   off; what they are is not looked at (see `FileDigest.check`).
    package init(
        path: String, atomically: Bool, bufferByteCount: Int = 1 << 20, continuing: FileDigest? = nil
    ) throws(StorageError) {
        precondition(!(atomically && continuing != nil))
        self.path = path
        self.atomically = atomically
        let place: OutputPlace? = atomically ? try OutputPlace(path) : nil
        self.place = place
        writingPath = place.map { $0.isStream ? path : $0.partPath } ?? path
        let (opened, stream) = try Self.open(writingPath, place: place, continues: continuing != nil)
        capacity = bufferByteCount
        buffer = .allocate(byteCount: bufferByteCount, alignment: 4096)
        descriptor = opened
        self.stream = stream
        if let continuing {
            try SpillFile.cut(descriptor, path: path, to: continuing.byteCount)
            flushed = continuing.byteCount
            checksum = continuing.crc32c
        }
    }

    /// The file that is written, and the stream that gets it at the end.
    private static func open(
        _ path: String, place: OutputPlace?, continues: Bool
    ) throws(StorageError) -> (file: Int32, stream: Int32) {
        guard let place else {
            // With O_EXCL no symlink is followed.
            let flags = O_WRONLY | O_CLOEXEC | (continues ? O_NOFOLLOW : O_CREAT | O_EXCL)
            let descriptor = Glibc.open(path, flags, 0o644)
            guard descriptor < 0 else { return (descriptor, -1) }
            throw errno == EEXIST
                ? StorageError(.exists, path: path, detail: "exists already and is not overwritten")
                : StorageError.systemCall("open", path: path, errno: errno)
        }
        if place.isStream {
            let stream = try place.openStream()
            do {
                return (try TemporaryFile.anonymous(), stream)
            } catch {
                close(stream)
                throw error
            }
        }
        let descriptor = try TemporaryFile.open(path, creates: true)
        guard ftruncate(descriptor, 0) == 0 else {
            let code = errno
            close(descriptor)
            throw StorageError.systemCall("ftruncate", path: path, errno: code)
        }
        return (descriptor, -1)
    }

    deinit {
        buffer.deallocate()
        // While it is locked: afterwards the name may be another writer's.
        if atomically && !finished && stream < 0 { unlink(writingPath) }
        if atomically { TemporaryFile.unlockAndClose(descriptor) } else { close(descriptor) }
        if stream >= 0 { close(stream) }
    }

    /// Appends bytes; they reach the file in large writes.
    func append(_ bytes: UnsafeRawPointer, count: Int) throws(StorageError) {
        var (from, left) = (bytes, count)
        while left > 0 {
            if filled == capacity { try flush() }
            let part = min(left, capacity - filled)
            (buffer + filled).copyMemory(from: from, byteCount: part)
            filled += part
            from += part
            left -= part
        }
    }

    /// Room for the next `count` bytes (at most the buffer's size); the caller fills all of it.
    func reserve(_ count: Int) throws(StorageError) -> UnsafeMutableRawPointer {
        precondition(count <= capacity)
        if filled + count > capacity { try flush() }
        defer { filled += count }
        return buffer + filled
    }

    /// Writes over the file's first bytes, for headers that are known only at the end. The digest keeps
    /// the bytes that were appended there first.
    func overwriteStart(_ bytes: UnsafeRawPointer, count: Int) throws(StorageError) {
        try flush()
        try write(bytes, count: count, at: 0)
    }

    /// Brings what was appended so far to the device, and says what it is.
    func sync() throws(StorageError) -> FileDigest {
        try flush()
        guard fdatasync(descriptor) == 0 else {
            throw StorageError.systemCall("fdatasync", path: writingPath, errno: errno)
        }
        return FileDigest(byteCount: byteCount, crc32c: checksum)
    }

    /// Everything to the device, then under the final name. Nothing may be appended after it.
    @discardableResult
    package func finish() throws(StorageError) -> FileDigest {
        try flush()
        if stream >= 0 {
            try TemporaryFile.copy(descriptor, to: stream, path: path)
            finished = true
            return FileDigest(byteCount: byteCount, crc32c: checksum)
        }
        guard fsync(descriptor) == 0 else {
            throw StorageError.systemCall("fsync", path: writingPath, errno: errno)
        }
        if let place {
            guard rename(writingPath, place.path) == 0 else {
                throw StorageError.systemCall("rename", path: path, errno: errno)
            }
            finished = true
            try Directory.sync(Directory.parent(of: place.path))
        }
        finished = true
        return FileDigest(byteCount: byteCount, crc32c: checksum)
    }

    private func flush() throws(StorageError) {
        guard filled > 0 else { return }
        // The buffer is checksummed here, while it is whole and before it leaves the cache.
        checksum = Checksum.crc32c(buffer, count: filled, continuing: checksum)
        try write(buffer, count: filled, at: flushed)
        flushed += UInt64(filled)
        filled = 0
    }

    private func write(_ bytes: UnsafeRawPointer, count: Int, at offset: UInt64) throws(StorageError) {
        var done = 0
        while done < count {
            let written = pwrite(descriptor, bytes + done, count - done, off_t(offset) + off_t(done))
            if written < 0 && errno == EINTR { continue }
            guard written > 0 else {
                throw StorageError.systemCall(
                    "pwrite", path: writingPath, errno: written < 0 ? errno : ENOSPC,
                    offset: offset + UInt64(done))
            }
            done += written
        }
    }

    /// Writes `count` bytes as the whole of the file at `path`.
    static func write(
        _ bytes: UnsafeRawPointer, count: Int, path: String, atomically: Bool
    ) throws(StorageError) -> FileDigest {
        let file = try OutputFile(path: path, atomically: atomically)
        try file.append(bytes, count: count)
        return try file.finish()
    }

    /// The same for an array.
    static func write(_ bytes: [UInt8], path: String, atomically: Bool) throws(StorageError) -> FileDigest {
        let file = try OutputFile(path: path, atomically: atomically)
        try file.append(bytes)
        return try file.finish()
    }

    package func append(_ bytes: [UInt8]) throws(StorageError) {
        let result: Result<Void, StorageError> = bytes.withUnsafeBytes { raw in
            guard let base = raw.baseAddress else { return .success(()) }
            do throws(StorageError) {
                return .success(try append(base, count: raw.count))
            } catch {
                return .failure(error)
            }
        }
        try result.get()
    }
}
