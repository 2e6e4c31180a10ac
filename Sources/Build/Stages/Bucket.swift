// The records of some partitions in memory, on their way to segments.

import Index
import Learn
import Router
import Storage
import Vectors

/// The records of consecutive partitions in memory, each partition's back to back.
final class Bucket: @unchecked Sendable {
    let partitions: Range<Int>
    private let layout: PageLayout
    private let starts: [Int]
    private var filled: [Int]
    private let vectors: VectorMatrix
    private let ids: UnsafeMutablePointer<UInt64>
    private let distances: UnsafeMutablePointer<Float>
    private let homes: UnsafeMutablePointer<Bool>

    /// Memory that so many records take.
    static func byteCount(records: Int, rowByteCount: Int) -> Int { records * (rowByteCount + 13) }

    /// Consecutive partitions whose records fit `byteCountMaximum` together; a larger one stands alone.
    static func ranges(counts: [Int], rowByteCount: Int, byteCountMaximum: Int) -> [Range<Int>] {
        var ranges: [Range<Int>] = []
        var (start, held) = (0, 0)
        for (partition, count) in counts.enumerated() {
            let cost = byteCount(records: count, rowByteCount: rowByteCount)
            if held + cost > byteCountMaximum && partition > start {
                ranges.append(start..<partition)
                (start, held) = (partition, 0)
            }
            held += cost
        }
        ranges.append(start..<counts.count)
        return ranges
    }

    init(partitions: Range<Int>, counts: [Int], layout: PageLayout) {
        self.partitions = partitions
        self.layout = layout
        var starts = [0]
        starts.reserveCapacity(partitions.count + 1)
        for partition in partitions { starts.append(starts[starts.count - 1] + counts[partition]) }
        let total = starts[starts.count - 1]
        self.starts = starts
        filled = Array(starts.dropLast())
        vectors = VectorMatrix(count: total, dimension: layout.dimension, elementType: layout.elementType)
        ids = .allocate(capacity: max(total, 1))
        distances = .allocate(capacity: max(total, 1))
        homes = .allocate(capacity: max(total, 1))
    }

    deinit {
        ids.deallocate()
        distances.deallocate()
        homes.deallocate()
    }

    /// Whether the partition is one of these and waits for more records.
    func hasRoom(partition: Int) -> Bool {
        partitions.contains(partition)
            && filled[partition - partitions.lowerBound] < starts[partition - partitions.lowerBound + 1]
    }

    /// Adds a record; records of a partition keep the order in which they come.
    func add(id: UInt64, vector: UnsafeRawPointer, partition: UInt32, isHome: Bool, distance: Float) {
        let index = Int(partition) - partitions.lowerBound
        let place = filled[index]
        filled[index] = place + 1
        vectors.row(place).copyMemory(from: vector, byteCount: layout.rowByteCount)
        ids[place] = id
        distances[place] = distance
        homes[place] = isHome
    }

    /// The records of a partition in the order in which they are to lie: copies beyond the maximum dropped,
    /// near records next to each other.
    func order(partition: Int, recordsMaximum: Int?, distance: Distance) -> [UInt32] {
        let start = starts[partition - partitions.lowerBound]
        let count = starts[partition - partitions.lowerBound + 1] - start
        guard count > 0 else { return [] }
        let walk = LocalityOrder.walk(
            rows: vectors.row(start), count: count, stride: vectors.rowByteCount, distance: distance,
            dimension: layout.dimension, grain: layout.recordsPerUnit)
        guard let recordsMaximum, count > recordsMaximum else { return walk }
        return dropFarthestCopies(walk, start: start, keeping: recordsMaximum)
    }

    /// Writes the segment of a partition.
    @discardableResult
    func append(partition: Int, order: [UInt32], to writer: SegmentWriter) throws(StorageError)
        -> SegmentEntry
    {
        let start = starts[partition - partitions.lowerBound]
        var farthest: Float = 0
        for row in order { farthest = max(farthest, distances[start + Int(row)]) }
        return try writer.append(count: order.count, radius: farthest.squareRoot()) { place in
            let record = start + Int(order[place])
            return (ids[record], UnsafeRawPointer(vectors.row(record)))
        }
    }

    /// A vector's record at home stays whatever its distance: no vector is ever lost to a cap.
    private func dropFarthestCopies(_ walk: [UInt32], start: Int, keeping maximum: Int) -> [UInt32] {
        let ranked = walk.sorted { a, b in
            let (x, y) = (start + Int(a), start + Int(b))
            if homes[x] != homes[y] { return homes[x] }
            if distances[x] != distances[y] { return distances[x] < distances[y] }
            return ids[x] < ids[y]
        }
        let homeCount = walk.reduce(0) { $0 + (homes[start + Int($1)] ? 1 : 0) }
        let kept = Set(ranked.prefix(max(maximum, homeCount)))
        return walk.filter { kept.contains($0) }
    }
}
