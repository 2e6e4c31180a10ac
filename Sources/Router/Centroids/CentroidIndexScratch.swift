// What a thread needs to search centroids: room for distances, positions and keys, kept from query to query.

import CKernels
import Vectors

extension CentroidIndex {
    final class Scratch: RouterScratch {
        let distance: Distance
        let tile = UnsafeMutablePointer<Float>.allocate(capacity: Scratch.tileCount)
        /// Distances of a block of queries to a tile of rows; there once a block was routed.
        private(set) lazy var blockTile: UnsafeMutablePointer<Float> = {
            let memory = UnsafeMutablePointer<Float>.allocate(
                capacity: CentroidIndex.blockSize * Scratch.tileCount)
            allocatedBlockTile = memory
            return memory
        }()
        private var allocatedBlockTile: UnsafeMutablePointer<Float>?
        /// Rows of such a tile that are near enough, and of each query how many; there once a block was routed.
        private(set) lazy var blockPositions: UnsafeMutablePointer<UInt32> = {
            let memory = UnsafeMutablePointer<UInt32>.allocate(
                capacity: CentroidIndex.blockSize * Scratch.tileCount)
            allocatedBlockPositions = memory
            return memory
        }()
        private var allocatedBlockPositions: UnsafeMutablePointer<UInt32>?
        var passed = [UInt32](repeating: 0, count: CentroidIndex.blockSize)
        /// Of each query of a block: keys gathered, and the distance beyond which rows are of no use.
        var found = [Int](repeating: 0, count: CentroidIndex.blockSize)
        var limits = [Float](repeating: .infinity, count: CentroidIndex.blockSize)
        let positions = UnsafeMutablePointer<UInt32>.allocate(capacity: Scratch.tileCount)
        let graph: CentroidGraph.Scratch?
        private var capacity = 256
        private(set) var groupHeap: UnsafeMutablePointer<UInt64>
        private(set) var keys: UnsafeMutablePointer<UInt64>
        private var spare: UnsafeMutablePointer<UInt64>
        private var keyCapacity = 1
        static let tileCount = 1024

        init(_ index: CentroidIndex) {
            distance = Distance(metric: .l2, elementType: index.elementType)
            graph = index.graph.map { CentroidGraph.Scratch(graph: $0) }
            groupHeap = .allocate(capacity: capacity)
            keys = .allocate(capacity: keyCapacity)
            spare = .allocate(capacity: keyCapacity)
            super.init()
        }

        deinit {
            tile.deallocate()
            allocatedBlockTile?.deallocate()
            allocatedBlockPositions?.deallocate()
            positions.deallocate()
            groupHeap.deallocate()
            keys.deallocate()
            spare.deallocate()
        }

        func reserveKeys(_ count: Int) {
            if count <= keyCapacity { return }
            keys.deallocate()
            spare.deallocate()
            keyCapacity = count
            keys = .allocate(capacity: keyCapacity)
            spare = .allocate(capacity: keyCapacity)
        }

        /// Sorts keys by distance; equal ones keep their order.
        func sort(_ keys: UnsafeMutablePointer<UInt64>, _ count: Int) { sonde_sort_keys(keys, spare, count) }

        /// Sorts the `least` least of them to the start, and forgets the others.
        func sort(_ keys: UnsafeMutablePointer<UInt64>, _ count: Int, least: Int) {
            sonde_sort_least(keys, spare, count, least)
        }

        /// Sorts the first `count` of `keys` by distance, equal ones by number.
        func sortWhole(_ count: Int) {
            sort(keys, count)
            for place in stride(from: 1, to: count, by: 1) {
                let key = keys[place]
                var hole = place
                while hole > 0, keys[hole - 1] > key {
                    keys[hole] = keys[hole - 1]
                    hole -= 1
                }
                keys[hole] = key
            }
        }

        func reserve(_ count: Int) {
            if count <= capacity { return }
            groupHeap.deallocate()
            capacity = count * 2
            groupHeap = .allocate(capacity: capacity)
        }

        /// Offers rows, numbered from 0, to a heap of `k` keys.
        func offer(
            _ query: UnsafeRawPointer, _ rows: UnsafeRawPointer, count: Int, dimension: Int,
            to heap: UnsafeMutablePointer<UInt64>, k: Int
        ) {
            let size = dimension * distance.elementType.byteCount
            for start in stride(from: 0, to: count, by: Self.tileCount) {
                let part = min(Self.tileCount, count - start)
                distance.rows(query, rows + start * size, count: part, dimension: dimension, into: tile)
                var limit = PackedHeap.distance(heap[0])
                // Nothing known yet: a limit for the first tile saves a heap of all its rows.
                if limit == .infinity { limit = Distance.limitOfLeast(k, of: tile, count: part) }
                let found = Distance.selectAtMost(limit, of: tile, count: part, into: positions)
                for place in 0..<found {
                    let position = Int(positions[place])
                    let key = PackedHeap.pack(tile[position], UInt32(start + position))
                    if key < heap[0] { PackedHeap.replaceWorst(heap, k, key) }
                }
            }
        }

        /// Appends what may be among the `k` nearest to the `found` keys of a query, and returns how many there
        /// are then. Rows come in rising order, so that sorting by distance alone keeps ties in order.
        func gather(
            _ distances: UnsafePointer<Float>, count: Int, firstNumber: Int, k: Int, limit: inout Float,
            after found: Int, into keys: UnsafeMutablePointer<UInt64>
        ) -> Int {
            if limit == .infinity { limit = Distance.limitOfLeast(k, of: distances, count: count) }
            let passed = Distance.selectAtMost(limit, of: distances, count: count, into: positions)
            for position in 0..<passed {
                let index = Int(positions[position])
                keys[found + position] = PackedHeap.pack(distances[index], UInt32(firstNumber + index))
            }
            return keep(found + passed, k: k, limit: &limit, keys)
        }

        /// The same for rows that a block kernel has chosen: `passed` distances, and positions beside them.
        func gather(
            chosen distances: UnsafePointer<Float>, _ positions: UnsafePointer<UInt32>, passed: Int,
            firstNumber: Int, k: Int, limit: inout Float, after found: Int,
            into keys: UnsafeMutablePointer<UInt64>
        ) -> Int {
            for index in 0..<passed {
                keys[found + index] = PackedHeap.pack(
                    distances[index], UInt32(firstNumber) + positions[index])
            }
            return keep(found + passed, k: k, limit: &limit, keys)
        }

        /// Drops what is too much, and lowers the limit.
        private func keep(
            _ found: Int, k: Int, limit: inout Float, _ keys: UnsafeMutablePointer<UInt64>
        ) -> Int {
            guard found > CentroidIndex.keptShare * k else { return found }
            sort(keys, found, least: k)
            limit = PackedHeap.distance(keys[k - 1])
            return k
        }
    }
}
