// What the tests of Index share: small clustered bases in a temporary directory, indexes built from them,
// and the arithmetic that answers are compared with. Everything depends on seeds alone.

import Build
import Foundation
import Index
import Router
import Storage
import Testing
import Vectors

/// A directory of one test, removed with it.
final class TemporaryDirectory: Sendable {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "/sonde-index-test-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String) -> String { path + "/" + name }

    /// What lies in the directory, hidden names too.
    var names: [String] { (try? FileManager.default.contentsOfDirectory(atPath: path).sorted()) ?? [] }
}

/// A base and queries in files of their own.
final class Fixture: Sendable {
    let directory: TemporaryDirectory
    let base: VectorFile
    let queryFile: VectorFile
    let queries: VectorMatrix

    /// `count` vectors around `clusters` centres. Every 50th vector is a copy of the one 25 before it, so
    /// that equal distances occur.
    init(
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

    static func write(_ rows: VectorMatrix, to path: String) throws -> VectorFile {
        let writer = try VectorFileWriter(
            path: path, dimension: rows.dimension, elementType: rows.elementType)
        try writer.append(rows)
        try writer.finish()
        return try VectorFile.open(path: path)
    }

    /// Builds an index beside the base.
    @discardableResult
    func build(
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
    func open(_ name: String = "index") throws -> DiskIndex {
        let path = directory.file(name)
        return try DiskIndex(path: path, device: try MemoryDevice(contentsOf: path + "/segments.bin"))
    }

    func truth(k: Int, _ metric: Metric = .l2, threads: Int = 2, memory: Int = 1 << 30) throws -> TruthFile {
        try ExactSearch(k: k, metric: metric, threads: threads, memoryByteCount: memory)
            .run(base: base, queries: queryFile)
    }
}

/// The kinds of index that any user can choose.
enum Kind: String, CaseIterable, Sendable {
    case none, closure, soar, heads, headsWithClosure

    func apply(to parameters: inout BuildParameters) {
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

/// Exact neighbours in double precision, one pair at a time, ties by id: as plain as can be.
func naiveNeighbours(base: VectorMatrix, query: Int, of queries: VectorMatrix, metric: Metric) -> [(
    id: Int, distance: Double
)] {
    let rows = base.converted(to: .f32)
    let floats = queries.converted(to: .f32)
    let asked = floats.floatRow(query)
    let distances = (0..<base.count).map { row -> Double in
        let vector = rows.floatRow(row)
        var (square, product, length, askedLength) = (0.0, 0.0, 0.0, 0.0)
        for column in 0..<base.dimension {
            let (x, y) = (Double(asked[column]), Double(vector[column]))
            square += (x - y) * (x - y)
            product += x * y
            length += y * y
            askedLength += x * x
        }
        switch metric {
        case .l2: return square
        case .ip: return -product
        case .cosine: return 1 - product / (length * askedLength).squareRoot()
        }
    }
    return distances.enumerated().map { ($0.offset, $0.element) }.sorted { ($0.1, $0.0) < ($1.1, $1.0) }
}

/// The bytes of every file in a directory, by name.
func contents(of directory: String) throws -> [String: Data] {
    var files: [String: Data] = [:]
    for name in try FileManager.default.contentsOfDirectory(atPath: directory) {
        files[name] = try Data(contentsOf: URL(fileURLWithPath: directory + "/" + name))
    }
    return files
}

/// Names of files whose bytes differ, or that only one of the two directories has.
func differences(_ a: String, _ b: String) throws -> [String] {
    let (left, right) = (try contents(of: a), try contents(of: b))
    return Set(left.keys).union(right.keys).filter { left[$0] != right[$0] }.sorted()
}

/// What a query cost without the clock.
struct Cost: Equatable {
    var vectors, distinct, segments, pages, bytes, reads, rounds: UInt64

    init(_ counters: QueryCounters) {
        (vectors, distinct, segments) = (counters.vectors, counters.distinct, counters.segments)
        (pages, bytes, reads, rounds) = (counters.pages, counters.bytes, counters.reads, counters.rounds)
    }
}

extension DiskIndex {
    func ask(
        _ queries: VectorMatrix, k: Int = 10, _ policy: Policy, threads: Int = 1, inFlight: Int = 1
    ) throws -> SearchResult {
        try search(
            queries, parameters: SearchParameters(k: k, policy: policy, threads: threads, inFlight: inFlight))
    }

    /// Partitions in the router's order.
    func routed(_ query: Int, of queries: VectorMatrix, limit: Int? = nil) -> Route {
        var route = Route()
        let rows = space.queries(from: queries)
        withExtendedLifetime(rows) {
            router.route(
                rows.row(query), limit: limit ?? partitionCount, scratch: router.makeScratch(), into: &route)
        }
        return route
    }

    /// Ids by partition, read from segments.bin page by page.
    func idsByPartition() throws -> [[UInt64]] {
        let file = try Data(contentsOf: URL(fileURLWithPath: path + "/segments.bin"))
        return file.withUnsafeBytes { raw in
            (0..<partitionCount).map { partition in
                (0..<Int(table[partition].unitCount)).flatMap { unit -> [UInt64] in
                    let page = raw.baseAddress! + Int(table[partition].offset) + unit * layout.unitByteCount
                    return (0..<layout.recordCount(unit: page)).map { layout.id(unit: page, slot: $0) }
                }
            }
        }
    }
}

/// The error that `body` throws as an IndexError; a failure of the test where it throws none or another.
func indexError(_ body: () throws -> Void, _ location: SourceLocation = #_sourceLocation) -> IndexError? {
    do {
        try body()
        Issue.record("nothing was thrown", sourceLocation: location)
    } catch let error as IndexError {
        return error
    } catch {
        Issue.record("\(error) was thrown", sourceLocation: location)
    }
    return nil
}

/// The text of the IndexError that `body` throws.
func refusal(_ body: () throws -> Void, _ location: SourceLocation = #_sourceLocation) -> String {
    indexError(body, location).map { "\($0)" } ?? ""
}

/// The error that `body` throws as a StorageError, or as an IndexError that carries one.
func storageError(_ body: () throws -> Void, _ location: SourceLocation = #_sourceLocation) -> StorageError? {
    do {
        try body()
        Issue.record("nothing was thrown", sourceLocation: location)
    } catch let error as StorageError {
        return error
    } catch IndexError.storage(let error) {
        return error
    } catch {
        Issue.record("\(error) was thrown", sourceLocation: location)
    }
    return nil
}

/// Why the job that `body` does stopped, where it can be gone on with.
func unfinished(_ body: () throws -> Void, _ location: SourceLocation = #_sourceLocation) -> IndexError? {
    guard case .unfinished(let cause, _) = indexError(body, location) else { return nil }
    return cause
}
