// What a search of rows against centroids answers, and the block search that makes it: queries against
// centroids in tiles that stay in the second-level cache, a compare by kernel, a heap only for what passes.

import Vectors

/// For each row its partition and the squared distance to that partition's centroid.
public struct Assignment: Sendable {
    public var partitions: [UInt32]
    public var distances: [Float]

    /// Rows of each partition.
    public func sizes(partitionCount: Int) -> [Int] {
        var sizes = [Int](repeating: 0, count: partitionCount)
        for partition in partitions { sizes[Int(partition)] += 1 }
        return sizes
    }
}

/// For each row its `k` nearest centroids, nearest first, equal distances by number. Where there are fewer,
/// the list ends with `NearestLists.none` at infinite distance.
public struct NearestLists: Sendable {
    public static let none = UInt32.max
    public let k: Int
    /// `k` a row.
    public var partitions: [UInt32]
    public var distances: [Float]

    public var count: Int { partitions.count / k }
}

/// A bounded heap of (distance, number) packed into one integer each: squared distances are never
/// negative, so their bits order as they do, and ties fall to the lower number.
struct PackedHeap {
    static func pack(_ distance: Float, _ number: UInt32) -> UInt64 {
        // Rounding may leave a tiny negative where the true distance is zero.
        UInt64(max(distance, 0).bitPattern) << 32 | UInt64(number)
    }
    /// A key that rises as `value`, of any sign, falls; equal values by number.
    static func packFalling(_ value: Float, _ number: UInt32) -> UInt64 {
        // The bits of a float order as the number does once negative ones are turned round; 0 - x makes both
        // zeros one.
        let bits = (0 - value).bitPattern
        let rising = bits & 0x8000_0000 == 0 ? bits | 0x8000_0000 : ~bits
        return UInt64(rising) << 32 | UInt64(number)
    }
    static func distance(_ key: UInt64) -> Float { Float(bitPattern: UInt32(key >> 32)) }
    static func number(_ key: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: key) }
    static let worst = UInt64(Float.infinity.bitPattern) << 32 | UInt64(UInt32.max)

    /// Replaces the worst of the `k` keys of a max-heap by `key`, which is better.
    static func replaceWorst(_ heap: UnsafeMutablePointer<UInt64>, _ k: Int, _ key: UInt64) {
        var index = 0
        while true {
            var child = 2 * index + 1
            if child >= k { break }
            if child + 1 < k, heap[child] < heap[child + 1] { child += 1 }
            if heap[child] <= key { break }
            heap[index] = heap[child]
            index = child
        }
        heap[index] = key
    }

    /// Turns a max-heap into rising order.
    static func sort(_ heap: UnsafeMutablePointer<UInt64>, _ k: Int) {
        var remaining = k
        while remaining > 1 {
            remaining -= 1
            let last = heap[remaining]
            heap[remaining] = heap[0]
            replaceWorst(heap, remaining, last)
        }
    }
}

/// Tiles of queries against centroids.
struct BlockSearch {
    /// Rows and centroids of a tile: 256 KiB of distances.
    static let rowTile = 256
    static let centroidTile = 256

    let distance: Distance
    let dimension: Int

    /// One worker's tile of distances and selected positions.
    final class Scratch: @unchecked Sendable {
        /// Room for so many distances a row.
        let stride: Int
        let distances: UnsafeMutablePointer<Float>
        let positions: UnsafeMutablePointer<UInt32>

        init(centroids: Int) {
            stride = max(centroidTile, centroids)
            distances = .allocate(capacity: rowTile * stride)
            positions = .allocate(capacity: stride)
        }

        deinit {
            distances.deallocate()
            positions.deallocate()
        }

        /// For tiles of centroids, and, where asked for, rows against so many of them at once.
        static func perWorker(_ threads: Int, centroids: Int = 0) -> [Scratch] {
            (0..<max(1, threads)).map { _ in Scratch(centroids: centroids) }
        }
    }

    /// Lowers `best` (a key a row, `PackedHeap.worst` at first; row `r` owns the one at `slots[r]`, or `r`) by `count`
    /// centroids, numbered from `firstNumber` or by `numbers`. At most `rowTile` rows.
    func nearest(
        rows: UnsafeRawPointer, rowCount: Int, centroids: UnsafeRawPointer, count: Int,
        firstNumber: UInt32, numbers: UnsafePointer<UInt32>?, best: UnsafeMutablePointer<UInt64>,
        slots: UnsafePointer<UInt32>?, scratch: Scratch
    ) {
        let size = dimension * distance.elementType.byteCount
        for start in stride(from: 0, to: count, by: Self.centroidTile) {
            let tile = min(Self.centroidTile, count - start)
            distance.block(
                rows, queries: rowCount, centroids + start * size, count: tile, dimension: dimension,
                into: scratch.distances, outStride: Self.centroidTile)
            for row in 0..<rowCount {
                let values = scratch.distances + row * Self.centroidTile
                let slot = slots.map { Int($0[row]) } ?? row
                var key = best[slot]
                // A first look at a few, so that the compare below lets little through.
                for index in 0..<(key == PackedHeap.worst ? min(16, tile) : 0) {
                    let number = numbers.map { $0[start + index] } ?? firstNumber + UInt32(start + index)
                    key = min(key, PackedHeap.pack(values[index], number))
                }
                let found = Distance.selectAtMost(
                    PackedHeap.distance(key), of: values, count: tile, into: scratch.positions)
                for position in 0..<found {
                    let index = Int(scratch.positions[position])
                    let number = numbers.map { $0[start + index] } ?? firstNumber + UInt32(start + index)
                    key = min(key, PackedHeap.pack(values[index], number))
                }
                best[slot] = key
            }
        }
    }

    /// Offers `count` centroids to the rows' heaps of `k` keys each; row `r` owns the heap at
    /// `heaps + slots[r] * k` (or `r * k`). At most `rowTile` rows.
    func nearest(
        k: Int, rows: UnsafeRawPointer, rowCount: Int, centroids: UnsafeRawPointer, count: Int,
        firstNumber: UInt32, numbers: UnsafePointer<UInt32>?, heaps: UnsafeMutablePointer<UInt64>,
        slots: UnsafePointer<UInt32>?, scratch: Scratch
    ) {
        let size = dimension * distance.elementType.byteCount
        for start in stride(from: 0, to: count, by: Self.centroidTile) {
            let tile = min(Self.centroidTile, count - start)
            distance.block(
                rows, queries: rowCount, centroids + start * size, count: tile, dimension: dimension,
                into: scratch.distances, outStride: Self.centroidTile)
            for row in 0..<rowCount {
                let values = scratch.distances + row * Self.centroidTile
                let heap = heaps + (slots.map { Int($0[row]) } ?? row) * k
                let found = Distance.selectAtMost(
                    PackedHeap.distance(heap[0]), of: values, count: tile, into: scratch.positions)
                for position in 0..<found {
                    let index = Int(scratch.positions[position])
                    let number = numbers.map { $0[start + index] } ?? firstNumber + UInt32(start + index)
                    let key = PackedHeap.pack(values[index], number)
                    if key < heap[0] { PackedHeap.replaceWorst(heap, k, key) }
                }
            }
        }
    }
}
