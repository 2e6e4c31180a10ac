// One thread of a search. It owns a ring, an arena and a few queries in flight: while the reads of some are under way,
// others are routed and scanned, and completions are scanned in whatever order they arrive. Read from the top: route,
// read, scan, answer are one function each.

import Router
import Storage
import Vectors

/// One thread's engine.
final class SearchWorker {
    private let job: SearchJob
    private let index: DiskIndex
    private let arena: ReadArena
    private let queue: any ReadQueue
    private let router: any PartitionRouter
    private let scratch: RouterScratch
    private var completion: RouteCompletion
    private var slots: [QueryInFlight] = []
    private var free: [Int] = []
    /// Slots with reads that are not submitted yet, the oldest first.
    private var waiting: [Int] = []
    private var completions: [ReadCompletion] = []
    private let scanner: SegmentScanner
    private var chooser: ReadChooser
    private let rounds: LaterRounds?
    /// Where pages are chosen instead of partitions, and what one has to be worth.
    private let pages: PageChooser?
    private let lambda: Float
    /// Where codes lie in the index: they are read before.
    private let codeReader: CodeReader?
    private var sorted: [Neighbour] = []

    init(job: SearchJob) throws {
        self.job = job
        index = job.index
        let largest = index.table.largestSegmentByteCount
        arena = try ReadArena(byteCount: max(4 << 20, 2 * max(largest, SegmentRead.joinLimit)))
        queue = try index.device.makeQueue(depth: 256, arena: arena)
        router = index.router(for: job.parameters.policy)
        scratch = router.makeScratch()
        completion = RouteCompletion(index: index, policy: job.parameters.policy)
        scanner = SegmentScanner(layout: index.layout, metric: index.metric, hasReplicas: index.hasReplicas)
        chooser = ReadChooser(policy: job.parameters.policy, cost: job.parameters.cost, table: index.table)
        rounds = job.parameters.rounds > 1 ? LaterRounds(index: index, k: job.parameters.k) : nil
        if case .pages(let lambda) = job.parameters.policy, let codes = index.recordCodes {
            self.lambda = lambda
            pages = PageChooser(index: index, codes: codes)
            codeReader = try index.codesDevice.map {
                try CodeReader(device: $0, codes: codes, k: job.parameters.k)
            }
        } else {
            (pages, codeReader, lambda) = (nil, nil, 0)
        }
        for slot in 0..<job.parameters.inFlight {
            slots.append(
                QueryInFlight(
                    k: rounds?.heapCapacity ?? job.parameters.k,
                    tracksIds: job.excluded != nil || index.hasReplicas && job.parameters.countDistinct))
            free.append(slot)
        }
    }

    func run() throws {
        while true {
            while let slot = free.last, let query = job.takeQuery() {
                free.removeLast()
                try begin(query, in: slot)
            }
            codeReader?.submit(slots)
            submitWaiting()
            if let codeReader, codeReader.inFlight > 0 {
                try codeReader.wait(slots) { try proceedToPages($0, blocks: slots[$0].look.blocks) }
                continue
            }
            guard queue.inFlight > 0 else { return }
            let waitStart = monotonicNanoseconds()
            completions.removeAll(keepingCapacity: true)
            try queue.wait(atLeast: 1, into: &completions)
            let waited = monotonicNanoseconds() - waitStart
            slots[SegmentRead.slot(ofTag: completions[0].tag)].counters.waitNanoseconds += waited
            for completion in completions { try finishRead(tag: completion.tag) }
        }
    }

    /// Routes a query and plans its reads.
    private func begin(_ query: Int, in slot: Int) throws {
        let state = slots[slot]
        state.query = query
        state.counters = QueryCounters()
        state.heap.removeAll()
        state.seen?.removeAll()
        // What was met before is not offered again.
        if let excluded = job.excluded { _ = state.seen?.insert(excluded[query]) }
        state.rounds = 0
        state.started = monotonicNanoseconds()
        if let pages {
            routeToCodes(pages, state)
            state.counters.routeNanoseconds = monotonicNanoseconds() - state.started
            guard let codeReader, !state.look.reads.isEmpty else {
                return try proceedToPages(slot, blocks: nil)
            }
            return codeReader.add(slot)
        }
        route(state)
        plan(state)
        state.counters.routeNanoseconds = monotonicNanoseconds() - state.started
        try proceed(slot)
    }

    /// The nearest partitions, and where their codes lie in the index the reads of those that are worth a look.
    private func routeToCodes(_ pages: PageChooser, _ state: QueryInFlight) {
        router.route(
            job.routingRows.row(state.query), limit: pages.partitionLimit(k: job.parameters.k),
            scratch: scratch, into: &state.route)
        guard codeReader != nil, let codes = index.recordCodes else { return }
        state.look.plan(
            state.route,
            count: pages.lookCount(state.route, k: job.parameters.k, above: lambda), codes: codes)
        guard !state.look.reads.isEmpty else { return }
        state.counters.rounds += 1
        for read in state.look.reads { state.counters.add(readOf: read.byteCount) }
    }

    /// Chooses pages by codes that are there, and starts on them.
    private func proceedToPages(_ slot: Int, blocks: [UnsafeRawPointer?]?) throws {
        let (state, start) = (slots[slot], monotonicNanoseconds())
        if let pages { choosePages(pages, blocks: blocks, state) }
        plan(state)
        state.counters.routeNanoseconds += monotonicNanoseconds() - start
        try proceed(slot)
    }

    /// Starts on what was planned: scans what lies in the cache and lines up what must be read.
    private func proceed(_ slot: Int) throws {
        let state = slots[slot]
        if !state.cached.isEmpty {
            let start = monotonicNanoseconds()
            for partition in state.cached {
                if let segment = index.cache?.segment(Int(partition)) {
                    let entry = index.table[Int(partition)]
                    try scan(
                        segment, partition: Int(partition), units: 0..<Int(entry.unitCount),
                        records: Int(entry.recordCount), state)
                }
            }
            state.counters.scanNanoseconds += monotonicNanoseconds() - start
        }
        if state.reads.isEmpty {
            try endRound(slot)
        } else {
            waiting.append(slot)
        }
    }

    private func route(_ state: QueryInFlight) {
        let policy = job.parameters.policy
        let limit = policy.candidateLimit(partitions: index.partitionCount, records: index.manifest.records)
        if let routes = job.routes {
            state.route = routes[state.query]
        } else {
            router.route(
                job.routingRows.row(state.query), limit: limit, scratch: scratch, into: &state.route)
        }
        completion.fill(
            &state.route, query: job.routingRows.row(state.query), limit: limit, scratch: scratch)
        state.positions.removeAll(keepingCapacity: true)
        if rounds == nil {
            chooser.choose(from: state.route, into: &state.positions)
        } else {
            chooser.chooseFirstRound(
                factor: LaterRounds.firstRoundFactor, from: state.route, into: &state.positions)
            state.isRead.removeAll(keepingCapacity: true)
            state.isRead.append(contentsOf: repeatElement(false, count: state.route.count))
        }
        // SPANN: heads that routing met are base vectors; their exact distances are known already.
        if let headIds = index.headIds {
            let scale = index.metric == .cosine ? Float(0.5) : 1
            for position in 0..<state.route.count {
                let (partition, distance) = (
                    state.route.partitions[position], state.route.distances[position]
                )
                state.heap.push(
                    id: UInt64(headIds[Int(partition)]), distance: distance * scale,
                    residual: index.centroids.residual(
                        of: distance, query: job.routingRows.row(state.query), partition: partition))
            }
        }
    }

    /// The pages of the nearest partitions that probably hold neighbours.
    private func choosePages(
        _ pages: PageChooser, blocks: [UnsafeRawPointer?]?, _ state: QueryInFlight
    ) {
        pages.estimate(
            job.routingRows.row(state.query), route: state.route, k: job.parameters.k, blocks: blocks)
        pages.weigh(route: state.route, k: job.parameters.k)
        state.units.removeAll(keepingCapacity: true)
        state.counters.expectedNeighbours = pages.choose(above: lambda, into: &state.units)
    }

    /// Turns what was chosen into reads, joining neighbours in the file.
    private func plan(_ state: QueryInFlight) {
        state.submitted = 0
        state.completed = 0
        state.chosen.removeAll(keepingCapacity: true)
        state.cached.removeAll(keepingCapacity: true)
        state.rounds += 1
        if pages != nil { return planUnits(state) }
        for position in state.positions {
            let partition = state.route.partitions[Int(position)]
            if let cache = index.cache, cache.segment(Int(partition)) != nil {
                state.cached.append(partition)
                state.counters.cached += UInt64(index.table[Int(partition)].recordCount)
            } else {
                state.chosen.append(partition)
            }
            if rounds != nil { state.isRead[Int(position)] = true }
        }
        SegmentRead.plan(&state.chosen, table: index.table, into: &state.reads)
        countReads(state)
    }

    /// The same of units; a segment that lies in the cache is scanned whole, since that costs no read.
    private func planUnits(_ state: QueryInFlight) {
        if let cache = index.cache {
            for address in state.units where cache.segment(address.partition) != nil {
                guard state.cached.last.map(Int.init) != address.partition else { continue }
                state.cached.append(UInt32(address.partition))
                state.counters.cached += UInt64(index.table[address.partition].recordCount)
            }
            state.units.removeAll { cache.segment($0.partition) != nil }
        }
        SegmentRead.plan(state.units, table: index.table, into: &state.reads)
        countReads(state)
    }

    private func countReads(_ state: QueryInFlight) {
        state.seen?.reserve(1 + Int(state.counters.vectors + state.counters.cached))
        guard !state.reads.isEmpty else { return }
        state.counters.rounds += 1
        var records: UInt64 = 0
        // Reads that follow one another may lie in one segment.
        var last = -1
        for read in state.reads {
            state.counters.add(readOf: read.byteCount)
            for partition in read.partitions {
                let count = read.part(of: partition, table: index.table).records
                guard count > 0 else { continue }
                if partition != last { state.counters.segments += 1 }
                last = partition
                records += UInt64(count)
            }
        }
        state.counters.vectors += records
        state.seen?.reserve(1 + Int(state.counters.vectors + state.counters.cached))
    }

    /// Submits as many waiting reads as the arena has room for, the oldest query first.
    private func submitWaiting() {
        while let slot = waiting.first {
            let state = slots[slot]
            // A device that is busy makes the kernel wait before it takes a read: that is waiting too.
            let start = monotonicNanoseconds()
            defer { state.counters.waitNanoseconds += monotonicNanoseconds() - start }
            while state.submitted < state.reads.count {
                guard queue.inFlight < queue.depth,
                    let place = arena.allocate(byteCount: state.reads[state.submitted].byteCount)
                else { return }
                state.reads[state.submitted].arenaOffset = place
                queue.submit(
                    offset: state.reads[state.submitted].offset,
                    byteCount: state.reads[state.submitted].byteCount, arenaOffset: place,
                    tag: SegmentRead.tag(slot: slot, read: state.submitted))
                state.submitted += 1
            }
            waiting.removeFirst()
        }
    }

    /// Scans the segments of a completed read; answers the query with its last one.
    private func finishRead(tag: UInt64) throws {
        let slot = SegmentRead.slot(ofTag: tag)
        let state = slots[slot]
        let read = state.reads[SegmentRead.read(ofTag: tag)]
        let start = monotonicNanoseconds()
        defer { arena.release(offset: read.arenaOffset, byteCount: read.byteCount) }
        for partition in read.partitions {
            let (units, records) = read.part(of: partition, table: index.table)
            let place = index.table[partition].offset + UInt64(units.lowerBound * index.layout.unitByteCount)
            try scan(
                arena.base + read.arenaOffset + Int(place - read.offset), partition: partition, units: units,
                records: records, state)
        }
        state.counters.scanNanoseconds += monotonicNanoseconds() - start
        state.completed += 1
        if state.completed == state.reads.count { try endRound(slot) }
    }

    /// Scores units of a segment, which lie at `bytes`, for a query.
    private func scan(
        _ bytes: UnsafeRawPointer, partition: Int, units: Range<Int>, records: Int, _ state: QueryInFlight
    ) throws {
        do {
            let entry = index.table[partition]
            let damaged = scanner.scan(
                units: bytes, partition: partition, firstUnit: units.lowerBound, recordCount: records,
                query: job.queries.row(state.query), heap: state.heap, seen: state.seen)
            if let damaged {
                throw IndexError.corruptSegment(
                    path: index.device.path, partition: partition,
                    offset: entry.offset + UInt64(units.lowerBound * index.layout.unitByteCount + damaged))
            }
            if units.count == Int(entry.unitCount) {
                try index.refuseStray(segment: bytes, partition: partition)
            }
        } catch {
            // What is still in flight lands in the arena, which must outlive it.
            try? queue.drain()
            throw error
        }
    }

    /// Decides whether another round pays; answers where none does.
    private func endRound(_ slot: Int) throws {
        let state = slots[slot]
        if let rounds, state.rounds < job.parameters.rounds {
            let start = monotonicNanoseconds()
            state.positions.removeAll(keepingCapacity: true)
            sorted.removeAll(keepingCapacity: true)
            state.heap.copySorted(into: &sorted)
            rounds.choose(
                query: job.queries.row(state.query), route: state.route, isRead: state.isRead, found: sorted,
                chooser: chooser,
                into: &state.positions)
            plan(state)
            state.counters.routeNanoseconds += monotonicNanoseconds() - start
            if !state.reads.isEmpty || !state.cached.isEmpty { return try proceed(slot) }
        }
        answer(slot)
    }

    private func answer(_ slot: Int) {
        let state = slots[slot]
        state.counters.distinct =
            state.seen.map { UInt64($0.count) } ?? state.counters.vectors + state.counters.cached
        state.counters.latencyNanoseconds = monotonicNanoseconds() - state.started
        sorted.removeAll(keepingCapacity: true)
        state.heap.drain(into: &sorted)
        job.answer(query: state.query, neighbours: sorted, counters: state.counters)
        free.append(slot)
    }
}
