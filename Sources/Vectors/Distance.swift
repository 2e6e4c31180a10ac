// The Swift face of the kernels: a metric and an element type, resolved once, called often.

import CKernels

/// The distance functions of one metric and element type. Smaller is nearer; l2 is squared.
public struct Distance: Sendable {
    /// (query, rows, stride, count, dimension, out)
    public typealias Rows =
        @convention(c) (
            UnsafeRawPointer?, UnsafeRawPointer?, Int, Int, Int, UnsafeMutablePointer<Float>?
        ) -> Void
    /// (query, query stride, queries, rows, stride, count, dimension, out, out stride)
    public typealias Block =
        @convention(c) (
            UnsafeRawPointer?, Int, Int, UnsafeRawPointer?, Int, Int, Int, UnsafeMutablePointer<Float>?, Int
        ) -> Void

    public let metric: Metric
    public let elementType: ElementType
    /// One query against rows that lie apart by a stride; for loops that want nothing in between.
    public let rowsFunction: Rows
    /// Queries against rows; the same bits as `rowsFunction`.
    public let blockFunction: Block
    /// The block that keeps what is within limits; resolved with the others, so that all are of one tier.
    private let withinFunction: sonde_within_function

    public init(metric: Metric, elementType: ElementType) {
        self.metric = metric
        self.elementType = elementType
        let cMetric = sonde_metric(rawValue: UInt32(metric.rawValue))
        let cElement = sonde_element(rawValue: UInt32(elementType.rawValue))
        rowsFunction = sonde_rows(cMetric, cElement)!
        blockFunction = sonde_block(cMetric, cElement)!
        withinFunction = sonde_within()!
    }

    /// Distances of `query` to `count` rows without gaps.
    public func rows(
        _ query: UnsafeRawPointer, _ rows: UnsafeRawPointer, count: Int, dimension: Int,
        into out: UnsafeMutablePointer<Float>
    ) {
        rowsFunction(query, rows, dimension * elementType.byteCount, count, dimension, out)
    }

    /// Distances of `queries` rows without gaps to `count` rows without gaps; out[query * outStride + row].
    public func block(
        _ query: UnsafeRawPointer, queries: Int, _ rows: UnsafeRawPointer, count: Int, dimension: Int,
        into out: UnsafeMutablePointer<Float>, outStride: Int
    ) {
        let stride = dimension * elementType.byteCount
        blockFunction(query, stride, queries, rows, stride, count, dimension, out, outStride)
    }

    /// The same block, of which only distances that are at most the query's limit are kept: `found[query]` of
    /// them close up at the start of its row, in the order of their rows, whose `positions` lie beside.
    public func blockWithin(
        _ limits: UnsafePointer<Float>, _ query: UnsafeRawPointer, queries: Int, _ rows: UnsafeRawPointer,
        count: Int, dimension: Int, into out: UnsafeMutablePointer<Float>,
        positions: UnsafeMutablePointer<UInt32>, found: UnsafeMutablePointer<UInt32>, outStride: Int
    ) {
        let stride = dimension * elementType.byteCount
        withinFunction(
            sonde_metric(rawValue: UInt32(metric.rawValue)),
            sonde_element(rawValue: UInt32(elementType.rawValue)), query, stride, queries, rows, stride,
            count, dimension, out, outStride, limits, positions, found)
    }

    /// The distance of two vectors.
    public func pair(_ a: UnsafeRawPointer, _ b: UnsafeRawPointer, dimension: Int) -> Float {
        var result: Float = 0
        rowsFunction(a, b, dimension * elementType.byteCount, 1, dimension, &result)
        return result
    }

    /// Whole numbers up to this size are what single precision says of them; greater ones may be rounded.
    public static let wholeMaximum: Float = 0x1p24

    /// Whether distances of vectors of this dimension may be whole numbers that single precision rounds.
    public func rounds(dimension: Int) -> Bool {
        guard !elementType.isFloatingPoint, metric != .cosine else { return false }
        let most = metric == .ip && elementType == .i8 ? 128 * 128 : 255 * 255
        return dimension * most > Int(Self.wholeMaximum)
    }

    /// What rounding took from a distance of integers: the whole distance less `distance`, 0 where that is
    /// small enough to be exact. With it, distances that round to one number keep their order.
    @inline(__always)
    public func residual(
        of distance: Float, _ a: UnsafeRawPointer, _ b: UnsafeRawPointer, dimension: Int
    ) -> Int32 {
        guard abs(distance) >= Self.wholeMaximum, !elementType.isFloatingPoint, metric != .cosine else {
            return 0
        }
        let whole = sonde_bytes_exact(
            sonde_metric(rawValue: UInt32(metric.rawValue)),
            sonde_element(rawValue: UInt32(elementType.rawValue)), a, b, dimension)
        return Int32(truncatingIfNeeded: whole - Int64(distance))
    }

    /// A limit that at least `wanted` of the values do not exceed, and seldom many more; infinity where there
    /// are too few to tell.
    public static func limitOfLeast(_ wanted: Int, of values: UnsafePointer<Float>, count: Int) -> Float {
        sonde_limit_of_least(values, count, wanted)
    }

    /// Writes the positions of the values that are at most `limit`, in order; returns how many.
    public static func selectAtMost(
        _ limit: Float, of values: UnsafePointer<Float>, count: Int,
        into positions: UnsafeMutablePointer<UInt32>
    ) -> Int {
        sonde_select_at_most(values, count, limit, positions)
    }

    /// Asks for memory that will be read soon.
    public static func prefetch(_ from: UnsafeRawPointer, byteCount: Int) { sonde_prefetch(from, byteCount) }
}
