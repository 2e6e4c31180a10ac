// A file open for reading, by whole reads only: what is asked for comes, or an error names what is missing.

import Glibc

/// A regular file read with pread; safe to share between threads.
package final class InputFile: Sendable {
    let path: String
    let byteCount: UInt64
    let descriptor: Int32

    /// Reads that touch these bytes fail as those of a bad sector do; for tests.
    private let unreadable: Range<UInt64>

    /// `flags` are added to those of reading.
    package init(path: String, flags: Int32 = 0, unreadable: Range<UInt64> = 0..<0) throws(StorageError) {
        self.path = path
        self.unreadable = unreadable
        // Without waiting: opening a FIFO would, for a writer that may never come. Regular files do not care.
        descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | flags)
        if descriptor < 0 {
            byteCount = 0
            let code = errno
            throw code == ENOENT
                ? StorageError(.missing, path: path, detail: "there is no such file")
                : StorageError.systemCall("open", path: path, errno: code)
        }
        var status = stat()
        if fstat(descriptor, &status) != 0 {
            byteCount = 0
            throw StorageError.systemCall("fstat", path: path, errno: errno)
        }
        byteCount = UInt64(max(0, status.st_size))
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw StorageError(
                .unsupported, path: path, detail: "is not a regular file",
                advice: "files are read by offset: write it to a file first")
        }
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// Reads exactly `count` bytes.
    func read(at offset: UInt64, into target: UnsafeMutableRawPointer, count: Int) throws(StorageError) {
        if unreadable.overlaps(offset..<offset + UInt64(count)) {
            throw StorageError.systemCall("pread", path: path, errno: EIO, offset: unreadable.lowerBound)
        }
        var done = 0
        while done < count {
            let got = pread(
                descriptor, target + done, min(count - done, 1 << 30), off_t(offset) + off_t(done))
            if got < 0 {
                if errno == EINTR { continue }
                throw StorageError.systemCall(
                    "pread", path: path, errno: errno, offset: offset + UInt64(done))
            }
            if got == 0 {
                throw StorageError.truncated(
                    path: path, offset: offset, expected: UInt64(count), found: UInt64(done))
            }
            done += got
        }
    }

    /// When the file was last changed, in seconds and nanoseconds since 1970.
    func modificationTime() throws(StorageError) -> String {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw StorageError.systemCall("fstat", path: path, errno: errno)
        }
        let fraction = String(status.st_mtim.tv_nsec)
        return "\(status.st_mtim.tv_sec)." + String(repeating: "0", count: 9 - fraction.count) + fraction
    }

    /// The whole file in memory.
    func readAll() throws(StorageError) -> Scratch {
        let all = Scratch(Int(byteCount))
        try read(at: 0, into: all.bytes, count: all.count)
        return all
    }
}
