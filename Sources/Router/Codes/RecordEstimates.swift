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
        capacity = 4096 + largest
        ordered = .allocate(capacity: capacity)
        positions = .allocate(capacity: capacity)
        slots = .allocate(capacity: capacity)
        distances = .allocate(capacity: capacity)
    }

    deinit {
        for floats in [floats, ordered, distances] { floats.deallocate() }
        sums.deallocate()
        positions.deallocate()
        slots.deallocate()
    }

    /// Partitions between two looks at whether farther ones still hold anything near, and looks in vain after which no
    /// more are scanned. With 32-byte codes of a million vectors a search of ten scans a quarter of what it would else
    /// and finds as much.
    private static let block = 8
    private static let patience = 2
    /// What is farther than the k-th estimate by so many spreads is hardly among the k nearest.
    private static let reach: Float = 2.5

    /// Finds the `wanted` nearest by estimate among the records of a route's first partitions; fewer where those hold
    /// fewer, more where estimates are equal.
    ///
    /// - Parameters:
    ///   - query: a row in routing space, of `type`.
    ///   - stop: the k of the search and the spread of estimates, by which farther partitions are left out once the last
    ///     ones held nothing near; nil: all are scanned.
    public func find(
        _ query: UnsafeRawPointer, type: ElementType, route: Route, partitions: Int, wanted: Int,
        stop: (k: Int, spread: Float)? = nil
    ) {
        var (seen, vain) = (0, 0)
        count = 0
        VectorMatrix.toFloat(query, type, count: codes.quantiser.dimension, into: floats)
        sonde_add_scaled(floats, codes.mean, -1, codes.quantiser.dimension)
        tables.fill(codes.quantiser, query: floats)
        var limit = Float.infinity
        let (step, size) = (-2 * codes.scale * tables.step, codes.quantiser.codeByteCount)
        codes.starts.withUnsafeBufferPointer { starts in
            codes.codes.withUnsafeBufferPointer { bytes in
                codes.corrections.withUnsafeBufferPointer { corrections in
                    for position in 0..<min(partitions, route.count) {
                        let partition = Int(route.partitions[position])
                        let first = Int(starts[partition])
                        let records = Int(starts[partition + 1]) - first
                        guard records > 0 else { continue }
                        reserve(records)
                        sonde_code_sums(
                            bytes.baseAddress! + first * size, records, records, size, tables.bytes, sums)
                        let found = sonde_code_select(
                            sums, corrections.baseAddress! + first, records, step,
                            codes.scale * (route.distances[position] - 2 * tables.offset), limit, 0,
                            slots + count, distances + count)
                        (positions + count).update(repeating: UInt32(position), count: found)
                        count += found
                        if count >= 3 * wanted {
                            limit = keepLeast(wanted, mark: &seen)
                        }
                        guard let stop, position % Self.block == Self.block - 1 else { continue }
                        vain = holdsNear(from: seen, stop.k, spread: stop.spread) ? 0 : vain + 1
                        seen = count
                        if vain == Self.patience { break }
                    }
                }
            }
        }
        if count > wanted { _ = keepLeast(wanted, mark: &seen) }
        let scale = 1 / codes.scale
        for index in 0..<count { distances[index] = max(distances[index] * scale, .leastNormalMagnitude) }
    }

    /// Whether any candidate from `first` on may be among the k nearest.
    private func holdsNear(from first: Int, _ k: Int, spread: Float) -> Bool {
        guard count > k else { return true }
        ordered.update(from: distances, count: count)
        let nearest = max(Self.nth(k - 1, of: ordered, count: count) / codes.scale, 0)
        let limit = (nearest + Self.reach * spread * nearest.squareRoot()) * codes.scale
        for index in first..<count where distances[index] <= limit { return true }
        return false
    }

    /// Drops what is farther than the `wanted` nearest, in order; returns the farthest that stayed. `mark` is a place
    /// among them, before which as many stay before it.
    private func keepLeast(_ wanted: Int, mark: inout Int) -> Float {
        ordered.update(from: distances, count: count)
        let limit = Self.nth(wanted - 1, of: ordered, count: count)
        var (kept, before) = (0, 0)
        for index in 0..<count where distances[index] <= limit {
            positions[kept] = positions[index]
            slots[kept] = slots[index]
            distances[kept] = distances[index]
            kept += 1
            if index < mark { before = kept }
        }
        (count, mark) = (kept, before)
        return limit
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
