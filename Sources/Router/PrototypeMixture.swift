// Prototypes: resident points that stand for parts of partitions. The logit of partition p for query q is
// log sum_j exp(w_j - beta_j |q - mu_j|^2) over its prototypes j (methods.md, section 10). It is a network of
// radial basis functions whose centres start as the sub-clusters of the partition.

import CKernels
import Glibc
import Vectors

/// The prototypes of all partitions, as they are searched: immutable, compact.
public final class PrototypeMixture: Sendable {
    /// Prototypes of partition p: `starts[p] ..< starts[p + 1]`.
    public let starts: [UInt32]
    public let centers: VectorMatrix
    public let weights: [Float]
    public let betas: [Float]
    /// Mean of the betas.
    public let meanBeta: Float
    let distance: Distance

    public init(starts: [UInt32], centers: VectorMatrix, weights: [Float], betas: [Float]) {
        precondition(starts.last.map { Int($0) } == centers.count && weights.count == centers.count)
        precondition(betas.count == centers.count)
        self.starts = starts
        self.centers = centers
        self.weights = weights
        self.betas = betas
        meanBeta = betas.reduce(0, +) / Float(max(betas.count, 1))
        distance = Distance(metric: .l2, elementType: centers.elementType)
    }

    public var partitionCount: Int { starts.count - 1 }
    public var count: Int { centers.count }
    public var largestPartition: Int {
        (0..<partitionCount).reduce(0) { max($0, Int(starts[$1 + 1] - starts[$1])) }
    }
    public var residentByteCount: Int { centers.byteCount + count * 8 + starts.count * 4 }

    /// The logit of one partition; `distances` and `shares` have room for its prototypes.
    @inline(__always)
    func logit(
        partition: Int, query: UnsafeRawPointer, distances: UnsafeMutablePointer<Float>,
        shares: UnsafeMutablePointer<Float>
    ) -> Float {
        let first = Int(starts[partition])
        let count = Int(starts[partition + 1]) - first
        guard count > 0 else { return -.infinity }
        distance.rows(query, centers.row(first), count: count, dimension: centers.dimension, into: distances)
        return weights.withUnsafeBufferPointer { weights in
            betas.withUnsafeBufferPointer { betas in
                sonde_mixture(weights.baseAddress! + first, betas.baseAddress! + first, distances, count, shares)
            }
        }
    }
}

/// Prototypes under training: the same in floats, with gradients.
final class TrainablePrototypes {
    let starts: [UInt32]
    let dimension: Int
    let centers: Tensor
    let weights: Tensor
    let logBetas: Tensor

    /// Starts from sub-clusters with equal weights and one calibrated beta.
    init(starts: [UInt32], centers initial: VectorMatrix, weights initialWeights: [Float], beta: Float) {
        let floats = initial.converted(to: .f32)
        self.starts = starts
        dimension = initial.dimension
        // Rates of methods.md: half a SIFT byte at beta 1e-4, so 0.005 of the length 1 / sqrt(beta).
        centers = Tensor(name: "centers", count: initial.count * dimension, rate: 0.005 / beta.squareRoot())
        weights = Tensor(name: "weights", count: initial.count, rate: 0.02)
        logBetas = Tensor(name: "log betas", count: initial.count, rate: 0.01)
        centers.values.update(from: floats.floats, count: centers.count)
        for index in 0..<initial.count {
            weights.values[index] = initialWeights[index]
            logBetas.values[index] = logf(beta)
        }
    }

    var count: Int { weights.count }
    var tensors: [Tensor] { [centers, weights, logBetas] }

    /// What a search uses, centers rounded to `elementType`.
    func frozen(as elementType: ElementType) -> PrototypeMixture {
        let floats = VectorMatrix(count: count, dimension: dimension, elementType: .f32)
        floats.floats.update(from: centers.values, count: centers.count)
        return PrototypeMixture(
            starts: starts, centers: floats.converted(to: elementType),
            weights: (0..<count).map { weights.values[$0] }, betas: (0..<count).map { expf(logBetas.values[$0]) })
    }
}
