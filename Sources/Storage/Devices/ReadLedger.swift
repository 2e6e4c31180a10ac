// The reads of one queue that are under way: what was asked, how much has come, what to do with each result.
// Shared by all queues, so that short reads and failures mean the same on every device.

import Glibc

/// Reads in flight by slot. Nothing is allocated after `init`.
struct ReadLedger: ~Copyable {
    struct Read {
        var offset: UInt64
        var byteCount: Int
        /// Bytes that have come, in whole pages.
        var done: Int
        var arenaOffset: Int
        var tag: UInt64
        /// Results in a row that brought nothing.
        var stalls: Int

        /// What is still to be read.
        var restOffset: UInt64 { offset + UInt64(done) }
        var restByteCount: Int { byteCount - done }
        var restArenaOffset: Int { arenaOffset + done }
    }

    let depth: Int
    private(set) var inFlight = 0
    private(set) var counters = IOCounters()
    private let path: String
    private let fileByteCount: UInt64
    private let reads: UnsafeMutablePointer<Read>
    private let free: UnsafeMutablePointer<Int>

    /// Interrupted and refused-for-now results are tried again this often; results that bring no byte
    /// forward fewer times.
    private static let stallMaximum = 16

    init(depth: Int, device: any BlockDevice) {
        precondition(depth > 0)
        self.depth = depth
        path = device.path
        fileByteCount = device.byteCount
        reads = .allocate(capacity: depth)
        reads.initialize(
            repeating: Read(offset: 0, byteCount: 0, done: 0, arenaOffset: 0, tag: 0, stalls: 0), count: depth
        )
        free = .allocate(capacity: depth)
        for slot in 0..<depth { free[slot] = slot }
    }

    deinit {
        reads.deallocate()
        free.deallocate()
    }

    subscript(slot: Int) -> Read { reads[slot] }

    /// Enters a read and returns its slot.
    mutating func begin(offset: UInt64, byteCount: Int, arenaOffset: Int, tag: UInt64, arena: ReadArena)
        -> Int
    {
        let page = PageLayout.pageByteCount
        precondition(inFlight < depth, "more reads in flight than the queue is deep")
        precondition(
            offset % UInt64(page) == 0 && byteCount % page == 0 && arenaOffset % page == 0, "unaligned read")
        precondition(
            byteCount > 0 && arenaOffset >= 0 && byteCount <= arena.byteCount - arenaOffset,
            "read outside of its arena")
        let slot = free[inFlight]
        inFlight += 1
        reads[slot] = Read(
            offset: offset, byteCount: byteCount, done: 0, arenaOffset: arenaOffset, tag: tag, stalls: 0)
        return slot
    }

    /// Counts an operation that goes to the device.
    mutating func count(byteCount: Int) {
        counters.reads += 1
        counters.bytes += UInt64(byteCount)
    }

    /// Takes in the result (bytes or -errno) of the last operation on `slot`. Nil: not complete, and what
    /// is left of it is to be asked again. When it throws, the read has ended.
    mutating func settle(_ slot: Int, result: Int) throws(StorageError) -> ReadCompletion? {
        let read = reads[slot]
        if result == read.restByteCount {
            end(slot)
            return ReadCompletion(tag: read.tag, byteCount: read.byteCount)
        }
        if result < 0 {
            if result == -Int(EINTR) || result == -Int(EAGAIN), read.stalls < Self.stallMaximum {
                reads[slot].stalls += 1
                return nil
            }
            end(slot)
            throw StorageError.systemCall(
                "read of \(read.byteCount) bytes", path: path, errno: Int32(-result), offset: read.restOffset)
        }
        // Direct reads go on from page boundaries: what came of a torn page is read again.
        let page = PageLayout.pageByteCount
        let whole = result / page * page
        let reached = read.restOffset + UInt64(result)
        let stalls = whole > 0 ? 0 : read.stalls + 1
        if result == 0 || result > read.restByteCount || reached >= fileByteCount
            || stalls > Self.stallMaximum
        {
            end(slot)
            throw StorageError.truncated(
                path: path, offset: read.offset, expected: UInt64(read.byteCount),
                found: UInt64(read.done + min(result, read.restByteCount)))
        }
        reads[slot].done += whole
        reads[slot].stalls = stalls
        return nil
    }

    /// Ends the read at `slot` whatever has come of it.
    mutating func end(_ slot: Int) {
        inFlight -= 1
        free[inFlight] = slot
    }

    /// Forgets all reads, when the device beneath has.
    mutating func endAll() {
        inFlight = 0
        for slot in 0..<depth { free[slot] = slot }
    }
}
