// The first half of a batch: queries of a block to partitions, some hundred queries at a time on each
// thread, and for policies of several waves what has to be known of each route when the next is planned.

import Router
import Storage
import Vectors

/// Routes that are needed again after a sweep, in flat memory.
final class KeptRoutes: @unchecked Sendable {
    private let limit: Int
    private let partitions: UnsafeMutablePointer<UInt32>
    private let distances: UnsafeMutablePointer<Float>
    private let logProbabilities: UnsafeMutablePointer<Float>
    private let isRead: UnsafeMutablePointer<Bool>
    private let heads: UnsafeMutablePointer<Head>

    private struct Head {
        var count = 0
        var logNormaliser: Float = 0
        var beta: Float = 1
        /// Whether another wave may still read something.
        var isOpen = false
    }

    /// Bytes that a query takes.
    static func byteCount(limit: Int) -> Int { limit * 13 + MemoryLayout<Head>.stride }

    init(count: Int, limit: Int) {
        self.limit = limit
        let places = max(count * limit, 1)
        partitions = .allocate(capacity: places)
        distances = .allocate(capacity: places)
        logProbabilities = .allocate(capacity: places)
        isRead = .allocate(capacity: places)
        heads = .allocate(capacity: max(count, 1))
        heads.initialize(repeating: Head(), count: count)
    }

    deinit {
        partitions.deallocate()
        distances.deallocate()
        logProbabilities.deallocate()
        isRead.deallocate()
        heads.deallocate()
    }

    func keep(_ route: Route, query: Int) {
        let start = query * limit
        for position in 0..<route.count {
            partitions[start + position] = route.partitions[position]
            distances[start + position] = route.distances[position]
            logProbabilities[start + position] = route.logProbabilities[position]
        }
        (isRead + start).initialize(repeating: false, count: route.count)
        heads[query] = Head(
            count: route.count, logNormaliser: route.logNormaliser, beta: route.beta, isOpen: true)
    }

    func isOpen(_ query: Int) -> Bool { heads[query].isOpen }

    func close(_ query: Int) { heads[query].isOpen = false }

    func markRead(_ positions: [Int32], query: Int) {
        for position in positions { isRead[query * limit + Int(position)] = true }
    }

    /// The route as it was kept, and what of it was read.
    func load(_ query: Int, into route: inout Route, isRead read: inout [Bool]) {
        let (start, head) = (query * limit, heads[query])
        route.removeAll()
        read.removeAll(keepingCapacity: true)
        route.partitions.append(contentsOf: UnsafeBufferPointer(start: partitions + start, count: head.count))
        route.distances.append(contentsOf: UnsafeBufferPointer(start: distances + start, count: head.count))
        route.logProbabilities.append(
            contentsOf: UnsafeBufferPointer(start: logProbabilities + start, count: head.count))
        read.append(contentsOf: UnsafeBufferPointer(start: isRead + start, count: head.count))
        route.logNormaliser = head.logNormaliser
        route.beta = head.beta
    }
}

/// One thread's share of routing; kept for the whole batch, so that blocks allocate nothing anew.
final class BatchRoutingWorker: @unchecked Sendable {
    private let index: DiskIndex
    private let parameters: SearchParameters
    private let router: any PartitionRouter
    private let scratch: RouterScratch
    private var chooser: ReadChooser
    private let rounds: LaterRounds?
    private var completion: RouteCompletion
    private var routes: [Route] = []
    private var route = Route()
    private var isRead: [Bool] = []
    private var positions: [Int32] = []
    private var found: [Neighbour] = []

    init(index: DiskIndex, parameters: SearchParameters) {
        self.index = index
        self.parameters = parameters
        router = index.router(for: parameters.policy)
        scratch = router.makeScratch()
        chooser = ReadChooser(policy: parameters.policy, cost: parameters.cost, table: index.table)
        rounds = parameters.rounds > 1 ? LaterRounds(index: index, k: parameters.k) : nil
        completion = RouteCompletion(index: index, policy: parameters.policy)
    }

    /// Routes the queries of `range` and chooses what the first wave reads for them. SPANN's heads that
    /// routes meet are base vectors, whose distances are known with that.
    func begin(_ range: Range<Int>, of queries: VectorMatrix, heaps: NearestHeaps, kept: KeptRoutes?)
        -> QueryPartitions
    {
        let rows = index.space.queries(from: queries.gather(range))
        let limit = parameters.policy.candidateLimit(
            partitions: index.partitionCount, records: index.manifest.records)
        router.routeBlock(rows, limit: limit, scratch: scratch, into: &routes)
        var chosen = QueryPartitions(firstQuery: range.lowerBound)
        let headScale: Float = index.metric == .cosine ? 0.5 : 1
        for (place, query) in range.enumerated() {
            completion.fill(
                &routes[place], query: rows.row(place), limit: limit, scratch: scratch)
            positions.removeAll(keepingCapacity: true)
            if let kept {
                chooser.chooseFirstRound(
                    factor: LaterRounds.firstRoundFactor, from: routes[place], into: &positions)
                kept.keep(routes[place], query: query)
                kept.markRead(positions, query: query)
            } else {
                chooser.choose(from: routes[place], into: &positions)
            }
            if let headIds = index.headIds {
                for position in 0..<routes[place].count {
                    let (partition, distance) = (
                        routes[place].partitions[position], routes[place].distances[position]
                    )
                    heaps.offer(
                        query, id: UInt64(headIds[Int(partition)]), distance: distance * headScale,
                        residual: index.centroids.residual(
                            of: distance, query: rows.row(place), partition: partition))
                }
            }
            append(routes[place].partitions, query: query, kept: kept, to: &chosen)
        }
        return chosen
    }

    /// Chooses what the next wave reads for the queries of `range`, now that the best of the waves before are
    /// known.
    func goOn(
        _ range: Range<Int>, of queries: VectorMatrix, heaps: NearestHeaps, kept: KeptRoutes
    ) -> QueryPartitions {
        var chosen = QueryPartitions(firstQuery: range.lowerBound)
        for query in range {
            if let rounds, kept.isOpen(query) {
                kept.load(query, into: &route, isRead: &isRead)
                found.removeAll(keepingCapacity: true)
                heaps.copySorted(query, into: &found)
                positions.removeAll(keepingCapacity: true)
                rounds.choose(
                    query: queries.row(query), route: route, isRead: isRead, found: found, chooser: chooser,
                    into: &positions)
                kept.markRead(positions, query: query)
                append(route.partitions, query: query, kept: kept, to: &chosen)
            } else {
                chosen.endQuery()
            }
        }
        return chosen
    }

    /// Appends the chosen positions of a route as partitions; a query that reads nothing is answered.
    private func append(
        _ partitions: [UInt32], query: Int, kept: KeptRoutes?, to chosen: inout QueryPartitions
    ) {
        var reads = false
        for position in positions {
            let partition = partitions[Int(position)]
            chosen.partitions.append(partition)
            reads = reads || index.table[Int(partition)].recordCount > 0
        }
        chosen.endQuery()
        if !reads { kept?.close(query) }
    }
}
