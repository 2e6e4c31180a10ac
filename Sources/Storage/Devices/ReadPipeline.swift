// Many reads with several under way: the loop of submitting, waiting and giving memory back, for whoever
// reads more than fits into memory. A search has a loop of its own, in which many queries share one ring.

/// Keeps reads of a device in flight and hands out what arrives. One thread at a time.
public final class ReadPipeline {
    /// The order in which reads are handed out.
    public enum Order: Sendable {
        /// That of the extents.
        case submission
        /// As they arrive.
        case arrival
    }

    private struct Read {
        var number: Int
        var place: Int
        var byteCount: Int
        var hasArrived = false
    }

    private let arena: ReadArena
    private let queue: any ReadQueue
    private let order: Order
    /// Reads that are under way or have not been handed out, in the order of submission.
    private var reads: [Read] = []
    private var completions: [ReadCompletion] = []

    /// A pipeline that holds `arenaByteCount` bytes, of which each read takes its own size in whole pages.
    ///
    /// - Throws: `StorageError` where the device gives no queue or memory is refused.
    public init(
        device: any BlockDevice, depth: Int, arenaByteCount: Int, order: Order
    ) throws(StorageError) {
        arena = try ReadArena(byteCount: arenaByteCount)
        queue = try device.makeQueue(depth: depth, arena: arena)
        self.order = order
    }

    /// Counted where reads are submitted.
    public var counters: IOCounters { queue.counters }

    /// Reads extent after extent until `next` has no more, and calls `body` with the number of each (from 0, in
    /// the order of `next`) and its bytes, which are gone when `body` returns. Offsets are multiples of a page, and
    /// no extent is larger than the arena.
    ///
    /// - Throws: the first `StorageError` from reading, or what `body` throws; no read is under way then, and
    ///   the pipeline can run again.
    public func run(
        next: () -> Extent?, body: (Int, UnsafeMutableRawPointer) throws -> Void
    ) throws {
        do {
            try pump(next: next, body: body)
        } catch {
            // What is still under way lands in the arena, which must outlive it.
            try? queue.drain()
            reads.removeAll(keepingCapacity: true)
            arena.releaseAll()
            throw error
        }
    }

    private func pump(next: () -> Extent?, body: (Int, UnsafeMutableRawPointer) throws -> Void) throws {
        var (submitted, waiting) = (0, next())
        while true {
            while let extent = waiting, queue.inFlight < queue.depth,
                let place = arena.allocate(byteCount: extent.byteCount)
            {
                queue.submit(
                    offset: extent.offset, byteCount: extent.byteCount, arenaOffset: place,
                    tag: UInt64(submitted))
                reads.append(Read(number: submitted, place: place, byteCount: extent.byteCount))
                submitted += 1
                waiting = next()
            }
            guard queue.inFlight > 0 else { return }
            completions.removeAll(keepingCapacity: true)
            try queue.wait(atLeast: 1, into: &completions)
            for completion in completions {
                if let arrived = reads.firstIndex(where: { $0.number == Int(completion.tag) }) {
                    reads[arrived].hasArrived = true
                }
            }
            try handOut(body)
        }
    }

    private func handOut(_ body: (Int, UnsafeMutableRawPointer) throws -> Void) throws {
        var index = 0
        while index < reads.count {
            let read = reads[index]
            if read.hasArrived {
                try body(read.number, arena.base + read.place)
                arena.release(offset: read.place, byteCount: read.byteCount)
                reads.remove(at: index)
            } else if order == .submission {
                return
            } else {
                index += 1
            }
        }
    }

    /// The same for a list.
    public func run(
        _ extents: some RandomAccessCollection<Extent>, body: (Int, UnsafeMutableRawPointer) throws -> Void
    ) throws {
        var rest = extents.makeIterator()
        try run(next: { rest.next() }, body: body)
    }
}
