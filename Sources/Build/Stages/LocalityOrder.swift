// In which order vectors are laid out, so that near ones lie near each other: the partitions along the
// file (reads of one plan then often join), and the records along a segment (near ones share pages).

import Index
import Learn
import Router
import Vectors

/// A walk over vectors that keeps near ones together: the set is cut in two between its far ends, again
/// and again, and each half is walked from the side where the walk comes from. Deterministic; n log n.
struct LocalityOrder {
    private let rows: UnsafeRawPointer
    private let stride: Int
    private let distance: Distance
    private let dimension: Int
    /// Pieces of this many rows are not cut further, and cuts fall on its multiples: records of a page.
    private let grain: Int
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

    private mutating func cut(_ range: Range<Int>, from anchor: UInt32) {
        guard range.count > grain else { return }
        let far = farthest(from: anchor, in: range)
        let near = farthest(from: far, in: range)
        for position in range {
            let row = order[position]
            keys[Int(row)] = between(row, near) - between(row, far)
        }
        order[range].sort { a, b in
            let (x, y) = (keys[Int(a)], keys[Int(b)])
            return x == y ? a < b : x < y
        }
        // Whichever end is nearer to where the walk comes from goes first.
        if between(anchor, far) < between(anchor, near) { order[range].reverse() }
        let grains = (range.count + grain - 1) / grain
        let middle = range.lowerBound + (grains + 1) / 2 * grain
        // Every row comes through one piece of such a size.
        if range.count > 2048 && range.count <= 4096 { progress?(range.lowerBound, order.count) }
        guard middle < range.upperBound else { return }
        cut(range.lowerBound..<middle, from: anchor)
        cut(middle..<range.upperBound, from: order[middle - 1])
    }
}
