// Exact nearest neighbours by reading everything: the truth that recall is measured against. The base
// streams through bounded memory; every chunk is compared with all queries by the MxN kernels.

import Router
import Storage
import Vectors

/// Exact k nearest neighbours of each query, ties broken by id.
public struct ExactSearch: Sendable {
    public var k: Int
    public var metric: Metric
    public var threads: Int
    /// Bound on the memory of queries, results and base chunks together, in bytes.
    public var memoryByteCount: Int

    public init(k: Int, metric: Metric, threads: Int, memoryByteCount: Int) {
        self.k = k
        self.metric = metric
        self.threads = threads
        self.memoryByteCount = memoryByteCount
    }

    /// Queries that one task compares with a chunk, and base rows compared at a time: a tile of distances
    /// and the rows under it stay in the second-level cache.
    private static let queryBlock = 32
    private static let rowBlock = 1024

    /// The k nearest base vectors of every query.
    ///
    /// - Throws: `IndexError.invalid` where the files do not fit each other, `StorageError` from reading.
    public func run(base: VectorFile, queries: VectorFile, progress: Progress = .none) throws -> TruthFile {
        try validate(base: base, queries: queries)
        let queryCost = queries.dimension * queries.elementType.byteCount + k * (16 + 8)
        let rowCost = base.dimension * base.elementType.byteCount
        let scratch = threads * Self.queryBlock * Self.rowBlock * 8
        let usable = memoryByteCount - scratch
        guard usable >= 2 * max(queryCost, rowCost) * 64 else {
            throw IndexError.invalid(
                "--memory \(memoryByteCount) is too little: \(scratch + 128 * max(queryCost, rowCost)) bytes are the least"
            )
        }
        let queriesAtOnce = min(queries.count, max(64, usable / 2 / queryCost))
        let chunkByteCount = min(usable - queriesAtOnce * queryCost, 256 << 20)
        let rowsAtOnce = min(base.count, max(64, chunkByteCount / rowCost))

        var truth = TruthFile(count: queries.count, k: k)
        let passes = (queries.count + queriesAtOnce - 1) / queriesAtOnce
        for pass in 0..<passes {
            let range = pass * queriesAtOnce..<min(queries.count, (pass + 1) * queriesAtOnce)
            let heaps = range.map { _ in ExactHeap(k: k) }
            let block = VectorMatrix(
                count: range.count, dimension: queries.dimension, elementType: queries.elementType)
            try queries.read(rows: range, into: block)
            try refuseLengths(block, metric: metric) { "\(queries.path): vector \(range.lowerBound + $0)" }
            let chunk = VectorMatrix(
                count: rowsAtOnce, dimension: base.dimension, elementType: base.elementType)
            var start = 0
            while start < base.count {
                let rows = start..<min(base.count, start + rowsAtOnce)
                try readInParallel(base, rows: rows, into: chunk, threads: threads)
                if pass == 0 {
                    let first = start
                    try refuseLengths(chunk, count: rows.count, metric: metric) {
                        "\(base.path): vector \(first + $0)"
                    }
                }
                compare(block, with: chunk, rowCount: rows.count, firstId: UInt64(start), heaps: heaps)
                start = rows.upperBound
                progress(stage: "truth", done: pass * base.count + start, total: passes * base.count)
            }
            var sorted: [Neighbour] = []
            for (index, heap) in heaps.enumerated() {
                sorted.removeAll(keepingCapacity: true)
                heap.nearest.drain(into: &sorted)
                for (rank, neighbour) in sorted.enumerated() {
                    truth.set(
                        query: range.lowerBound + index, rank: rank,
                        id: neighbour.id,
                        distance: neighbour.distance)
                }
            }
        }
        return truth
    }

    private func validate(base: VectorFile, queries: VectorFile) throws(IndexError) {
        if k < 1 { throw .invalid("k must be at least 1, found \(k)") }
        if queries.count == 0 { throw .invalid("\(queries.path) holds no vectors") }
        if k > base.count { throw .invalid("k is \(k), but \(base.path) holds only \(base.count) vectors") }
        if base.dimension != queries.dimension {
            throw .invalid(
                "\(queries.path) has \(queries.dimension) dimensions, \(base.path) has \(base.dimension)")
        }
        if base.elementType != queries.elementType {
            throw .invalid(
                "\(queries.path) holds \(queries.elementType.name), \(base.path) holds \(base.elementType.name); "
                    + "convert one of them")
        }
    }

    /// Compares all queries with the rows of one chunk; tasks are blocks of queries, so that each heap has
    /// one owner and sees ids in rising order.
    private func compare(
        _ queries: VectorMatrix, with chunk: VectorMatrix, rowCount: Int, firstId: UInt64, heaps: [ExactHeap]
    ) {
        let distance = Distance(metric: metric, elementType: chunk.elementType)
        let tasks = (queries.count + Self.queryBlock - 1) / Self.queryBlock
        Workers.forEach(count: tasks, threads: threads) { task in
            let first = task * Self.queryBlock
            let count = min(Self.queryBlock, queries.count - first)
            withUnsafeTemporaryAllocation(of: Float.self, capacity: count * Self.rowBlock) { tile in
                withUnsafeTemporaryAllocation(of: UInt32.self, capacity: Self.rowBlock) { kept in
                    var row = 0
                    while row < rowCount {
                        let rows = min(Self.rowBlock, rowCount - row)
                        distance.block(
                            queries.row(first), queries: count, chunk.row(row), count: rows,
                            dimension: chunk.dimension, into: tile.baseAddress!, outStride: rows)
                        for query in 0..<count {
                            heaps[first + query].offer(
                                tile.baseAddress! + query * rows, count: rows, firstId: firstId + UInt64(row),
                                positions: kept.baseAddress!)
                        }
                        row += rows
                    }
                }
            }
        }
    }
}

/// A query's nearest so far; owned by the task that has the query.
private final class ExactHeap: @unchecked Sendable {
    let nearest: TopK

    init(k: Int) { nearest = TopK(capacity: k) }

    func offer(
        _ distances: UnsafePointer<Float>, count: Int, firstId: UInt64,
        positions: UnsafeMutablePointer<UInt32>
    ) {
        let passed = Distance.selectAtMost(nearest.bound, of: distances, count: count, into: positions)
        for index in 0..<passed {
            let position = Int(positions[index])
            nearest.push(id: firstId + UInt64(position), distance: distances[position])
        }
    }
}

/// Reads rows with several threads; each reads a part of its own.
func readInParallel(
    _ file: VectorFile, rows: Range<Int>, into matrix: VectorMatrix, at: Int = 0, threads: Int,
    checkFinite: Bool = true
) throws {
    let part = max(4096, (rows.count + threads * 4 - 1) / (threads * 4))
    let tasks = (rows.count + part - 1) / part
    try Workers.tryForEach(count: tasks, threads: threads) { task in
        let first = task * part
        let count = min(part, rows.count - first)
        try file.read(
            rows: rows.lowerBound + first..<rows.lowerBound + first + count, into: matrix,
            at: at + first, checkFinite: checkFinite)
    }
}

/// Refuses vectors that distances mean nothing for: those without a direction under cosine, and those of
/// numbers so large that their squares are infinite. `name` says which vector of what a row is.
func refuseLengths(
    _ rows: VectorMatrix, count: Int? = nil, metric: Metric, name: (Int) -> String
) throws(IndexError) {
    let type = rows.elementType
    guard type.isFloatingPoint || metric == .cosine else { return }
    // A distance may be four times the squared length of the longer vector.
    let most = Float.greatestFiniteMagnitude / 4
    let product = Distance(metric: .ip, elementType: type)
    for row in 0..<(count ?? rows.count) {
        let squared = -product.pair(rows.row(row), rows.row(row), dimension: rows.dimension)
        if metric == .cosine && squared == 0 {
            throw .invalid("\(name(row)) is zero and has no direction: the cosine metric refuses it")
        }
        // Written so that it also catches what is not a number.
        if !(squared <= most) {
            throw .invalid(
                "\(name(row)) is too long or not finite: the sum of its squares must be at most \(most)")
        }
    }
}
