// Prototypes into codes, some partitions at a time: what stands in memory is the codes and eight bytes beside each, never
// all prototypes as floats. Codes do not hang on a beta; the weights of a search are folded for one at the end.

import Glibc
import Vectors

/// Codes prototypes that come by partition. Each partition is coded once.
public struct PrototypeCoder: Sendable {
    /// Prototypes of partition p: `starts[p] ..< starts[p + 1]`.
    public let starts: [UInt32]
    private let coder: ResidualCoder
    private var codes: [UInt8]
    /// w_j where beta is nothing, and what beta multiplies in the coded weight.
    private var weights: [Float]
    private var constants: [Float]
    /// Sums by partition of squared distances of prototypes to what their codes stand for, and to the centroid.
    private var errors: [Double]
    private var spreads: [Double]

    /// - Parameters:
    ///   - centroids: by partition, as the candidates' distances are taken to them.
    ///   - residuals: differences of prototypes to their centroids (f32), which codewords are trained on.
    public init(
        starts: [UInt32], centroids: VectorMatrix, residuals: VectorMatrix, codeByteCount: Int, seed: UInt64,
        threads: Int
    ) {
        let count = Int(starts[starts.count - 1])
        precondition(starts.count == centroids.count + 1 && count > 0)
        self.starts = starts
        coder = ResidualCoder(
            centroids: centroids,
            quantiser: .train(residuals, codeByteCount: codeByteCount, seed: seed, threads: threads))
        codes = [UInt8](repeating: 0, count: count * codeByteCount)
        weights = [Float](repeating: 0, count: count)
        constants = weights
        errors = [Double](repeating: 0, count: centroids.count)
        spreads = errors
    }

    /// Codes the prototypes of some partitions. `centers` gives a partition's prototypes, `weight` the logarithm of what
    /// prototype j stands for and half its mean squared radius, which beta takes away.
    public mutating func encode(
        _ partitions: [Int], threads: Int, centers: @Sendable (Int) -> VectorMatrix,
        weight: @Sendable (_ partition: Int, _ prototype: Int) -> (log: Float, halfSpread: Float)
    ) {
        let (starts, coder) = (starts, coder)
        let size = coder.quantiser.codeByteCount
        codes.withUnsafeMutableBufferPointer { codes in
            weights.withUnsafeMutableBufferPointer { weights in
                constants.withUnsafeMutableBufferPointer { constants in
                    errors.withUnsafeMutableBufferPointer { errors in
                        spreads.withUnsafeMutableBufferPointer { spreads in
                            // Each partition writes its own stretch.
                            nonisolated(unsafe) let (codes, weights) = (codes, weights)
                            nonisolated(unsafe) let (constants, errors, spreads) = (
                                constants, errors, spreads
                            )
                            Workers.forEach(count: partitions.count, threads: threads) { task in
                                let partition = partitions[task]
                                let first = Int(starts[partition])
                                let count = Int(starts[partition + 1]) - first
                                guard count > 0 else { return }
                                let coded = coder.encode(centers(partition), of: partition)
                                precondition(coded.constants.count == count)
                                for index in 0..<count {
                                    for space in 0..<size {
                                        codes[first * size + space * count + index] =
                                            coded.codes[index * size + space]
                                    }
                                    let (log, halfSpread) = weight(partition, index)
                                    weights[first + index] = log
                                    constants[first + index] =
                                        Float(coded.constants[index] + coded.errors[index]) + halfSpread
                                }
                                errors[partition] = coded.errors.reduce(0, +)
                                spreads[partition] = coded.lengths.reduce(0, +)
                            }
                        }
                    }
                }
            }
        }
    }

    /// Mean squared distance of prototypes to what their codes stand for, and to their centroids.
    var error: Double { errors.reduce(0, +) / Double(weights.count) }
    var spread: Double { spreads.reduce(0, +) / Double(weights.count) }

    /// The prototypes as they are searched with one beta.
    func mixture(beta: Float) -> PrototypeMixture {
        var folded = [UInt16](repeating: 0, count: weights.count)
        // In pieces: floats of all weights would be twice what is kept of them.
        let piece = 1 << 16
        folded.withUnsafeMutableBufferPointer { folded in
            for first in stride(from: 0, to: weights.count, by: piece) {
                let part = first..<min(first + piece, weights.count)
                let values = part.map { weights[$0] - beta * constants[$0] }
                VectorMatrix.fromFloat(values, count: values.count, .f16, into: folded.baseAddress! + first)
            }
        }
        return PrototypeMixture(
            starts: starts,
            kept: .codes(
                PrototypeCodes(
                    quantiser: coder.quantiser, mean: coder.mean, beta: beta, codes: codes, weights: folded)))
    }

    /// A router with these codes, uncalibrated but for its one beta.
    public func predictor(beta: Float, centroids: CentroidIndex, candidateCount: Int) -> Predictor {
        Predictor(
            centroids: centroids, base: .prototypes, beta: beta, prototypes: mixture(beta: beta),
            network: nil,
            inverseTemperature: 1, candidateCount: candidateCount)
    }

    /// The router whose beta and then temperature make the held-out neighbours likeliest, and its loss in nats.
    ///
    /// - Parameters:
    ///   - pairs: at most 4,096 of those held out are looked at.
    ///   - targets: how many of each query's nearest neighbours are to be likely.
    public func calibrated(
        centroids: CentroidIndex, pairs: TrainingPairs, homes: Homes, candidateCount: Int, targets: Int,
        threads: Int
    ) -> (predictor: Predictor, loss: Double) {
        let held = HeldOut(pairs: pairs, homes: homes, limit: 4096, threads: threads, targets: targets)
        func made(_ logBeta: Double) -> Predictor {
            predictor(beta: Float(exp(logBeta)), centroids: centroids, candidateCount: candidateCount)
        }
        // Finer prototypes tell distances apart that centroids blur: beta is seldom below theirs.
        let start = log(Double(centroids.beta))
        let best = GoldenSection.minimise(from: start - 1, to: start + 3, steps: 13) { logBeta in
            held.loss(HeldOut.Logits(of: made(logBeta), held), logScale: 0)
        }
        let router = made(best)
        let tempered = router.tempered(router.inverseTemperature * held.temperature(of: router))
        return (tempered, held.loss(HeldOut.Logits(of: tempered, held), logScale: 0))
    }
}

extension PrototypeCoder {
    /// The same from prototypes that lie by partition in memory, with the weights they are searched by.
    init(
        starts: [UInt32], centers: UnsafePointer<Float>, weights: [Float], centroids: VectorMatrix,
        codeByteCount: Int, seed: UInt64, threads: Int
    ) {
        let dimension = centroids.dimension
        let floats = centroids.converted(to: .f32)
        var random = SeededRandom(seed: seed, stream: 20)
        let sample = random.sample(65_536, below: Int(starts[starts.count - 1]))
        let residuals = VectorMatrix(count: sample.count, dimension: dimension, elementType: .f32)
        var partition = 0
        for (row, prototype) in sample.enumerated() {
            while starts[partition + 1] <= prototype { partition += 1 }
            let center = centers + Int(prototype) * dimension
            for column in 0..<dimension {
                residuals.floatRow(row)[column] = center[column] - floats.floatRow(partition)[column]
            }
        }
        self.init(
            starts: starts, centroids: centroids, residuals: residuals, codeByteCount: codeByteCount,
            seed: seed,
            threads: threads)
        nonisolated(unsafe) let centers = centers
        encode(
            Array(0..<centroids.count), threads: threads,
            centers: { partition in
                let first = Int(starts[partition])
                let rows = VectorMatrix(
                    count: Int(starts[partition + 1]) - first, dimension: dimension, elementType: .f32)
                rows.floats.update(from: centers + first * dimension, count: rows.count * dimension)
                return rows
            }, weight: { (weights[Int(starts[$0]) + $1], 0) })
    }
}
