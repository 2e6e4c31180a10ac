// SPANN's closure assignment (Chen et al. 2021, section 3.2): a row goes into several near partitions, but
// not into two that lie the same way.

import Vectors

/// Copies by the rule of relative neighbourhood.
public struct Closure: Sendable {
    /// Copies of a row at most, its home included.
    public var maximum = 8
    /// A centroid c joins where `rngFactor * d(c, a) >= d(x, c)` for every accepted a (squared distances).
    public var rngFactor: Float = 1
    /// A centroid joins only where `d(x, c) <= (1 + eps1) * d(x, home)` (squared distances); nil: no bound,
    /// as SPANN's own program has it.
    public var eps1: Float?

    public init(maximum: Int = 8, rngFactor: Float = 1, eps1: Float? = nil) {
        self.maximum = max(1, maximum)
        self.rngFactor = rngFactor
        self.eps1 = eps1
    }

    /// The partitions of each row, chosen from its nearest in their order.
    public func replicas(_ nearest: NearestLists, centroids: VectorMatrix, threads: Int) -> PartitionLists {
        let distance = Distance(metric: .l2, elementType: centroids.elementType)
        return PartitionLists.choose(nearest, maximum: maximum, threads: threads) { row, chosen in
            replicas(
                nearest.partitions, nearest.distances, row * nearest.k..<(row + 1) * nearest.k,
                centroids: centroids, distance: distance, into: chosen)
        }
    }

    private func replicas(
        _ partitions: [UInt32], _ distances: [Float], _ range: Range<Int>, centroids: VectorMatrix,
        distance: Distance, into chosen: UnsafeMutablePointer<Int32>
    ) -> Int {
        var count = 0
        let first = range.lowerBound
        let limit = eps1.map { (1 + $0) * distances[first] } ?? .infinity
        candidate: for position in range {
            let partition = partitions[position]
            if partition == NearestLists.none || count == maximum { break }
            if count > 0, distances[position] > limit { break }
            let centroid = centroids.row(Int(partition))
            for index in 0..<count {
                let accepted = centroids.row(Int(partitions[first + Int(chosen[index])]))
                let between = distance.pair(centroid, accepted, dimension: centroids.dimension)
                if rngFactor * between < distances[position] { continue candidate }
            }
            chosen[count] = Int32(position - first)
            count += 1
        }
        return count
    }
}
