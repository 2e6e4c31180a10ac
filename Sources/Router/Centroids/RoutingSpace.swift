// Where partitions live. Positions under l2, directions under inner product and cosine: those are
// partitioned spherically, and on unit vectors l2 orders as the cosine does.

import Glibc
import Vectors

/// The space in which a base is partitioned and queries are routed; its distance is always squared l2.
public struct RoutingSpace: Sendable, Equatable {
    /// The metric of the base.
    public let metric: Metric
    /// The element type of the base.
    public let baseType: ElementType

    public init(metric: Metric, baseType: ElementType) {
        self.metric = metric
        self.baseType = baseType
    }

    /// The element type of rows in this space.
    public var elementType: ElementType { metric.isSpherical ? .f32 : baseType }

    /// The distance of this space.
    public var distance: Distance { Distance(metric: .l2, elementType: elementType) }

    /// Rows of the base, or queries, as rows of this space: the same matrix under l2, unit vectors
    /// otherwise (a vector without length stays zero).
    public func rows(from matrix: VectorMatrix) -> VectorMatrix {
        precondition(matrix.elementType == baseType)
        if !metric.isSpherical { return matrix }
        let result = matrix.converted(to: .f32)
        let unit = result === matrix ? matrix.gather(0..<matrix.count) : result
        Self.normalise(unit)
        return unit
    }

    /// One row into memory of `dimension` numbers of this space.
    public func convert(
        _ row: UnsafeRawPointer, dimension: Int, into target: UnsafeMutableRawPointer
    ) {
        if !metric.isSpherical {
            target.copyMemory(from: row, byteCount: dimension * baseType.byteCount)
            return
        }
        let floats = target.assumingMemoryBound(to: Float.self)
        VectorMatrix.toFloat(row, baseType, count: dimension, into: floats)
        Self.normalise(floats, dimension: dimension)
    }

    /// Gives every row of a matrix of `f32` unit length.
    public static func normalise(_ matrix: VectorMatrix) {
        for index in 0..<matrix.count { normalise(matrix.floatRow(index), dimension: matrix.dimension) }
    }

    static func normalise(_ row: UnsafeMutablePointer<Float>, dimension: Int) {
        var sum: Double = 0
        for index in 0..<dimension { sum += Double(row[index]) * Double(row[index]) }
        guard sum > 0, sum.isFinite else { return }
        let scale = 1 / sum.squareRoot()
        for index in 0..<dimension { row[index] = Float(Double(row[index]) * scale) }
    }
}
