// What the workers of a search share, and what each keeps of a query on its way.

import Router
import Storage
import Synchronization
import Vectors

/// What all workers of one search share: the queries, the next one to take, and where answers go.
final class SearchJob: @unchecked Sendable {
    let index: DiskIndex
    let queries: VectorMatrix
    let routingRows: VectorMatrix
    /// Where they are known already.
    let routes: [Route]?
    /// The id that a query must not be answered with: the vector that it was made from.
    let excluded: [UInt64]?
    let parameters: SearchParameters
    /// Queries that stay empty, rising; set before the workers begin.
    var invalid: [Int] = [] {
        didSet { isInvalid = Set(invalid) }
    }
    private var isInvalid: Set<Int> = []
    private let next = Atomic<Int>(0)
    private let hasFailed = Atomic<Bool>(false)
    // Each query's places are written by the one worker that took the query.
    private let ids: UnsafeMutablePointer<UInt64>
    private let distances: UnsafeMutablePointer<Float>
    private let counters: UnsafeMutablePointer<QueryCounters>

    init(
        index: DiskIndex, queries: VectorMatrix, routingRows: VectorMatrix, routes: [Route]?,
        excluded: [UInt64]? = nil, parameters: SearchParameters
    ) {
        self.index = index
        self.queries = queries
        self.routingRows = routingRows
        self.routes = routes
        self.excluded = excluded
        self.parameters = parameters
        let places = queries.count * parameters.k
        ids = .allocate(capacity: max(places, 1))
        ids.initialize(repeating: TruthFile.noId, count: places)
        distances = .allocate(capacity: max(places, 1))
        distances.initialize(repeating: .infinity, count: places)
        counters = .allocate(capacity: max(queries.count, 1))
        counters.initialize(repeating: QueryCounters(), count: queries.count)
    }

    deinit {
        ids.deallocate()
        distances.deallocate()
        counters.deallocate()
    }

    /// Ends the job: a worker that failed answers for all, and what is left is not asked.
    func fail() { hasFailed.store(true, ordering: .relaxed) }

    /// The next query that nobody has taken, or nil.
    func takeQuery() -> Int? {
        while !hasFailed.load(ordering: .relaxed) {
            let query = next.add(1, ordering: .relaxed).oldValue
            guard query < queries.count else { return nil }
            if isInvalid.isEmpty || !isInvalid.contains(query) { return query }
        }
        return nil
    }

    func answer(query: Int, neighbours: [Neighbour], counters: QueryCounters) {
        let k = parameters.k
        for (rank, neighbour) in neighbours.prefix(k).enumerated() {
            ids[query * k + rank] = neighbour.id
            distances[query * k + rank] = neighbour.distance
        }
        self.counters[query] = counters
    }

    func takeAnswers() -> TruthFile {
        let places = queries.count * parameters.k
        return TruthFile(
            count: queries.count, k: parameters.k, ids: Array(UnsafeBufferPointer(start: ids, count: places)),
            distances: Array(UnsafeBufferPointer(start: distances, count: places)))
    }

    func takeCounters() -> [QueryCounters] {
        Array(UnsafeBufferPointer(start: counters, count: queries.count))
    }
}

/// A query on its way: what it still has to read, and the best that was found.
final class QueryInFlight {
    var query = -1
    var route = Route()
    /// Positions in the route: of this round, and of all that was read before.
    var positions: [Int32] = []
    var isRead: [Bool] = []
    var chosen: [UInt32] = []
    /// Units of pages to read, where those are chosen instead of partitions.
    var units: [UnitAddress] = []
    var reads: [SegmentRead] = []
    /// What is read of codes before, where they lie in the index.
    var look = CodeLook()
    /// Partitions of this round that lie in the cache.
    var cached: [UInt32] = []
    /// Rounds planned, whether they read or were served by the cache.
    var rounds = 0
    var submitted = 0
    var completed = 0
    let heap: TopK
    let seen: SeenIds?
    var counters = QueryCounters()
    var started: UInt64 = 0

    init(k: Int, tracksIds: Bool) {
        heap = TopK(capacity: k)
        seen = tracksIds ? SeenIds() : nil
    }
}
