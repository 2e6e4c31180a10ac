// A learned router as it is searched: centroids name candidates, the predictor gives each a logit, a
// softmax over the candidates makes calibrated probabilities. Only rows of candidates are touched.

import CKernels
import Vectors

/// A predictor at search time. Immutable, shared by all workers.
public final class Predictor: LearnedRouter {
    public let centroids: CentroidIndex
    public let base: PredictorForm.Base
    /// beta of the distance form; unused by the others.
    public let beta: Float
    public let prototypes: PrototypeMixture?
    public let network: NetworkInference?
    /// Logits are multiplied by this before the softmax (the inverse of a temperature; Guo et al. 2017).
    public let inverseTemperature: Float
    /// Candidates that are given a probability.
    public let candidateCount: Int
    /// What candidates say of one another, added last.
    public let refinement: CandidateRefinement?

    public init(
        centroids: CentroidIndex, base: PredictorForm.Base, beta: Float, prototypes: PrototypeMixture?,
        network: NetworkInference?, inverseTemperature: Float, candidateCount: Int,
        refinement: CandidateRefinement? = nil
    ) {
        precondition(base != .prototypes || prototypes != nil)
        self.centroids = centroids
        self.base = base
        self.beta = beta
        self.prototypes = prototypes
        self.network = network
        self.inverseTemperature = inverseTemperature
        self.candidateCount = min(candidateCount, centroids.partitionCount)
        self.refinement = refinement
    }

    /// The mean factor between distances and logits.
    private var softBeta: Float {
        max((prototypes?.meanBeta ?? beta) * inverseTemperature, 1e-30)
    }

    public var partitionCount: Int { centroids.partitionCount }
    public var candidateMaximum: Int { candidateCount }
    public var ordersByCentroid: Bool { base == .distance && network == nil && refinement == nil }

    public var residentByteCount: Int {
        centroids.residentByteCount + (prototypes?.residentByteCount ?? 0) + (network?.residentByteCount ?? 0)
            + (refinement?.residentByteCount ?? 0)
    }

    public func makeScratch() -> RouterScratch { PredictorScratch(predictor: self) }

    public func route(
        _ query: UnsafeRawPointer, limit: Int, scratch anyScratch: RouterScratch, into route: inout Route
    ) {
        guard let scratch = anyScratch as? PredictorScratch else {
            preconditionFailure("scratch of another router")
        }
        candidateLogits(query, scratch: scratch)
        finish(scratch.candidates, limit: limit, scratch: scratch, into: &route)
    }

    /// Fills the scratch with the candidates and their logits.
    func candidateLogits(_ query: UnsafeRawPointer, scratch: PredictorScratch) {
        centroids.route(query, limit: candidateCount, scratch: scratch.centroids, into: &scratch.candidates)
        fillLogits(query, scratch.candidates, scratch: scratch)
    }

    /// The answer from the candidates and their logits, which lie in `scratch.logits`.
    func finish(_ candidates: Route, limit: Int, scratch: PredictorScratch, into route: inout Route) {
        let logits = scratch.logits
        let normaliser = sonde_log_sum_exp(logits, candidates.count)
        for position in 0..<candidates.count { logits[position] -= normaliser }
        let order = scratch.order(candidates)
        route.removeAll()
        route.logNormaliser = normaliser
        route.beta = softBeta
        for place in 0..<min(limit, candidates.count) {
            let position = Int(order[place])
            route.partitions.append(candidates.partitions[position])
            route.distances.append(candidates.distances[position])
            route.logProbabilities.append(logits[position])
        }
    }

    /// Logits of the candidates, tempered.
    private func fillLogits(_ query: UnsafeRawPointer, _ candidates: Route, scratch: PredictorScratch) {
        if base != .prototypes {
            fillDistanceLogits(candidates, scratch: scratch)
        } else if let prototypes, let memory = scratch.prototypes {
            prototypes.prepare(
                query, type: centroids.elementType, dimension: centroids.dimension, scratch: memory)
            candidates.partitions.withUnsafeBufferPointer { partitions in
                candidates.distances.withUnsafeBufferPointer { distances in
                    guard let partitions = partitions.baseAddress, let distances = distances.baseAddress
                    else { return }
                    prototypes.logits(
                        partitions: partitions, distances: distances, count: candidates.count,
                        scratch: memory,
                        into: scratch.logits)
                }
            }
        }
        correct(query, candidates, scratch: scratch)
    }

    /// The logits of the bases that need no prototypes.
    func fillDistanceLogits(_ candidates: Route, scratch: PredictorScratch) {
        let factor = base == .distance ? -beta : 0
        for position in 0..<candidates.count {
            scratch.logits[position] = factor * candidates.distances[position]
        }
    }

    /// What comes on top of the base's logits: the network's, the temperature and the refinement.
    func correct(_ query: UnsafeRawPointer, _ candidates: Route, scratch: PredictorScratch) {
        let logits = scratch.logits
        let count = candidates.count
        if let network, let memory = scratch.network {
            network.hidden(of: query, type: centroids.elementType, scratch: memory)
            for position in 0..<count {
                logits[position] += network.logit(of: Int(candidates.partitions[position]), scratch: memory)
            }
        }
        for position in 0..<count { logits[position] *= inverseTemperature }
        if let refinement, let memory = scratch.refinement {
            refinement.correct(candidates, logits: logits, scratch: memory)
        }
    }

    /// The same predictor with a refinement.
    func with(_ refinement: CandidateRefinement) -> Predictor {
        Predictor(
            centroids: centroids, base: base, beta: beta, prototypes: prototypes, network: network,
            inverseTemperature: inverseTemperature, candidateCount: candidateCount, refinement: refinement)
    }

    /// The same predictor, not refined, with another factor on its logits.
    func tempered(_ inverseTemperature: Float) -> Predictor {
        Predictor(
            centroids: centroids, base: base, beta: beta, prototypes: prototypes, network: network,
            inverseTemperature: inverseTemperature, candidateCount: candidateCount)
    }
}

/// Working memory of a predictor's worker.
final class PredictorScratch: RouterScratch {
    let centroids: RouterScratch
    var candidates = Route()
    let logits: UnsafeMutablePointer<Float>
    let prototypes: PrototypeMixture.Scratch?
    let network: NetworkInference.Scratch?
    let refinement: CandidateRefinement.Scratch?
    /// Working memory of blocks, there once one was routed.
    private(set) lazy var block = PredictorBlock(predictor: predictor)
    private unowned let predictor: Predictor
    private let keys: UnsafeMutablePointer<UInt64>
    private let spare: UnsafeMutablePointer<UInt64>
    private let positions: UnsafeMutablePointer<UInt32>

    init(predictor: Predictor) {
        self.predictor = predictor
        centroids = predictor.centroids.makeScratch()
        let capacity = max(predictor.candidateCount, 1)
        logits = .allocate(capacity: capacity)
        keys = .allocate(capacity: capacity)
        spare = .allocate(capacity: capacity)
        positions = .allocate(capacity: capacity)
        let dimension = predictor.centroids.dimension
        prototypes = predictor.prototypes.map { PrototypeMixture.Scratch($0, dimension: dimension) }
        network = predictor.network.map { NetworkInference.Scratch(network: $0) }
        refinement = predictor.refinement.map { _ in CandidateRefinement.Scratch(capacity: capacity) }
    }

    deinit {
        logits.deallocate()
        keys.deallocate()
        spare.deallocate()
        positions.deallocate()
    }

    /// Positions of the candidates by falling logit, equal ones by partition.
    func order(_ candidates: Route) -> UnsafePointer<UInt32> {
        let count = candidates.count
        for position in 0..<count {
            keys[position] = PackedHeap.packFalling(logits[position], UInt32(position))
        }
        sonde_sort_keys(keys, spare, count)
        for place in 0..<count {
            let position = UInt32(truncatingIfNeeded: keys[place])
            // Equal logits stand in the order of distance; seldom more than two of them.
            var hole = place
            while hole > 0, keys[hole - 1] >> 32 == keys[place] >> 32,
                candidates.partitions[Int(positions[hole - 1])] > candidates.partitions[Int(position)]
            {
                positions[hole] = positions[hole - 1]
                hole -= 1
            }
            positions[hole] = position
        }
        return UnsafePointer(positions)
    }
}
