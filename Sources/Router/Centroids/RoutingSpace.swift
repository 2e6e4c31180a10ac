// Where partitions live. Positions under l2, directions under cosine and, where vectors are of one length, under
// inner product: on unit vectors l2 orders as the cosine does. Under inner product lengths count: vectors of different
// lengths are divided by the longest and take one more dimension, sqrt(1 - |x|^2), which puts them all on the unit
// sphere; queries become unit vectors that are zero there, and |q - x|^2 = 2 - 2 <q, x> / longest orders as the inner
// product does (Bachrach et al. 2014). docs/results/lengths.md compares it with directions alone and with raw positions.

import Glibc
import Vectors

/// The space in which a base is partitioned and queries are routed; its distance is always squared l2.
public struct RoutingSpace: Sendable, Equatable {
    /// The metric of the base.
    public let metric: Metric
    /// The element type of the base.
    public let baseType: ElementType
    /// Length of the longest vector under inner product, where lengths differ; nil: they do not count.
    public let longest: Float?

    public init(metric: Metric, baseType: ElementType, longest: Float? = nil) {
        self.metric = metric
        self.baseType = baseType
        self.longest = metric == .ip ? longest : nil
    }

    /// Lengths that differ by less than this share are as good as one: rounded unit vectors.
    private static let likeShare = 0.01

    /// The space of a base of which `rows` are a sample. A vector that is longer than all of them counts as if it
    /// were as long as the longest.
    public init(metric: Metric, sampling rows: VectorMatrix) {
        var longest: Float?
        if metric == .ip && rows.count > 0 {
            var (least, most) = (Double.infinity, 0.0)
            let line = VectorMatrix(count: 1, dimension: rows.dimension, elementType: .f32)
            for row in 0..<rows.count {
                VectorMatrix.toFloat(
                    rows.row(row), rows.elementType, count: rows.dimension, into: line.floatRow(0))
                let length = Self.squaredLength(line.floatRow(0), dimension: rows.dimension).squareRoot()
                (least, most) = (min(least, length), max(most, length))
            }
            if least < most * (1 - Self.likeShare) && most.isFinite { longest = Float(most) }
        }
        self.init(metric: metric, baseType: rows.elementType, longest: longest)
    }

    /// Dimensions of this space for a base of `dimension`.
    public func dimension(of dimension: Int) -> Int { longest == nil ? dimension : dimension + 1 }

    /// The element type of rows in this space.
    public var elementType: ElementType { metric.isSpherical ? .f32 : baseType }

    /// The distance of this space.
    public var distance: Distance { Distance(metric: .l2, elementType: elementType) }

    /// Rows of the base as rows of this space: the same matrix under l2, unit vectors otherwise (a vector
    /// without length stays zero where lengths do not count).
    public func rows(from matrix: VectorMatrix) -> VectorMatrix { converted(matrix, areQueries: false) }

    /// Queries as rows of this space: as rows of the base where lengths do not count, else unit vectors in all
    /// dimensions but the last.
    public func queries(from matrix: VectorMatrix) -> VectorMatrix { converted(matrix, areQueries: true) }

    private func converted(_ matrix: VectorMatrix, areQueries: Bool) -> VectorMatrix {
        precondition(matrix.elementType == baseType)
        if !metric.isSpherical { return matrix }
        if longest != nil {
            let result = VectorMatrix(
                count: matrix.count, dimension: matrix.dimension + 1, elementType: .f32)
            for row in 0..<matrix.count {
                let target = result.floatRow(row)
                VectorMatrix.toFloat(matrix.row(row), baseType, count: matrix.dimension, into: target)
                if areQueries {
                    Self.normalise(target, dimension: matrix.dimension)
                    target[matrix.dimension] = 0
                } else {
                    addLength(to: target, dimension: matrix.dimension)
                }
            }
            return result
        }
        let result = matrix.converted(to: .f32)
        let unit = result === matrix ? matrix.gather(0..<matrix.count) : result
        Self.normalise(unit)
        return unit
    }

    /// One row of the base, of `dimension` numbers, into memory of `dimension(of:)` numbers of this space.
    public func convert(
        _ row: UnsafeRawPointer, dimension: Int, into target: UnsafeMutableRawPointer
    ) {
        if !metric.isSpherical {
            target.copyMemory(from: row, byteCount: dimension * baseType.byteCount)
            return
        }
        let floats = target.assumingMemoryBound(to: Float.self)
        VectorMatrix.toFloat(row, baseType, count: dimension, into: floats)
        if longest == nil {
            Self.normalise(floats, dimension: dimension)
        } else {
            addLength(to: floats, dimension: dimension)
        }
    }

    /// Divides a row by the longest and writes behind it what is missing to the unit sphere. What is longer than that
    /// keeps its direction: its partition is the one that queries of that direction look at first.
    private func addLength(to row: UnsafeMutablePointer<Float>, dimension: Int) {
        let share =
            Self.squaredLength(row, dimension: dimension) / (Double(longest ?? 1) * Double(longest ?? 1))
        guard share < 1 else {
            Self.normalise(row, dimension: dimension)
            row[dimension] = 0
            return
        }
        let scale = 1 / Double(longest ?? 1)
        for index in 0..<dimension { row[index] = Float(Double(row[index]) * scale) }
        row[dimension] = Float((1 - share).squareRoot())
    }

    private static func squaredLength(_ row: UnsafePointer<Float>, dimension: Int) -> Double {
        var sum: Double = 0
        for index in 0..<dimension { sum += Double(row[index]) * Double(row[index]) }
        return sum
    }

    /// Gives every row of a matrix of `f32` unit length.
    public static func normalise(_ matrix: VectorMatrix) {
        for index in 0..<matrix.count { normalise(matrix.floatRow(index), dimension: matrix.dimension) }
    }

    static func normalise(_ row: UnsafeMutablePointer<Float>, dimension: Int) {
        let sum = squaredLength(row, dimension: dimension)
        guard sum > 0, sum.isFinite else { return }
        let scale = 1 / sum.squareRoot()
        for index in 0..<dimension { row[index] = Float(Double(row[index]) * scale) }
    }
}
