// One segment against all the queries that want it: the innermost loop of a batch. Records leave their pages
// and queries their places for two small matrices, so that the MxN kernel runs on tiles that stay in the
// second-level cache, and lets only what is near enough through to the heaps.

import Router
import Storage
import Vectors

/// Scans segments for one thread of a sweep; owns the tiles that it needs.
final class SweepScanner {
    private let layout: PageLayout
    private let distance: Distance
    private let queries: VectorMatrix
    private let heaps: NearestHeaps
    private let hasReplicas: Bool
    /// Queries and records of a tile.
    private let queriesAtOnce: Int
    private let recordsAtOnce: Int
    private let packed: UnsafeMutableRawPointer
    private let vectors: UnsafeMutableRawPointer
    private let ids: UnsafeMutablePointer<UInt64>
    private let tile: UnsafeMutablePointer<Float>
    /// Of each query of the tile: the records kept, and how many.
    private let kept: UnsafeMutablePointer<UInt32>
    private let found: UnsafeMutablePointer<UInt32>
    /// What rounding took from the distances kept, where it may take anything.
    private let residuals: UnsafeMutablePointer<Int32>?
    private let limits: UnsafeMutablePointer<Float>

    /// Bytes of the two matrices of a tile, each.
    private static let matrixByteCount = 128 << 10
    /// A whole number of the kernels' tiles, which have 6 or 8 queries.
    private static let queriesMaximum = 144
    private static let recordsMaximum = 512

    /// Bytes that a scanner owns, at most.
    static func byteCount(rowByteCount: Int) -> Int {
        let (queries, records) = tileShape(rowByteCount: rowByteCount)
        return (queries + records) * rowByteCount + records * 16 + queries * (tileStride(records) * 8 + 8)
    }

    private static func tileShape(rowByteCount: Int) -> (queries: Int, records: Int) {
        let rows = matrixByteCount / rowByteCount
        return (min(queriesMaximum, max(16, rows)), min(recordsMaximum, max(48, rows)))
    }

    /// Rows of the tile start in different sets of the first-level cache.
    private static func tileStride(_ records: Int) -> Int { (records + 15) / 16 * 16 + 16 }

    init(index: DiskIndex, queries: VectorMatrix, heaps: NearestHeaps) {
        layout = index.layout
        distance = Distance(metric: index.metric, elementType: layout.elementType)
        self.queries = queries
        self.heaps = heaps
        hasReplicas = index.hasReplicas
        (queriesAtOnce, recordsAtOnce) = Self.tileShape(rowByteCount: layout.rowByteCount)
        packed = .allocate(byteCount: queriesAtOnce * layout.rowByteCount, alignment: 64)
        vectors = .allocate(byteCount: recordsAtOnce * layout.rowByteCount, alignment: 64)
        ids = .allocate(capacity: recordsAtOnce)
        tile = .allocate(capacity: queriesAtOnce * Self.tileStride(recordsAtOnce))
        kept = .allocate(capacity: queriesAtOnce * Self.tileStride(recordsAtOnce))
        found = .allocate(capacity: queriesAtOnce)
        residuals =
            distance.rounds(dimension: layout.dimension) ? .allocate(capacity: recordsAtOnce) : nil
        limits = .allocate(capacity: queriesAtOnce)
    }

    deinit {
        packed.deallocate()
        vectors.deallocate()
        ids.deallocate()
        tile.deallocate()
        kept.deallocate()
        found.deallocate()
        residuals?.deallocate()
        limits.deallocate()
    }

    /// Scores the records of a checked segment for each of `wanting`.
    func scan(segment: UnsafeRawPointer, recordCount: Int, queries wanting: UnsafeBufferPointer<UInt32>) {
        var record = 0
        while record < recordCount {
            let count = min(recordsAtOnce, recordCount - record)
            unpack(segment, from: record, count: count)
            var first = 0
            while first < wanting.count {
                let end = min(first + queriesAtOnce, wanting.count)
                let next = min(end + queriesAtOnce, wanting.count)
                scan(
                    UnsafeBufferPointer(rebasing: wanting[first..<end]), recordCount: count,
                    next: UnsafeBufferPointer(rebasing: wanting[end..<next]))
                first = end
            }
            record += count
        }
    }

    /// Copies records out of their pages.
    private func unpack(_ segment: UnsafeRawPointer, from first: Int, count: Int) {
        let (perUnit, size) = (layout.recordsPerUnit, layout.rowByteCount)
        var (done, slot) = (0, first % perUnit)
        var unit = segment + first / perUnit * layout.unitByteCount
        while done < count {
            let part = min(perUnit - slot, count - done)
            (vectors + done * size).copyMemory(
                from: unit + layout.vectorsOffset + slot * size, byteCount: part * size)
            for index in 0..<part { ids[done + index] = layout.id(unit: unit, slot: slot + index) }
            done += part
            slot = 0
            unit += layout.unitByteCount
        }
    }

    /// One tile; `next` are the queries of the one after it.
    private func scan(
        _ wanting: UnsafeBufferPointer<UInt32>, recordCount: Int, next: UnsafeBufferPointer<UInt32>
    ) {
        let size = layout.rowByteCount
        for (place, query) in wanting.enumerated() {
            (packed + place * size).copyMemory(from: queries.row(Int(query)), byteCount: size)
            limits[place] = heaps.limit(Int(query))
        }
        // Far apart in memory: asked for here, they are at hand when this tile is done.
        for query in next {
            Distance.prefetch(queries.row(Int(query)), byteCount: size)
            heaps.prefetch(Int(query))
        }
        let stride = Self.tileStride(recordCount)
        distance.blockWithin(
            limits, packed, queries: wanting.count, vectors, count: recordCount,
            dimension: layout.dimension, into: tile, positions: kept, found: found, outStride: stride)
        for (place, query) in wanting.enumerated() where found[place] > 0 {
            let (row, positions) = (tile + place * stride, kept + place * stride)
            var passed = Int(found[place])
            // A query's first segment: a limit of its own, or all its records would pass through the heap.
            if limits[place] == .infinity { passed = keepLeast(of: row, positions, count: passed) }
            if let residuals {
                for index in 0..<passed {
                    residuals[index] = distance.residual(
                        of: row[index], packed + place * size, vectors + Int(positions[index]) * size,
                        dimension: layout.dimension)
                }
            }
            heaps.offer(
                Int(query), distances: row, ids: ids, positions: positions, residuals: residuals,
                count: passed, distinct: hasReplicas)
        }
    }

    /// Of the records that passed no limit, keeps those that may be among the nearest; returns how many.
    private func keepLeast(
        of distances: UnsafeMutablePointer<Float>, _ positions: UnsafeMutablePointer<UInt32>, count: Int
    ) -> Int {
        let limit = Distance.limitOfLeast(heaps.capacity, of: distances, count: count)
        var passed = 0
        for index in 0..<count where distances[index] <= limit {
            distances[passed] = distances[index]
            positions[passed] = positions[index]
            passed += 1
        }
        return passed
    }
}
