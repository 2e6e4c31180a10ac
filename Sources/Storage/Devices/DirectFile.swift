// A file read past the page cache, through io_uring: what the counters say is what the device did.

import Glibc

/// A regular file opened with O_DIRECT.
public final class DirectFile: BlockDevice {
    private let file: InputFile
    private let largestRead: Int
    private static let directFlag: Int32 = __O_DIRECT

    /// Opens the file and tries a ring.
    ///
    /// - Throws: kind `unsupported` where the kernel refuses io_uring (`DirectThreadFile` reads such files) or the
    ///   filesystem has no direct reads (`BufferedFile` does).
    public convenience init(path: String) throws(StorageError) {
        // A read of over 2 GiB comes back short by itself; whole pages up to 1 GiB keep it simple.
        try self.init(path: path, largestRead: 1 << 30)
    }

    /// For tests: a device that returns at most `largestRead` bytes of any read.
    package init(path: String, largestRead: Int) throws(StorageError) {
        file = try Self.openDirect(path)
        self.largestRead = largestRead
        if getenv("SONDE_RING").map({ strcmp($0, "off") == 0 }) ?? false {
            throw Self.unsupported(path, "io_uring is switched off (SONDE_RING=off)")
        }
        do {
            // Filters refuse each of its three calls by itself: all are tried.
            try makeRing(depth: 1, arena: ReadArena(byteCount: PageLayout.pageByteCount)).probe()
        } catch {
            throw Self.unsupported(path, "the kernel refuses io_uring (\(error.detail))")
        }
    }

    /// Opens a file past the page cache.
    ///
    /// - Throws: kind `unsupported` where its filesystem has no direct reads.
    static func openDirect(_ path: String) throws(StorageError) -> InputFile {
        let opened: InputFile
        do {
            opened = try InputFile(path: path, flags: directFlag)
        } catch {
            guard case .systemCall("open", EINVAL) = error.kind else { throw error }
            throw unsupported(path, "its filesystem has no direct reads (O_DIRECT)")
        }
        if RingQueue.liesInMemory(descriptor: opened.descriptor) {
            throw unsupported(path, "its filesystem lies in memory")
        }
        return opened
    }

    private static func unsupported(_ path: String, _ reason: String) -> StorageError {
        StorageError(.unsupported, path: path, detail: reason, advice: "read it by threads")
    }

    public var path: String { file.path }
    public var kind: String { "direct" }
    public var byteCount: UInt64 { file.byteCount }
    var descriptor: Int32 { file.descriptor }

    public func makeQueue(depth: Int, arena: ReadArena) throws(StorageError) -> any ReadQueue {
        try makeRing(depth: depth, arena: arena)
    }

    /// The same as `makeQueue`, for those who ask what the kernel granted. At most 4096 reads deep.
    public func makeRing(depth: Int, arena: ReadArena) throws(StorageError) -> RingQueue {
        try RingQueue(file: self, depth: max(1, min(depth, 4096)), arena: arena, largestRead: largestRead)
    }
}
