// The k nearest of many queries at once: one flat array of heaps that all threads of a sweep reach. A
// neighbour is one integer whose order is that of (distance, id), so that what is kept does not depend on who
// scanned first, and a replica met again is the same integer.

import Glibc
import Router
import Synchronization

/// For each of `count` queries the `capacity` nearest of what was offered.
final class NearestHeaps: @unchecked Sendable {
    let count: Int
    let capacity: Int
    /// A max-heap a query, filled up with `none`.
    private let keys: UnsafeMutablePointer<UInt64>
    /// Of each query the bits of the farthest distance kept: what is farther need not be offered.
    private let limits: UnsafeMutablePointer<Atomic<UInt32>>
    private let busy: UnsafeMutablePointer<Atomic<Bool>>
    private static let none = UInt64.max

    /// Bytes that a query takes.
    static func byteCount(capacity: Int) -> Int { capacity * 8 + 5 }

    init(count: Int, capacity: Int) {
        precondition(count >= 0 && capacity > 0)
        self.count = count
        self.capacity = capacity
        keys = .allocate(capacity: max(count * capacity, 1))
        limits = .allocate(capacity: max(count, 1))
        busy = .allocate(capacity: max(count, 1))
        for query in 0..<count {
            (limits + query).initialize(to: Atomic(Float.infinity.bitPattern))
            (busy + query).initialize(to: Atomic(false))
        }
        removeAll()
    }

    deinit {
        limits.deinitialize(count: count)
        busy.deinitialize(count: count)
        keys.deallocate()
        limits.deallocate()
        busy.deallocate()
    }

    /// Forgets everything; called between sweeps.
    func removeAll() {
        keys.update(repeating: Self.none, count: count * capacity)
        for query in 0..<count { limits[query].store(Float.infinity.bitPattern, ordering: .relaxed) }
    }

    /// A distance above this one would not be kept. Another thread may lower it at any time.
    @inline(__always)
    func limit(_ query: Int) -> Float { Float(bitPattern: limits[query].load(ordering: .relaxed)) }

    /// Offers the records at `positions` of a scanned row of distances. With `distinct` an id that is kept
    /// already is not kept twice: a replica has the same distance to the bit.
    @inline(__always)
    func offer(
        _ query: Int, distances: UnsafePointer<Float>, ids: UnsafePointer<UInt32>,
        positions: UnsafePointer<UInt32>, count: Int, distinct: Bool
    ) {
        lock(query)
        let heap = keys + query * capacity
        for index in 0..<count {
            let position = Int(positions[index])
            let key = Self.key(distance: distances[position], id: ids[position])
            if key >= heap[0] || (distinct && holds(heap, key)) { continue }
            replaceWorst(heap, capacity, by: key)
        }
        unlock(query, heap)
    }

    /// Offers one neighbour.
    func offer(_ query: Int, id: UInt32, distance: Float) {
        guard distance <= limit(query) else { return }
        lock(query)
        let heap = keys + query * capacity
        let key = Self.key(distance: distance, id: id)
        if key < heap[0] { replaceWorst(heap, capacity, by: key) }
        unlock(query, heap)
    }

    /// Appends what was kept, nearest first, and keeps it; while no sweep runs.
    func copySorted(_ query: Int, into sorted: inout [Neighbour]) {
        let first = sorted.count
        for index in 0..<capacity {
            let key = keys[query * capacity + index]
            if key != Self.none { sorted.append(Neighbour(id: UInt64(Self.id(key)), distance: Self.distance(key))) }
        }
        sorted[first...].sort { $0 < $1 }
    }

    /// Writes the `k` nearest of a query and empties its heap; places that nothing fills get `noId` and
    /// infinity.
    func drain(
        _ query: Int, k: Int, noId: UInt32, ids: UnsafeMutablePointer<UInt32>, distances: UnsafeMutablePointer<Float>
    ) {
        let heap = keys + query * capacity
        var remaining = capacity
        while remaining > 1 {
            remaining -= 1
            let last = heap[remaining]
            heap[remaining] = heap[0]
            replaceWorst(heap, remaining, by: last)
        }
        for rank in 0..<k {
            let isFilled = rank < capacity && heap[rank] != Self.none
            ids[rank] = isFilled ? Self.id(heap[rank]) : noId
            distances[rank] = isFilled ? Self.distance(heap[rank]) : .infinity
        }
        heap.update(repeating: Self.none, count: capacity)
        limits[query].store(Float.infinity.bitPattern, ordering: .relaxed)
    }

    @inline(__always)
    private func lock(_ query: Int) {
        var spins = 0
        while busy[query].exchange(true, ordering: .acquiring) {
            spins += 1
            // The holder may have lost its processor.
            if spins > 64 { sched_yield() }
        }
    }

    @inline(__always)
    private func unlock(_ query: Int, _ heap: UnsafeMutablePointer<UInt64>) {
        if heap[0] != Self.none {
            limits[query].store(Self.distance(heap[0]).bitPattern, ordering: .relaxed)
        }
        busy[query].store(false, ordering: .releasing)
    }

    @inline(__always)
    private func holds(_ heap: UnsafeMutablePointer<UInt64>, _ key: UInt64) -> Bool {
        var found = false
        for index in 0..<capacity { found = found || heap[index] == key }
        return found
    }

    @inline(__always)
    private func replaceWorst(_ heap: UnsafeMutablePointer<UInt64>, _ count: Int, by key: UInt64) {
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

    /// The bits of a float order as the number does once negative ones are turned round; adding zero makes
    /// both zeros one.
    @inline(__always)
    private static func key(distance: Float, id: UInt32) -> UInt64 {
        let bits = (distance + 0).bitPattern
        let rising = bits & 0x8000_0000 == 0 ? bits | 0x8000_0000 : ~bits
        return UInt64(rising) << 32 | UInt64(id)
    }

    @inline(__always)
    private static func distance(_ key: UInt64) -> Float {
        let rising = UInt32(truncatingIfNeeded: key >> 32)
        return Float(bitPattern: rising & 0x8000_0000 == 0 ? ~rising : rising & 0x7fff_ffff)
    }

    @inline(__always)
    private static func id(_ key: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: key) }
}
