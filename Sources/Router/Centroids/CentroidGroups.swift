// Centroids in groups of near ones, for when there are too many to look at each: a search looks at all
// group centres, then at the centroids of the nearest groups, which lie together in memory. It costs
// four bytes a centroid and the group centres, where a graph costs a hundred.

import Vectors

/// A two-level view of centroids.
public struct CentroidGroups: Sendable {
    /// The centre of each group.
    public let centres: VectorMatrix
    /// Centroids in the order of their groups.
    public let centroids: VectorMatrix
    /// The number of each centroid in that order.
    public let numbers: [UInt32]
    /// Where each group begins in that order, and the end of the last.
    public let starts: [Int]

    public var groupCount: Int { centres.count }

    /// The number of groups for `count` centroids: about sqrt(count), so that both levels cost alike.
    public static func groupCount(for count: Int) -> Int {
        max(1, Int(Double(count).squareRoot()))
    }

    /// Groups `centroids` by k-means. Two or four times as many groups, or large ones split, find the nearest of a
    /// row as often in the same time. `progress` is told how much is done of how much.
    ///
    /// - Parameter groupCount: groups wanted; nil: `groupCount(for:)`.
    public init(
        grouping centroids: VectorMatrix, groupCount: Int? = nil, seed: UInt64, threads: Int,
        progress: (@Sendable (_ done: Int, _ total: Int) -> Void)? = nil
    ) {
        var means = KMeans(
            partitions: groupCount ?? Self.groupCount(for: centroids.count), seed: seed, threads: threads)
        means.iterations = 8
        means.progress = progress
        let centres = means.train(centroids).centroids
        let home = NearestCentroids(scanning: centres).assign(centroids, threads: threads).partitions
        self.init(centroids: centroids, home: home, centres: centres)
    }

    /// Groups given by each centroid's group number.
    init(centroids: VectorMatrix, home: [UInt32], centres: VectorMatrix) {
        let order = CountingOrder(home, partitionCount: centres.count)
        // Groups keep their place even when empty: a search of an empty group finds nothing.
        self.centres = centres
        self.centroids = centroids.gather(order.rows, inHugePages: true)
        numbers = order.rows
        starts = order.starts
    }

    init(centres: VectorMatrix, centroids: VectorMatrix, numbers: [UInt32], starts: [Int]) {
        self.centres = centres
        self.centroids = centroids
        self.numbers = numbers
        self.starts = starts
    }
}

/// Rows sorted by partition, each partition's rows in rising order.
struct CountingOrder: Sendable {
    let starts: [Int]
    let rows: [UInt32]

    init(_ partitions: [UInt32], partitionCount: Int) {
        var counts = [Int](repeating: 0, count: partitionCount + 1)
        for partition in partitions { counts[Int(partition) + 1] += 1 }
        for index in 0..<partitionCount { counts[index + 1] += counts[index] }
        starts = counts
        rows = [UInt32](unsafeUninitializedCapacity: partitions.count) { buffer, count in
            for (row, partition) in partitions.enumerated() {
                buffer[counts[Int(partition)]] = UInt32(row)
                counts[Int(partition)] += 1
            }
            count = partitions.count
        }
    }

    /// Of rows that are in several partitions each, `lengths` a row.
    init(_ partitions: [UInt32], lengths: [Int], partitionCount: Int) {
        var starts = [Int](repeating: 0, count: partitionCount + 1)
        for partition in partitions { starts[Int(partition) + 1] += 1 }
        for index in 0..<partitionCount { starts[index + 1] += starts[index] }
        var next = starts
        rows = [UInt32](unsafeUninitializedCapacity: partitions.count) { buffer, count in
            for (row, length) in lengths.enumerated() {
                for partition in partitions[count..<count + length] {
                    buffer[next[Int(partition)]] = UInt32(row)
                    next[Int(partition)] += 1
                }
                count += length
            }
        }
        self.starts = starts
    }

    func size(_ partition: Int) -> Int { starts[partition + 1] - starts[partition] }
}
