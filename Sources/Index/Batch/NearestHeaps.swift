// The k nearest of many queries at once: one flat array of heaps that all threads of a sweep reach. A
// neighbour is one integer whose order is that of (distance, id), so that what is kept does not depend on who
// scanned first, and a replica met again is the same integer: of 64 bits where ids have 32, else of 128. Those
// have room for what rounding took from distances of integers, too.

import Glibc
import Router
import Synchronization
import Vectors

/// A distance and an id as one number in their order; all ones are no neighbour.
private protocol NeighbourKey: FixedWidthInteger, UnsignedInteger {
    init(rising: UInt32, residual: Int32, id: UInt64)
    var rising: UInt32 { get }
    var neighbourId: UInt64 { get }
}

extension UInt64: NeighbourKey {
    @inline(__always)
    fileprivate init(rising: UInt32, residual: Int32, id: UInt64) { self = UInt64(rising) << 32 | id }
    @inline(__always)
    fileprivate var rising: UInt32 { UInt32(truncatingIfNeeded: self >> 32) }
    @inline(__always)
    fileprivate var neighbourId: UInt64 { self & 0xffff_ffff }
}

extension UInt128: NeighbourKey {
    @inline(__always)
    fileprivate init(rising: UInt32, residual: Int32, id: UInt64) {
        let second = UInt32(bitPattern: residual) ^ 0x8000_0000
        self = UInt128(UInt64(rising) << 32 | UInt64(second)) << 64 | UInt128(id)
    }
    @inline(__always)
    fileprivate var rising: UInt32 { UInt32(truncatingIfNeeded: self >> 96) }
    @inline(__always)
    fileprivate var neighbourId: UInt64 { UInt64(truncatingIfNeeded: self) }
}

extension NeighbourKey {
    /// The bits of a float order as the number does once negative ones are turned round; adding zero makes
    /// both zeros one.
    @inline(__always)
    fileprivate init(distance: Float, residual: Int32, id: UInt64) {
        let bits = (distance + 0).bitPattern
        self.init(
            rising: bits & 0x8000_0000 == 0 ? bits | 0x8000_0000 : ~bits, residual: residual, id: id)
    }

    @inline(__always)
    fileprivate var distance: Float {
        Float(bitPattern: rising & 0x8000_0000 == 0 ? ~rising : rising & 0x7fff_ffff)
    }
}

/// For each of `count` queries the `capacity` nearest of what was offered.
final class NearestHeaps: @unchecked Sendable {
    let count: Int
    let capacity: Int
    /// Whether ids may need more than 32 bits, or distances more than single precision has.
    let hasWideKeys: Bool
    /// Of each query a head, then a max-heap filled up with all ones: what an offer needs lies together, because
    /// queries of a segment lie far apart.
    private let bytes: UnsafeMutableRawPointer
    private let stride: Int
    private let headByteCount: Int

    /// The bits of the farthest distance kept (what is farther need not be offered), and whether a thread is
    /// changing the heap.
    private struct Head: ~Copyable {
        let limit = Atomic<UInt32>(Float.infinity.bitPattern)
        let isBusy = Atomic<Bool>(false)
    }

    private static func keyByteCount(_ hasWideKeys: Bool) -> Int {
        hasWideKeys ? MemoryLayout<UInt128>.stride : MemoryLayout<UInt64>.stride
    }

    /// Bytes that a query takes.
    static func byteCount(capacity: Int, hasWideKeys: Bool) -> Int {
        (1 + capacity) * keyByteCount(hasWideKeys)
    }

    /// Whether the neighbours of an index need wide keys.
    static func needsWideKeys(_ index: DiskIndex) -> Bool {
        index.layout.idByteCount == 8
            || Distance(metric: index.metric, elementType: index.elementType).rounds(
                dimension: index.dimension)
    }

    init(count: Int, capacity: Int, hasWideKeys: Bool) {
        precondition(count >= 0 && capacity > 0 && MemoryLayout<Head>.stride <= 8)
        self.count = count
        self.capacity = capacity
        self.hasWideKeys = hasWideKeys
        headByteCount = Self.keyByteCount(hasWideKeys)
        stride = Self.byteCount(capacity: capacity, hasWideKeys: hasWideKeys)
        bytes = .allocate(byteCount: max(count, 1) * stride, alignment: 16)
        for query in 0..<count {
            (bytes + query * stride).bindMemory(to: Head.self, capacity: 1).initialize(to: Head())
            (bytes + query * stride + headByteCount).initializeMemory(
                as: UInt8.self, repeating: 0xff, count: stride - headByteCount)
        }
    }

    deinit { bytes.deallocate() }

    @inline(__always)
    private func head(_ query: Int) -> UnsafeMutablePointer<Head> {
        (bytes + query &* stride).assumingMemoryBound(to: Head.self)
    }

    @inline(__always)
    private func heap<Key: NeighbourKey>(_ query: Int, _: Key.Type) -> UnsafeMutablePointer<Key> {
        (bytes + (query &* stride &+ headByteCount)).assumingMemoryBound(to: Key.self)
    }

    /// A distance above this one would not be kept. Another thread may lower it at any time.
    @inline(__always)
    func limit(_ query: Int) -> Float {
        Float(bitPattern: head(query).pointee.limit.load(ordering: .relaxed))
    }

    /// Asks for the heap of a query that will be needed soon.
    @inline(__always)
    func prefetch(_ query: Int) {
        Distance.prefetch(bytes + query &* stride, byteCount: min(stride, 256))
    }

    /// Offers records of a scanned segment: those at `positions`, of the distances beside. With `distinct` an id that is kept
    /// already is not kept twice: a replica has the same distance to the bit. `residuals` are those of the
    /// positions, in their order; all 0 where there are none.
    @inline(__always)
    func offer(
        _ query: Int, distances: UnsafePointer<Float>, ids: UnsafePointer<UInt64>,
        positions: UnsafePointer<UInt32>, residuals: UnsafePointer<Int32>? = nil, count: Int, distinct: Bool
    ) {
        lock(query)
        if hasWideKeys {
            offer(
                to: heap(query, UInt128.self), query, distances: distances, ids: ids, positions: positions,
                residuals: residuals, count: count, distinct: distinct)
        } else {
            offer(
                to: heap(query, UInt64.self), query, distances: distances, ids: ids, positions: positions,
                residuals: residuals, count: count, distinct: distinct)
        }
        head(query).pointee.isBusy.store(false, ordering: .releasing)
    }

    @inline(__always)
    private func offer<Key: NeighbourKey>(
        to heap: UnsafeMutablePointer<Key>, _ query: Int, distances: UnsafePointer<Float>,
        ids: UnsafePointer<UInt64>, positions: UnsafePointer<UInt32>, residuals: UnsafePointer<Int32>?,
        count: Int, distinct: Bool
    ) {
        for index in 0..<count {
            let position = Int(positions[index])
            let key = Key(distance: distances[index], residual: residuals?[index] ?? 0, id: ids[position])
            if key >= heap[0] || (distinct && holds(heap, key)) { continue }
            replaceWorst(heap, capacity, by: key)
        }
        lowerLimit(query, heap)
    }

    /// Offers one neighbour.
    func offer(_ query: Int, id: UInt64, distance: Float, residual: Int32 = 0) {
        guard distance <= limit(query) else { return }
        var (distance, position, residual) = (distance, UInt32(0), residual)
        var id = id
        offer(
            query, distances: &distance, ids: &id, positions: &position, residuals: &residual, count: 1,
            distinct: false)
    }

    /// Appends what was kept, nearest first, and keeps it; while no sweep runs.
    func copySorted(_ query: Int, into sorted: inout [Neighbour]) {
        let first = sorted.count
        if hasWideKeys {
            copy(heap(query, UInt128.self), into: &sorted)
        } else {
            copy(heap(query, UInt64.self), into: &sorted)
        }
        sorted[first...].sort { $0 < $1 }
    }

    private func copy<Key: NeighbourKey>(_ heap: UnsafeMutablePointer<Key>, into sorted: inout [Neighbour]) {
        for index in 0..<capacity where heap[index] != .max {
            sorted.append(Neighbour(id: heap[index].neighbourId, distance: heap[index].distance))
        }
    }

    /// Writes the `k` nearest of a query and empties its heap; places that nothing fills get `noId` and
    /// infinity.
    func drain(
        _ query: Int, k: Int, noId: UInt64, ids: UnsafeMutablePointer<UInt64>,
        distances: UnsafeMutablePointer<Float>
    ) {
        if hasWideKeys {
            drain(heap(query, UInt128.self), k: k, noId: noId, ids: ids, distances: distances)
        } else {
            drain(heap(query, UInt64.self), k: k, noId: noId, ids: ids, distances: distances)
        }
        head(query).pointee.limit.store(Float.infinity.bitPattern, ordering: .relaxed)
    }

    @inline(__always)
    private func drain<Key: NeighbourKey>(
        _ heap: UnsafeMutablePointer<Key>, k: Int, noId: UInt64, ids: UnsafeMutablePointer<UInt64>,
        distances: UnsafeMutablePointer<Float>
    ) {
        var remaining = capacity
        while remaining > 1 {
            remaining -= 1
            let last = heap[remaining]
            heap[remaining] = heap[0]
            replaceWorst(heap, remaining, by: last)
        }
        for rank in 0..<k {
            let isFilled = rank < capacity && heap[rank] != .max
            ids[rank] = isFilled ? heap[rank].neighbourId : noId
            distances[rank] = isFilled ? heap[rank].distance : .infinity
        }
        heap.update(repeating: .max, count: capacity)
    }

    @inline(__always)
    private func lock(_ query: Int) {
        var spins = 0
        while head(query).pointee.isBusy.exchange(true, ordering: .acquiring) {
            spins += 1
            // The holder may have lost its processor.
            if spins > 64 { sched_yield() }
        }
    }

    @inline(__always)
    private func lowerLimit<Key: NeighbourKey>(_ query: Int, _ heap: UnsafeMutablePointer<Key>) {
        if heap[0] != .max {
            head(query).pointee.limit.store(heap[0].distance.bitPattern, ordering: .relaxed)
        }
    }

    @inline(__always)
    private func holds<Key: NeighbourKey>(_ heap: UnsafeMutablePointer<Key>, _ key: Key) -> Bool {
        var found = false
        for index in 0..<capacity { found = found || heap[index] == key }
        return found
    }

    @inline(__always)
    private func replaceWorst<Key: NeighbourKey>(
        _ heap: UnsafeMutablePointer<Key>, _ count: Int, by key: Key
    ) {
        var index = 0
        while true {
            var child = 2 &* index &+ 1
            if child >= count { break }
            if child &+ 1 < count, heap[child] < heap[child &+ 1] { child &+= 1 }
            if heap[child] <= key { break }
            heap[index] = heap[child]
            index = child
        }
        heap[index] = key
    }
}
