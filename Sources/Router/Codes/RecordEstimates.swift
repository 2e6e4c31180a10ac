// The scan of codes for one query: the records that are likely nearest, by estimate. The innermost loop of choosing pages.

import CKernels
import Glibc
import Vectors

/// The nearest records of a query by their codes; owned by one worker, its memory is reused from query to query.
public final class RecordEstimates {
    private let codes: RecordCodes
    private var tables: ProductQuantiser.Tables
    private let floats: UnsafeMutablePointer<Float>
    private let sums: UnsafeMutablePointer<UInt16>
    /// The means of the groups of codewords, as four-bit tables.
    private let groups: UnsafeMutablePointer<UInt8>
    /// What the tables of the query at hand stand for: distance by step, the scaled distance beyond which a record is not
    /// near, and how much farther it may seem by the groups of its codewords.
    private var step: Float = 0
    private var limit = Float.infinity
    private var margin: Float = 0
    private var capacity: Int
    private var ordered: UnsafeMutablePointer<Float>

    /// Candidates by position in the route, then by slot.
    public private(set) var count = 0
    /// The position in the route of each candidate's partition.
    public private(set) var positions: UnsafeMutablePointer<UInt32>
    /// The slot of each in its segment.
    public private(set) var slots: UnsafeMutablePointer<UInt32>
    /// The squared distance of each in routing space, as its code has it.
    public private(set) var distances: UnsafeMutablePointer<Float>

    public init(_ codes: RecordCodes) {
        self.codes = codes
        tables = ProductQuantiser.Tables(codes.quantiser)
        floats = .allocate(capacity: codes.quantiser.dimension)
        var largest = 1
        for partition in 0..<codes.partitionCount {
            largest = max(largest, Int(codes.starts[partition + 1] - codes.starts[partition]))
        }
        sums = .allocate(capacity: largest)
        groups = .allocate(capacity: CodeBlock.pairs(codes.quantiser.codeByteCount) * 32)
        capacity = 4096 + largest
        ordered = .allocate(capacity: capacity)
        positions = .allocate(capacity: capacity)
        slots = .allocate(capacity: capacity)
        distances = .allocate(capacity: capacity)
    }

    deinit {
        for floats in [floats, ordered, distances] { floats.deallocate() }
        sums.deallocate()
        groups.deallocate()
        positions.deallocate()
        slots.deallocate()
    }

    /// Partitions between two looks at whether farther ones still hold anything near, and looks in vain after which no
    /// more are scanned. Scanning all instead takes half as much time again and saves two pages of a hundred
    /// (docs/results/pages.md).
    private static let look = 8
    private static let patience = 5
    /// What is farther than the k-th estimate by so many spreads is hardly among the k nearest.
    private static let reach: Float = 3.5
    /// What the means of groups say may be wrong by so many standard deviations before a record is missed.
    private static let groupReach: Float = 2

    /// How far a search of k looks: records whose estimate is that of a k-th nearest or lies little beyond it.
    public struct Search: Sendable {
        public var k: Int
        /// Of estimates around the truth, as `RecordModel` has it.
        public var spread: Float

        public init(k: Int, spread: Float) {
            self.k = k
            self.spread = spread
        }
    }

    /// Finds the records of a route's first partitions that may be among the k nearest; partitions are left out once the
    /// last ones held nothing near.
    ///
    /// - Parameters:
    ///   - query: a row in routing space, of `type`.
    ///   - blocks: where the codes of the route's partitions lie, by position; nil: all in memory.
    public func find(
        _ query: UnsafeRawPointer, type: ElementType, route: Route, partitions: Int, for search: Search,
        blocks: [UnsafeRawPointer?]? = nil
    ) {
        begin(query, type: type)
        // Candidates that were there at the last look.
        var (seen, vain) = (0, 0)
        let last = min(partitions, route.count) - 1
        for position in stride(from: 0, through: last, by: 1) {
            if position < last { codes.prefetch(Int(route.partitions[position + 1])) }
            scan(
                Int(route.partitions[position]), at: position, distance: route.distances[position],
                bytes: blocks?[position])
            // The first partitions tell most of how far the nearest are.
            guard position < 2 || position % Self.look == Self.look - 1 || position == last else { continue }
            if count > search.k {
                ordered.update(from: distances, count: count)
                let nearest = max(Self.nth(search.k - 1, of: ordered, count: count) / codes.scale, 0)
                limit = (nearest + Self.reach * search.spread * nearest.squareRoot()) * codes.scale
                let new = drop(from: seen)
                vain = new ? 0 : vain + 1
            }
            seen = count
            if vain == Self.patience { break }
        }
        finish()
    }

    /// Finds the `wanted` nearest by estimate among the records of a route's first partitions; fewer where those hold
    /// fewer, more where estimates are equal.
    ///
    /// - Parameter query: a row in routing space, of `type`.
    public func find(
        _ query: UnsafeRawPointer, type: ElementType, route: Route, partitions: Int, wanted: Int
    ) {
        begin(query, type: type)
        for position in 0..<min(partitions, route.count) {
            scan(Int(route.partitions[position]), at: position, distance: route.distances[position])
            if count >= 3 * wanted { keepLeast(wanted) }
        }
        if count > wanted { keepLeast(wanted) }
        finish()
    }

    /// Makes the tables of a query.
    private func begin(_ query: UnsafeRawPointer, type: ElementType) {
        count = 0
        limit = .infinity
        VectorMatrix.toFloat(query, type, count: codes.quantiser.dimension, into: floats)
        sonde_add_scaled(floats, codes.mean, -1, codes.quantiser.dimension)
        tables.fill(codes.quantiser, query: floats)
        var spread: Float = 0
        sonde_code_groups(tables.bytes, codes.quantiser.codeByteCount, groups, &spread)
        step = -2 * codes.scale * tables.step
        margin = Self.groupReach * abs(step) * spread
    }

    /// Appends the records of a partition whose estimates are within the limit.
    private func scan(_ partition: Int, at position: Int, distance: Float, bytes: UnsafeRawPointer? = nil) {
        let records = codes.recordCount(of: partition)
        guard records > 0, let block = codes.block(of: partition, at: bytes) else { return }
        reserve(records)
        let spaces = codes.quantiser.codeByteCount
        let offset = codes.scale * (distance - 2 * tables.offset)
        sonde_code4_sums(block.upper, records, records, CodeBlock.pairs(spaces), groups, sums)
        let near = sonde_code_select(
            sums, block.corrections, records, step, offset, limit + margin, 0, slots + count,
            distances + count)
        let found = sonde_code_refine(
            block.upper, block.lower, block.corrections, records, spaces, tables.bytes, step, offset,
            limit, slots + count, near, slots + count, distances + count)
        (positions + count).update(repeating: UInt32(position), count: found)
        count += found
    }

    private func finish() {
        let (scale, distances) = (1 / codes.scale, distances)
        for index in 0..<count { distances[index] = max(distances[index] * scale, .leastNormalMagnitude) }
    }

    /// The probability of each candidate to be among the k nearest, where estimates lie within `spread` times the root
    /// of a distance of the truth. `probabilities` has room for all.
    public func weigh(k: Int, spread: Float, into probabilities: inout [Float]) {
        precondition(probabilities.count >= count)
        _ = sonde_soft_nearest(distances, count, Float(k), spread, &probabilities)
    }

    /// Drops what is farther than the `wanted` nearest, and looks no farther from now on.
    private func keepLeast(_ wanted: Int) {
        ordered.update(from: distances, count: count)
        limit = Self.nth(wanted - 1, of: ordered, count: count)
        _ = drop(from: count)
    }

    /// Drops what is beyond the limit; tells whether anything stayed that stood at `place` or behind it.
    private func drop(from place: Int) -> Bool {
        var (kept, stays) = (0, false)
        // Read once: a loop over properties of an object checks each access.
        let (positions, slots, distances, limit) = (positions, slots, distances, limit)
        for index in 0..<count where distances[index] <= limit {
            positions[kept] = positions[index]
            slots[kept] = slots[index]
            distances[kept] = distances[index]
            kept += 1
            stays = stays || index >= place
        }
        count = kept
        return stays
    }

    /// The value that has `n` before it in order; the others are moved about (Hoare 1961).
    public static func nth(_ n: Int, of values: UnsafeMutablePointer<Float>, count: Int) -> Float {
        var (low, high) = (0, count - 1)
        while low < high {
            let pivot = values[low + (high - low) / 2]
            var (left, right) = (low, high)
            while left <= right {
                while values[left] < pivot { left += 1 }
                while values[right] > pivot { right -= 1 }
                guard left <= right else { break }
                let swapped = values[left]
                values[left] = values[right]
                values[right] = swapped
                left += 1
                right -= 1
            }
            if n <= right { high = right } else if n >= left { low = left } else { return values[n] }
        }
        return values[n]
    }

    private func reserve(_ more: Int) {
        guard count + more > capacity else { return }
        func grown<T: BitwiseCopyable>(_ old: UnsafeMutablePointer<T>, _ size: Int) -> UnsafeMutablePointer<T>
        {
            let new = UnsafeMutablePointer<T>.allocate(capacity: size)
            new.update(from: old, count: count)
            old.deallocate()
            return new
        }
        let size = 2 * (count + more)
        (positions, slots) = (grown(positions, size), grown(slots, size))
        (distances, ordered) = (grown(distances, size), grown(ordered, size))
        capacity = size
    }
}
