// Which partitions hold a copy of each row: what closure and SOAR answer.

import Vectors

/// For each row a list of partitions, its home first. Row i: `starts[i] ..< starts[i + 1]`.
public struct PartitionLists: Sendable {
    public let starts: [Int]
    public let partitions: [UInt32]
    /// Squared distance of the row to each of these centroids.
    public let distances: [Float]

    public var count: Int { starts.count - 1 }
    /// Copies a row in the mean.
    public var replication: Double { Double(partitions.count) / Double(max(1, count)) }

    /// The partitions of one row.
    public func of(_ row: Int) -> ArraySlice<UInt32> { partitions[starts[row]..<starts[row + 1]] }

    /// Chooses from each row's nearest partitions, on all threads: `choose(row, positions)` writes the
    /// chosen positions of the row's list, at most `maximum`, and returns how many.
    static func choose(
        _ nearest: NearestLists, maximum: Int, threads: Int,
        _ choose: @Sendable (Int, UnsafeMutablePointer<Int32>) -> Int
    ) -> PartitionLists {
        let count = nearest.count
        let positionMemory = UnsafeMutablePointer<Int32>.allocate(capacity: max(1, count * maximum))
        defer { positionMemory.deallocate() }
        nonisolated(unsafe) let positions = positionMemory
        let lengthMemory = UnsafeMutablePointer<Int32>.allocate(capacity: max(1, count))
        defer { lengthMemory.deallocate() }
        nonisolated(unsafe) let lengths = lengthMemory
        Workers.forEachBlock(count: count, blockSize: 1024, threads: threads) { _, range in
            for row in range { lengths[row] = Int32(choose(row, positions + row * maximum)) }
        }
        var starts = [0]
        starts.reserveCapacity(count + 1)
        for row in 0..<count { starts.append(starts[row] + Int(lengths[row])) }
        var partitions: [UInt32] = []
        var distances: [Float] = []
        partitions.reserveCapacity(starts[count])
        distances.reserveCapacity(starts[count])
        for row in 0..<count {
            for index in 0..<Int(lengths[row]) {
                let position = row * nearest.k + Int(positions[row * maximum + index])
                partitions.append(nearest.partitions[position])
                distances.append(nearest.distances[position])
            }
        }
        return PartitionLists(starts: starts, partitions: partitions, distances: distances)
    }
}
