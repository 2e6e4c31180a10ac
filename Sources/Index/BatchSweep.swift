// Many queries sharing reads: the plan is turned round (segment -> queries), segments are swept in file
// order with large reads, several in flight, and each is scanned against all its queries by the MxN
// kernels. Every segment is read at most once a sweep, however many queries want it.

import Router
import Storage
import Synchronization
import Vectors

/// What a sweep cost, in all.
public struct SweepCounters: Sendable, Equatable {
    public var reads: UInt64 = 0
    public var bytes: UInt64 = 0
    public var segments: UInt64 = 0
    /// Records read; a record counts once a sweep.
    public var vectors: UInt64 = 0
    /// Query and record pairs whose distance was computed.
    public var comparisons: UInt64 = 0

    mutating func add(_ other: SweepCounters) {
        reads += other.reads
        bytes += other.bytes
        segments += other.segments
        vectors += other.vectors
        comparisons += other.comparisons
    }
}

/// Queries by partition: the plan turned round.
public struct SweepPlan: Sendable {
    /// Queries of partition p: `queries[starts[p] ..< starts[p + 1]]`, rising.
    public let starts: [Int]
    public let queries: [UInt32]

    /// Turns round `chosen`: the partitions of each query.
    public init(chosen: [[UInt32]], partitionCount: Int) {
        var starts = [Int](repeating: 0, count: partitionCount + 1)
        for list in chosen { for partition in list { starts[Int(partition) + 1] += 1 } }
        for partition in 0..<partitionCount { starts[partition + 1] += starts[partition] }
        var next = starts
        queries = [UInt32](unsafeUninitializedCapacity: starts[partitionCount]) { buffer, used in
            for (query, list) in chosen.enumerated() {
                for partition in list {
                    buffer[next[Int(partition)]] = UInt32(query)
                    next[Int(partition)] += 1
                }
            }
            used = starts[partitionCount]
        }
        self.starts = starts
    }
}

/// The queries of a batch and the best that sweeps have found for each.
public final class BatchSweep: @unchecked Sendable {
    let index: DiskIndex
    let queries: VectorMatrix
    let threads: Int
    private let heaps: [SharedHeap]
    /// Queries compared with a segment at a time, and units of a segment: a tile of distances stays in the
    /// second-level cache.
    private static let queryBlock = 32
    private static let unitBlock = 64
    /// Reads of this size run at the device's sequential rate.
    private static let groupByteCount = 1 << 20
    private static let groupsInFlight = 4

    public init(index: DiskIndex, queries: VectorMatrix, k: Int, threads: Int) {
        self.index = index
        self.queries = queries
        self.threads = threads
        heaps = (0..<queries.count).map { _ in SharedHeap(k: k) }
    }

    /// Reads every segment of the plan once and scans it against its queries.
    ///
    /// - Throws: `StorageError` from reading, `IndexError.corruptSegment` for a page that fails its checksum.
    public func sweep(_ plan: SweepPlan, progress: (@Sendable (Int, Int) -> Void)? = nil) throws -> SweepCounters {
        let groups = self.groups(of: plan)
        let next = Atomic<Int>(0)
        let total = Mutex(SweepCounters())
        try Workers.tryForEach(count: threads, threads: threads) { _ in
            let worker = try SweepWorker(
                sweep: self, plan: plan, largest: groups.reduce(0) { max($0, $1.byteCount) })
            try worker.run(groups: groups) {
                let group = next.add(1, ordering: .relaxed).oldValue
                progress?(min(group, groups.count), groups.count)
                return group < groups.count ? group : nil
            }
            total.withLock { $0.add(worker.counters) }
        }
        return total.withLock { $0 }
    }

    /// Reads in file order, each of neighbouring segments that some query wants.
    private func groups(of plan: SweepPlan) -> [SegmentRead] {
        var wanted: [UInt32] = []
        for partition in 0..<index.partitionCount where plan.starts[partition + 1] > plan.starts[partition] {
            wanted.append(UInt32(partition))
        }
        var reads: [SegmentRead] = []
        SegmentRead.plan(&wanted, table: index.table, into: &reads)
        return reads
    }

    /// What was found so far, nearest first; the heaps are empty afterwards.
    public func takeAnswers(k: Int) -> TruthFile {
        var answers = TruthFile(count: queries.count, k: k)
        var sorted: [Neighbour] = []
        for (query, heap) in heaps.enumerated() {
            sorted.removeAll(keepingCapacity: true)
            heap.nearest.drain(into: &sorted)
            for (rank, neighbour) in sorted.prefix(k).enumerated() {
                answers.set(
                    query: query, rank: rank, id: UInt32(truncatingIfNeeded: neighbour.id),
                    distance: neighbour.distance)
            }
        }
        return answers
    }

    /// A query's nearest, reached by whichever thread scans a segment for it; what is kept does not depend
    /// on the order.
    private final class SharedHeap: @unchecked Sendable {
        let nearest: TopK
        private let busy = Atomic<Bool>(false)

        init(k: Int) { nearest = TopK(capacity: k) }

        @inline(__always)
        func withLock(_ body: (borrowing TopK) -> Void) {
            while busy.exchange(true, ordering: .acquiring) {}
            body(nearest)
            busy.store(false, ordering: .releasing)
        }
    }

    /// One thread of a sweep.
    private final class SweepWorker {
        private let sweep: BatchSweep
        private let plan: SweepPlan
        private let arena: ReadArena
        private let queue: any ReadQueue
        private let packed: UnsafeMutableRawPointer
        private let tile: UnsafeMutablePointer<Float>
        private let kept: UnsafeMutablePointer<UInt32>
        private let distance: Distance
        private let layout: PageLayout
        var counters = SweepCounters()

        init(sweep: BatchSweep, plan: SweepPlan, largest: Int) throws {
            self.sweep = sweep
            self.plan = plan
            layout = sweep.index.layout
            arena = try ReadArena(byteCount: BatchSweep.groupsInFlight * max(largest, 1 << 20))
            queue = try sweep.index.device.makeQueue(depth: BatchSweep.groupsInFlight, arena: arena)
            distance = Distance(metric: sweep.index.metric, elementType: layout.elementType)
            let records = BatchSweep.unitBlock * layout.recordsPerUnit
            packed = .allocate(byteCount: BatchSweep.queryBlock * layout.rowByteCount, alignment: 64)
            tile = .allocate(capacity: BatchSweep.queryBlock * records)
            kept = .allocate(capacity: records)
        }

        deinit {
            packed.deallocate()
            tile.deallocate()
            kept.deallocate()
        }

        func run(groups: [SegmentRead], takeGroup: () -> Int?) throws {
            var inFlight: [Int: SegmentRead] = [:]
            var completions: [ReadCompletion] = []
            // Taken, and waiting for room in the arena.
            var taken: Int?
            while true {
                while inFlight.count < BatchSweep.groupsInFlight {
                    taken = taken ?? takeGroup()
                    guard let number = taken, let place = arena.allocate(byteCount: groups[number].byteCount)
                    else { break }
                    taken = nil
                    var read = groups[number]
                    read.arenaOffset = place
                    queue.submit(
                        offset: read.offset, byteCount: read.byteCount, arenaOffset: place, tag: UInt64(number))
                    counters.reads += 1
                    counters.bytes += UInt64(read.byteCount)
                    inFlight[number] = read
                }
                guard !inFlight.isEmpty else { return }
                completions.removeAll(keepingCapacity: true)
                try queue.wait(atLeast: 1, into: &completions)
                for completion in completions {
                    guard let read = inFlight.removeValue(forKey: Int(completion.tag)) else { continue }
                    do {
                        for partition in read.partitions { try scan(partition, of: read) }
                    } catch {
                        try? queue.drain()
                        throw error
                    }
                    arena.release(offset: read.arenaOffset, byteCount: read.byteCount)
                }
            }
        }

        private func scan(_ partition: Int, of read: SegmentRead) throws {
            let entry = sweep.index.table[partition]
            let queries = plan.starts[partition]..<plan.starts[partition + 1]
            guard entry.recordCount > 0, !queries.isEmpty else { return }
            let segment = arena.base + read.arenaOffset + Int(entry.offset - read.offset)
            for unit in 0..<Int(entry.unitCount) where !layout.verify(unit: segment + unit * layout.unitByteCount) {
                throw IndexError.corruptSegment(
                    path: sweep.index.device.path, partition: partition,
                    offset: entry.offset + UInt64(unit * layout.unitByteCount))
            }
            try sweep.index.refuseStray(segment: segment, partition: partition)
            counters.segments += 1
            counters.vectors += UInt64(entry.recordCount)
            counters.comparisons += UInt64(entry.recordCount) * UInt64(queries.count)
            var first = queries.lowerBound
            while first < queries.upperBound {
                let block = first..<min(queries.upperBound, first + BatchSweep.queryBlock)
                for (place, position) in block.enumerated() {
                    (packed + place * layout.rowByteCount).copyMemory(
                        from: sweep.queries.row(Int(plan.queries[position])), byteCount: layout.rowByteCount)
                }
                scan(segment: segment, recordCount: Int(entry.recordCount), block: block)
                first = block.upperBound
            }
        }

        private func scan(segment: UnsafeRawPointer, recordCount: Int, block: Range<Int>) {
            let perUnit = layout.recordsPerUnit
            let stride = BatchSweep.unitBlock * perUnit
            var done = 0
            while done < recordCount {
                let count = min(stride, recordCount - done)
                let base = segment + done / perUnit * layout.unitByteCount
                var placed = 0
                while placed < count {
                    let unit = base + placed / perUnit * layout.unitByteCount
                    let records = min(perUnit, count - placed)
                    distance.block(
                        packed, queries: block.count, unit + layout.vectorsOffset, count: records,
                        dimension: layout.dimension, into: tile + placed, outStride: stride)
                    placed += records
                }
                for (place, position) in block.enumerated() {
                    let row = tile + place * stride
                    sweep.heaps[Int(plan.queries[position])].withLock { nearest in
                        let passed = Distance.selectAtMost(nearest.bound, of: row, count: count, into: kept)
                        for index in 0..<passed {
                            let record = Int(kept[index])
                            let unit = base + record / perUnit * layout.unitByteCount
                            nearest.pushDistinct(
                                id: layout.id(unit: unit, slot: record % perUnit), distance: row[record])
                        }
                    }
                }
                done += count
            }
        }
    }
}
