// What an index answers and holds, and the arithmetic that answers are compared with.

import Foundation
import Index
import Router
import Storage
import Vectors

/// Exact neighbours in double precision, one pair at a time, ties by id: as plain as can be.
package func naiveNeighbours(base: VectorMatrix, query: Int, of queries: VectorMatrix, metric: Metric) -> [(
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

/// What a query cost without the clock.
package struct Cost: Equatable {
    package var vectors, distinct, segments, pages, bytes, reads, rounds: UInt64

    package init(_ counters: QueryCounters) {
        (vectors, distinct, segments) = (counters.vectors, counters.distinct, counters.segments)
        (pages, bytes, reads, rounds) = (counters.pages, counters.bytes, counters.reads, counters.rounds)
    }
}

extension DiskIndex {
    package func ask(
        _ queries: VectorMatrix, k: Int = 10, _ policy: Policy, threads: Int = 1, inFlight: Int = 1
    ) throws -> SearchResult {
        try search(
            queries, parameters: SearchParameters(k: k, policy: policy, threads: threads, inFlight: inFlight))
    }

    /// Partitions in the router's order.
    package func routed(_ query: Int, of queries: VectorMatrix, limit: Int? = nil) -> Route {
        var route = Route()
        let rows = space.queries(from: queries)
        withExtendedLifetime(rows) {
            router.route(
                rows.row(query), limit: limit ?? partitionCount, scratch: router.makeScratch(), into: &route)
        }
        return route
    }

    /// Ids by partition, read from segments.bin page by page.
    package func idsByPartition() throws -> [[UInt64]] {
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

    /// A batch into a file beside the index, and what that file then holds.
    package func batch(
        _ queries: VectorFile, _ directory: TemporaryDirectory, name: String = "batch.bin", _ policy: Policy,
        k: Int = 10, threads: Int = 2, change: (inout BatchParameters) -> Void = { _ in }
    ) throws -> (answers: TruthFile, summary: BatchSummary) {
        var parameters = BatchParameters(search: SearchParameters(k: k, policy: policy, threads: threads))
        change(&parameters)
        let out = directory.file(name)
        let summary = try batch(queries, out: out, parameters: parameters)
        return (try TruthFile.read(path: out), summary)
    }
}
