// What a predictor learns from: queries, their nearest base vectors, and where those live.

import Vectors

/// Where every base vector lives: its partitions, home first. More than one where it has replicas.
public struct Homes: Sendable {
    /// Vector i lives in `partitions[starts[i] ..< starts[i + 1]]`.
    public private(set) var starts: [UInt32]
    public private(set) var partitions: [UInt32]

    /// One home for each vector.
    public init(_ homes: [UInt32]) {
        starts = (0...homes.count).map { UInt32($0) }
        partitions = homes
    }

    /// Homes and replicas by vector.
    public init(lists: [[UInt32]]) {
        starts = [0]
        partitions = []
        for list in lists {
            partitions.append(contentsOf: list)
            starts.append(UInt32(partitions.count))
        }
    }

    /// Homes and replicas as one list cut by `starts` (count + 1 positions).
    public init(starts: [UInt32], partitions: [UInt32]) {
        precondition(starts.last.map { Int($0) } == partitions.count)
        self.starts = starts
        self.partitions = partitions
    }

    public var count: Int { starts.count - 1 }

    public subscript(vector: Int) -> ArraySlice<UInt32> {
        partitions[Int(starts[vector])..<Int(starts[vector + 1])]
    }

    /// Records of each partition.
    public func recordCounts(partitionCount: Int) -> [Int] {
        var counts = [Int](repeating: 0, count: partitionCount)
        for partition in partitions { counts[Int(partition)] += 1 }
        return counts
    }
}

/// Queries with their nearest neighbours.
public struct TrainingPairs: Sendable {
    /// In routing space, any element type.
    public let queries: VectorMatrix
    /// `neighbourCount` ids a query, nearest first.
    public let neighbours: [UInt32]
    public let neighbourCount: Int
    /// The last pairs are held out: they calibrate and stop, no gradient sees them.
    public let heldOutCount: Int

    public init(queries: VectorMatrix, neighbours: [UInt32], neighbourCount: Int, heldOutCount: Int) {
        precondition(neighbours.count == queries.count * neighbourCount && heldOutCount <= queries.count)
        self.queries = queries
        self.neighbours = neighbours
        self.neighbourCount = neighbourCount
        self.heldOutCount = heldOutCount
    }

    public var trainingCount: Int { queries.count - heldOutCount }
    public var heldOut: Range<Int> { trainingCount..<queries.count }
}
