// In which order vectors are laid out, so that near ones lie near each other: the partitions along the
// file (reads of one plan then often join), and the records along a segment (near ones share pages).

import Index
import Learn
import Router
import Vectors

/// A walk over vectors that keeps near ones together: the set is cut in two, first between its far ends and then
/// between the means of the halves, again and again, and each half is walked from the side where the walk comes from.
/// Deterministic; n log n.
struct LocalityOrder {
    private let rows: UnsafeRawPointer
    private let stride: Int
    private let distance: Distance
    private let dimension: Int
    /// Pieces of this many rows are not cut further, and cuts fall on its multiples: records of a page.
    private let grain: Int
    /// Larger pieces are cut between their far ends alone: few pages lie on their border.
    private static let refinedMaximum = 4096
    /// Rounds of means; more change hardly a row.
    private static let refinements = 4
    private var order: [UInt32]
    private var keys: [Float]
    private let progress: ((_ done: Int, _ total: Int) -> Void)?

    /// Row numbers of `count` rows, `stride` bytes apart, in the order of the walk. `progress` is told of rows that have
    /// their place.
    static func walk(
        rows: UnsafeRawPointer, count: Int, stride: Int, distance: Distance, dimension: Int, grain: Int,
        progress: ((_ done: Int, _ total: Int) -> Void)? = nil
    ) -> [UInt32] {
        guard count > grain else { return Array(0..<UInt32(count)) }
        var walk = LocalityOrder(
            rows: rows, stride: stride, distance: distance, dimension: dimension, grain: grain,
            order: Array(0..<UInt32(count)),
            keys: [Float](repeating: 0, count: count), progress: progress)
        var anchor = walk.order[0]
        anchor = walk.farthest(from: anchor, in: 0..<count)
        walk.cut(0..<count, from: anchor)
        progress?(count, count)
        return walk.order
    }

    private func between(_ a: UInt32, _ b: UInt32) -> Float {
        distance.pair(rows + Int(a) * stride, rows + Int(b) * stride, dimension: dimension)
    }

    private func farthest(from anchor: UInt32, in range: Range<Int>) -> UInt32 {
        var best = order[range.lowerBound]
        var bestDistance = -Float.infinity
        for position in range {
            let d = between(anchor, order[position])
            if d > bestDistance {
                bestDistance = d
                best = order[position]
            }
        }
        return best
    }

    private func row(_ number: UInt32) -> UnsafeRawPointer { rows + Int(number) * stride }

    /// Orders rows by how much nearer they are to `start` than to `end`.
    private mutating func sort(_ range: Range<Int>, from start: UnsafeRawPointer, to end: UnsafeRawPointer) {
        for position in range {
            let number = order[position]
            keys[Int(number)] =
                distance.pair(row(number), start, dimension: dimension)
                - distance.pair(row(number), end, dimension: dimension)
        }
        order[range].sort { a, b in
            let (x, y) = (keys[Int(a)], keys[Int(b)])
            return x == y ? a < b : x < y
        }
    }

    /// The mean of some rows, as a row.
    private func mean(of range: Range<Int>) -> VectorMatrix {
        var sums = [Float](repeating: 0, count: dimension)
        var line = sums
        for position in range {
            VectorMatrix.toFloat(row(order[position]), distance.elementType, count: dimension, into: &line)
            for index in 0..<dimension { sums[index] += line[index] }
        }
        for index in 0..<dimension { sums[index] /= Float(range.count) }
        let mean = VectorMatrix(count: 1, dimension: dimension, elementType: distance.elementType)
        VectorMatrix.fromFloat(sums, count: dimension, distance.elementType, into: mean.row(0))
        return mean
    }

    private mutating func cut(_ range: Range<Int>, from anchor: UInt32) {
        guard range.count > grain else { return }
        let far = farthest(from: anchor, in: range)
        let near = farthest(from: far, in: range)
        sort(range, from: row(near), to: row(far))
        let grains = (range.count + grain - 1) / grain
        let middle = range.lowerBound + (grains + 1) / 2 * grain
        if range.count <= Self.refinedMaximum && middle < range.upperBound {
            for _ in 0..<Self.refinements {
                let means = VectorMatrix.joined([
                    mean(of: range.lowerBound..<middle), mean(of: middle..<range.upperBound),
                ])
                if let means { sort(range, from: means.row(0), to: means.row(1)) }
            }
        }
        // Whichever end is nearer to where the walk comes from goes first.
        if between(anchor, far) < between(anchor, near) { order[range].reverse() }
        // Every row comes through one piece of such a size.
        if range.count > 2048 && range.count <= 4096 { progress?(range.lowerBound, order.count) }
        guard middle < range.upperBound else { return }
        cut(range.lowerBound..<middle, from: anchor)
        cut(middle..<range.upperBound, from: order[middle - 1])
    }
}
