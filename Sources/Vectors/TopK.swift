// The k nearest of a stream of (distance, id): the heap under every scan. All state lies in memory of its
// own behind `let` pointers, so that a push costs no exclusivity check and no reference count.

/// A neighbour found.
public struct Neighbour: Sendable, Equatable {
    public var id: UInt64
    public var distance: Float
    /// What rounding took from the distance (`Distance.residual`); 0 nearly always.
    public var residual: Int32

    public init(id: UInt64, distance: Float, residual: Int32 = 0) {
        self.id = id
        self.distance = distance
        self.residual = residual
    }

    /// Nearer first, equal distances by id.
    public static func < (a: Neighbour, b: Neighbour) -> Bool {
        if a.distance != b.distance { return a.distance < b.distance }
        return a.residual < b.residual || (a.residual == b.residual && a.id < b.id)
    }
}

/// Keeps the `capacity` least of what is pushed, by distance and then by id: the result does not depend on
/// the order of pushes. Distances that are not numbers are never kept. One thread at a time.
public struct TopK: ~Copyable {
    public let capacity: Int
    private let heap: UnsafeMutablePointer<Neighbour>
    private let state: UnsafeMutablePointer<State>

    private struct State {
        var count: Int
        var bound: Float
    }

    public init(capacity: Int) {
        precondition(capacity > 0)
        self.capacity = capacity
        heap = .allocate(capacity: capacity)
        heap.initialize(repeating: Neighbour(id: 0, distance: 0), count: capacity)
        state = .allocate(capacity: 1)
        state.initialize(to: State(count: 0, bound: .infinity))
    }

    deinit {
        heap.deallocate()
        state.deallocate()
    }

    public var count: Int { state.pointee.count }
    public var isFull: Bool { state.pointee.count == capacity }

    /// A distance above this one would not be kept: infinity until full, then the farthest kept distance.
    public var bound: Float { state.pointee.bound }

    public func removeAll() { state.pointee = State(count: 0, bound: .infinity) }

    /// Offers a neighbour; true where it was kept.
    @discardableResult
    public func push(id: UInt64, distance: Float, residual: Int32 = 0) -> Bool {
        guard distance <= state.pointee.bound else { return false }
        let offered = Neighbour(id: id, distance: distance, residual: residual)
        let count = state.pointee.count
        if count < capacity {
            siftUp(offered, from: count)
            state.pointee.count = count + 1
            if count + 1 == capacity { state.pointee.bound = heap[0].distance }
            return true
        }
        guard offered < heap[0] else { return false }
        siftDown(offered, from: 0, count: count)
        state.pointee.bound = heap[0].distance
        return true
    }

    /// The same, but an id that is kept already is not kept twice (a replica met again has the same
    /// distance). Looks through the kept ones, and only for what passes the bound.
    @discardableResult
    public func pushDistinct(id: UInt64, distance: Float, residual: Int32 = 0) -> Bool {
        guard distance <= state.pointee.bound else { return false }
        for index in 0..<state.pointee.count where heap[index].id == id { return false }
        return push(id: id, distance: distance, residual: residual)
    }

    /// Appends what was kept, nearest first, and keeps it.
    public func copySorted(into sorted: inout [Neighbour]) {
        let first = sorted.count
        for index in 0..<state.pointee.count { sorted.append(heap[index]) }
        sorted[first...].sort { $0 < $1 }
    }

    /// Appends what was kept, nearest first, and empties the heap.
    public func drain(into sorted: inout [Neighbour]) {
        let count = state.pointee.count
        let first = sorted.count
        for index in 0..<count { sorted.append(heap[index]) }
        var remaining = count
        while remaining > 0 {
            sorted[first + remaining - 1] = heap[0]
            remaining -= 1
            if remaining > 0 { siftDown(heap[remaining], from: 0, count: remaining) }
        }
        removeAll()
    }

    private func siftUp(_ value: Neighbour, from start: Int) {
        var index = start
        while index > 0 {
            let parent = (index - 1) >> 1
            guard heap[parent] < value else { break }
            heap[index] = heap[parent]
            index = parent
        }
        heap[index] = value
    }

    private func siftDown(_ value: Neighbour, from start: Int, count: Int) {
        var index = start
        while true {
            var child = 2 * index + 1
            guard child < count else { break }
            if child + 1 < count, heap[child] < heap[child + 1] { child += 1 }
            guard value < heap[child] else { break }
            heap[index] = heap[child]
            index = child
        }
        heap[index] = value
    }
}
