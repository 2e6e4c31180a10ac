// Graph routing by codes: hops, estimates and recall at equal bytes.
//
//     codes graph DATA CSV [--set base|centroids] [--families ...] [--bytes 8,16,32] [--rows 100000]
//         [--seed N] [--queries 3000] [--rounds 3] [--reconstruction 1] [--final]
//
// Families are those of codes; `rpq-` and a family learns further from walks, `near-` and a family from the nearest
// records.

import Foundation
import Router
import Storage
import Vectors

struct GraphMode {
    static let header =
        "set,vertices,edges a vertex,codes,bytes,seed,queries,error weight,beam,hops,estimates,"
        + "recall@10,recall@10 reranked,training cpu s\n"
    static let widths = [10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320]
    static let errorWeights: [Float] = [0, 0.5]

    let threads = Workers.processorCount
    let name: String
    let graph: ProximityGraph
    let mean: [Float]
    /// The base less its mean.
    let rows: VectorMatrix
    let asked: (name: String, queries: VectorMatrix, truth: NearestLists)
    let learned: (queries: VectorMatrix, truth: NearestLists)

    init(directory: String, set: String, rowLimit: Int, learnQueries: Int, isFinal: Bool) throws {
        name = set
        let stem = directory + "/sift-photos-1M/"
        let file = try VectorFile.open(path: stem + "base.u8bin")
        var base = try file.rows(0..<(set == "centroids" ? file.count : min(rowLimit, file.count)))
        if set == "centroids" {
            var means = KMeans(partitions: 4000, seed: 1, threads: threads)
            means.refinements = 1
            base = means.train(base).centroids
        }
        let floats = base.converted(to: .f32)
        var sums = [Double](repeating: 0, count: base.dimension)
        for row in 0..<base.count {
            for column in sums.indices { sums[column] += Double(floats.floatRow(row)[column]) }
        }
        mean = sums.map { Float($0 / Double(base.count)) }
        for row in 0..<base.count {
            for column in mean.indices { floats.floatRow(row)[column] -= mean[column] }
        }
        rows = floats
        graph = ProximityGraph(base, threads: threads)
        let all = NearestCentroids(scanning: base)
        let learn = try VectorFile.open(path: stem + "learn.u8bin")
        let held = learn.count - 1000..<learn.count
        let queries =
            isFinal
            ? try VectorFile.open(path: stem + "query.u8bin").rows(0..<2000) : try learn.rows(held)
        asked = (isFinal ? "query" : "learn-held", queries, all.nearest(10, queries, threads: threads))
        let step = held.lowerBound / learnQueries
        let taught = try learn.gather((0..<learnQueries).map { $0 * step })
        learned = (taught.converted(to: .f32), all.nearest(CodeData.offered, taught, threads: threads))
    }

    /// The quantiser of a name: a family's; `rpq-` and the family that it starts from, which learns from walks; `near-`
    /// the same, which learns from the nearest records of queries, as an index does.
    func quantiser(_ name: String, bytes: Int, seed: UInt64, rounds: Int, options: RoutingCodesOptions)
        -> ProductQuantiser
    {
        let parts = name.split(separator: "-").map(String.init)
        let family = CodeFamily(rawValue: parts[parts.count - 1]) ?? .pq
        let start = ProductQuantiser.train(
            family, rows: rows, codeByteCount: bytes, seed: seed, threads: threads)
        guard parts.count == 2 else { return start }
        if parts[0] == "near" {
            let center = VectorMatrix(count: 1, dimension: mean.count, elementType: .f32)
            for column in mean.indices { center.floats[column] = mean[column] }
            let examples = RoutingExamples(
                queries: learned.queries, records: learned.truth.partitions, recordsEach: learned.truth.k,
                neighbours: 10, base: graph.base,
                homes: [UInt32](repeating: 0, count: graph.base.count), centroids: center)
            let trainer = RoutingCodesTrainer(start: start, examples: examples, options: options)
            trainer.train { GraphPools.tell($0, "near") }
            return trainer.quantiser
        }
        return GraphPools.train(
            from: start, graph, rows: rows, mean: mean, queries: learned.queries, truth: learned.truth,
            rounds: rounds, options: options)
    }

    /// A line an error weight and beam width; nil for codes: exact distances.
    func lines(_ codes: GraphCodes?, training: Double) -> [String] {
        var result: [String] = []
        for weight in codes == nil ? [0] : Self.errorWeights {
            for width in Self.widths {
                let found = measure(codes, width: width, errorWeight: weight)
                let count = Double(asked.queries.count)
                result.append(
                    String(
                        format: "%@,%g,%d,%.2f,%.1f,%.4f,%.4f,%.0f", asked.name, weight, width,
                        found.hops / count, found.estimates / count, found.plain / count / 10,
                        found.reranked / count / 10, training))
            }
        }
        return result
    }

    private func measure(_ codes: GraphCodes?, width: Int, errorWeight: Float)
        -> (hops: Double, estimates: Double, plain: Double, reranked: Double)
    {
        let queries = asked.queries
        let floats = queries.converted(to: .f32)
        let distance = Distance(metric: .l2, elementType: queries.elementType)
        nonisolated(unsafe) var sums = (hops: 0.0, estimates: 0.0, plain: 0.0, reranked: 0.0)
        let lock = NSLock()
        Workers.forEachBlock(count: queries.count, blockSize: 64, threads: threads) { _, range in
            var walk = GraphWalk(graph, width: width)
            var mine = (hops: 0.0, estimates: 0.0, plain: 0.0, reranked: 0.0)
            func exact(_ query: Int, _ vertex: UInt32) -> Float {
                distance.pair(
                    queries.row(query), graph.base.row(Int(vertex)), dimension: queries.dimension)
            }
            func walked(_ query: Int) {
                let truth = Set((0..<10).map { asked.truth.partitions[query * asked.truth.k + $0] })
                mine.hops += Double(walk.expanded.count)
                mine.estimates += Double(walk.estimates)
                mine.plain += Double(walk.beam.prefix(10).count { truth.contains($0.vertex) })
                let best = walk.expanded.map { (exact(query, $0), $0) }.sorted { $0 < $1 }.prefix(10)
                mine.reranked += Double(best.count { truth.contains($0.1) })
            }
            if let codes {
                var tables = GraphCodes.Query(codes)
                for query in range {
                    tables.fill(codes, floats.floatRow(query))
                    walk.run(graph) { tables.distance(codes, $0, errorWeight: errorWeight) }
                    walked(query)
                }
            } else {
                for query in range {
                    walk.run(graph) { exact(query, $0) }
                    walked(query)
                }
            }
            let part = mine
            lock.withLock {
                sums.hops += part.hops
                sums.estimates += part.estimates
                sums.plain += part.plain
                sums.reranked += part.reranked
            }
        }
        return sums
    }

    /// The whole mode.
    static func run(_ given: [String]) throws {
        var arguments = given
        let set = take("--set", from: &arguments) ?? "base"
        let names = take("--families", from: &arguments)?.split(separator: ",").map(String.init)
        let sizes = take("--bytes", from: &arguments)?.split(separator: ",").compactMap { Int($0) }
        let rowLimit = take("--rows", from: &arguments).flatMap { Int($0) } ?? 100_000
        let seed = take("--seed", from: &arguments).flatMap { UInt64($0) } ?? 1
        let queries = take("--queries", from: &arguments).flatMap { Int($0) } ?? 3000
        let rounds = take("--rounds", from: &arguments).flatMap { Int($0) } ?? 3
        let reconstruction = take("--reconstruction", from: &arguments).flatMap { Float($0) } ?? 1
        let isFinal = arguments.contains("--final")
        arguments.removeAll { $0 == "--final" }
        guard arguments.count == 2, ["base", "centroids"].contains(set), rounds > 0, queries > 0 else {
            FileHandle.standardError.write(
                Data(
                    "usage: codes graph DATA CSV [--set base|centroids] [--families ...] [--bytes ...]\n".utf8
                ))
            exit(2)
        }
        var table = try CodeTable(path: arguments[1], header: header)
        let mode = try GraphMode(
            directory: arguments[0], set: set, rowLimit: rowLimit, learnQueries: queries, isFinal: isFinal)
        let graph = mode.graph
        let edges = String(format: "%.1f", Double(graph.edgeCount) / Double(graph.base.count))
        func key(_ name: String, _ bytes: Int) -> String {
            "\(set),\(graph.base.count),\(edges),\(name),\(bytes),\(seed)"
        }
        let plain = key("exact", graph.base.rowByteCount)
        if !table.has(plain) { try table.add(plain, mode.lines(nil, training: 0)) }
        for bytes in sizes ?? [8, 16, 32] {
            for name in names ?? ["pq", "opq", "weighted", "rpq-opq", "rpq-weighted"] {
                if table.has(key(name, bytes)) { continue }
                let begun = processorSeconds()
                var options = RoutingCodesOptions()
                (options.training.seed, options.training.threads) = (seed, mode.threads)
                options.training.epochs = 2
                // Steps of a walk are between vectors far from the query: what keeps codes near to their vectors there
                // counts as published.
                if name.hasPrefix("rpq-") { options.reconstruction = reconstruction }
                // Walks by what a code says alone, as published; by the weight of our estimates where maps are ours.
                options.errorWeight = name.hasSuffix("-opq") ? 0 : 0.5
                let quantiser = mode.quantiser(
                    name, bytes: bytes, seed: seed, rounds: rounds, options: options)
                let training = processorSeconds() - begun
                let codes = GraphCodes(quantiser, rows: mode.rows, mean: mode.mean)
                try table.add(key(name, bytes), mode.lines(codes, training: training))
            }
        }
    }
}
