// SOAR's spill (Sun et al. 2024): a second partition whose residual is as orthogonal as can be to the
// first's, so that a query for which the first fails is likely to find the second.

import Vectors

/// Two partitions a row: home, and the one of least |x - c|^2 + lambda <x - c, r / |r|>^2, r = x - home.
public struct Soar: Sendable {
    /// Weight of what the two residuals have in common.
    public var lambda: Float

    public init(lambda: Float = 1.5) { self.lambda = lambda }

    /// Home and spill of each row; the spill is chosen from the row's nearest partitions.
    public func spill(
        _ rows: VectorMatrix, _ nearest: NearestLists, centroids: VectorMatrix, threads: Int
    ) -> PartitionLists {
        precondition(rows.count == nearest.count && rows.dimension == centroids.dimension)
        let floats = centroids.converted(to: .f32)
        return PartitionLists.choose(nearest, maximum: 2, threads: threads) { row, chosen in
            let dimension = rows.dimension
            let first = row * nearest.k
            if nearest.partitions[first] == NearestLists.none { return 0 }
            chosen[0] = 0
            return withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * dimension) { memory in
                let x = memory.baseAddress!
                let residual = x + dimension
                VectorMatrix.toFloat(rows.row(row), rows.elementType, count: dimension, into: x)
                let home = floats.floatRow(Int(nearest.partitions[first]))
                var length: Float = 0
                for index in 0..<dimension {
                    residual[index] = x[index] - home[index]
                    length += residual[index] * residual[index]
                }
                var best: Float = .infinity
                for position in 1..<max(1, nearest.k) {
                    let partition = nearest.partitions[first + position]
                    if partition == NearestLists.none { break }
                    let distance = nearest.distances[first + position]
                    // Distances rise, and what is added is never negative.
                    if distance >= best { break }
                    let centroid = floats.floatRow(Int(partition))
                    var common: Float = 0
                    for index in 0..<dimension { common += (x[index] - centroid[index]) * residual[index] }
                    // A row that lies on its centroid has no direction to avoid.
                    let loss = distance + (length < 1e-7 ? 0 : lambda * common * common / length)
                    if loss < best {
                        best = loss
                        chosen[1] = Int32(position)
                    }
                }
                return best < .infinity ? 2 : 1
            }
        }
    }
}
