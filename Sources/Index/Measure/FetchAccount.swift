// What policies would fetch, without fetching: the same routes, the same choice and the same joining of
// reads as a search, and recall from where the true neighbours live. A vector is found exactly when a
// partition that holds it is read, so recall and counts are those of the real search (a test compares
// them); nothing is timed. Used to choose thresholds on held-out pairs and to tabulate ablations.

import Foundation
import Router
import Storage
import Vectors

/// Mean costs and recalls of one setting of a policy.
public struct FetchPoint: Sendable, Codable {
    public var policy: String
    public var parameter: Double
    /// Share of the k nearest whose partition was read, by k as text.
    public var recall: [String: Double]
    public var vectors: Double
    public var segments: Double
    public var pages: Double
    public var reads: Double
    /// By the device model, reads joined as a search joins them.
    public var microseconds: Double

    public init(
        policy: String, parameter: Double, recall: [String: Double], vectors: Double, segments: Double,
        pages: Double, reads: Double, microseconds: Double
    ) {
        self.policy = policy
        self.parameter = parameter
        self.recall = recall
        self.vectors = vectors
        self.segments = segments
        self.pages = pages
        self.reads = reads
        self.microseconds = microseconds
    }
}

/// Routed queries with their true neighbours.
public struct FetchAccount: Sendable {
    private let routes: [Route]
    private let neighbours: [UInt32]
    private let depth: Int
    private let homes: Homes
    private let threads: Int
    /// Records of each partition, where copies are tried that the index does not hold yet; else its own.
    private let table: SegmentTable
    public var model: DeviceModel

    /// - Parameters:
    ///   - neighbours: `depth` ids a query, nearest first.
    ///   - homes: where every vector lives.
    public init(
        index: DiskIndex, routes: [Route], neighbours: [UInt32], depth: Int, homes: Homes,
        table: SegmentTable? = nil, model: DeviceModel = .common, threads: Int = 2
    ) {
        self.init(
            table: table ?? index.table, routes: routes, neighbours: neighbours, depth: depth, homes: homes,
            model: model, threads: threads)
    }

    /// The same of partitions that no index holds.
    package init(
        table: SegmentTable, routes: [Route], neighbours: [UInt32], depth: Int, homes: Homes,
        model: DeviceModel = .common, threads: Int
    ) {
        precondition(neighbours.count == routes.count * depth)
        self.routes = routes
        self.neighbours = neighbours
        self.depth = depth
        self.homes = homes
        self.table = table
        self.model = model
        self.threads = threads
    }

    /// Tries every policy.
    public func points(_ policies: [Policy], cost: ReadCost = .vectors, ks: [Int] = [1, 10, 100])
        -> [FetchPoint]
    {
        let slots = ResultSlots<FetchPoint>(count: policies.count)
        Workers.forEach(count: policies.count, threads: threads) { slot in
            slots.set(slot, point(policies[slot], cost: cost, ks: ks.filter { $0 <= depth }))
        }
        return policies.indices.compactMap { slots.take($0) }
    }

    /// The recalls of every policy by k, with their standard errors.
    package func recalls(_ policies: [Policy], cost: ReadCost, ks: [Int]) -> [[MeanRecall]] {
        let slots = ResultSlots<[MeanRecall]>(count: policies.count)
        Workers.forEach(count: policies.count, threads: threads) { slot in
            slots.set(slot, recalls(policies[slot], cost: cost, ks: ks))
        }
        return policies.indices.compactMap { slots.take($0) }
    }

    /// - Parameter ks: rising, none beyond `depth`.
    private func recalls(_ policy: Policy, cost: ReadCost, ks: [Int]) -> [MeanRecall] {
        var chooser = ReadChooser(policy: policy, cost: cost, table: table)
        var positions: [Int32] = []
        var stamps = [UInt32](repeating: 0, count: table.count)
        var recalls = [MeanRecall](repeating: MeanRecall(), count: ks.count)
        for (query, route) in routes.enumerated() {
            positions.removeAll(keepingCapacity: true)
            chooser.choose(from: route, into: &positions)
            let stamp = UInt32(query) + 1
            for position in positions { stamps[Int(route.partitions[Int(position)])] = stamp }
            var (found, rank) = (0, 0)
            for (place, k) in ks.enumerated() {
                while rank < k {
                    let id = Int(neighbours[query * depth + rank])
                    if homes[id].contains(where: { stamps[Int($0)] == stamp }) { found += 1 }
                    rank += 1
                }
                recalls[place].add(Double(found) / Double(k))
            }
        }
        return recalls
    }

    private func point(_ policy: Policy, cost: ReadCost, ks: [Int]) -> FetchPoint {
        var chooser = ReadChooser(policy: policy, cost: cost, table: table)
        var positions: [Int32] = []
        var chosen: [UInt32] = []
        var reads: [SegmentRead] = []
        var stamps = [UInt32](repeating: 0, count: table.count)
        var found = [Int](repeating: 0, count: ks.count)
        var (vectors, segments, bytes, readCount, microseconds) = (0, 0, 0, 0, 0.0)
        for (query, route) in routes.enumerated() {
            positions.removeAll(keepingCapacity: true)
            chooser.choose(from: route, into: &positions)
            chosen.removeAll(keepingCapacity: true)
            for position in positions { chosen.append(route.partitions[Int(position)]) }
            let stamp = UInt32(query) + 1
            for partition in chosen {
                stamps[Int(partition)] = stamp
                let records = Int(table[Int(partition)].recordCount)
                vectors += records
                segments += records > 0 ? 1 : 0
            }
            SegmentRead.plan(&chosen, table: table, into: &reads)
            readCount += reads.count
            for read in reads {
                bytes += read.byteCount
                microseconds += Double(model.microseconds(byteCount: read.byteCount))
            }
            for (place, k) in ks.enumerated() {
                for rank in 0..<k {
                    let id = Int(neighbours[query * depth + rank])
                    if homes[id].contains(where: { stamps[Int($0)] == stamp }) { found[place] += 1 }
                }
            }
        }
        let n = Double(max(routes.count, 1))
        var recall: [String: Double] = [:]
        for (place, k) in ks.enumerated() { recall[String(k)] = Double(found[place]) / (n * Double(k)) }
        return FetchPoint(
            policy: policy.name, parameter: policy.parameter, recall: recall, vectors: Double(vectors) / n,
            segments: Double(segments) / n, pages: Double(bytes) / n / Double(PageLayout.pageByteCount),
            reads: Double(readCount) / n, microseconds: microseconds / n)
    }

    /// Lambdas from reading the best partition alone to reading nearly everything, for a cost.
    public func lambdaLadder(cost: ReadCost, count: Int = 48) -> [Policy] {
        Policy.gainLadder(for: table, cost: cost, count: count)
    }

    /// The cost of a recall, interpolated between the two points around it; nil where none reaches it.
    public static func cost(
        of points: [FetchPoint], k: Int, recall wanted: Double, _ value: (FetchPoint) -> Double
    ) -> Double? {
        let sorted = points.compactMap { point in point.recall[String(k)].map { (recall: $0, point: point) } }
            .sorted { $0.recall < $1.recall }
        guard let above = sorted.firstIndex(where: { $0.recall >= wanted }) else { return nil }
        if above == 0 { return sorted[0].recall == wanted ? value(sorted[0].point) : nil }
        let (low, high) = (sorted[above - 1], sorted[above])
        let share = (wanted - low.recall) / max(high.recall - low.recall, 1e-12)
        return value(low.point) + share * (value(high.point) - value(low.point))
    }
}

extension DiskIndex {
    /// Routes every row with `router` (this index's own unless another is given).
    public func routes(
        of queries: VectorMatrix, router: (any PartitionRouter)? = nil, limit: Int = 4096, threads: Int
    )
        -> [Route]
    {
        routes(
            ofRoutingRows: space.queries(from: queries), router: router ?? self.router, limit: limit,
            threads: threads)
    }

    /// Routes every row with this index's own router, as far as a search by `policy` would.
    func routes(of queries: VectorMatrix, policy: Policy, threads: Int) -> [Route] {
        let limit = policy.candidateLimit(partitions: partitionCount, records: manifest.records)
        let rows = space.queries(from: queries)
        let slots = ResultSlots<[Route]>(count: (rows.count + 255) / 256)
        Workers.forEachBlock(count: rows.count, blockSize: 256, threads: threads) { _, range in
            var block: [Route] = []
            let router = router(for: policy)
            let scratch = router.makeScratch()
            var completion = RouteCompletion(index: self, policy: policy)
            router.routeBlock(rows.gather(range), limit: limit, scratch: scratch, into: &block)
            for (place, row) in range.enumerated() {
                completion.fill(
                    &block[place], query: rows.row(row), limit: limit, scratch: scratch)
            }
            slots.set(range.lowerBound / 256, block)
        }
        return (0..<(rows.count + 255) / 256).flatMap { slots.take($0) ?? [] }
    }

    /// Routes rows that are in routing space already.
    package func routes(
        ofRoutingRows rows: VectorMatrix, router: any PartitionRouter, limit: Int, threads: Int
    )
        -> [Route]
    {
        let slots = ResultSlots<[Route]>(count: (rows.count + 255) / 256)
        Workers.forEachBlock(count: rows.count, blockSize: 256, threads: threads) { _, range in
            var block: [Route] = []
            router.routeBlock(
                rows.gather(range), limit: min(limit, partitionCount), scratch: router.makeScratch(),
                into: &block)
            slots.set(range.lowerBound / 256, block)
        }
        return (0..<(rows.count + 255) / 256).flatMap { slots.take($0) ?? [] }
    }
}
