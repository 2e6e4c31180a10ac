// What routing codes learn from a graph (Yue et al. 2023): at some hops of a walk by the codes of the moment, the best of
// what was seen and is not expanded stands against the truly nearest of it; and each of some true neighbours stands
// against the records that the codes put highest by mistake.

import Foundation
import Router
import Vectors

enum GraphPools {
    static let hops = 6
    static let endings = 4
    static let poolSize = 24
    static let walkWidth = 40

    /// Examples with one neighbour each, of queries (f32) whose true neighbours are known.
    static func examples(
        _ graph: ProximityGraph, _ codes: GraphCodes, queries: VectorMatrix, truth: NearestLists,
        seed: UInt64,
        errorWeight: Float, threads: Int
    ) -> RoutingExamples {
        nonisolated(unsafe) var pools = [[[UInt32]]](repeating: [], count: queries.count)
        let rows = graph.base.elementType == .f32 ? queries : queries.converted(to: graph.base.elementType)
        let distance = Distance(metric: .l2, elementType: graph.base.elementType)
        let lock = NSLock()
        Workers.forEachBlock(count: queries.count, blockSize: 16, threads: threads) { _, range in
            var tables = GraphCodes.Query(codes)
            var walk = GraphWalk(graph, width: walkWidth)
            for query in range {
                tables.fill(codes, queries.floatRow(query))
                var random = SeededRandom(seed: seed, stream: UInt64(query))
                var (found, hop): ([[GraphWalk.Entry]], Int) = ([], 0)
                func byTruth(_ entries: [UInt32]) -> [UInt32] {
                    entries.map { vertex in
                        (
                            distance.pair(
                                rows.row(query), graph.base.row(Int(vertex)), dimension: rows.dimension),
                            vertex
                        )
                    }.sorted { $0 < $1 }.map(\.1)
                }
                var last: [GraphWalk.Entry] = []
                walk.run(
                    graph,
                    onHop: { seen in
                        last = seen
                        guard seen.count >= poolSize else { return }
                        hop += 1
                        // Each hop with the same chance, however many there will be.
                        if found.count < hops {
                            found.append(seen)
                        } else {
                            let place = random.below(hop)
                            if place < hops { found[place] = seen }
                        }
                    }, distance: { tables.distance(codes, $0, errorWeight: errorWeight) })
                var mine = found.map { seen in
                    byTruth(
                        seen.sorted { ($0.distance, $0.vertex) < ($1.distance, $1.vertex) }.prefix(poolSize)
                            .map(\.vertex))
                }
                // All that was seen, whether it was expanded or not, but the true neighbours.
                let near = Set((0..<10).map { truth.partitions[query * truth.k + $0] })
                let wrong = (walk.beam + last).sorted { ($0.distance, $0.vertex) < ($1.distance, $1.vertex) }
                    .map(\.vertex).filter { !near.contains($0) }
                var others: [UInt32] = []
                for vertex in wrong where others.count < poolSize - 1 && !others.contains(vertex) {
                    others.append(vertex)
                }
                if others.count == poolSize - 1 {
                    for _ in 0..<endings {
                        mine.append(
                            byTruth(others + [truth.partitions[query * truth.k + random.below(10)]]))
                    }
                }
                let taken = mine
                lock.withLock { pools[query] = taken }
            }
        }
        let asked = pools.enumerated().flatMap { query, lists in lists.map { _ in UInt32(query) } }
        let center = VectorMatrix(count: 1, dimension: queries.dimension, elementType: .f32)
        for column in codes.mean.indices { center.floats[column] = codes.mean[column] }
        return RoutingExamples(
            queries: queries.gather(asked), records: pools.flatMap { $0.flatMap { $0 } },
            recordsEach: poolSize, neighbours: 1, base: graph.base,
            homes: [UInt32](repeating: 0, count: graph.base.count), centroids: center)
    }

    /// Codes learned from walks, which are walked again with what was learned.
    static func train(
        from start: ProductQuantiser, _ graph: ProximityGraph, rows: VectorMatrix, mean: [Float],
        queries: VectorMatrix, truth: NearestLists, rounds: Int, options: RoutingCodesOptions
    ) -> ProductQuantiser {
        var quantiser = start
        for round in 0..<rounds {
            let codes = GraphCodes(quantiser, rows: rows, mean: mean)
            let examples = examples(
                graph, codes, queries: queries, truth: truth,
                seed: options.training.seed &+ UInt64(round), errorWeight: options.errorWeight,
                threads: options.training.threads)
            let trainer = RoutingCodesTrainer(start: quantiser, examples: examples, options: options)
            trainer.train { tell($0, "walks \(round + 1) of \(rounds)") }
            quantiser = trainer.quantiser
        }
        return quantiser
    }

    /// A line an epoch.
    static func tell(_ trainer: RoutingCodesTrainer, _ what: String) {
        let report = trainer.report
        FileHandle.standardError.write(
            Data(
                String(
                    format: "%@: %d examples, epoch %d, loss %.4f, held out %.4f (%.4f before)\n", what,
                    report.pairs, report.trainLosses.count, report.trainLosses.last ?? 0,
                    report.heldOutLosses.last ?? 0, report.heldOutStart
                ).utf8))
    }
}
