// A small index in memory that tells what a large one would fetch: a sample of the base in partitions as large as
// the large index's, the same clustering, the same routers, the same account of reads. No segment is written: what
// is fetched hangs on routes and on the sizes of partitions alone.

import Foundation
import Index
import Learn
import Router
import Storage
import Vectors

/// What a query fetched in a sample at the wanted recall.
struct SampledCost: Sendable, Codable {
    var vectors: Double
    var pages: Double
    var reads: Double
    /// As in the partitioned sample.
    var rank: Double
}

/// Rows of the base and queries that are not among them.
struct ResidentSample: Sendable {
    /// In random order: each prefix is a sample itself.
    let rows: VectorMatrix
    let queries: VectorMatrix
    let space: RoutingSpace
    let layout: PageLayout
    let goal: ResidentGoal
    let seed: UInt64
    let threads: Int
    private let routingRows: VectorMatrix
    private let routingQueries: VectorMatrix

    /// Residuals that codewords are trained on.
    private let residualCount: Int

    /// Neighbours kept of a query.
    private var depth: Int { max(10, goal.k) }
    /// The first queries fit the one factor of a router, the others measure it.
    private var fitting: Range<Int> { 0..<queries.count / 4 }
    private var measuring: Range<Int> { queries.count / 4..<queries.count }

    init(
        rows: VectorMatrix, queries: VectorMatrix, space: RoutingSpace, layout: PageLayout,
        goal: ResidentGoal,
        seed: UInt64, threads: Int, residualCount: Int
    ) {
        self.residualCount = residualCount
        self.rows = rows
        self.queries = queries
        self.space = space
        self.layout = layout
        self.goal = goal
        self.seed = seed
        self.threads = threads
        routingRows = space.rows(from: rows)
        routingQueries = space.queries(from: queries)
    }

    /// The nearest of the first `count` rows to every query, `depth` a query, ties by row.
    func neighbours(count: Int) -> [UInt32] {
        let distance = Distance(metric: space.metric, elementType: rows.elementType)
        let slots = ResultSlots<[UInt32]>(count: queries.count)
        let depth = depth
        Workers.forEachBlock(count: queries.count, blockSize: 16, threads: threads) { _, block in
            let distances = UnsafeMutablePointer<Float>.allocate(capacity: count)
            let positions = UnsafeMutablePointer<UInt32>.allocate(capacity: count)
            defer {
                distances.deallocate()
                positions.deallocate()
            }
            let heap = TopK(capacity: depth)
            for query in block {
                distance.rows(
                    queries.row(query), rows.bytes, count: count, dimension: rows.dimension, into: distances)
                let limit = Distance.limitOfLeast(depth, of: distances, count: count)
                let found = Distance.selectAtMost(limit, of: distances, count: count, into: positions)
                for place in 0..<found {
                    heap.push(id: UInt64(positions[place]), distance: distances[Int(positions[place])])
                }
                var nearest: [Neighbour] = []
                heap.drain(into: &nearest)
                // Distances that are no numbers have no neighbours: whatever stands in for them is never near.
                let ids = nearest.map { UInt32($0.id) }
                slots.set(query, ids + [UInt32](repeating: ids.last ?? 0, count: depth - ids.count))
            }
        }
        return (0..<queries.count).flatMap { slots.take($0) ?? [] }
    }

    /// The first rows of a sample in partitions numbered along a walk, as a build numbers them.
    struct Partitioned: Sendable {
        let count: Int
        let centroids: CentroidIndex
        let homes: Homes
        let table: SegmentTable
        /// Rows by partition.
        let members: [[UInt32]]
        let neighbours: [UInt32]
        /// The rank by centroid distance within which nearly all homes of the neighbours lie.
        var rank = 1.0
    }

    /// - Parameter whole: the index that these stand for: its k-means has two levels where its partitions are many, and
    ///   the fewer rounds over all rows the larger it is, which a small sample would do better.
    func partitioned(
        count: Int, partitions: Int, whole: (rows: Int, partitions: Int), neighbours: [UInt32]
    ) -> Partitioned {
        let part = count == routingRows.count ? routingRows : routingRows.gather(0..<count)
        var means = KMeans(partitions: partitions, seed: seed, threads: threads)
        means.refinements = KMeans(partitions: whole.partitions, seed: seed, threads: 1)
            .refinementCount(rows: whole.rows)
        if whole.partitions > means.flatLimit {
            means.flatLimit = max(1, Int(Double(partitions).squareRoot()))
        }
        let trained = means.train(part)
        let walk = LocalityOrder.walk(
            rows: trained.centroids.bytes, count: trained.centroids.count,
            stride: trained.centroids.rowByteCount,
            distance: space.distance, dimension: trained.centroids.dimension, grain: 1)
        let centroids = trained.centroids.gather(walk)
        let homes = NearestCentroids(centroids, seed: seed, threads: threads).assign(part, threads: threads)
            .partitions
        var members = [[UInt32]](repeating: [], count: centroids.count)
        for (row, home) in homes.enumerated() { members[Int(home)].append(UInt32(row)) }
        var offset: UInt64 = 0
        let entries = members.map { rows in
            let units = layout.unitCount(records: rows.count)
            defer { offset += UInt64(units * layout.unitByteCount) }
            return SegmentEntry(
                offset: offset, unitCount: UInt32(units), recordCount: UInt32(rows.count), checksum: 0,
                radius: 0)
        }
        var partitioned = Partitioned(
            count: count,
            centroids: CentroidIndex(
                centroids: centroids, beta: CentroidIndex.defaultBeta(meanDistance: trained.meanDistance),
                seed: seed, threads: threads),
            homes: Homes(homes), table: SegmentTable(layout: layout, entries: entries), members: members,
            neighbours: neighbours)
        partitioned.rank = rank(in: partitioned)
        return partitioned
    }

    /// What a router fetches; nil where it does not reach the recall.
    func cost(of router: PlannedRouter, in part: Partitioned) -> SampledCost? {
        let candidates = max(256, part.table.count / 8)
        let made = maker(of: router, in: part, candidates: candidates)
        let start = log(Double(part.centroids.beta))
        let best = GoldenSection.minimise(from: start - 1, to: start + 3, steps: 9) { logBeta in
            loss(routes(of: fitting, made(Float(exp(logBeta))), limit: candidates), in: part)
        }
        // Far behind the rank that nearly all homes lie within nothing is read.
        let limit = min(4096, max(512, Int(part.rank) * 4))
        let asked = routes(of: measuring, made(Float(exp(best))), limit: limit)
        let account = FetchAccount(
            table: part.table, routes: asked,
            neighbours: Array(part.neighbours[measuring.lowerBound * depth..<measuring.upperBound * depth]),
            depth: depth, homes: part.homes, threads: threads)
        let cost: ReadCost = goal.saving == .pages ? .bytes : .vectors
        let points = account.points(account.lambdaLadder(cost: cost), cost: cost, ks: [goal.k])
        let least = points.min { $0.recall[String(goal.k)] ?? 0 < $1.recall[String(goal.k)] ?? 0 }
        func at(_ value: (FetchPoint) -> Double) -> Double? {
            // Where the likeliest partition alone reaches the recall, that is what is read.
            if let least, least.recall[String(goal.k)] ?? 0 >= goal.recall { return value(least) }
            return FetchAccount.cost(of: points, k: goal.k, recall: goal.recall, value)
        }
        guard let vectors = at(\.vectors), let pages = at(\.pages), let reads = at(\.reads) else {
            return nil
        }
        return SampledCost(vectors: vectors, pages: pages, reads: reads, rank: part.rank)
    }

    /// Routers by the factor on their distances.
    private func maker(of router: PlannedRouter, in part: Partitioned, candidates: Int) -> (Float) ->
        any PartitionRouter
    {
        guard case .codes(let prototypes, let byteCount) = router else {
            return { beta in
                var centroids = part.centroids
                centroids.beta = beta
                return centroids
            }
        }
        let coder = coder(of: part, prototypes: prototypes, byteCount: byteCount)
        return { coder.predictor(beta: $0, centroids: part.centroids, candidateCount: candidates) }
    }

    private func coder(of part: Partitioned, prototypes: Int?, byteCount: Int) -> PrototypeCoder {
        let rows = part.centroids.centroids()
        let floats = rows.converted(to: .f32)
        let slots = ResultSlots<SubClusterPart>(count: part.members.count)
        let share = prototypes.map { Double($0) * Double(part.members.count) / Double(part.count) } ?? 1
        Workers.forEach(count: part.members.count, threads: threads) { partition in
            let own = routingRows.gather(part.members[partition])
            let wanted = max(1, Int((Double(own.count) * share).rounded()))
            slots.set(
                partition,
                own.count == 0
                    ? .empty(like: rows, row: partition)
                    : SubClusterPart(rows: own, wanted: wanted, seed: UInt64(partition)))
        }
        var parts: [Int: SubClusterPart] = [:]
        var starts: [UInt32] = [0]
        var residuals: [VectorMatrix] = []
        let step = max(
            1, min(part.members.count, Int(Double(part.count) * min(share, 1)) / residualCount))
        for partition in part.members.indices {
            guard let clusters = slots.take(partition) else { continue }
            parts[partition] = clusters
            starts.append(starts[partition] + UInt32(clusters.centers.count))
            if partition % step == 0 {
                residuals.append(
                    clusters.centers.residuals(to: floats.floatRow(partition)))
            }
        }
        var coder = PrototypeCoder(
            starts: starts, centroids: rows, residuals: VectorMatrix.joined(residuals) ?? floats,
            codeByteCount: byteCount, seed: seed, threads: threads)
        coder.encode(Array(part.members.indices), threads: threads, parts)
        return coder
    }

    private func routes(of range: Range<Int>, _ router: any PartitionRouter, limit: Int) -> [Route] {
        let slots = ResultSlots<[Route]>(count: (range.count + 127) / 128)
        Workers.forEachBlock(count: range.count, blockSize: 128, threads: threads) { _, block in
            var routes: [Route] = []
            router.routeBlock(
                routingQueries.gather(
                    range.lowerBound + block.lowerBound..<range.lowerBound + block.upperBound),
                limit: min(limit, router.partitionCount), scratch: router.makeScratch(), into: &routes)
            slots.set(block.lowerBound / 128, routes)
        }
        return (0..<(range.count + 127) / 128).flatMap { slots.take($0) ?? [] }
    }

    /// Mean -log of the probability of the homes of the wanted neighbours (ten at most, as training takes them), floored
    /// where they are no candidates.
    private func loss(_ routes: [Route], in part: Partitioned) -> Double {
        let targets = min(goal.k, 10)
        var sum = 0.0
        for (place, route) in routes.enumerated() {
            for rank in 0..<targets {
                let home = part.homes[Int(part.neighbours[(fitting.lowerBound + place) * depth + rank])]
                var log = -20.0
                for (partition, probability) in zip(route.partitions, route.logProbabilities)
                where home.contains(partition) { log = max(log, Double(probability)) }
                sum -= log
            }
        }
        return sum / Double(max(routes.count * targets, 1))
    }

    /// The rank, by centroid distance, within which the homes lie of all but a tenth of what the recall may miss.
    private func rank(in part: Partitioned) -> Double {
        let asked = routes(of: measuring, part.centroids, limit: 4096)
        var ranks: [Int] = []
        for (place, route) in asked.enumerated() {
            for neighbour in 0..<goal.k {
                let home = part.homes[
                    Int(part.neighbours[(measuring.lowerBound + place) * depth + neighbour])]
                ranks.append((route.partitions.firstIndex { home.contains($0) } ?? route.count) + 1)
            }
        }
        ranks.sort()
        guard !ranks.isEmpty else { return 1 }
        let share = 1 - (1 - goal.recall) / 10
        return Double(ranks[min(ranks.count - 1, Int(share * Double(ranks.count)))])
    }
}
