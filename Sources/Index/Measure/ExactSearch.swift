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

    /// Bytes of a neighbour in the hands of the one that receives the answers, all copies counted.
    private static let answerByteCount = 40
    /// What a query's heap takes besides its neighbours.
    private static let heapByteCount = 160
    /// What a process holds before it has read anything; left out of memory that is large enough to have it.
    private static let processByteCount = 24 << 20

    /// The k nearest base vectors of every query, in memory.
    ///
    /// - Parameter ids: those of the base; equally near ones are ordered by them.
    /// - Throws: `unlikeVectors` or `outOfRange` where the files do not fit each other, `storage` from reading.
    public func run(
        base: VectorFile, queries: VectorFile, ids: VectorIds = .positions(first: 0),
        progress: JobProgress = .none
    ) throws(IndexError) -> TruthFile {
        var truth = TruthFile(count: queries.count, k: k)
        try run(base: base, queries: queries, ids: ids, progress: progress) { range, answers in
            for query in range {
                for rank in 0..<k {
                    truth.set(
                        query: query, rank: rank, id: answers.id(query: query - range.lowerBound, rank: rank),
                        distance: answers.distance(query: query - range.lowerBound, rank: rank))
                }
            }
        }
        return truth
    }

    /// The same given to `receive` some queries at a time, in their order: memory does not grow with them.
    public func run(
        base: VectorFile, queries: VectorFile, ids: VectorIds = .positions(first: 0),
        progress: JobProgress = .none, receive: (Range<Int>, TruthFile) throws -> Void
    ) throws(IndexError) {
        try IndexError.door {
            try find(base: base, queries: queries, ids: ids, progress: progress, receive: receive)
        }
    }

    private func find(
        base: VectorFile, queries: VectorFile, ids: VectorIds, progress: JobProgress,
        receive: (Range<Int>, TruthFile) throws -> Void
    ) throws {
        try validate(base: base, queries: queries)
        _ = try ids.validated(count: base.count, memoryByteCount: memoryByteCount)
        let queryCost =
            queries.dimension * queries.elementType.byteCount
            + k * MemoryLayout<Neighbour>.stride + Self.heapByteCount
        let rowCost = base.dimension * base.elementType.byteCount + 16
        let answersAtOnce = max(1, min(queries.count, (1 << 20) / (k * Self.answerByteCount)))
        let scratch =
            threads * Self.queryBlock * Self.rowBlock * 8 + answersAtOnce * k * Self.answerByteCount
            + (memoryByteCount >= 2 * Self.processByteCount ? Self.processByteCount : 0)
        let usable = memoryByteCount - scratch
        guard usable >= 2 * max(queryCost, rowCost) * 64 else {
            let least = scratch + 128 * max(queryCost, rowCost)
            throw IndexError.memoryTooSmall(
                "a memory of \(memoryByteCount) bytes is too little: \(least) are the least",
                given: memoryByteCount, least: least)
        }
        let queriesAtOnce = min(queries.count, max(64, usable / 2 / queryCost))
        let chunkByteCount = min(usable - queriesAtOnce * queryCost, 256 << 20)
        let rowsAtOnce = min(base.count, max(64, chunkByteCount / rowCost))

        // One chunk for all passes: memory given back and asked for again would be counted twice.
        let chunk = VectorMatrix(count: rowsAtOnce, dimension: base.dimension, elementType: base.elementType)
        let heaps = (0..<queriesAtOnce).map { _ in ExactHeap(k: k) }
        let block = VectorMatrix(
            count: queriesAtOnce, dimension: queries.dimension, elementType: queries.elementType)
        let passes = (queries.count + queriesAtOnce - 1) / queriesAtOnce
        for pass in 0..<passes {
            let range = pass * queriesAtOnce..<min(queries.count, (pass + 1) * queriesAtOnce)
            try queries.read(rows: range, into: block)
            try refuseLengths(block, count: range.count, metric: metric) {
                "\(queries.path): vector \(range.lowerBound + $0)"
            }
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
                compare(
                    block, count: range.count, with: chunk, rowCount: rows.count, ids: try ids.read(rows),
                    heaps: heaps)
                start = rows.upperBound
                progress(stage: "truth", done: pass * base.count + start, total: passes * base.count)
            }
            for first in stride(from: range.lowerBound, to: range.upperBound, by: answersAtOnce) {
                let part = first..<min(range.upperBound, first + answersAtOnce)
                try receive(part, drain(heaps, part: part, from: range.lowerBound))
            }
        }
    }

    /// The answers of the queries of `part`, whose heaps begin with that of query `from`.
    private func drain(_ heaps: [ExactHeap], part: Range<Int>, from: Int) -> TruthFile {
        var answers = TruthFile(count: part.count, k: k)
        var sorted: [Neighbour] = []
        for query in part {
            sorted.removeAll(keepingCapacity: true)
            heaps[query - from].nearest.drain(into: &sorted)
            for (rank, neighbour) in sorted.enumerated() {
                answers.set(
                    query: query - part.lowerBound, rank: rank, id: neighbour.id, distance: neighbour.distance
                )
            }
        }
        return answers
    }

    /// Refuses a base and queries that do not fit each other or `k`.
    public func validate(base: VectorFile, queries: VectorFile) throws(IndexError) {
        if k < 1 { throw .outOfRange("k", allowed: "at least 1", found: "\(k)") }
        if queries.count == 0 { throw .invalid("\(queries.path) holds no vectors") }
        if k > base.count { throw .invalid("k is \(k), but \(base.path) holds only \(base.count) vectors") }
        if base.dimension != queries.dimension {
            throw .unlikeVectors(
                "\(queries.path) has \(queries.dimension) dimensions, \(base.path) has \(base.dimension)",
                expected: base.kind, found: queries.kind)
        }
        if base.elementType != queries.elementType {
            throw .unlikeVectors(
                "\(queries.path) holds \(queries.elementType.name), \(base.path) holds \(base.elementType.name); "
                    + "convert one of them", expected: base.kind, found: queries.kind)
        }
    }

    /// Compares all queries with the rows of one chunk; tasks are blocks of queries, so that each heap has
    /// one owner.
    private func compare(
        _ queries: VectorMatrix, count queryCount: Int, with chunk: VectorMatrix, rowCount: Int,
        ids: VectorIds.Chunk, heaps: [ExactHeap]
    ) {
        let distance = Distance(metric: metric, elementType: chunk.elementType)
        let tasks = (queryCount + Self.queryBlock - 1) / Self.queryBlock
        Workers.forEach(count: tasks, threads: threads) { task in
            let first = task * Self.queryBlock
            let count = min(Self.queryBlock, queryCount - first)
            withUnsafeTemporaryAllocation(of: Float.self, capacity: count * Self.rowBlock) { tile in
                withUnsafeTemporaryAllocation(of: UInt32.self, capacity: Self.rowBlock) { kept in
                    var row = 0
                    while row < rowCount {
                        let rows = min(Self.rowBlock, rowCount - row)
                        distance.block(
                            queries.row(first), queries: count, chunk.row(row), count: rows,
                            dimension: chunk.dimension, into: tile.baseAddress!, outStride: rows)
                        for query in 0..<count {
                            let distances = tile.baseAddress! + query * rows
                            let nearest = heaps[first + query]
                            let passed = Distance.selectAtMost(
                                nearest.nearest.bound, of: distances, count: rows, into: kept.baseAddress!)
                            for index in 0..<passed {
                                let position = Int(kept[index])
                                nearest.nearest.push(
                                    id: ids[row + position], distance: distances[position],
                                    residual: distance.residual(
                                        of: distances[position], queries.row(first + query),
                                        chunk.row(row + position), dimension: chunk.dimension))
                            }
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
}

/// Reads rows with several threads; each reads a part of its own.
package func readInParallel(
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
/// numbers so large or so small that their squares are infinite or vanish. `name` says which vector of what
/// a row is.
package func refuseLengths(
    _ rows: VectorMatrix, count: Int? = nil, metric: Metric, name: (Int) -> String
) throws(IndexError) {
    let type = rows.elementType
    guard type.isFloatingPoint || metric == .cosine else { return }
    // A distance may be four times the squared length of the longer vector.
    let most = Float.greatestFiniteMagnitude / 4
    // Below it single precision has lost digits of the squares of small differences, in the end all.
    let least = Float.leastNormalMagnitude * 0x1p24
    let product = Distance(metric: .ip, elementType: type)
    for row in 0..<(count ?? rows.count) {
        let squared = -product.pair(rows.row(row), rows.row(row), dimension: rows.dimension)
        if squared < least {
            let bytes = UnsafeRawBufferPointer(start: rows.row(row), count: rows.rowByteCount)
            // Zero of either sign.
            let isZero = (0..<rows.dimension).allSatisfy { number in
                (0..<type.byteCount).allSatisfy { byte in
                    let bits = bytes[number * type.byteCount + byte]
                    return bits == 0 || (type.isFloatingPoint && byte == type.byteCount - 1 && bits == 0x80)
                }
            }
            if isZero && metric == .cosine {
                throw .unusableVector(
                    "\(name(row)) is zero and has no direction: the cosine metric refuses it")
            }
            if !isZero {
                throw .unusableVector(
                    "\(name(row)) is too short: the sum of its squares must be at least \(least), found \(squared); "
                        + "multiply base and queries by one large number")
            }
        }
        // Written so that it also catches what is not a number.
        if !(squared <= most) {
            throw .unusableVector(
                "\(name(row)) is too long or not finite: the sum of its squares must be at most \(most)")
        }
    }
}
