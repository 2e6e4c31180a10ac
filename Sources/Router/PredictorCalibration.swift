// From a form's start to a searchable predictor: the one beta of the untrained forms, the temperature of the
// trained ones, and freezing.

import Glibc
import Vectors

/// The sub-clusters that prototypes start from, of all partitions back to back.
public struct SubClusters: Sendable {
    /// Sub-clusters of partition p: `starts[p] ..< starts[p + 1]`.
    public let starts: [UInt32]
    public let centers: VectorMatrix
    /// Records and mean squared radius of each.
    public let counts: [Float]
    public let spreads: [Float]

    public init(starts: [UInt32], centers: VectorMatrix, counts: [Float], spreads: [Float]) {
        self.starts = starts
        self.centers = centers
        self.counts = counts
        self.spreads = spreads
    }
}

extension TrainablePredictor {
    /// A predictor before training.
    ///
    /// - Parameters:
    ///   - beta: a first guess, usually the centroid router's.
    ///   - subClusters: wanted by the prototype form.
    ///   - inputs: rows whose mean and spread standardise the network's inputs.
    public convenience init(
        form: PredictorForm, centroids: CentroidIndex, candidateCount: Int, beta: Float,
        subClusters: SubClusters?, inputs: VectorMatrix, seed: UInt64
    ) {
        let prototypes = form.base == .prototypes ? subClusters.map {
            TrainablePrototypes(
                starts: $0.starts, centers: $0.centers, weights: [Float](repeating: 0, count: $0.centers.count),
                beta: beta)
        } : nil
        let network = form.hidden.map { hidden in
            let (mean, scale) = Self.standardisation(of: inputs)
            return Network(
                dimension: centroids.dimension, hidden: hidden, partitions: centroids.partitionCount, mean: mean,
                scale: scale, seed: seed)
        }
        self.init(
            form: form, centroids: centroids, candidateCount: candidateCount, beta: beta, prototypes: prototypes,
            network: network)
        if let subClusters { setBeta(beta, subClusters: subClusters) }
    }

    private static func standardisation(of rows: VectorMatrix) -> (mean: [Float], scale: Float) {
        let sample = rows.gather(0..<min(rows.count, 10_000)).converted(to: .f32)
        let dimension = sample.dimension
        var mean = [Float](repeating: 0, count: dimension)
        for row in 0..<sample.count {
            for column in 0..<dimension { mean[column] += sample.floatRow(row)[column] / Float(sample.count) }
        }
        var variance = 0.0
        for row in 0..<sample.count {
            for column in 0..<dimension {
                let off = Double(sample.floatRow(row)[column] - mean[column])
                variance += off * off
            }
        }
        variance /= Double(max(sample.count * dimension, 1))
        return (mean, variance > 0 ? Float(1 / variance.squareRoot()) : 1)
    }

    /// One beta for everything; prototypes weigh what they hold: log n_j - beta s_j^2 / 2, n_j the records
    /// and s_j^2 the mean squared radius of the sub-cluster (our own measurement: -2 to -4 % vectors).
    func setBeta(_ beta: Float, subClusters: SubClusters?) {
        logBeta.values[0] = logf(beta)
        guard let prototypes, let subClusters else { return }
        for index in 0..<prototypes.count {
            prototypes.logBetas.values[index] = logf(beta)
            prototypes.weights.values[index] =
                logf(max(subClusters.counts[index], 1)) - 0.5 * beta * subClusters.spreads[index]
        }
    }

    /// The predictor as it is searched.
    ///
    /// - Parameter elementType: how prototypes are kept.
    public func frozen(elementType: ElementType, candidateCount: Int) -> Predictor {
        Predictor(
            centroids: centroids, base: form.base, beta: expf(logBeta.values[0]),
            prototypes: prototypes?.frozen(as: elementType), network: network.map { NetworkInference($0) },
            inverseTemperature: logitScale,
            candidateCount: form.base == .none ? centroids.partitionCount : candidateCount)
    }
}

extension PredictorTrainer {
    /// Held-out pairs that a calibration looks at; its one number needs no more.
    private static let calibrationPairs = 4096

    /// Fits the one beta of an untrained form by held-out likelihood, and starts the model from it.
    public func calibrateBeta(subClusters: SubClusters?) {
        let start = Double(model.logBeta.values[0])
        let best = GoldenSection.minimise(from: start - 3, to: start + 3, steps: 14) { logBeta in
            model.setBeta(Float(exp(logBeta)), subClusters: subClusters)
            return heldOutLoss(limit: Self.calibrationPairs)
        }
        model.setBeta(Float(exp(best)), subClusters: subClusters)
    }

    /// Fits the factor on logits (Guo et al. 2017) by held-out likelihood.
    public func calibrateTemperature() {
        let best = GoldenSection.minimise(from: -1, to: 1, steps: 12) { logScale in
            model.logitScale = Float(exp(logScale))
            return heldOutLoss(limit: Self.calibrationPairs)
        }
        model.logitScale = Float(exp(best))
    }
}
