// The order of codewords: codes name them by a byte, and any order is as good, so that the upper four bits can be those of
// a group of sixteen near ones. A scan of the upper bits alone then has a coarse code of every vector for nothing.

import Vectors

extension ProductQuantiser {
    /// Codewords that share their upper four bits.
    static let groupSize = 16

    /// The same codewords, those of near numbers near each other: in each sub-space sixteen groups of sixteen with small
    /// squared distances to the mean of their group.
    public func grouped() -> ProductQuantiser {
        let ordered = VectorMatrix(count: words.count, dimension: Self.wordCount, elementType: .f16)
        for space in 0..<codeByteCount {
            let order = CodewordGroups(words(of: space)).order
            for component in components(of: space) {
                let (from, to) = (
                    words.row(component).assumingMemoryBound(to: UInt16.self),
                    ordered.row(component).assumingMemoryBound(to: UInt16.self)
                )
                for (place, word) in order.enumerated() { to[place] = from[word] }
            }
        }
        return ProductQuantiser(
            family: family, transform: transform, encodingTransform: encodingTransform, starts: starts,
            words: ordered)
    }
}

/// The codewords of a sub-space in sixteen groups.
package struct CodewordGroups {
    /// Codewords, those of the first group first.
    package private(set) var order: [Int]
    private let words: VectorMatrix
    private var sums: [[Double]] = []

    /// Exchanges between groups stop when a pass over all pairs finds none, after so many at the latest.
    private static let passes = 12

    package init(_ words: VectorMatrix) {
        self.words = words
        order = Array(0..<words.count)
        split(0..<words.count)
        exchange()
    }

    /// Halves a stretch of the order along the direction in which it is widest, until it is one group.
    private mutating func split(_ range: Range<Int>) {
        guard range.count > ProductQuantiser.groupSize else { return }
        let direction = widest(range)
        let keys = order[range].map { word in
            (0..<words.dimension).reduce(0.0) { $0 + direction[$1] * Double(words.floatRow(word)[$1]) }
        }
        let sorted = keys.indices.sorted { (keys[$0], $0) < (keys[$1], $1) }
        let old = Array(order[range])
        for (place, from) in sorted.enumerated() { order[range.lowerBound + place] = old[from] }
        let middle = range.lowerBound + range.count / 2
        split(range.lowerBound..<middle)
        split(middle..<range.upperBound)
    }

    /// The first principal direction of some codewords, by power iteration.
    private func widest(_ range: Range<Int>) -> [Double] {
        let dimension = words.dimension
        var mean = [Double](repeating: 0, count: dimension)
        for word in order[range] {
            for column in 0..<dimension { mean[column] += Double(words.floatRow(word)[column]) }
        }
        for column in 0..<dimension { mean[column] /= Double(range.count) }
        var direction = (0..<dimension).map { 1 + 0.01 * Double($0) }
        for _ in 0..<24 {
            var next = [Double](repeating: 0, count: dimension)
            for word in order[range] {
                let row = words.floatRow(word)
                let product = (0..<dimension).reduce(0.0) {
                    $0 + direction[$1] * (Double(row[$1]) - mean[$1])
                }
                for column in 0..<dimension { next[column] += product * (Double(row[column]) - mean[column]) }
            }
            let length = next.reduce(0) { $0 + $1 * $1 }.squareRoot()
            // Codewords that are all the same have no direction.
            guard length > 0 else { break }
            direction = next.map { $0 / length }
        }
        return direction
    }

    /// Exchanges codewords of two groups while that brings them nearer to the means.
    private mutating func exchange() {
        let (size, dimension) = (ProductQuantiser.groupSize, words.dimension)
        sums = stride(from: 0, to: order.count, by: size).map { first in
            (0..<dimension).map { column in
                order[first..<first + size].reduce(0.0) { $0 + Double(words.floatRow($1)[column]) }
            }
        }
        var difference = [Double](repeating: 0, count: dimension)
        for _ in 0..<Self.passes {
            var changed = false
            for first in order.indices {
                for second in order.indices where second / size > first / size {
                    let (a, b) = (words.floatRow(order[first]), words.floatRow(order[second]))
                    // With d = b - a the squared lengths of the two sums grow by 2 d (A - B) + 2 d d, and what grows
                    // there, a sixteenth of it, is taken from the distances to the means.
                    var gain = 0.0
                    for column in 0..<dimension {
                        difference[column] = Double(b[column]) - Double(a[column])
                        gain +=
                            difference[column]
                            * (sums[first / size][column] - sums[second / size][column]
                                + difference[column])
                    }
                    guard gain > 1e-9 else { continue }
                    for column in 0..<dimension {
                        sums[first / size][column] += difference[column]
                        sums[second / size][column] -= difference[column]
                    }
                    order.swapAt(first, second)
                    changed = true
                }
            }
            if !changed { break }
        }
    }
}
