// An index whose copies are planned: what planners are asked with and what comes out of the rewriter.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import Vectors

/// Clustered vectors, an index of them, and a directory that goes with the test.
package final class Planned {
    package let directory: String
    package let index: DiskIndex
    package let homes: Homes
    package let queries: VectorMatrix
    package let learn: VectorFile

    package init(
        count: Int = 3000, partitions: Int = 40, metric: Metric = .l2, elementType: ElementType = .u8,
        change: (inout BuildParameters) -> Void = { _ in }
    ) throws {
        directory = NSTemporaryDirectory() + "/sonde-planner-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
        let synth = try Synth(SynthParameters(dimension: 24, elementType: elementType, seed: 3, clusters: 12))
        let base = try Self.write(synth.rows(0..<count, of: .base, threads: 1), directory + "/base.npy")
        learn = try Self.write(synth.rows(0..<4000, of: .learn, threads: 1), directory + "/learn.npy")
        queries = synth.rows(0..<50, of: .query, threads: 1)
        var parameters = BuildParameters()
        parameters.partitions = partitions
        parameters.metric = metric
        parameters.iterations = 5
        change(&parameters)
        _ = try IndexBuilder(base: base, directory: directory + "/index", parameters: parameters).build()
        index = try DiskIndex(path: directory + "/index")
        homes = try index.homes()
    }

    deinit { try? FileManager.default.removeItem(atPath: directory) }

    private static func write(_ rows: VectorMatrix, _ path: String) throws -> VectorFile {
        let writer = try VectorFileWriter(
            path: path, dimension: rows.dimension, elementType: rows.elementType)
        try writer.append(rows)
        try writer.finish()
        return try VectorFile.open(path: path)
    }

    package func planner(maximum: Double = 1.3) -> CopyPlanner {
        var planner = CopyPlanner(index: index, homes: homes)
        planner.replicationMaximum = maximum
        return planner
    }

    package func rewritten(_ plan: Placements, _ name: String = "again") throws -> DiskIndex {
        var rewriter = IndexRewriter(index: index)
        rewriter.memoryByteCount = 200_000
        try rewriter.write(to: directory + "/" + name, plan: plan, build: ["duplicate": "test"])
        return try DiskIndex(path: directory + "/" + name)
    }

    package func ids(_ index: DiskIndex, nprobe: Int) throws -> [[UInt64]] {
        let found = try index.search(queries, parameters: SearchParameters(k: 5, policy: .nprobe(nprobe)))
        return (0..<queries.count).map { query in (0..<5).map { found.answers.id(query: query, rank: $0) } }
    }
}
