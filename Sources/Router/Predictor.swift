// A learned router as it is searched: centroids name candidates, the predictor gives each a logit, a
// softmax over the candidates makes calibrated probabilities. Only rows of candidates are touched.

import CKernels
import Glibc
import Vectors

/// A predictor at search time. Immutable, shared by all workers.
public final class Predictor: PartitionRouter {
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

    public init(
        centroids: CentroidIndex, base: PredictorForm.Base, beta: Float, prototypes: PrototypeMixture?,
        network: NetworkInference?, inverseTemperature: Float, candidateCount: Int
    ) {
        precondition(base != .prototypes || prototypes != nil)
        self.centroids = centroids
        self.base = base
        self.beta = beta
        self.prototypes = prototypes
        self.network = network
        self.inverseTemperature = inverseTemperature
        self.candidateCount = min(candidateCount, centroids.partitionCount)
    }

    /// The mean factor between distances and logits.
    private var softBeta: Float {
        let mean = prototypes.map { $0.betas.isEmpty ? beta : $0.meanBeta } ?? beta
        return max(mean * inverseTemperature, 1e-30)
    }

    public var partitionCount: Int { centroids.partitionCount }

    public var residentByteCount: Int {
        centroids.residentByteCount + (prototypes?.residentByteCount ?? 0) + (network?.residentByteCount ?? 0)
    }

    public func makeScratch() -> RouterScratch { PredictorScratch(predictor: self) }

    public func route(
        _ query: UnsafeRawPointer, limit: Int, scratch anyScratch: RouterScratch, into route: inout Route
    ) {
        guard let scratch = anyScratch as? PredictorScratch else { return }
        centroids.route(query, limit: candidateCount, scratch: scratch.centroids, into: &scratch.candidates)
        let count = scratch.candidates.count
        network?.hidden(of: query, type: centroids.elementType, scratch: scratch.network)
        let prototypeQuery = scratch.prototypeQuery(query, predictor: self)
        var greatest = -Float.infinity
        route.removeAll()
        for position in 0..<count {
            let partition = Int(scratch.candidates.partitions[position])
            var logit: Float = 0
            switch base {
            case .none: break
            case .distance: logit = -beta * scratch.candidates.distances[position]
            case .prototypes:
                logit = prototypes!.logit(
                    partition: partition, query: prototypeQuery, distances: scratch.distances, shares: scratch.shares)
            }
            if let network { logit += network.logit(of: partition, scratch: scratch.network) }
            logit *= inverseTemperature
            scratch.logits[position] = logit
            greatest = max(greatest, logit)
        }
        var sum: Float = 0
        for position in 0..<count { sum += expf(scratch.logits[position] - greatest) }
        let normaliser = greatest + logf(sum)
        route.logNormaliser = normaliser
        route.beta = softBeta
        scratch.sortByLogit(count: count)
        for place in 0..<min(limit, count) {
            let position = Int(scratch.order[place])
            route.partitions.append(scratch.candidates.partitions[position])
            route.distances.append(scratch.candidates.distances[position])
            route.logProbabilities.append(scratch.logits[position] - normaliser)
        }
    }
}

/// Working memory of a predictor's worker.
final class PredictorScratch: RouterScratch {
    let centroids: RouterScratch
    var candidates = Route()
    let logits: UnsafeMutablePointer<Float>
    let distances: UnsafeMutablePointer<Float>
    let shares: UnsafeMutablePointer<Float>
    var order: [UInt32] = []
    let network: NetworkInference.Scratch?
    private let floats: UnsafeMutablePointer<Float>
    private let converted: UnsafeMutableRawPointer

    init(predictor: Predictor) {
        centroids = predictor.centroids.makeScratch()
        let largest = max(predictor.prototypes?.largestPartition ?? 1, 1)
        logits = .allocate(capacity: max(predictor.candidateCount, 1))
        distances = .allocate(capacity: largest)
        shares = .allocate(capacity: largest)
        order.reserveCapacity(predictor.candidateCount)
        network = predictor.network.map { NetworkInference.Scratch(network: $0) }
        floats = .allocate(capacity: predictor.centroids.dimension)
        converted = .allocate(byteCount: predictor.centroids.dimension * 4, alignment: 64)
    }

    deinit {
        logits.deallocate()
        distances.deallocate()
        shares.deallocate()
        floats.deallocate()
        converted.deallocate()
    }

    /// The query in the element type of the prototypes.
    func prototypeQuery(_ query: UnsafeRawPointer, predictor: Predictor) -> UnsafeRawPointer {
        let from = predictor.centroids.elementType
        guard let to = predictor.prototypes?.centers.elementType, to != from else { return query }
        let dimension = predictor.centroids.dimension
        VectorMatrix.toFloat(query, from, count: dimension, into: floats)
        VectorMatrix.fromFloat(floats, count: dimension, to, into: converted)
        return UnsafeRawPointer(converted)
    }

    /// Positions of the candidates by falling logit, equal ones by partition.
    func sortByLogit(count: Int) {
        order.removeAll(keepingCapacity: true)
        for position in 0..<count { order.append(UInt32(position)) }
        order.sort { a, b in
            let (x, y) = (logits[Int(a)], logits[Int(b)])
            return x == y ? candidates.partitions[Int(a)] < candidates.partitions[Int(b)] : x > y
        }
    }
}

/// A trained network, one query at a time: hidden layers whole, of the last layer only the rows of
/// candidates. Inner products by the same kernel for one query and for many.
public final class NetworkInference: Sendable {
    public let widths: [Int]
    let mean: [Float]
    let scale: Float
    /// Outputs x inputs of each layer, and its biases.
    let weights: [VectorMatrix]
    let biases: [[Float]]
    private let product = Distance(metric: .ip, elementType: .f32)

    public init(widths: [Int], mean: [Float], scale: Float, weights: [VectorMatrix], biases: [[Float]]) {
        self.widths = widths
        self.mean = mean
        self.scale = scale
        self.weights = weights
        self.biases = biases
    }

    convenience init(_ network: Network) {
        var weights: [VectorMatrix] = []
        for (index, layer) in network.layers.enumerated() {
            let matrix = VectorMatrix(
                count: network.widths[index + 1], dimension: network.widths[index], elementType: .f32)
            matrix.floats.update(from: layer.weights.values, count: layer.weights.count)
            weights.append(matrix)
        }
        self.init(
            widths: network.widths, mean: network.mean, scale: network.scale, weights: weights,
            biases: network.layers.map { layer in (0..<layer.biases.count).map { layer.biases.values[$0] } })
    }

    public var residentByteCount: Int {
        weights.reduce(0) { $0 + $1.byteCount } + biases.reduce(0) { $0 + $1.count * 4 } + mean.count * 4
    }

    final class Scratch {
        let layers: [UnsafeMutablePointer<Float>]
        let raw: UnsafeMutablePointer<Float>

        init(network: NetworkInference) {
            layers = network.widths.map { .allocate(capacity: $0) }
            raw = .allocate(capacity: network.widths.max() ?? 1)
        }

        deinit {
            layers.forEach { $0.deallocate() }
            raw.deallocate()
        }
    }

    /// Runs all layers but the last.
    func hidden(of query: UnsafeRawPointer, type: ElementType, scratch: Scratch?) {
        guard let scratch else { return }
        VectorMatrix.toFloat(query, type, count: widths[0], into: scratch.layers[0])
        for column in 0..<widths[0] {
            scratch.layers[0][column] = (scratch.layers[0][column] - mean[column]) * scale
        }
        for index in 0..<weights.count - 1 {
            product.rows(
                scratch.layers[index], weights[index].bytes, count: widths[index + 1], dimension: widths[index],
                into: scratch.raw)
            for output in 0..<widths[index + 1] {
                scratch.layers[index + 1][output] = max(biases[index][output] - scratch.raw[output], 0)
            }
        }
    }

    /// The last layer's output for one partition.
    func logit(of partition: Int, scratch: Scratch?) -> Float {
        guard let scratch else { return 0 }
        let last = weights.count - 1
        let dot = product.pair(scratch.layers[last], weights[last].row(partition), dimension: widths[last])
        return biases[last][partition] - dot
    }
}
