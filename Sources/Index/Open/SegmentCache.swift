// Hot segments kept in memory: those that learn queries read most often for their size. What they hold is resident
// and named so; what is taken from them is counted apart ("cached"), never as fetched.

import Router
import Storage
import Vectors

/// Whole segments in memory, chosen once. Immutable, shared by all workers.
public final class SegmentCache: @unchecked Sendable {
    private static let absent = UInt64.max

    /// Offset in `memory` by partition.
    private let offsets: [UInt64]
    private let memory: UnsafeMutableRawPointer
    private let segmentByteCount: Int
    /// Segments held.
    public let segmentCount: Int

    /// What the cache holds in memory.
    public var byteCount: Int { segmentByteCount + offsets.count * MemoryLayout<UInt64>.size }

    /// The checked segments of `partitions`, read from the index once.
    fileprivate init(of index: DiskIndex, partitions: Set<Int>) throws {
        var offsets = [UInt64](repeating: Self.absent, count: index.partitionCount)
        var total = 0
        for partition in partitions.sorted() {
            offsets[partition] = UInt64(total)
            total += index.table.byteCount(ofSegment: partition)
        }
        self.offsets = offsets
        segmentByteCount = total
        segmentCount = partitions.count
        memory = .allocate(byteCount: max(total, 1), alignment: 4096)
        try index.forEachSegment { partition, segment in
            guard offsets[partition] != Self.absent else { return }
            (memory + Int(offsets[partition])).copyMemory(
                from: segment, byteCount: index.table.byteCount(ofSegment: partition))
        }
    }

    deinit { memory.deallocate() }

    /// The partition's segment, or nil where it must be read.
    @inline(__always)
    func segment(_ partition: Int) -> UnsafeRawPointer? {
        let offset = offsets[partition]
        return offset == Self.absent ? nil : UnsafeRawPointer(memory + Int(offset))
    }
}

extension DiskIndex {
    /// This index with the segments in memory that `learn` would read most often for their bytes, `byteCount` bytes
    /// of them at most (the cache's own table included).
    ///
    /// - Parameters:
    ///   - learn: queries drawn like those that will be asked, never those that are measured.
    ///   - policy: how they are asked.
    /// - Throws: `IndexError.unlikeVectors` for queries that do not fit, `StorageError` and `IndexError.corruptSegment`
    ///   from reading.
    public func caching(
        byteCount: Int, learn: VectorMatrix, policy: Policy, cost: ReadCost = .vectors, threads: Int
    ) throws(IndexError) -> DiskIndex {
        try IndexError.door {
            try cached(byteCount: byteCount, learn: learn, policy: policy, cost: cost, threads: threads)
        }
    }

    private func cached(
        byteCount: Int, learn: VectorMatrix, policy: Policy, cost: ReadCost, threads: Int
    ) throws -> DiskIndex {
        try policy.validate()
        guard learn.dimension == dimension, learn.elementType == elementType else {
            throw IndexError.unlikeVectors(
                "the queries that choose what is cached are \(learn.elementType.name) of \(learn.dimension) dimensions, "
                    + "the index holds \(elementType.name) of \(dimension)", expected: kind,
                found: VectorKind(dimension: learn.dimension, elementType: learn.elementType))
        }
        if let limit = residentMaximum, residentByteCount + byteCount > limit {
            throw IndexError.overBudget(path: path, resident: residentByteCount + byteCount, limit: limit)
        }
        var chooser = ReadChooser(policy: policy, cost: cost, table: table)
        var readCounts = [Int](repeating: 0, count: partitionCount)
        var positions: [Int32] = []
        for route in routes(of: learn, policy: policy, threads: threads) {
            positions.removeAll(keepingCapacity: true)
            chooser.choose(from: route, into: &positions)
            for position in positions { readCounts[Int(route.partitions[Int(position)])] += 1 }
        }
        func value(_ partition: Int) -> Double {
            Double(readCounts[partition]) / Double(max(table.byteCount(ofSegment: partition), 1))
        }
        let order = (0..<partitionCount).filter { readCounts[$0] > 0 && table.byteCount(ofSegment: $0) > 0 }
            .sorted {
                value($0) == value($1) ? $0 < $1 : value($0) > value($1)
            }
        var left = byteCount - partitionCount * MemoryLayout<UInt64>.size
        var kept: Set<Int> = []
        for partition in order where table.byteCount(ofSegment: partition) <= left {
            kept.insert(partition)
            left -= table.byteCount(ofSegment: partition)
        }
        let cached = try SegmentCache(of: self, partitions: kept)
        return DiskIndex(copying: self, router: router, posteriors: posteriors, device: device, cache: cached)
    }

    /// This index with all its segments in memory where they take no more than `byteCount`, else as it is: for work that
    /// asks for them over and over and is over before the index is. What the index promises to hold does not count here.
    package func holdingSegments(atMost byteCount: Int) throws -> DiskIndex {
        let filled = (0..<partitionCount).filter { table[$0].recordCount > 0 }
        let segments = filled.reduce(0) { $0 + table.byteCount(ofSegment: $1) }
        guard Self.heldByteCount(segments: segments, partitions: partitionCount) <= byteCount
        else { return self }
        return DiskIndex(
            copying: self, router: router, posteriors: posteriors, device: device,
            cache: try SegmentCache(of: self, partitions: Set(filled)))
    }

    /// Bytes of a cache that holds all of an index.
    package static func heldByteCount(segments: Int, partitions: Int) -> Int {
        segments + partitions * MemoryLayout<UInt64>.size
    }
}
