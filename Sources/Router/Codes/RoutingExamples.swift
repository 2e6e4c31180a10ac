// What routing codes learn from: queries, and the records that lie near them, of which a search by codes must choose the
// nearest.

import CKernels
import Vectors

/// Queries with the records that are offered to them.
public struct RoutingExamples: Sendable {
    /// f32, in routing space.
    public let queries: VectorMatrix
    /// `recordsEach` rows of `base` a query, truly nearest first.
    public let records: [UInt32]
    public let recordsEach: Int
    /// How many of them are to be chosen: a query's true neighbours.
    public let neighbours: Int
    /// The vectors that `records` numbers, of any element type, and what their codes are residuals of.
    public let base: VectorMatrix
    public let homes: [UInt32]
    public let centroids: VectorMatrix

    /// - Parameters:
    ///   - records: `recordsEach` a query, truly nearest first, some more than a search by codes would read: a few
    ///     hundred. A query that is itself a vector of the base is left out by whoever looks them up.
    ///   - base: all that `records` names, which may be a part of the vectors gathered for this.
    ///   - homes: by row of `base`, the row of `centroids` (f32) that its code is a residual of.
    public init(
        queries: VectorMatrix, records: [UInt32], recordsEach: Int, neighbours: Int, base: VectorMatrix,
        homes: [UInt32], centroids: VectorMatrix
    ) {
        precondition(queries.elementType == .f32 && centroids.elementType == .f32)
        precondition(records.count == queries.count * recordsEach && neighbours < recordsEach)
        precondition(homes.count == base.count)
        self.queries = queries
        self.records = records
        self.recordsEach = recordsEach
        self.neighbours = neighbours
        self.base = base
        self.homes = homes
        self.centroids = centroids
    }
}

extension RoutingExamples {
    /// Second moments of the differences between queries and their nearest records.
    func differences(threads: Int) -> SymmetricEigen {
        let each = min(recordsEach, 4 * neighbours)
        let asked = min(queries.count, 65_536 / each)
        let rows = VectorMatrix(count: asked * each, dimension: queries.dimension, elementType: .f32)
        for query in 0..<asked {
            for place in 0..<each {
                let to = rows.floatRow(query * each + place)
                VectorMatrix.toFloat(
                    base.row(Int(records[query * recordsEach + place])), base.elementType,
                    count: queries.dimension, into: to)
                sonde_add_scaled(to, queries.floatRow(query), -1, queries.dimension)
            }
        }
        return OptimisedCodes.covariance(rows, threads: threads)
    }
}
