// Training the posterior: held-out queries are read partition by partition in the order of the router's
// gain, and after each of several depths every candidate left is asked whether it holds a neighbour.

import Glibc
import Index
import Router
import Storage
import Vectors

/// Fits the posteriors of an index from held-out pairs (pairs that the predictor did not train on: on its own
/// training pairs it is surer than it should be).
struct PosteriorTraining {
    let index: DiskIndex
    let predictor: any PartitionRouter
    let homes: Homes
    let threads: Int
    let seed: UInt64

    /// Depths at which candidates are asked.
    private static let depths = [1, 2, 3, 4, 6, 8, 12, 16, 24]
    /// Partitions whose distances are needed, and candidates asked at most.
    private static let readDepth = 24
    private static let candidateDepth = 96

    /// Posteriors for the nearest and for the ten nearest.
    ///
    /// - Parameter neighbours: `depth` ids a query, nearest first; `depth` at least 1.
    /// - Parameter sources: vectors that are not to be found, one a query; empty: none.
    func run(
        queries: VectorMatrix, sources: [UInt32], neighbours: [UInt32], depth: Int
    ) throws -> [PosteriorModel] {
        let routes = index.routes(of: queries, router: predictor, limit: 256, threads: threads)
        let orders = routes.map { order($0) }
        let found = try distances(queries: queries, sources: sources, routes: routes, orders: orders)
        let best = (0..<queries.count).map { query -> Float in
            (0..<min(Self.readDepth, orders[query].count)).reduce(Float.infinity) {
                min($0, found.best(query: query, place: $1))
            }
        }
        let ceiling = ceiling(queries: queries, best: best)
        let scale = FoundScale(metric: index.metric, elementType: index.elementType, ceiling: ceiling)
        let lines = best.indices.map { scale.squared(of: queries.row($0), dimension: queries.dimension) }
        let nearest = best.indices.map { lines[$0](best[$0]) }
        let median = nearest.sorted()[nearest.count / 2]
        let floor = max(0.02 * (median.isFinite ? median : 1), 1e-12)
        return [1, min(10, depth)].map { k in
            var rows = PosteriorRows(floor: floor, ceiling: ceiling)
            var random = SeededRandom(seed: seed, stream: UInt64(k))
            for query in 0..<queries.count {
                append(
                    query: query, route: routes[query], order: orders[query], found: found,
                    squared: lines[query],
                    targets: neighbours[query * depth..<query * depth + k], rows: &rows, random: &random)
            }
            return PosteriorModel.fit(rows, seed: seed)
        }
    }

    /// The length that the best inner products speak of: their greatest over the length of the query.
    private func ceiling(queries: VectorMatrix, best: [Float]) -> Float? {
        guard index.metric == .ip else { return nil }
        let product = Distance(metric: .ip, elementType: index.elementType)
        let greatest = best.indices.reduce(Float(0)) { greatest, query in
            let row = queries.row(query)
            let length = (-product.pair(row, row, dimension: queries.dimension)).squareRoot()
            guard length > 0, best[query].isFinite else { return greatest }
            return max(greatest, -best[query] / length)
        }
        return greatest > 0 ? greatest : 1
    }

    /// Positions of a route by falling gain in vectors.
    private func order(_ route: Route) -> [Int] {
        let gains = (0..<route.count).map { position -> Float in
            let records = index.table[Int(route.partitions[position])].recordCount
            return records == 0 ? -Float.infinity : route.logProbabilities[position] - logf(Float(records))
        }
        return gains.indices.sorted { gains[$0] == gains[$1] ? $0 < $1 : gains[$0] > gains[$1] }
    }

    /// The ten best distances of each of the first partitions of each query.
    private struct Found {
        let answers: TruthFile
        let starts: [Int]

        func best(query: Int, place: Int) -> Float { answers.distance(query: starts[query] + place, rank: 0) }

        func merge(query: Int, place: Int, into best: inout [Float]) {
            for rank in 0..<answers.k {
                let distance = answers.distance(query: starts[query] + place, rank: rank)
                guard distance < .infinity else { break }
                best.append(distance)
            }
            best.sort()
            if best.count > PosteriorState.depth { best.removeLast(best.count - PosteriorState.depth) }
        }
    }

    /// One sweep in which every (query, partition) is a query of its own.
    private func distances(
        queries: VectorMatrix, sources: [UInt32], routes: [Route], orders: [[Int]]
    ) throws -> Found {
        var rows: [UInt32] = []
        var chosen: [[UInt32]] = []
        var starts: [Int] = []
        for query in 0..<queries.count {
            starts.append(rows.count)
            for position in orders[query].prefix(Self.readDepth) {
                rows.append(UInt32(query))
                chosen.append([routes[query].partitions[position]])
            }
        }
        let k = PosteriorState.depth
        let asked = sources.isEmpty ? k : k + 1
        let sweep = BatchSweep(index: index, queries: queries.gather(rows), k: asked, threads: threads)
        _ = try sweep.sweep(SweepLists(chosen: chosen, partitionCount: index.partitionCount))
        let answers = sweep.takeAnswers(k: asked)
        guard !sources.isEmpty else { return Found(answers: answers, starts: starts) }
        let numbers = try index.numbers()
        var others = TruthFile(count: rows.count, k: k)
        for (row, query) in rows.enumerated() {
            // Queries of a learn file were made from nothing that could be left out.
            let source =
                sources[Int(query)] == LearnQueries.noSource
                ? TruthFile.noId : numbers.id(of: Int(sources[Int(query)]))
            var place = 0
            for rank in 0..<asked where place < k && answers.id(query: row, rank: rank) != source {
                others.set(
                    query: row, rank: place, id: answers.id(query: row, rank: rank),
                    distance: answers.distance(query: row, rank: rank))
                place += 1
            }
        }
        return Found(answers: others, starts: starts)
    }

    private func append(
        query: Int, route: Route, order: [Int], found: Found, squared: FoundScale.Line,
        targets: ArraySlice<UInt32>,
        rows: inout PosteriorRows, random: inout SeededRandom
    ) {
        let candidates = order.prefix(Self.candidateDepth).map { index.posteriorCandidate(route, $0) }
        let leastSoft = candidates.reduce(Float.infinity) { min($0, $1.soft) }
        var best: [Float] = []
        var massRead: Float = 0
        var read = 0
        // Targets that a partition read so far holds have been found: no other copy of them counts.
        var missing = Set(targets)
        for depth in Self.depths where depth < candidates.count {
            while read < depth {
                found.merge(query: query, place: read, into: &best)
                massRead += expf(candidates[read].logProbability)
                let partition = route.partitions[order[read]]
                missing = missing.filter { !homes[Int($0)].contains(partition) }
                read += 1
            }
            guard let nearest = best.first, let tenth = best.last else { continue }
            let state = PosteriorState(
                best: squared(nearest), tenth: squared(tenth), massRead: massRead, readCount: read,
                leastSoft: leastSoft)
            for place in read..<candidates.count {
                // Near candidates matter most; the others are thinned and weigh more.
                let share = place < read + 16 ? 0.7 : 0.15
                guard random.uniform() < share else { continue }
                let partition = route.partitions[order[place]]
                let held = missing.reduce(0) { $0 + (homes[Int($1)].contains(partition) ? 1 : 0) }
                rows.append(
                    state, candidates[place], label: Float(held) / Float(targets.count),
                    weight: Float(1 / share))
            }
        }
    }
}

extension DiskIndex {
    /// The same segments behind another router: what a router is tried with before it is written.
    public func with(
        router: any PartitionRouter, posteriors: [PosteriorModel]?, device: (any BlockDevice)? = nil
    )
        -> DiskIndex
    {
        DiskIndex(copying: self, router: router, posteriors: posteriors, device: device ?? self.device)
    }

    /// Fits posteriors for `router` on the queries and neighbours given.
    ///
    /// - Parameter sources: the vectors that queries were made from, which are not to be found; empty: none.
    public func trainPosteriors(
        router: any PartitionRouter, queries: VectorMatrix, sources: [UInt32] = [], neighbours: [UInt32],
        depth: Int, homes: Homes, threads: Int, seed: UInt64
    ) throws -> [PosteriorModel] {
        try PosteriorTraining(index: self, predictor: router, homes: homes, threads: threads, seed: seed)
            .run(queries: queries, sources: sources, neighbours: neighbours, depth: depth)
    }
}
