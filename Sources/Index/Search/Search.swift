// Interactive search: what is asked, what comes back, and what is refused. SearchWorker does the work.

import Router
import Storage
import Synchronization
import Vectors

/// What a search is asked for.
public struct SearchParameters: Sendable {
    public var k: Int
    public var policy: Policy
    public var threads: Int
    /// Queries that one thread keeps in flight. 1 is the latency mode: one query at a time, all its reads at once.
    public var inFlight: Int
    /// Rounds of reads at most. More than one: the first reads what is worth most, later ones what is still
    /// worth its cost now that the best distance is known (gain policy, an index with a posterior).
    public var rounds = 1
    /// What a gain is measured against.
    public var cost = ReadCost.vectors
    /// Answer queries that are not finite, or have no direction under cosine, with nothing; else they are refused.
    public var answersInvalidEmpty = false
    /// Count different ids (`distinct`); costs a hash probe a record where there are replicas.
    public var countDistinct = true

    public init(k: Int, policy: Policy, threads: Int = 1, inFlight: Int = 8, cost: ReadCost = .vectors) {
        self.k = k
        self.policy = policy
        self.threads = threads
        self.inFlight = inFlight
        self.cost = cost
    }
}

/// Answers and their exact cost.
public struct SearchResult: Sendable {
    /// Ids and distances, k a query; places that nothing filled hold `TruthFile.noId` and infinity.
    public var answers: TruthFile
    /// One for each query.
    public var counters: [QueryCounters]
    public var wallSeconds: Double
    /// The mean recall that the codes themselves expected, where they chose pages; nil where none did.
    public var expectedRecall: Double? {
        let sum = counters.reduce(0.0) { $0 + Double($1.expectedNeighbours) }
        return sum > 0 ? sum / Double(max(1, counters.count * answers.k)) : nil
    }
    /// Queries that were answered empty because distances to them mean nothing, rising.
    public var invalidQueries: [Int] = []
}

extension DiskIndex {
    /// Answers every row of `queries` (of the index's element type and dimension).
    ///
    /// - Throws: `outOfRange`, `unlikeVectors`, `untrained` or `invalid` for a request that means nothing,
    ///   `corruptSegment` where a page that was read fails its checksum, `storage` where reading fails.
    public func search(
        _ queries: VectorMatrix, parameters: SearchParameters
    ) throws(IndexError) -> SearchResult {
        try IndexError.door { try search(queries, routes: nil, parameters: parameters) }
    }

    /// The same for queries that are asked again and again: `routes` are what this index's router says of each, nil
    /// where it has to be asked; only a policy that does not count partitions goes without asking it.
    ///
    /// - Parameter excluded: an id for each query that is no answer to it: that of the vector it was made from.
    package func search(
        _ queries: VectorMatrix, routes: [Route]?, excluded: [UInt64]? = nil, parameters: SearchParameters
    ) throws -> SearchResult {
        try validate(queries, parameters: parameters)
        precondition(routes == nil || routes?.count == queries.count && !parameters.policy.countsPartitions)
        let start = monotonicNanoseconds()
        let job = SearchJob(
            index: self, queries: queries, routingRows: space.queries(from: queries), routes: routes,
            excluded: excluded, parameters: parameters)
        if parameters.answersInvalidEmpty {
            job.invalid = InvalidVectors.rows(of: queries, count: queries.count, metric: metric)
        }
        let threads = max(1, min(parameters.threads, queries.count))
        try Workers.tryForEach(count: threads, threads: threads) { _ in
            do {
                try SearchWorker(job: job).run()
            } catch {
                job.fail()
                throw error
            }
        }
        return SearchResult(
            answers: job.takeAnswers(), counters: job.takeCounters(),
            wallSeconds: Double(monotonicNanoseconds() - start) / 1e9, invalidQueries: job.invalid)
    }

    private func validate(_ queries: VectorMatrix, parameters: SearchParameters) throws(IndexError) {
        try validate(parameters, dimension: queries.dimension, elementType: queries.elementType)
        if !parameters.answersInvalidEmpty { try refuseLengths(queries, metric: metric) { "query \($0)" } }
    }

    /// Refuses a request that means nothing for queries of this dimension and type.
    func validate(_ parameters: SearchParameters, dimension asked: Int, elementType type: ElementType)
        throws(IndexError)
    {
        try parameters.policy.validate()
        if parameters.k < 1 || parameters.k > count {
            throw .outOfRange(
                "k", allowed: "from 1 to the \(count) vectors of \(path)", found: "\(parameters.k)")
        }
        if asked != dimension {
            throw .unlikeVectors(
                "queries have \(asked) dimensions, the index has \(dimension)", expected: kind,
                found: VectorKind(dimension: asked, elementType: type))
        }
        if type != elementType {
            throw .unlikeVectors(
                "queries are \(type.name), the index holds \(elementType.name)", expected: kind,
                found: VectorKind(dimension: asked, elementType: type))
        }
        if parameters.threads < 1 || parameters.inFlight < 1 || parameters.rounds < 1 {
            throw .invalid("threads, inflight and rounds must be at least 1")
        }
        if case .pages = parameters.policy, recordCodes == nil {
            throw .untrained("\(path) has no code of every record, by which pages are chosen")
        }
        if parameters.rounds > 1 {
            guard case .gain = parameters.policy, posteriors != nil else {
                throw .untrained(
                    "more than one round needs the gain policy and an index whose router was trained")
            }
        }
    }
}
