// The offline engine: blocks of queries that fit the memory, each routed, turned round, swept and written
// before the next. Read from the top: open, then for each block read, route, sweep, write are one function
// each. Answers are those of a search with the same parameters, whatever the blocks, shards and threads.

import Router
import Storage
import Vectors

extension DiskIndex {
    /// Answers every row of a file of queries into a file of neighbours, in their order.
    ///
    /// Finished blocks are kept: where an earlier run with the same parameters was killed, this one goes on.
    /// With a shard, the file is a part for `PartialResult.merge`.
    ///
    /// - Throws: `outOfRange`, `unlikeVectors`, `memoryTooSmall` or `invalid` for a request that means nothing,
    ///   `corruptSegment` for a page that fails its checksum, `storage` where files fail or what is left is of another
    ///   job.
    public func batch(
        _ queries: VectorFile, out: String, parameters: BatchParameters, progress: JobProgress = .none
    ) throws(IndexError) -> BatchSummary {
        try IndexError.door {
            try requireMeaning(queries, out: out, parameters: parameters)
            return try BatchJob(
                index: self, queries: queries, out: out, parameters: parameters, progress: progress
            ).run()
        }
    }

    private func requireMeaning(_ queries: VectorFile, out: String, parameters: BatchParameters) throws {
        try validate(parameters.search, dimension: queries.dimension, elementType: queries.elementType)
        if case .pages = parameters.search.policy {
            throw IndexError.invalid(
                "a batch reads whole segments, which many of its queries share: pages are chosen by a search")
        }
        if let shard = parameters.shard, shard.count < 1 || !(0..<shard.count).contains(shard.index) {
            throw IndexError.invalid("there is no shard \(shard.index) of \(shard.count)")
        }
        if let most = parameters.queriesAtOnceMaximum, most < 1 {
            throw IndexError.invalid("a block must hold at least 1 query, found \(most)")
        }
        // A part of a shard keeps ids as wide as the index does.
        if parameters.shard == nil {
            try NeighbourFormat.requirePlaced(path: out)
            try requireRoomForIds(in: out)
        }
    }
}

/// One batch on its way.
private final class BatchJob {
    private let index: DiskIndex
    private let parameters: BatchParameters
    private let progress: JobProgress
    private let memory: BatchMemory
    /// The queries of this run's shard, and where their answers go.
    private let file: VectorFile
    private let output: BatchOutput
    private var summary = BatchSummary()
    /// Queries of the block that are answered empty, by their place in it.
    private var invalid: [Int] = []
    // What a block works on; made once.
    private let rows: VectorMatrix
    private let heaps: NearestHeaps
    private let kept: KeptRoutes?
    private let routing: [BatchRoutingWorker]
    private let sweep: BatchSweep

    private var threads: Int { parameters.search.threads }

    init(
        index: DiskIndex, queries: VectorFile, out: String, parameters: BatchParameters, progress: JobProgress
    )
        throws
    {
        self.index = index
        self.parameters = parameters
        self.progress = progress
        let policy = parameters.search.policy
        let candidates = policy.candidateLimit(
            partitions: index.partitionCount, records: index.manifest.records)
        let named = policy.countsPartitions ? candidates : index.router(for: policy).candidateMaximum
        let routeLimit = max(1, min(candidates, named))
        var pairs: Int?
        if case .nprobe(let count) = policy { pairs = count }
        let capacity =
            parameters.search.rounds > 1
            ? LaterRounds(index: index, k: parameters.search.k)?.heapCapacity : nil
        let heapCapacity = capacity ?? parameters.search.k
        memory = try BatchMemory(
            index: index, parameters: parameters, heapCapacity: heapCapacity, routeLimit: routeLimit,
            fixedPairs: pairs)
        file = queries.range(parameters.shard?.range(of: queries.count) ?? 0..<queries.count)
        output = try BatchOutput(
            path: out, index: index, queries: queries, shardQueries: file, parameters: parameters)
        let atOnce = min(memory.queriesMaximum, file.count - output.finished)
        rows = VectorMatrix(count: atOnce, dimension: index.dimension, elementType: index.elementType)
        heaps = NearestHeaps(
            count: atOnce, capacity: heapCapacity, hasWideKeys: NearestHeaps.needsWideKeys(index))
        kept = parameters.search.rounds > 1 ? KeptRoutes(count: atOnce, limit: routeLimit) : nil
        let search = parameters.search
        routing = (0..<search.threads).map { _ in BatchRoutingWorker(index: index, parameters: search) }
        sweep = BatchSweep(
            index: index, queries: rows, heaps: heaps, threads: search.threads,
            arenaByteCount: memory.arenaByteCount)
        summary.threads = search.threads
        summary.continued = output.finished
    }

    func run() throws -> BatchSummary {
        let start = monotonicNanoseconds()
        do {
            while output.finished < file.count { try answerBlock() }
            try timed(\.fileSeconds) { try output.publish() }
        } catch {
            output.abandon()
            throw error
        }
        summary.queries = file.count - summary.continued
        summary.wallSeconds = Double(monotonicNanoseconds() - start) / 1e9
        return summary
    }

    private func answerBlock() throws {
        let first = output.finished
        var range = first..<min(file.count, first + rows.count)
        try timed(\.fileSeconds) { try read(range) }
        var plan = timed(\.routeSeconds) {
            let (stretches, routed) = route(range.count)
            range = first..<first + routed
            return SweepLists(stretches, partitionCount: index.partitionCount, threads: threads)
        }
        summary.blocks += 1
        try sweepOnce(plan, range: range)
        if let kept {
            for _ in 1..<parameters.search.rounds {
                plan = timed(\.routeSeconds) {
                    SweepLists(
                        goOn(range.count, kept: kept), partitionCount: index.partitionCount, threads: threads)
                }
                if plan.queries.isEmpty { break }
                try sweepOnce(plan, range: range)
            }
        }
        try timed(\.fileSeconds) { try write(range) }
        if range.upperBound < file.count { try parameters.afterBlock?(range.upperBound) }
    }

    private func read(_ range: Range<Int>) throws {
        let answersEmpty = parameters.search.answersInvalidEmpty
        try readInParallel(file, rows: range, into: rows, threads: threads, checkFinite: !answersEmpty)
        if answersEmpty {
            invalid = InvalidVectors.rows(of: rows, count: range.count, metric: index.metric)
            for row in invalid { InvalidVectors.replace(row, of: rows) }
        }
        try refuseLengths(rows, count: range.count, metric: index.metric) {
            "\(file.path): vector \(file.firstRow + range.lowerBound + $0)"
        }
    }

    /// Routes the first `count` queries, or as many as the plan has room for.
    private func route(_ count: Int) -> (stretches: [QueryPartitions], routed: Int) {
        var stretches: [QueryPartitions] = []
        var (routed, pairs) = (0, 0)
        let stride = threads * BatchMemory.routingTasks * memory.routedAtOnce
        while routed < count && pairs < memory.planMaximum {
            let part = routed..<min(count, routed + stride)
            let more = inParallel(part) { [rows, heaps, kept] worker, range in
                worker.begin(range, of: rows, heaps: heaps, kept: kept)
            }
            for stretch in more { pairs += stretch.partitions.count }
            stretches.append(contentsOf: more)
            routed = part.upperBound
        }
        return (stretches, routed)
    }

    private func goOn(_ count: Int, kept: KeptRoutes) -> [QueryPartitions] {
        inParallel(0..<count) { [rows, heaps] worker, range in
            worker.goOn(range, of: rows, heaps: heaps, kept: kept)
        }
    }

    /// Calls `body` with stretches of queries and one of the routing workers each; results in order.
    private func inParallel(
        _ queries: Range<Int>, _ body: @Sendable (BatchRoutingWorker, Range<Int>) -> QueryPartitions
    ) -> [QueryPartitions] {
        let atOnce = memory.routedAtOnce
        let tasks = (queries.count + atOnce - 1) / atOnce
        let slots = ResultSlots<QueryPartitions>(count: tasks)
        let workers = routing
        Workers.forEachBlock(count: queries.count, blockSize: atOnce, threads: threads) { worker, range in
            let first = queries.lowerBound + range.lowerBound
            slots.set(range.lowerBound / atOnce, body(workers[worker], first..<first + range.count))
        }
        return (0..<tasks).compactMap { slots.take($0) }
    }

    private func sweepOnce(_ plan: SweepLists, range: Range<Int>) throws {
        let (progress, total) = (progress, file.count)
        summary.sweep.add(
            try sweep.sweep(plan) { done, groups in
                let share = Double(done) / Double(max(groups, 1))
                progress(
                    stage: "batch", done: range.lowerBound + Int(share * Double(range.count)), total: total)
            })
        summary.waves += 1
    }

    /// Takes the answers of a block out of the heaps, some thousand at a time.
    private func write(_ range: Range<Int>) throws {
        let (k, atOnce) = (parameters.search.k, memory.writtenAtOnce)
        let idMemory = UnsafeMutablePointer<UInt64>.allocate(capacity: atOnce * k)
        let distanceMemory = UnsafeMutablePointer<Float>.allocate(capacity: atOnce * k)
        defer {
            idMemory.deallocate()
            distanceMemory.deallocate()
        }
        nonisolated(unsafe) let (ids, distances) = (idMemory, distanceMemory)
        var done = 0
        while done < range.count {
            let count = min(atOnce, range.count - done)
            let first = done
            Workers.forEachBlock(count: count, blockSize: 4096, threads: threads) { [heaps] _, part in
                for place in part {
                    heaps.drain(
                        first + place, k: k, noId: TruthFile.noId, ids: ids + place * k,
                        distances: distances + place * k)
                }
            }
            for row in invalid where row >= done && row < done + count {
                (ids + (row - done) * k).update(repeating: TruthFile.noId, count: k)
                (distances + (row - done) * k).update(repeating: .infinity, count: k)
                summary.invalidQueries += 1
            }
            try output.append(ids: ids, distances: distances, queries: count, rows: rows.row(done))
            done += count
        }
        try output.endBlock()
        progress(stage: "batch", done: range.upperBound, total: file.count)
    }

    private func timed<Value>(_ seconds: WritableKeyPath<BatchSummary, Double>, _ body: () throws -> Value)
        rethrows
        -> Value
    {
        let start = monotonicNanoseconds()
        defer { summary[keyPath: seconds] += Double(monotonicNanoseconds() - start) / 1e9 }
        return try body()
    }
}
