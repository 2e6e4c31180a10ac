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
    /// Of each query a head, then a max-heap filled up with `none`: what an offer needs lies together, because
    /// queries of a segment lie far apart.
    private let words: UnsafeMutablePointer<UInt64>
    private let wordsEach: Int
    private static let none = UInt64.max

    /// The bits of the farthest distance kept (what is farther need not be offered), and whether a thread is
    /// changing the heap.
    private struct Head: ~Copyable {
        let limit = Atomic<UInt32>(Float.infinity.bitPattern)
        let isBusy = Atomic<Bool>(false)
    }

    /// Bytes that a query takes.
    static func byteCount(capacity: Int) -> Int { (1 + capacity) * 8 }

    init(count: Int, capacity: Int) {
        precondition(count >= 0 && capacity > 0 && MemoryLayout<Head>.stride <= 8)
        self.count = count
        self.capacity = capacity
        wordsEach = 1 + capacity
        words = .allocate(capacity: max(count * wordsEach, 1))
        for query in 0..<count {
            UnsafeMutableRawPointer(words + query * wordsEach).bindMemory(to: Head.self, capacity: 1)
                .initialize(to: Head())
            heap(query).initialize(repeating: Self.none, count: capacity)
        }
    }

    deinit { words.deallocate() }

    @inline(__always)
    private func head(_ query: Int) -> UnsafeMutablePointer<Head> {
        UnsafeMutableRawPointer(words + query &* wordsEach).assumingMemoryBound(to: Head.self)
    }

    @inline(__always)
    private func heap(_ query: Int) -> UnsafeMutablePointer<UInt64> { words + (query &* wordsEach &+ 1) }

    /// A distance above this one would not be kept. Another thread may lower it at any time.
    @inline(__always)
    func limit(_ query: Int) -> Float {
        Float(bitPattern: head(query).pointee.limit.load(ordering: .relaxed))
    }

    /// Offers the records at `positions` of a scanned row of distances. With `distinct` an id that is kept
    /// already is not kept twice: a replica has the same distance to the bit.
    @inline(__always)
    func offer(
        _ query: Int, distances: UnsafePointer<Float>, ids: UnsafePointer<UInt32>,
        positions: UnsafePointer<UInt32>, count: Int, distinct: Bool
    ) {
        lock(query)
        let heap = heap(query)
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
        let heap = heap(query)
        let key = Self.key(distance: distance, id: id)
        if key < heap[0] { replaceWorst(heap, capacity, by: key) }
        unlock(query, heap)
    }

    /// Appends what was kept, nearest first, and keeps it; while no sweep runs.
    func copySorted(_ query: Int, into sorted: inout [Neighbour]) {
        let first = sorted.count
        for index in 0..<capacity {
            let key = heap(query)[index]
            if key != Self.none {
                sorted.append(Neighbour(id: UInt64(Self.id(key)), distance: Self.distance(key)))
            }
        }
        sorted[first...].sort { $0 < $1 }
    }

    /// Writes the `k` nearest of a query and empties its heap; places that nothing fills get `noId` and
    /// infinity.
    func drain(
        _ query: Int, k: Int, noId: UInt32, ids: UnsafeMutablePointer<UInt32>,
        distances: UnsafeMutablePointer<Float>
    ) {
        let heap = heap(query)
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
        head(query).pointee.limit.store(Float.infinity.bitPattern, ordering: .relaxed)
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
    private func unlock(_ query: Int, _ heap: UnsafeMutablePointer<UInt64>) {
        if heap[0] != Self.none {
            head(query).pointee.limit.store(Self.distance(heap[0]).bitPattern, ordering: .relaxed)
        }
        head(query).pointee.isBusy.store(false, ordering: .releasing)
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
