// A graph over centroids for finding the nearest few of many: one layer, edges kept by the rule of Vamana
// (Subramanya et al. 2019, RobustPrune), entered at the best of some sqrt(n) spread nodes, whose vectors lie
// together so that the entry costs one scan.

import Vectors

/// Edges and entries; the vectors are the caller's matrix of centroids.
public struct CentroidGraph: Sendable {
    /// Neighbours of node i: `neighbours[starts[i] ..< starts[i + 1]]`.
    let starts: [UInt32]
    let neighbours: [UInt32]
    /// Nodes where a search may begin.
    let entries: [UInt32]
    let entryRows: VectorMatrix

    public var nodeCount: Int { starts.count - 1 }
    public var meanDegree: Double { Double(neighbours.count) / Double(max(1, nodeCount)) }
    public var residentByteCount: Int {
        (starts.count + neighbours.count + entries.count) * 4 + entryRows.byteCount
    }

    init(starts: [UInt32], neighbours: [UInt32], entries: [UInt32], centroids: VectorMatrix) {
        self.starts = starts
        self.neighbours = neighbours
        self.entries = entries
        entryRows = centroids.gather(entries)
    }

    /// Working memory of one searching thread.
    final class Scratch {
        fileprivate let stamps: UnsafeMutablePointer<UInt32>
        fileprivate var epoch: UInt32 = 0
        fileprivate let nodeCount: Int
        fileprivate var pool: UnsafeMutablePointer<UInt64>
        fileprivate var poolCapacity: Int
        fileprivate let entryDistances: UnsafeMutablePointer<Float>
        /// The neighbours of one node not met before, and their distances.
        fileprivate let batch: UnsafeMutablePointer<UInt32>
        fileprivate let values: UnsafeMutablePointer<Float>
        /// Distances computed since the scratch was made.
        var distanceCount = 0

        init(graph: CentroidGraph) {
            nodeCount = graph.nodeCount
            stamps = .allocate(capacity: max(1, nodeCount))
            stamps.initialize(repeating: 0, count: nodeCount)
            poolCapacity = 256
            pool = .allocate(capacity: poolCapacity)
            entryDistances = .allocate(capacity: max(1, graph.entries.count))
            var degree = 1
            for node in 0..<nodeCount {
                degree = max(degree, Int(graph.starts[node + 1] - graph.starts[node]))
            }
            batch = .allocate(capacity: degree)
            values = .allocate(capacity: degree)
        }

        deinit {
            stamps.deallocate()
            pool.deallocate()
            entryDistances.deallocate()
            batch.deallocate()
            values.deallocate()
        }

        fileprivate func prepare(_ ef: Int) {
            if ef + 1 > poolCapacity {
                pool.deallocate()
                poolCapacity = 2 * (ef + 1)
                pool = .allocate(capacity: poolCapacity)
            }
            epoch &+= 1
            if epoch == 0 {
                stamps.update(repeating: 0, count: nodeCount)
                epoch = 1
            }
        }

        /// Entry `index` of the answer of the last search.
        func found(_ index: Int) -> (number: UInt32, distance: Float) {
            (UInt32(truncatingIfNeeded: pool[index]) >> 1, PackedHeap.distance(pool[index]))
        }
    }

    /// Finds near nodes with a pool of `ef`; returns how many the scratch holds, nearest first, equal
    /// distances by number. Allocates only when `ef` grows.
    ///
    /// A pool entry is distance, number and, in the lowest bit, whether its edges have been followed.
    func search(
        _ query: UnsafeRawPointer, ef: Int, centroids: VectorMatrix, distance: Distance, scratch: Scratch
    ) -> Int {
        scratch.prepare(ef)
        let pool = scratch.pool
        let stamps = scratch.stamps
        let epoch = scratch.epoch
        let batch = scratch.batch
        let values = scratch.values
        let dimension = centroids.dimension
        let size = centroids.rowByteCount
        let rows = distance.rowsFunction
        let base = UnsafeRawPointer(centroids.bytes)
        var computed = entries.count
        var count = 0
        distance.rows(
            query, entryRows.bytes, count: entries.count, dimension: dimension, into: scratch.entryDistances)
        for (index, entry) in entries.enumerated() {
            let key = Self.key(scratch.entryDistances[index], entry)
            stamps[Int(entry)] = epoch
            if count == ef, key >= pool[count - 1] { continue }
            _ = Self.insert(key, pool, &count, ef)
        }
        starts.withUnsafeBufferPointer { starts in
            neighbours.withUnsafeBufferPointer { neighbours in
                var position = 0
                while position < count {
                    if pool[position] & 1 == 1 {
                        position += 1
                        continue
                    }
                    let node = Int(UInt32(truncatingIfNeeded: pool[position]) >> 1)
                    pool[position] |= 1
                    var lowest = position + 1
                    // Three loops, so that the misses of all neighbours are under way together.
                    var fresh = 0
                    for edge in Int(starts[node])..<Int(starts[node + 1]) {
                        let neighbour = neighbours[edge]
                        batch[fresh] = neighbour
                        fresh += stamps[Int(neighbour)] == epoch ? 0 : 1
                        stamps[Int(neighbour)] = epoch
                    }
                    for index in 0..<fresh {
                        rows(query, base + Int(batch[index]) * size, size, 1, dimension, values + index)
                    }
                    computed += fresh
                    for index in 0..<fresh {
                        let key = Self.key(values[index], batch[index])
                        if count == ef, key >= pool[count - 1] { continue }
                        lowest = min(lowest, Self.insert(key, pool, &count, ef))
                    }
                    position = lowest
                }
            }
        }
        scratch.distanceCount += computed
        return count
    }

    @inline(__always)
    private static func key(_ distance: Float, _ number: UInt32) -> UInt64 {
        UInt64(max(distance, 0).bitPattern) << 32 | UInt64(number) << 1
    }

    /// Puts a key into the sorted pool, which drops its last when full; returns its place.
    @inline(__always)
    private static func insert(
        _ key: UInt64, _ pool: UnsafeMutablePointer<UInt64>, _ count: inout Int, _ ef: Int
    ) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) >> 1
            if pool[middle] < key { low = middle + 1 } else { high = middle }
        }
        let last = count == ef ? count - 1 : count
        if last > low { (pool + low + 1).update(from: pool + low, count: last - low) }
        pool[low] = key
        if count < ef { count += 1 }
        return low
    }
}
