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
    /// Time of all threads in waiting with nothing to scan, and in scanning.
    public var waitNanoseconds: UInt64 = 0
    public var scanNanoseconds: UInt64 = 0

    mutating func add(_ other: SweepCounters) {
        reads += other.reads
        bytes += other.bytes
        segments += other.segments
        vectors += other.vectors
        comparisons += other.comparisons
        waitNanoseconds += other.waitNanoseconds
        scanNanoseconds += other.scanNanoseconds
    }
}

/// The queries of a batch and the best that sweeps have found for each.
public final class BatchSweep: @unchecked Sendable {
    let index: DiskIndex
    let queries: VectorMatrix
    let heaps: NearestHeaps
    let threads: Int
    /// What a thread's reads land in, and the size up to which segments are joined into one read.
    let arenaByteCount: Int
    private let readByteCount: Int

    /// Several reads of 1 MiB in flight a thread run at the device's sequential rate.
    package static let arenaByteCountDefault = 8 << 20
    private static let readsInFlight = 4
    private static let readByteCountMaximum = 2 << 20
    private static let queueDepth = 64

    public convenience init(index: DiskIndex, queries: VectorMatrix, k: Int, threads: Int) {
        self.init(
            index: index, queries: queries,
            heaps: NearestHeaps(
                count: queries.count, capacity: k, hasWideKeys: NearestHeaps.needsWideKeys(index)),
            threads: threads,
            arenaByteCount: Self.arenaByteCountDefault)
    }

    /// A sweep whose threads hold so many bytes of segments each; at least two of the largest.
    init(index: DiskIndex, queries: VectorMatrix, heaps: NearestHeaps, threads: Int, arenaByteCount: Int) {
        self.index = index
        self.queries = queries
        self.heaps = heaps
        self.threads = threads
        self.arenaByteCount = max(arenaByteCount, 2 * max(index.table.largestSegmentByteCount, 4096))
        readByteCount = min(Self.readByteCountMaximum, self.arenaByteCount / Self.readsInFlight)
    }

    /// Reads every segment of the plan once and scans it against its queries.
    ///
    /// - Throws: `StorageError` from reading, `IndexError.corruptSegment` for a page that fails its checksum.
    public func sweep(_ plan: SweepLists, progress: (@Sendable (Int, Int) -> Void)? = nil) throws
        -> SweepCounters
    {
        var wanted = plan.wanted
        var reads: [SegmentRead] = []
        SegmentRead.plan(&wanted, table: index.table, joinLimit: readByteCount, into: &reads)
        guard !reads.isEmpty else { return SweepCounters() }
        let groups = reads
        let next = Atomic<Int>(0)
        let total = Mutex(SweepCounters())
        try plan.queries.withUnsafeBufferPointer { buffer in
            nonisolated(unsafe) let planned = buffer
            let workers = min(threads, groups.count)
            try Workers.tryForEach(count: workers, threads: workers) { _ in
                let worker = try SweepWorker(
                    sweep: self, plan: plan, planned: planned, queueDepth: Self.queueDepth)
                try worker.run(groups: groups) {
                    let group = next.add(1, ordering: .relaxed).oldValue
                    progress?(min(group, groups.count), groups.count)
                    return group < groups.count ? group : nil
                }
                total.withLock { $0.add(worker.counters) }
            }
        }
        return total.withLock { $0 }
    }

    /// What was found so far, nearest first; the heaps are empty afterwards.
    public func takeAnswers(k: Int) -> TruthFile {
        var answers = TruthFile(count: queries.count, k: k)
        let ids = UnsafeMutablePointer<UInt64>.allocate(capacity: k)
        let distances = UnsafeMutablePointer<Float>.allocate(capacity: k)
        defer {
            ids.deallocate()
            distances.deallocate()
        }
        for query in 0..<queries.count {
            heaps.drain(query, k: k, noId: TruthFile.noId, ids: ids, distances: distances)
            for rank in 0..<k {
                answers.set(query: query, rank: rank, id: ids[rank], distance: distances[rank])
            }
        }
        return answers
    }
}

/// One thread of a sweep: keeps reads in flight and scans what has come.
private final class SweepWorker {
    private let index: DiskIndex
    private let plan: SweepLists
    private let planned: UnsafeBufferPointer<UInt32>
    private let arena: ReadArena
    private let queue: any ReadQueue
    private let scanner: SweepScanner
    var counters = SweepCounters()

    init(sweep: BatchSweep, plan: SweepLists, planned: UnsafeBufferPointer<UInt32>, queueDepth: Int) throws {
        index = sweep.index
        self.plan = plan
        self.planned = planned
        arena = try ReadArena(byteCount: sweep.arenaByteCount)
        queue = try sweep.index.device.makeQueue(depth: queueDepth, arena: arena)
        scanner = SweepScanner(index: sweep.index, queries: sweep.queries, heaps: sweep.heaps)
    }

    func run(groups: [SegmentRead], takeGroup: () -> Int?) throws {
        var inFlight = [SegmentRead?](repeating: nil, count: queue.depth)
        var free = Array(0..<queue.depth)
        var completions: [ReadCompletion] = []
        // Taken, and waiting for room in the arena.
        var taken: Int?
        while true {
            while let slot = free.last {
                taken = taken ?? takeGroup()
                guard let number = taken, let place = arena.allocate(byteCount: groups[number].byteCount)
                else { break }
                taken = nil
                free.removeLast()
                var read = groups[number]
                read.arenaOffset = place
                queue.submit(
                    offset: read.offset, byteCount: read.byteCount, arenaOffset: place, tag: UInt64(slot))
                counters.reads += 1
                counters.bytes += UInt64(read.byteCount)
                inFlight[slot] = read
            }
            guard queue.inFlight > 0 else { return }
            let start = monotonicNanoseconds()
            completions.removeAll(keepingCapacity: true)
            try queue.wait(atLeast: 1, into: &completions)
            let arrived = monotonicNanoseconds()
            counters.waitNanoseconds += arrived - start
            for completion in completions {
                let slot = Int(completion.tag)
                guard let read = inFlight[slot] else { continue }
                do {
                    for partition in read.partitions { try scan(partition, of: read) }
                } catch {
                    // What is still in flight lands in the arena, which must outlive it.
                    try? queue.drain()
                    throw error
                }
                arena.release(offset: read.arenaOffset, byteCount: read.byteCount)
                inFlight[slot] = nil
                free.append(slot)
            }
            counters.scanNanoseconds += monotonicNanoseconds() - arrived
        }
    }

    private func scan(_ partition: Int, of read: SegmentRead) throws {
        let entry = index.table[partition]
        let queries = plan.places(of: partition)
        guard entry.recordCount > 0, !queries.isEmpty else { return }
        let segment = arena.base + read.arenaOffset + Int(entry.offset - read.offset)
        try index.check(segment, partition: partition)
        counters.segments += 1
        counters.vectors += UInt64(entry.recordCount)
        counters.comparisons += UInt64(entry.recordCount) * UInt64(queries.count)
        scanner.scan(
            segment: segment, recordCount: Int(entry.recordCount),
            queries: UnsafeBufferPointer(rebasing: planned[queries]))
    }
}
