// A file read past the page cache by a few threads: where io_uring is refused, as in containers. Every read that is
// counted still comes from the device.

import Glibc

/// A regular file opened with O_DIRECT and read with preadv.
public final class DirectThreadFile: BlockDevice {
    /// Why it is not read through io_uring, where that was tried.
    public let reason: String?
    private let file: InputFile
    private let threads: Int

    /// `threads` reads of a queue are under way at once.
    ///
    /// - Throws: kind `unsupported` where the filesystem has no direct reads.
    public init(path: String, threads: Int = 16, reason: String? = nil) throws(StorageError) {
        file = try DirectFile.openDirect(path)
        self.reason = reason
        self.threads = max(1, threads)
    }

    public var path: String { file.path }
    public var kind: String { "direct by threads" }
    public var byteCount: UInt64 { file.byteCount }

    public func makeQueue(depth: Int, arena: ReadArena) throws(StorageError) -> any ReadQueue {
        try ThreadedQueue(
            device: self, file: file, depth: max(1, depth), threads: min(threads, max(1, depth)), arena: arena
        )
    }
}
