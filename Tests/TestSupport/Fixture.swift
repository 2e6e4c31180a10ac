// Small clustered bases in a temporary directory, and indexes built from them. Everything depends on seeds alone.

import Build
import Foundation
import Index
import Router
import Storage
import Vectors

/// A base and queries in files of their own.
package final class Fixture: Sendable {
    package let directory: TemporaryDirectory
    package let base: VectorFile
    package let queryFile: VectorFile
    package let queries: VectorMatrix

    /// `count` vectors around `clusters` centres. Every 50th vector is a copy of the one 25 before it, so
    /// that equal distances occur.
    package init(
        _ elementType: ElementType = .u8, count: Int = 1500, dimension: Int = 20, queryCount: Int = 40,
        clusters: Int = 24, seed: UInt64 = 5
    ) throws {
        directory = try TemporaryDirectory()
        let synth = try Synth(
            SynthParameters(dimension: dimension, elementType: elementType, seed: seed, clusters: clusters))
        let rows = synth.rows(0..<count, of: .base, threads: 1)
        for row in stride(from: 49, to: count, by: 50) {
            rows.row(row).copyMemory(from: rows.row(row - 25), byteCount: rows.rowByteCount)
        }
        base = try Self.write(rows, to: directory.file("base.npy"))
        queries = synth.rows(0..<queryCount, of: .query, threads: 1)
        queryFile = try Self.write(queries, to: directory.file("query.npy"))
    }

    package static func write(_ rows: VectorMatrix, to path: String) throws -> VectorFile {
        let writer = try VectorFileWriter(
            path: path, dimension: rows.dimension, elementType: rows.elementType)
        try writer.append(rows)
        try writer.finish()
        return try VectorFile.open(path: path)
    }

    /// Builds an index beside the base.
    @discardableResult
    package func build(
        _ name: String = "index", _ metric: Metric = .l2, _ kind: Kind = .none, partitions: Int = 24,
        change: (inout BuildParameters) -> Void = { _ in }
    ) throws -> BuildReport {
        var parameters = BuildParameters()
        parameters.metric = metric
        parameters.partitions = partitions
        parameters.iterations = 6
        kind.apply(to: &parameters)
        change(&parameters)
        return try IndexBuilder(base: base, directory: directory.file(name), parameters: parameters).build()
    }

    /// An index read from memory: what is tested is then not the disk.
    package func open(_ name: String = "index") throws -> DiskIndex {
        let path = directory.file(name)
        return try DiskIndex(path: path, device: try MemoryDevice(contentsOf: path + "/segments.bin"))
    }

    package func truth(k: Int, _ metric: Metric = .l2, threads: Int = 2, memory: Int = 1 << 30) throws
        -> TruthFile
    {
        try ExactSearch(k: k, metric: metric, threads: threads, memoryByteCount: memory)
            .run(base: base, queries: queryFile)
    }
}

/// The kinds of index that any user can choose.
package enum Kind: String, CaseIterable, Sendable {
    case none, closure, soar, heads, headsWithClosure

    package func apply(to parameters: inout BuildParameters) {
        switch self {
        case .none: break
        case .closure: parameters.copyRule = .closure(replicas: 4, eps1: 0.6)
        case .soar: parameters.copyRule = .soar(lambda: 1)
        case .heads, .headsWithClosure:
            parameters.partitions = nil
            parameters.headShare = 0.1
            if self == .headsWithClosure { parameters.copyRule = .closure(replicas: 8, eps1: 10) }
        }
    }
}
