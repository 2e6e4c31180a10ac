// What a search reads from. A search holds a queue for each thread and never knows which device is behind
// it; the protocols are crossed once a read, everything beneath works on raw memory.

/// Bytes that can be read by offset: an open file, or memory that plays one.
public protocol BlockDevice: Sendable {
    var path: String { get }
    /// "direct" (O_DIRECT through io_uring), "direct by threads" (O_DIRECT where io_uring is refused), "buffered"
    /// (through the page cache, where the filesystem has no direct reads) or "memory"; stands beside every measured
    /// figure.
    var kind: String { get }
    var byteCount: UInt64 { get }

    /// A queue of up to `depth` reads in flight that land in `arena`. The queue keeps the arena alive.
    /// Any thread may make it; the thread that first submits owns it.
    func makeQueue(depth: Int, arena: ReadArena) throws(StorageError) -> any ReadQueue
}

/// Reads in flight, owned by one thread.
///
/// Every read is complete or an error: short reads are continued inside. Offsets, sizes and arena offsets
/// are multiples of 4096; only the end of the file may make a read shorter, which is an error
/// (`StorageError.Kind.truncated`), because no file of sonde ends inside a page.
public protocol ReadQueue: AnyObject {
    /// Reads that may be in flight at once.
    var depth: Int { get }
    /// Reads submitted and not yet returned by `wait`.
    var inFlight: Int { get }
    /// Counted where reads are submitted.
    var counters: IOCounters { get }

    /// Queues a read; it goes out with the next `flush` or `wait`. `inFlight` must be below `depth`.
    func submit(offset: UInt64, byteCount: Int, arenaOffset: Int, tag: UInt64)

    /// Hands queued reads to the device without waiting.
    func flush() throws(StorageError)

    /// Flushes, waits until `atLeast` reads (or all in flight, if fewer) have completed, and appends all
    /// that have. With 0 it only looks.
    ///
    /// When a read fails, the call waits for all the others, forgets them, and throws the first failure:
    /// `inFlight` is then 0, `completions` as it was, and the arena the caller's again.
    func wait(atLeast: Int, into completions: inout [ReadCompletion]) throws(StorageError)

    /// Waits for all reads in flight and forgets them.
    func drain() throws(StorageError)
}

extension ReadQueue {
    public func drain() throws(StorageError) {
        var forgotten: [ReadCompletion] = []
        try wait(atLeast: inFlight, into: &forgotten)
    }
}

/// A read that is complete: all bytes asked for lie in the arena.
public struct ReadCompletion: Sendable, Equatable {
    /// The tag it was submitted with.
    public var tag: UInt64
    public var byteCount: Int

    public init(tag: UInt64, byteCount: Int) {
        self.tag = tag
        self.byteCount = byteCount
    }
}

/// Opening a file as the best device it can be.
public enum Devices {
    /// Direct reads through io_uring; by threads where the kernel refuses that; buffered ones where the filesystem has
    /// no others. `kind` and `reason` tell.
    public static func open(path: String) throws(StorageError) -> any BlockDevice {
        do {
            return try DirectFile(path: path)
        } catch {
            guard error.kind == .unsupported else { throw error }
            let reason = error.detail
            do {
                return try DirectThreadFile(path: path, reason: reason)
            } catch {
                guard error.kind == .unsupported else { throw error }
                return try BufferedFile(path: path, reason: reason)
            }
        }
    }
}
