// What planners keep of routes: of each query only the partitions whose gain comes near the threshold, and
// the point at which the index is run: the threshold of a wanted recall, what it costs and what more recall
// would cost.

import Glibc
import Router
import Storage
import Vectors

/// For each query or vector the partitions that are or might be read, likeliest first.
struct NearThreshold: Sendable {
    /// Partitions of row i: `starts[i] ..< starts[i + 1]`.
    private(set) var starts: [Int] = [0]
    private(set) var partitions: [UInt32] = []
    private(set) var logProbabilities: [Float] = []

    var count: Int { starts.count - 1 }

    func of(_ row: Int) -> Range<Int> { starts[row]..<starts[row + 1] }

    /// Routes rows of routing space and appends them: partitions whose log gain is over `floor`, at most
    /// `limit` of them, and always the likeliest.
    mutating func append(
        routing rows: VectorMatrix, router: any PartitionRouter, logCosts: [Float], floor: Float, limit: Int,
        candidates: Int, threads: Int
    ) {
        let blockSize = 256
        let blocks = (rows.count + blockSize - 1) / blockSize
        let slots = ResultSlots<NearThreshold>(count: blocks)
        Workers.forEachBlock(count: rows.count, blockSize: blockSize, threads: threads) { _, range in
            let scratch = router.makeScratch()
            var part = NearThreshold()
            var route = Route()
            for row in range {
                router.route(
                    rows.row(row), limit: min(candidates, router.partitionCount), scratch: scratch, into: &route)
                part.append(route, logCosts: logCosts, floor: floor, limit: limit)
            }
            slots.set(range.lowerBound / blockSize, part)
        }
        for block in 0..<blocks {
            guard let part = slots.take(block) else { continue }
            for row in 0..<part.count { starts.append(starts[starts.count - 1] + part.of(row).count) }
            partitions.append(contentsOf: part.partitions)
            logProbabilities.append(contentsOf: part.logProbabilities)
        }
    }

    private mutating func append(_ route: Route, logCosts: [Float], floor: Float, limit: Int) {
        var kept = 0
        for position in 0..<route.count where kept < limit {
            let partition = route.partitions[position]
            let gain = route.logProbabilities[position] - logCosts[Int(partition)]
            guard gain > floor || position == 0 else { continue }
            partitions.append(partition)
            logProbabilities.append(route.logProbabilities[position])
            kept += 1
        }
        starts.append(partitions.count)
    }

    /// The same rows in another order.
    func reordered(_ source: [Int]) -> NearThreshold {
        var result = NearThreshold()
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
    public func operatingPoint(k: Int, recall: Double, cost: ReadCost, span: Double = 0.02) -> OperatingPoint? {
        let points = self.points(lambdaLadder(cost: cost), cost: cost, ks: [k])
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
        else { return nil }
        return OperatingPoint(
            lambda: Float(exp(lambda)), cost: at, price: max(0, (above - below) / (high - recall + span)))
    }
}

extension ReadCost {
    /// Logarithms of what reading each partition costs; infinite where it is empty, so that nobody reads it.
    func logarithms(table: SegmentTable) -> [Float] {
        (0..<table.count).map { partition in
            let entry = table[partition]
            return entry.recordCount == 0 ? .infinity : logf(of(entry, unitByteCount: table.layout.unitByteCount))
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
