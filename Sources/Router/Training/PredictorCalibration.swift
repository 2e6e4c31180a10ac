// From a form's start to a searchable predictor: the one beta of the untrained forms, the temperature of the
// trained ones, and freezing.

import CKernels
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
    ///   - sharesBeta: prototypes learn one beta together, as codes keep it.
    ///   - inputs: rows whose mean and spread standardise the network's inputs.
    public convenience init(
        form: PredictorForm, centroids: CentroidIndex, candidateCount: Int, beta: Float,
        subClusters: SubClusters?, sharesBeta: Bool = false, inputs: VectorMatrix, seed: UInt64
    ) {
        let prototypes =
            form.base == .prototypes
            ? subClusters.map {
                TrainablePrototypes(
                    starts: $0.starts, centers: $0.centers,
                    weights: [Float](repeating: 0, count: $0.centers.count),
                    beta: beta, sharesBeta: sharesBeta)
            } : nil
        let network = form.hidden.map { hidden in
            let (mean, scale) = Network.standardisation(of: inputs)
            return Network(
                dimension: centroids.dimension, hidden: hidden, partitions: centroids.partitionCount,
                mean: mean,
                scale: scale, seed: seed)
        }
        self.init(
            form: form, centroids: centroids, candidateCount: candidateCount, beta: beta,
            prototypes: prototypes,
            network: network)
        if let subClusters { setBeta(beta, subClusters: subClusters) }
    }

    /// One beta for everything; prototypes weigh what they hold: log n_j - beta s_j^2 / 2, n_j the records
    /// and s_j^2 the mean squared radius of the sub-cluster (our own measurement: -2 to -4 % vectors).
    func setBeta(_ beta: Float, subClusters: SubClusters?) {
        logBeta.values[0] = logf(beta)
        guard let prototypes, let subClusters else { return }
        prototypes.setBeta(beta)
        for index in 0..<prototypes.count {
            prototypes.weights.values[index] =
                logf(max(subClusters.counts[index], 1)) - 0.5 * beta * subClusters.spreads[index]
        }
    }

    /// The predictor as it is searched.
    ///
    /// - Parameter elementType: how prototypes are kept.
    public func frozen(elementType: ElementType, candidateCount: Int) -> Predictor {
        frozen(prototypes: prototypes?.frozen(as: elementType), candidateCount: candidateCount)
    }

    private func frozen(prototypes: PrototypeMixture?, candidateCount: Int) -> Predictor {
        Predictor(
            centroids: centroids, base: form.base, beta: expf(logBeta.values[0]), prototypes: prototypes,
            network: network.map { NetworkInference($0) }, inverseTemperature: logitScale,
            candidateCount: form.base == .none ? centroids.partitionCount : candidateCount)
    }

    /// The predictor with prototypes as codes, uncalibrated: one candidate for each beta. nil where the form
    /// has no prototypes.
    package func coded(codeByteCount: Int, candidateCount: Int, seed: UInt64, threads: Int) -> (
        (Float) -> Predictor
    )? {
        guard form.base == .prototypes, let prototypes else { return nil }
        let encoding = prototypes.encoded(
            codeByteCount: codeByteCount, centroids: centroidRows, seed: seed, threads: threads)
        return { beta in self.frozen(prototypes: encoding.mixture(beta: beta), candidateCount: candidateCount)
        }
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

    /// The predictor with its prototypes as codes of `codeByteCount` bytes. Coding changes distances, so the
    /// one beta and then the temperature are fitted anew, by routing held-out queries with the coded
    /// predictor itself.
    public func frozen(codeByteCount: Int, candidateCount: Int) -> Predictor {
        guard
            let coded = model.coded(
                codeByteCount: codeByteCount, candidateCount: candidateCount, seed: options.seed,
                threads: options.threads)
        else { return model.frozen(elementType: model.centroids.elementType, candidateCount: candidateCount) }
        let held = HeldOut(pairs: pairs, homes: homes, limit: Self.calibrationPairs, threads: options.threads)
        let start = model.prototypes?.meanLogBeta ?? 0
        let logBeta = GoldenSection.minimise(from: start - 0.7, to: start + 0.7, steps: 9) { logBeta in
            held.loss(HeldOut.Logits(of: coded(Float(exp(logBeta))), held), logScale: 0)
        }
        let predictor = coded(Float(exp(logBeta)))
        return predictor.tempered(predictor.inverseTemperature * held.temperature(of: predictor))
    }
}

/// Held-out queries, to fit the temperature of any router as it is searched.
struct HeldOut: Sendable {
    private let pairs: TrainingPairs
    private let homes: Homes
    private let range: Range<Int>
    private let threads: Int
    /// How many of each query's nearest neighbours are to be likely.
    private let targets: Int

    init(pairs: TrainingPairs, homes: Homes, limit: Int, threads: Int, targets: Int = 1) {
        self.pairs = pairs
        self.homes = homes
        self.threads = threads
        self.targets = min(targets, pairs.neighbourCount)
        range = pairs.heldOut.prefix(limit)
    }

    /// What a router says of every held-out query: log-probabilities of its candidates, and which of them
    /// hold each of the nearest neighbours.
    struct Logits: Sendable {
        fileprivate var routes: [(values: [Float], right: [[Int]])]

        init(of router: any PartitionRouter, _ held: HeldOut) {
            routes = .init(repeating: ([], []), count: held.range.count)
            routes.withUnsafeMutableBufferPointer { routes in
                nonisolated(unsafe) let routes = routes
                Workers.forEachBlock(count: held.range.count, blockSize: 256, threads: held.threads) {
                    _, block in
                    let scratch = router.makeScratch()
                    var route = Route()
                    for index in block {
                        let pair = held.range.lowerBound + index
                        router.route(
                            held.pairs.queries.row(pair), limit: router.partitionCount, scratch: scratch,
                            into: &route)
                        let first = pair * held.pairs.neighbourCount
                        routes[index] = (
                            route.logProbabilities,
                            held.pairs.neighbours[first..<first + held.targets].map { neighbour in
                                let home = held.homes[Int(neighbour)]
                                return route.partitions.indices.filter {
                                    home.contains(route.partitions[$0])
                                }
                            }
                        )
                    }
                }
            }
        }
    }

    /// Mean -log of the probability of the right partitions where every logit is multiplied by
    /// exp(logScale). Neighbours without a right candidate are left out: no factor would bring one.
    func loss(_ logits: Logits, logScale: Double) -> Double {
        let scale = Float(exp(logScale))
        var (sum, count) = (0.0, 0)
        for route in logits.routes {
            let all = route.values.map { $0 * scale }
            let whole = Double(sonde_log_sum_exp(all, all.count))
            for positions in route.right where !positions.isEmpty {
                let right = positions.map { all[$0] }
                sum += whole - Double(sonde_log_sum_exp(right, right.count))
                count += 1
            }
        }
        return sum / Double(max(count, 1))
    }

    /// The factor on a router's logits that makes its probabilities likeliest.
    func temperature(of router: any PartitionRouter) -> Float {
        let logits = Logits(of: router, self)
        return Float(exp(GoldenSection.minimise(from: -1, to: 1, steps: 12) { loss(logits, logScale: $0) }))
    }
}
