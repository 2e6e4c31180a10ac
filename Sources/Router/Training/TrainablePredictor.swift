// A predictor under training: any of the forms as one function from a query to logits of its candidate
// partitions, with the gradient of the set-valued loss. Composed of a base (centroid distance or
// prototypes, or none for the plain network) and an optional network on top.

import CKernels
import Glibc
import Vectors

/// Which function gives the logits.
public struct PredictorForm: Sendable, Equatable {
    public enum Base: String, Sendable {
        /// -beta |q - c|^2 with one beta.
        case distance
        /// Log-sum-exp over prototypes.
        case prototypes
        /// Nothing: the network alone (the published predictor).
        case none
    }
    public var base: Base
    /// Widths of the network's hidden layers; nil for no network.
    public var hidden: [Int]?

    public init(base: Base, hidden: [Int]? = nil) {
        self.base = base
        self.hidden = hidden
    }
}

/// The learned state and its gradient.
public final class TrainablePredictor: @unchecked Sendable {
    public let form: PredictorForm
    let centroids: CentroidIndex
    let centroidRows: VectorMatrix
    /// Partitions that enter a step for each query, besides the right ones.
    let candidateCount: Int
    let prototypes: TrainablePrototypes?
    let logBeta: Tensor
    let network: Network?
    /// The network's last layer is evaluated for candidates only, so that steps do not grow with the number of
    /// partitions; the network alone wants all of them.
    var networkOfCandidates: Bool { form.base != .none }
    private let product = Distance(metric: .ip, elementType: .f32)
    /// Multiplies logits when held-out pairs calibrate; 1 while training.
    var logitScale: Float = 1

    init(
        form: PredictorForm, centroids: CentroidIndex, candidateCount: Int, beta: Float,
        prototypes: TrainablePrototypes?, network: Network?
    ) {
        precondition(form.base != .prototypes || prototypes != nil)
        self.form = form
        self.centroids = centroids
        centroidRows = centroids.centroids()
        self.candidateCount = form.base == .none ? centroids.partitionCount : candidateCount
        self.prototypes = prototypes
        self.network = network
        logBeta = Tensor(name: "log beta", count: 1, rate: 0.01)
        logBeta.values[0] = logf(beta)
    }

    /// All learned arrays, in the order of checkpoints.
    public var tensors: [Tensor] {
        (form.base == .distance ? [logBeta] : []) + (prototypes?.tensors ?? []) + (network?.tensors ?? [])
    }

    /// Sum of the losses of `count` queries, and its gradient into `workspace`.
    ///
    /// - Parameters:
    ///   - raw: the queries as routing rows, for choosing candidates.
    ///   - floats: the same as floats, with noise where there is any.
    func pass(
        raw: (Int) -> UnsafeRawPointer, floats: UnsafePointer<Float>, count: Int,
        targets: (Int) -> ArraySlice<UInt32>, homes: Homes, withGradient: Bool, workspace: PassWorkspace
    ) -> Double {
        workspace.begin(model: self, count: count)
        if let network, let activations = workspace.activations {
            network.forward(floats, count: count, activations: activations)
            if withGradient {
                let width = network.widths[activations.deltas.count - 1]
                activations.logitDeltas.update(repeating: 0, count: count * width)
            }
        }
        var loss = 0.0
        for row in 0..<count {
            let query = floats + row * centroids.dimension
            workspace.chooseCandidates(model: self, query: raw(row), targets: targets(row), homes: homes)
            evaluate(query: query, row: row, workspace: workspace)
            loss += workspace.loss(targets: targets(row), homes: homes)
            if withGradient { collect(row: row, workspace: workspace) }
        }
        if withGradient, let network, let activations = workspace.activations {
            network.backward(count: count, activations: activations, into: workspace.networkGradients)
        }
        return loss
    }

    /// Logits of the chosen candidates.
    private func evaluate(query: UnsafePointer<Float>, row: Int, workspace: PassWorkspace) {
        let beta = expf(logBeta.values[0])
        var used = 0
        for (position, candidate) in workspace.candidates.enumerated() {
            let partition = Int(candidate)
            var logit: Float = 0
            switch form.base {
            case .none: break
            case .distance:
                logit = -beta * workspace.candidateDistances[position]
            case .prototypes:
                let prototypes = prototypes!
                let first = Int(prototypes.starts[partition])
                let count = Int(prototypes.starts[partition + 1]) - first
                let distances = workspace.distances + used
                workspace.floatDistance.rows(
                    query, prototypes.centers.values + first * prototypes.dimension, count: count,
                    dimension: prototypes.dimension, into: distances)
                logit = sonde_mixture(
                    prototypes.weights.values + first, prototypes.betas + first, distances, count,
                    workspace.shares + used)
                workspace.offsets[position] = used
                used += count
            }
            if let network, let activations = workspace.activations {
                let width = network.widths[activations.layers.count - 1]
                let values = activations.logits + row * width
                logit +=
                    networkOfCandidates
                    ? network.logit(of: partition, hidden: values, product: product) : values[partition]
            }
            workspace.logits[position] = logit * logitScale
        }
    }

    /// Turns dL/dlogit of the candidates into events on prototypes, on the beta and on the network's output.
    private func collect(row: Int, workspace: PassWorkspace) {
        for (position, candidate) in workspace.candidates.enumerated() {
            let slope = workspace.slopes[position]
            guard abs(slope) > 1e-6 else { continue }
            let partition = Int(candidate)
            switch form.base {
            case .none: break
            case .distance:
                workspace.betaGradient -=
                    Double(slope) * Double(expf(logBeta.values[0]))
                    * Double(workspace.candidateDistances[position])
            case .prototypes:
                let prototypes = prototypes!
                let first = Int(prototypes.starts[partition])
                let offset = workspace.offsets[position]
                for index in 0..<Int(prototypes.starts[partition + 1]) - first {
                    let share = slope * workspace.shares[offset + index]
                    guard abs(share) > 1e-7 else { continue }
                    workspace.events.append(
                        RowEvent(
                            target: UInt32(first + index), row: UInt32(row), share: share,
                            distance: workspace.distances[offset + index]))
                }
            }
            if let network, let activations = workspace.activations {
                let width = network.widths[activations.deltas.count - 1]
                let deltas = activations.logitDeltas + row * width
                if networkOfCandidates {
                    let weights = network.layers[network.layers.count - 1].weights.values
                    sonde_add_scaled(deltas, weights + partition * width, slope, width)
                    workspace.rowEvents.append(
                        RowEvent(target: UInt32(partition), row: UInt32(row), share: slope, distance: 0))
                } else {
                    deltas[partition] = slope
                }
            }
        }
    }
}

/// What one query says to one learned row: to a prototype dL/dz times the prototype's share in z, to the row of a
/// partition in the network's last layer dL/dlogit.
struct RowEvent {
    var target: UInt32
    var row: UInt32
    var share: Float
    /// Of the query to the prototype.
    var distance: Float
}

/// The working memory of a block of queries; one for each block of a batch, so that sums can be taken in
/// the order of blocks whichever thread ran them.
final class PassWorkspace: @unchecked Sendable {
    let floatDistance = Distance(metric: .l2, elementType: .f32)
    private(set) var candidates: [UInt32] = []
    private(set) var candidateDistances: [Float] = []
    private var route = Route()
    private var scratch: RouterScratch?
    var logits: [Float] = []
    /// dL/dlogit by candidate.
    var slopes: [Float] = []
    var offsets: [Int] = []
    var distances = UnsafeMutablePointer<Float>.allocate(capacity: 1)
    var shares = UnsafeMutablePointer<Float>.allocate(capacity: 1)
    private var capacity = 0
    var events: [RowEvent] = []
    /// The same of the network's last layer.
    var rowEvents: [RowEvent] = []
    var betaGradient = 0.0
    private(set) var activations: Network.Activations?
    private(set) var networkGradients: [UnsafeMutablePointer<Float>] = []
    private var networkGradientCounts: [Int] = []

    deinit {
        distances.deallocate()
        shares.deallocate()
        for memory in networkGradients { memory.deallocate() }
    }

    func begin(model: TrainablePredictor, count: Int) {
        events.removeAll(keepingCapacity: true)
        rowEvents.removeAll(keepingCapacity: true)
        betaGradient = 0
        if scratch == nil { scratch = model.centroids.makeScratch() }
        if let prototypes = model.prototypes, capacity == 0 {
            let sizes = (0..<prototypes.starts.count - 1).map {
                Int(prototypes.starts[$0 + 1] - prototypes.starts[$0])
            }
            // Right partitions may come on top of the candidates; a few hundred replicas are plenty.
            capacity = (sizes.max() ?? 1) * (model.candidateCount + 256)
            for memory in [distances, shares] { memory.deallocate() }
            distances = .allocate(capacity: capacity)
            shares = .allocate(capacity: capacity)
        }
        if let network = model.network {
            if activations == nil || activations!.capacity < count {
                activations = Network.Activations(
                    network: network, capacity: count, ofCandidates: model.networkOfCandidates)
            }
            if networkGradients.isEmpty {
                networkGradientCounts = network.tensors.dropLast(model.networkOfCandidates ? 2 : 0).map(
                    \.count)
                networkGradients = networkGradientCounts.map { .allocate(capacity: $0) }
            }
            for (gradient, count) in zip(networkGradients, networkGradientCounts) {
                gradient.update(repeating: 0, count: count)
            }
        }
    }

    /// The router's nearest partitions, then the right ones that are not among them.
    func chooseCandidates(
        model: TrainablePredictor, query: UnsafeRawPointer, targets: ArraySlice<UInt32>, homes: Homes
    ) {
        let centroids = model.centroids
        candidates.removeAll(keepingCapacity: true)
        candidateDistances.removeAll(keepingCapacity: true)
        if model.candidateCount >= centroids.partitionCount && model.form.base == .none {
            candidates.append(contentsOf: 0..<UInt32(centroids.partitionCount))
        } else {
            route.removeAll()
            centroids.route(query, limit: model.candidateCount, scratch: scratch!, into: &route)
            candidates.append(contentsOf: route.partitions)
            candidateDistances.append(contentsOf: route.distances)
            let named = candidates.count
            for target in targets {
                for home in homes[Int(target)] where !candidates.contains(home) {
                    guard candidates.count - named < 256 else { break }
                    candidates.append(home)
                    candidateDistances.append(
                        rawDistance(model).pair(
                            query, model.centroidRows.row(Int(home)), dimension: centroids.dimension))
                }
            }
        }
        if logits.count < candidates.count {
            logits = [Float](repeating: 0, count: candidates.count)
            slopes = logits
            offsets = [Int](repeating: 0, count: candidates.count)
        }
    }

    private func rawDistance(_ model: TrainablePredictor) -> Distance {
        Distance(metric: .l2, elementType: model.centroids.elementType)
    }

    /// -log of the probability of the partitions that hold the neighbour, averaged over the targets; leaves
    /// dL/dlogit in `slopes`.
    func loss(targets: ArraySlice<UInt32>, homes: Homes) -> Double {
        var greatest = -Float.infinity
        for position in candidates.indices { greatest = max(greatest, logits[position]) }
        var sum: Float = 0
        for position in candidates.indices {
            slopes[position] = expf(logits[position] - greatest)
            sum += slopes[position]
        }
        for position in candidates.indices { slopes[position] /= sum }
        var loss = 0.0
        let weight = 1 / Float(max(targets.count, 1))
        // Probabilities are needed for every target before slopes are changed: keep them in logits.
        for position in candidates.indices { logits[position] = slopes[position] }
        for target in targets {
            let home = homes[Int(target)]
            var held: Float = 1e-30
            for position in candidates.indices where home.contains(candidates[position]) {
                held += logits[position]
            }
            for position in candidates.indices where home.contains(candidates[position]) {
                slopes[position] -= weight * logits[position] / held
            }
            loss -= Double(weight) * Double(logf(held))
        }
        return loss
    }
}
