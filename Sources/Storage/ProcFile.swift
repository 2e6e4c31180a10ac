// Small text files of the kernel, whose size is not known before they are read.

import Glibc

enum ProcFile {
    /// Up to 64 KiB of text.
    static func read(_ path: String) throws(StorageError) -> String {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw StorageError.systemCall("open", path: path, errno: errno) }
        defer { close(descriptor) }
        let scratch = Scratch(1 << 16)
        var count = 0
        while count < scratch.count {
            let got = Glibc.read(descriptor, scratch.bytes + count, scratch.count - count)
            if got < 0 && errno == EINTR { continue }
            guard got >= 0 else { throw StorageError.systemCall("read", path: path, errno: errno) }
            if got == 0 { break }
            count += got
        }
        return String(decoding: UnsafeRawBufferPointer(start: scratch.bytes, count: count), as: UTF8.self)
    }
}
