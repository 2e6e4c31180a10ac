// What codes are measured on: a base in lists of k-means, queries that nothing was trained on, their true neighbours.

import Foundation
import Router
import Storage
import Vectors

/// A data set on disk and what its codes are tried at.
struct CodeSource {
    var directory: String
    var type: String
    var isCosine: Bool
    var lists: Int
    var sizes: [Int]
    var queries: [(name: String, file: String, truth: String)]
}

struct CodeData {
    static let known = [
        "sift": CodeSource(
            directory: "sift-photos-1M", type: "u8bin", isCosine: false, lists: 1024, sizes: [8, 16, 24, 32],
            queries: [("query", "query", "truth")]),
        "text": CodeSource(
            directory: "text-minilm-100k", type: "f16bin", isCosine: true, lists: 400,
            sizes: [16, 32, 48, 64],
            queries: [("query", "query", "truth"), ("query-ood", "query-ood", "truth-ood")]),
    ]
    /// Rows at the end of the learn file that are asked.
    static let heldRows = 1000
    /// Learn rows that routing codes learn from, and the nearest records of each that are offered.
    static let exampleQueries = 20_000
    static let offered = 200

    var name: String
    var threads = Workers.processorCount
    /// In the space of l2: as they are, or of length one; f32 or u8.
    var base: VectorMatrix
    var lists: VectorMatrix
    var homes: [UInt32]
    var queries: [(name: String, rows: VectorMatrix, truth: [UInt32], depth: Int)] = []
    var examples: RoutingExamples?
    var options = RoutingCodesOptions()

    init(
        _ source: CodeSource, directory: String, rowLimit: Int?, lists count: Int, isFinal: Bool,
        exampleQueries: Int
    ) throws {
        name = source.directory
        let stem = directory + "/" + source.directory + "/"
        func read(_ file: VectorFile, _ range: Range<Int>) throws -> VectorMatrix {
            let rows = try file.rows(range)
            return source.isCosine ? Self.normalised(rows.converted(to: .f32)) : rows
        }
        let baseFile = try VectorFile.open(path: stem + "base." + source.type)
        base = try read(baseFile, 0..<min(baseFile.count, rowLimit ?? .max))
        let learn = try VectorFile.open(path: stem + "learn." + source.type)
        let held = learn.count - Self.heldRows..<learn.count
        var means = KMeans(partitions: count, seed: 1, threads: threads)
        means.refinements = 1
        lists = means.train(base).centroids
        let assigned = NearestCentroids(scanning: lists).assign(base, threads: threads)
        homes = assigned.partitions
        lists = lists.converted(to: .f32)
        let all = NearestCentroids(scanning: base)
        let isWhole = base.count == baseFile.count
        if isFinal, isWhole {
            for set in source.queries {
                let file = try VectorFile.open(path: stem + set.file + "." + source.type)
                let truth = try TruthFile.read(path: stem + set.truth + ".bin")
                let rows = try read(file, 0..<min(file.count, 2000))
                queries.append(
                    (set.name, rows, truth.ids.prefix(rows.count * truth.k).map { UInt32($0) }, truth.k))
            }
        } else {
            let rows = try read(learn, held)
            queries = [("learn-held", rows, all.nearest(10, rows, threads: threads).partitions, 10)]
        }
        guard exampleQueries > 0 else { return }
        // Rows spread over the learn file, none of those that are asked.
        let wanted = min(exampleQueries, held.lowerBound)
        let step = held.lowerBound / wanted
        let asked = try learn.gather((0..<wanted).map { $0 * step })
        let rows = source.isCosine ? Self.normalised(asked.converted(to: .f32)) : asked
        let nearest = all.nearest(Self.offered, rows, threads: threads)
        examples = RoutingExamples(
            queries: rows.converted(to: .f32), records: nearest.partitions, recordsEach: Self.offered,
            neighbours: 10, base: base, homes: homes, centroids: lists)
    }

    static func normalised(_ rows: VectorMatrix) -> VectorMatrix {
        for row in 0..<rows.count {
            let values = rows.floatRow(row)
            var sum: Float = 0
            for column in 0..<rows.dimension { sum += values[column] * values[column] }
            let inverse = sum > 0 ? 1 / sum.squareRoot() : 0
            for column in 0..<rows.dimension { values[column] *= inverse }
        }
        return rows
    }

    /// Differences of base rows to the centroids of their lists.
    func residuals(_ numbers: [UInt32]) -> VectorMatrix {
        let rows = base.gather(numbers).converted(to: .f32)
        for (row, number) in numbers.enumerated() {
            let (values, centroid) = (rows.floatRow(row), lists.floatRow(Int(homes[Int(number)])))
            for column in 0..<rows.dimension { values[column] -= centroid[column] }
        }
        return rows
    }
}
