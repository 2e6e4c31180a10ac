// What planners keep of routes: of each query only the partitions that may be read, and the point at which the index
// is run: the threshold of a wanted recall, what it costs and what more recall would cost.

import Glibc
import Index
import Router
import Storage
import Vectors

/// For each query or vector the partitions that are or might be read, likeliest first.
struct LikelyPartitions: Sendable {
    /// Partitions of row i: `starts[i] ..< starts[i + 1]`.
    private(set) var starts: [Int] = [0]
    private(set) var partitions: [UInt32] = []
    private(set) var logProbabilities: [Float] = []

    var count: Int { starts.count - 1 }

    func of(_ row: Int) -> Range<Int> { starts[row]..<starts[row + 1] }

    /// Routes rows of routing space and appends them.
    ///
    /// - Parameters:
    ///   - floor: the log-probability above which partitions are kept; the likeliest always is.
    ///   - limit: how many are kept at most.
    mutating func append(
        routing rows: VectorMatrix, router: any PartitionRouter, floor: Float, limit: Int, threads: Int
    ) {
        let blockSize = 256
        let blocks = (rows.count + blockSize - 1) / blockSize
        let slots = ResultSlots<LikelyPartitions>(count: blocks)
        Workers.forEachBlock(count: rows.count, blockSize: blockSize, threads: threads) { _, range in
            var part = LikelyPartitions()
            var routes: [Route] = []
            router.routeBlock(
                rows.gather(range), limit: min(limit, router.partitionCount), scratch: router.makeScratch(),
                into: &routes)
            for route in routes { part.append(route, floor: floor) }
            slots.set(range.lowerBound / blockSize, part)
        }
        for block in 0..<blocks {
            guard let part = slots.take(block) else { continue }
            for row in 0..<part.count { starts.append(starts[starts.count - 1] + part.of(row).count) }
            partitions.append(contentsOf: part.partitions)
            logProbabilities.append(contentsOf: part.logProbabilities)
        }
    }

    private mutating func append(_ route: Route, floor: Float) {
        for position in 0..<route.count where position == 0 || route.logProbabilities[position] > floor {
            partitions.append(route.partitions[position])
            logProbabilities.append(route.logProbabilities[position])
        }
        starts.append(partitions.count)
    }

    /// The same rows in another order; a negative number makes an empty row.
    func reordered(_ source: [Int]) -> LikelyPartitions {
        var result = LikelyPartitions()
        result.starts.reserveCapacity(source.count + 1)
        result.partitions.reserveCapacity(partitions.count)
        result.logProbabilities.reserveCapacity(partitions.count)
        for row in source {
            if row >= 0 {
                result.partitions.append(contentsOf: partitions[of(row)])
                result.logProbabilities.append(contentsOf: logProbabilities[of(row)])
            }
            result.starts.append(result.partitions.count)
        }
        return result
    }
}

/// What one router says of pairs and of the vectors of the base themselves: what gain plans are made from,
/// whatever their cost. Holds some hundred bytes a vector and a pair.
public final class CatchmentRoutes: Sendable {
    /// Queries, what they may read, and their neighbours.
    struct Catchment: Sendable {
        var routes: LikelyPartitions
        /// `depth` a query, nearest first.
        var neighbours: [UInt32]
        var depth: Int
        /// Only describes catchments; never counts as evidence of a gain (vectors of the base itself).
        var describesOnly: Bool
        /// Row of `routes` of each query; nil: its own number.
        var rows: [UInt32]?
    }
    let catchments: [Catchment]
    let held: (routes: [Route], neighbours: [UInt32], depth: Int)
    /// Of each vector, asked as a query.
    let own: LikelyPartitions

    /// Below one in ten thousand no partition is read at any recall that is asked for.
    private static let floor: Float = -9.2
    /// Partitions kept of a query, and of a vector: where it might be copied to.
    private static let queryLimit = 256
    private static let ownLimit = 32

    /// Routes everything.
    ///
    /// - Parameters:
    ///   - selfNeighbours: neighbours of base vectors among the others (`DiskIndex.selfNeighbours`), which
    ///     describe catchments further.
    public init(
        planner: CopyPlanner, router: any PartitionRouter, pairs: TrainingPairs,
        selfNeighbours: SelfNeighbours? = nil
    ) throws {
        let (index, depth, threads) = (planner.index, pairs.neighbourCount, planner.threads)
        held = (
            index.routes(
                ofRoutingRows: pairs.queries.gather(pairs.heldOut), router: router, limit: Self.queryLimit,
                threads: threads),
            Array(pairs.neighbours[(pairs.trainingCount * depth)...]), depth
        )
        var routes = LikelyPartitions()
        routes.append(
            routing: pairs.queries.gather(0..<pairs.trainingCount), router: router, floor: Self.floor,
            limit: Self.queryLimit, threads: threads)
        var catchments = [
            Catchment(
                routes: routes, neighbours: Array(pairs.neighbours[..<(pairs.trainingCount * depth)]),
                depth: depth,
                describesOnly: false, rows: nil)
        ]
        var own = LikelyPartitions()
        var rowOfId = [Int](repeating: -1, count: index.count)
        try planner.forEachBatch { ids, rows in
            for (row, id) in ids.enumerated() { rowOfId[Int(id)] = own.count + row }
            own.append(
                routing: rows, router: router, floor: Self.floor, limit: Self.ownLimit, threads: threads)
        }
        self.own = own.reordered(rowOfId)
        if let selfNeighbours {
            catchments.append(
                Catchment(
                    routes: self.own, neighbours: selfNeighbours.neighbours,
                    depth: selfNeighbours.neighbourCount,
                    describesOnly: true, rows: selfNeighbours.ids))
        }
        self.catchments = catchments
    }
}

/// Where an index is run: the gain threshold that reaches a wanted recall on held-out queries.
public struct OperatingPoint: Sendable {
    public var lambda: Float
    /// Mean cost of a query there.
    public var cost: Double
    /// What one more unit of recall would cost there: the slope over a span of recalls.
    public var price: Double
}

extension FetchAccount {
    /// The threshold that reaches `recall` at `k`; nil where none does.
    ///
    /// - Parameter near: a threshold not far from it, where one is known: fewer are tried then.
    public func operatingPoint(
        k: Int, recall: Double, cost: ReadCost, span: Double = 0.02, near: Float? = nil
    ) -> OperatingPoint? {
        let ladder = near.map { lambda in (-6...6).map { Policy.gain(lambda * expf(Float($0) * 0.2)) } }
        let points = self.points(ladder ?? lambdaLadder(cost: cost), cost: cost, ks: [k])
        let value: (FetchPoint) -> Double = { point in
            switch cost {
            case .vectors: point.vectors
            case .bytes: point.pages * Double(PageLayout.pageByteCount)
            case .reads: point.segments
            case .time: point.microseconds
            }
        }
        let high = min(recall + span, (recall + 1) / 2)
        guard let at = Self.cost(of: points, k: k, recall: recall, value),
            let below = Self.cost(of: points, k: k, recall: recall - span, value),
            let above = Self.cost(of: points, k: k, recall: high, value),
            let lambda = Self.cost(of: points, k: k, recall: recall, { log($0.parameter) })
        else { return near == nil ? nil : operatingPoint(k: k, recall: recall, cost: cost, span: span) }
        return OperatingPoint(
            lambda: Float(exp(lambda)), cost: at, price: max(0, (above - below) / (high - recall + span)))
    }
}

extension ReadCost {
    /// Logarithms of what reading each partition costs; infinite where it is empty, so that nobody reads it.
    func logarithms(table: SegmentTable) -> [Float] {
        (0..<table.count).map { partition in
            let entry = table[partition]
            return entry.recordCount == 0
                ? .infinity : logf(of(entry, unitByteCount: table.layout.unitByteCount))
        }
    }

    /// What one more record adds to the cost of a segment where it needs no unit of its own, and what a
    /// further unit adds.
    func additions(layout: PageLayout) -> (record: Double, unit: Double) {
        switch self {
        case .vectors: (1, 0)
        case .bytes: (0, Double(layout.unitByteCount))
        case .reads: (0, 0)
        case .time(let model): (0, Double(model.microsecondsPerByte) * Double(layout.unitByteCount))
        }
    }
}
