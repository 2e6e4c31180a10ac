// The one face of every router: a query in, candidate partitions out. Index orders candidates by gain and
// stops by policy; a router only says where neighbours probably are.

import Vectors

/// What a router says of one query: candidate partitions, the likeliest first. Reused from query to query,
/// so that routing allocates nothing after warm-up.
public struct Route: Sendable {
    /// Partition numbers, by falling log-probability, equal ones by number.
    public var partitions: [UInt32] = []
    /// Distance of the query to each candidate's centroid in routing space (squared l2).
    public var distances: [Float] = []
    /// Calibrated natural logarithm of the probability that the candidate holds the nearest neighbour.
    public var logProbabilities: [Float] = []
    /// Logarithm of what the softmax divided by: a logit is its log-probability plus this.
    public var logNormaliser: Float = 0
    /// The factor that turns a logit into a distance.
    public var beta: Float = 1

    public init() {}

    public var count: Int { partitions.count }

    public mutating func removeAll() {
        partitions.removeAll(keepingCapacity: true)
        distances.removeAll(keepingCapacity: true)
        logProbabilities.removeAll(keepingCapacity: true)
    }
}

/// From a query to partitions in order, with probabilities. Immutable and shared by all workers.
public protocol PartitionRouter: Sendable {
    /// Partitions that there are.
    var partitionCount: Int { get }
    /// Partitions that a route names at most, whatever its limit.
    var candidateMaximum: Int { get }
    /// Whether routes name partitions in the order of their centroids' distances.
    var ordersByCentroid: Bool { get }
    /// Memory that the router holds while an index is open.
    var residentByteCount: Int { get }
    /// Working memory for one worker thread.
    func makeScratch() -> RouterScratch
    /// Routes one query (a row in routing space, of the routing element type): up to `limit` candidates.
    func route(_ query: UnsafeRawPointer, limit: Int, scratch: RouterScratch, into route: inout Route)
    /// Routes a block of queries; gives each query exactly what `route` gives it.
    func routeBlock(_ queries: VectorMatrix, limit: Int, scratch: RouterScratch, into routes: inout [Route])
}

/// A router that was learned: it can be kept in an index.
public protocol LearnedRouter: PartitionRouter {
    /// The sections that hold it and its centroids.
    func encode() -> [(tag: String, bytes: [UInt8])]
}

/// Working memory of one worker; each router subclasses it. Not shared between threads.
open class RouterScratch {
    public init() {}
}

extension PartitionRouter {
    public var candidateMaximum: Int { partitionCount }
    public var ordersByCentroid: Bool { false }

    public func routeBlock(
        _ queries: VectorMatrix, limit: Int, scratch: RouterScratch, into routes: inout [Route]
    ) {
        while routes.count < queries.count { routes.append(Route()) }
        for index in 0..<queries.count {
            route(queries.row(index), limit: limit, scratch: scratch, into: &routes[index])
        }
    }
}
