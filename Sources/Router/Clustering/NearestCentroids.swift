// Rows to their nearest centroids, many rows at a time: the assignment of a build, the inner step of Lloyd,
// the candidates of closure. Exact up to `exactLimit` centroids; beyond, through groups of centroids.

import Vectors

/// Finds the nearest centroids of many rows, with the same answer on any number of threads.
public struct NearestCentroids: Sendable {
    /// More centroids than this are searched through groups: a full scan of a million rows against as
    /// many would take over ten seconds.
    public static let exactLimit = 16_384
    /// An assignment of more distances than this looks through groups however few centroids there are (but not below
    /// `groupsLimit`): some twenty seconds.
    private static let exactDistances = 2e10
    private static let groupsLimit = 2048

    /// Whether so many rows are compared with each of so many centroids.
    public static func looksAtAll(rows: Int, centroids: Int) -> Bool {
        centroids <= groupsLimit
            || centroids <= exactLimit && Double(rows) * Double(centroids) <= exactDistances
    }

    public let centroids: VectorMatrix
    /// nil: every centroid is looked at.
    public let groups: CentroidGroups?
    /// Groups looked at for each row, at least. With 160,000 centroids of SIFT in 400 groups 16, 24, 32 and 48 find
    /// the nearest for 0.970, 0.989, 0.994 and 0.998 of the queries, and 0.918, 0.956, 0.974 and 0.990 of the
    /// nearest 64; of the rows that the centroids were trained on 16 and 32 find the nearest for 0.998 and 1.000.
    public var probes: Int
    private let distance: Distance

    /// Looks at every centroid.
    public init(scanning centroids: VectorMatrix) {
        self.centroids = centroids
        groups = nil
        probes = 0
        distance = Distance(metric: .l2, elementType: centroids.elementType)
    }

    /// Looks at the centroids of the `probes` nearest groups.
    public init(_ centroids: VectorMatrix, groups: CentroidGroups, probes: Int = 32) {
        self.centroids = centroids
        self.groups = groups
        self.probes = probes
        distance = Distance(metric: .l2, elementType: centroids.elementType)
    }

    /// Exact for up to `exactLimit` centroids, through groups beyond.
    public init(_ centroids: VectorMatrix, seed: UInt64, threads: Int, probes: Int = 32) {
        if centroids.count <= Self.exactLimit {
            self.init(scanning: centroids)
        } else {
            let groups = CentroidGroups(grouping: centroids, seed: seed, threads: threads)
            self.init(centroids, groups: groups, probes: probes)
        }
    }

    /// The nearest centroid of each row; equal distances fall to the lower number.
    public func assign(_ rows: VectorMatrix, threads: Int) -> Assignment {
        precondition(rows.elementType == centroids.elementType && rows.dimension == centroids.dimension)
        precondition(centroids.count > 0)
        if groups != nil {
            let lists = nearest(1, rows, threads: threads)
            return Assignment(partitions: lists.partitions, distances: lists.distances)
        }
        let search = BlockSearch(distance: distance, dimension: rows.dimension)
        let keys = UnsafeMutablePointer<UInt64>.allocate(capacity: max(1, rows.count))
        defer { keys.deallocate() }
        keys.initialize(repeating: PackedHeap.worst, count: rows.count)
        nonisolated(unsafe) let best = keys
        let scratch = BlockSearch.Scratch.perWorker(threads)
        let centroids = centroids
        Workers.forEachBlock(count: rows.count, blockSize: BlockSearch.rowTile, threads: threads) {
            worker, range in
            search.nearest(
                rows: rows.row(range.lowerBound), rowCount: range.count, centroids: centroids.bytes,
                count: centroids.count, firstNumber: 0, numbers: nil, best: best + range.lowerBound,
                slots: nil, scratch: scratch[worker])
        }
        let lists = Self.unpack(keys, count: rows.count, k: 1)
        return Assignment(partitions: lists.partitions, distances: lists.distances)
    }

    /// The `k` nearest centroids of each row.
    public func nearest(_ k: Int, _ rows: VectorMatrix, threads: Int) -> NearestLists {
        precondition(rows.elementType == centroids.elementType && rows.dimension == centroids.dimension)
        precondition(k > 0)
        let keys = UnsafeMutablePointer<UInt64>.allocate(capacity: max(1, rows.count * k))
        defer { keys.deallocate() }
        keys.initialize(repeating: PackedHeap.worst, count: rows.count * k)
        nonisolated(unsafe) let heaps = keys
        if let groups {
            searchGroups(groups, k, rows, heaps: heaps, threads: threads)
        } else {
            let search = BlockSearch(distance: distance, dimension: rows.dimension)
            let scratch = BlockSearch.Scratch.perWorker(threads)
            let centroids = centroids
            Workers.forEachBlock(count: rows.count, blockSize: BlockSearch.rowTile, threads: threads) {
                worker, range in
                search.nearest(
                    k: k, rows: rows.row(range.lowerBound), rowCount: range.count,
                    centroids: centroids.bytes, count: centroids.count, firstNumber: 0, numbers: nil,
                    heaps: heaps + range.lowerBound * k, slots: nil, scratch: scratch[worker])
                for row in range { PackedHeap.sort(heaps + row * k, k) }
            }
        }
        return Self.unpack(keys, count: rows.count, k: k)
    }

    /// A task takes some thousand rows, turns (row, group) round to (group, rows), and puts the rows of a
    /// group together, so that the block kernel sees many rows against many centroids.
    private func searchGroups(
        _ groups: CentroidGroups, _ k: Int, _ rows: VectorMatrix, heaps: UnsafeMutablePointer<UInt64>,
        threads: Int
    ) {
        nonisolated(unsafe) let heaps = heaps
        let search = BlockSearch(distance: distance, dimension: rows.dimension)
        let scratch = BlockSearch.Scratch.perWorker(threads, centroids: groups.groupCount)
        let size = rows.rowByteCount
        let gathered = (0..<max(1, threads)).map { _ in
            VectorMatrix(count: BlockSearch.rowTile, dimension: rows.dimension, elementType: rows.elementType)
        }
        Workers.forEachBlock(count: rows.count, blockSize: 4096, threads: threads) { worker, range in
            let visits = Self.visits(
                of: rows, range, to: groups, probes: probes, distance: distance, scratch: scratch[worker])
            let gather = gathered[worker]
            let heaps = heaps + range.lowerBound * k
            for group in 0..<groups.groupCount {
                let first = groups.starts[group]
                let count = groups.starts[group + 1] - first
                if count == 0 { continue }
                for start in stride(
                    from: visits.starts[group], to: visits.starts[group + 1], by: BlockSearch.rowTile)
                {
                    let end = min(start + BlockSearch.rowTile, visits.starts[group + 1])
                    for visit in start..<end {
                        gather.row(visit - start).copyMemory(
                            from: rows.row(range.lowerBound + Int(visits.rows[visit])), byteCount: size)
                    }
                    let centroids = groups.centroids.row(first)
                    groups.numbers.withUnsafeBufferPointer { numbers in
                        visits.rows.withUnsafeBufferPointer { slots in
                            let (numbers, slots) = (numbers.baseAddress! + first, slots.baseAddress! + start)
                            if k == 1 {
                                search.nearest(
                                    rows: gather.bytes, rowCount: end - start, centroids: centroids,
                                    count: count, firstNumber: 0, numbers: numbers, best: heaps,
                                    slots: slots, scratch: scratch[worker])
                            } else {
                                search.nearest(
                                    k: k, rows: gather.bytes, rowCount: end - start, centroids: centroids,
                                    count: count, firstNumber: 0, numbers: numbers, heaps: heaps,
                                    slots: slots, scratch: scratch[worker])
                            }
                        }
                    }
                }
            }
            if k > 1 { for row in range { PackedHeap.sort(heaps + (row - range.lowerBound) * k, k) } }
        }
    }

    /// The rows of a task, by number within it, that visit each group: its own nearest, at least `probes` of them and
    /// up to a quarter more, which is cheaper to find out than the very nearest.
    private static func visits(
        of rows: VectorMatrix, _ range: Range<Int>, to groups: CentroidGroups, probes: Int,
        distance: Distance,
        scratch: BlockSearch.Scratch
    ) -> CountingOrder {
        let count = groups.groupCount
        var near: [UInt32] = []
        var lengths: [Int] = []
        near.reserveCapacity(range.count * probes * 5 / 4)
        for start in stride(from: 0, to: range.count, by: BlockSearch.rowTile) {
            let tile = min(BlockSearch.rowTile, range.count - start)
            distance.block(
                rows.row(range.lowerBound + start), queries: tile, groups.centres.bytes, count: count,
                dimension: rows.dimension, into: scratch.distances, outStride: scratch.stride)
            for row in 0..<tile {
                let values = scratch.distances + row * scratch.stride
                let limit = Distance.limitOfLeast(probes, of: values, count: count)
                let found = Distance.selectAtMost(limit, of: values, count: count, into: scratch.positions)
                near.append(contentsOf: UnsafeBufferPointer(start: scratch.positions, count: found))
                lengths.append(found)
            }
        }
        return CountingOrder(near, lengths: lengths, partitionCount: count)
    }

    private static func unpack(_ keys: UnsafeMutablePointer<UInt64>, count: Int, k: Int) -> NearestLists {
        let total = count * k
        let partitions = [UInt32](unsafeUninitializedCapacity: total) { buffer, used in
            for index in 0..<total { buffer[index] = PackedHeap.number(keys[index]) }
            used = total
        }
        let distances = [Float](unsafeUninitializedCapacity: total) { buffer, used in
            for index in 0..<total { buffer[index] = PackedHeap.distance(keys[index]) }
            used = total
        }
        return NearestLists(k: k, partitions: partitions, distances: distances)
    }
}
