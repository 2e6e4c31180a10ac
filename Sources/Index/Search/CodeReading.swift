// The first round of a search whose codes lie in the index: the codes of near partitions are read from codes.bin, and what
// they say decides the second round. A thread has a queue of its own for them; a query's codes stay in its arena until all
// are there, since partitions are looked at in the order of the route.

import Router
import Storage
import Vectors

/// One query's reads of codes.
package struct CodeLook {
    /// Pages of codes.bin, in file order; `arenaOffset` once submitted.
    package private(set) var reads: [SegmentRead] = []
    /// By position in the route: the read that its block lies in, or -1 for a partition without records, and where in it.
    private var places: [(read: Int32, offset: Int32)] = []
    private var order: [Int] = []
    var submitted = 0
    var completed = 0
    /// By position in the route, once all reads are complete.
    private(set) var blocks: [UnsafeRawPointer?] = []

    package init() {}

    /// Plans the reads of the first `count` partitions of a route.
    package mutating func plan(_ route: Route, count: Int, codes: RecordCodes) {
        reads.removeAll(keepingCapacity: true)
        (submitted, completed) = (0, 0)
        order.removeAll(keepingCapacity: true)
        order.append(contentsOf: 0..<count)
        order.sort { route.partitions[$0] < route.partitions[$1] }
        places.removeAll(keepingCapacity: true)
        places.append(contentsOf: repeatElement((read: -1, offset: 0), count: count))
        let page = CodePages.byteCount
        for position in order {
            let partition = Int(route.partitions[position])
            let range = codes.blockRange(of: partition)
            guard !range.isEmpty else { continue }
            let first = range.lowerBound / page * page
            let end = (range.upperBound + page - 1) / page * page
            let last = reads.count - 1
            if last >= 0, first <= Int(reads[last].offset) + reads[last].byteCount,
                end - Int(reads[last].offset) <= SegmentRead.joinLimit
            {
                reads[last].byteCount = max(reads[last].byteCount, end - Int(reads[last].offset))
            } else {
                reads.append(SegmentRead(pages: first..<end))
            }
            let read = reads.count - 1
            places[position] = (Int32(read), Int32(range.lowerBound - Int(reads[read].offset)))
        }
    }

    mutating func place(read: Int, at arenaOffset: Int) { reads[read].arenaOffset = arenaOffset }

    /// Finds the blocks in the arena.
    mutating func findBlocks(in base: UnsafeRawPointer) {
        blocks.removeAll(keepingCapacity: true)
        for (read, offset) in places {
            blocks.append(read < 0 ? nil : base + reads[Int(read)].arenaOffset + Int(offset))
        }
    }
}

/// One thread's reading of codes.
final class CodeReader {
    private let device: any BlockDevice
    private let codes: RecordCodes
    private let arena: ReadArena
    private let queue: any ReadQueue
    private var waiting: [Int] = []
    private var completions: [ReadCompletion] = []

    var inFlight: Int { queue.inFlight }
    var base: UnsafeRawPointer { UnsafeRawPointer(arena.base) }

    init(device: any BlockDevice, codes: RecordCodes, k: Int) throws {
        self.device = device
        self.codes = codes
        // All that one query may look at has to fit: a read may begin and end within a page of its blocks.
        var largest = 0
        for partition in 0..<codes.partitionCount {
            largest = max(largest, codes.blockRange(of: partition).count)
        }
        let most = codes.model.partitionLimit(k: k) * (largest + 2 * CodePages.byteCount)
        arena = try ReadArena(byteCount: max(4 << 20, CodePages.fileByteCount(of: most)))
        queue = try device.makeQueue(depth: 256, arena: arena)
    }

    /// Lines up a slot whose reads are planned.
    func add(_ slot: Int) { waiting.append(slot) }

    /// Submits as many waiting reads as there is room for, the oldest query first.
    func submit(_ slots: [QueryInFlight]) {
        while let slot = waiting.first {
            let state = slots[slot]
            while state.look.submitted < state.look.reads.count {
                let read = state.look.submitted
                let size = state.look.reads[read].byteCount
                guard queue.inFlight < queue.depth, let place = arena.allocate(byteCount: size) else {
                    return
                }
                state.look.place(read: read, at: place)
                queue.submit(
                    offset: state.look.reads[read].offset, byteCount: size, arenaOffset: place,
                    tag: SegmentRead.tag(slot: slot, read: read))
                state.look.submitted += 1
            }
            waiting.removeFirst()
        }
    }

    /// Waits for reads and calls `body` with each slot whose codes are all there; they go when it returns.
    func wait(_ slots: [QueryInFlight], _ body: (Int) throws -> Void) throws {
        completions.removeAll(keepingCapacity: true)
        let start = monotonicNanoseconds()
        try queue.wait(atLeast: 1, into: &completions)
        if let first = completions.first {
            slots[SegmentRead.slot(ofTag: first.tag)].counters.waitNanoseconds +=
                monotonicNanoseconds() - start
        }
        for completion in completions {
            let slot = SegmentRead.slot(ofTag: completion.tag)
            let state = slots[slot]
            try check(state.look.reads[SegmentRead.read(ofTag: completion.tag)])
            state.look.completed += 1
            guard state.look.completed == state.look.reads.count else { continue }
            state.look.findBlocks(in: base)
            try body(slot)
            for read in state.look.reads {
                arena.release(offset: read.arenaOffset, byteCount: read.byteCount)
            }
        }
    }

    /// Refuses a page that is damaged, or another than the one of its place.
    private func check(_ read: SegmentRead) throws(IndexError) {
        for at in stride(from: 0, to: read.byteCount, by: CodePages.byteCount) {
            let page = Int(read.offset) / CodePages.byteCount + at / CodePages.byteCount
            guard CodePages.checksum(base + read.arenaOffset + at) == codes.pageChecksums[page] else {
                throw .corruptCodes(path: device.path, offset: read.offset + UInt64(at))
            }
        }
    }
}
