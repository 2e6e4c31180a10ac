// Training the probing model: binary cross-entropy over all partitions, labels "holds at least one of the k
// nearest" (arXiv 2503.23409). Unlike the published code: inputs are standardised once,
// pairs are shuffled, held-out pairs calibrate and stop, and a partition's replicas count.

import Glibc
import Vectors

/// The shape of a probing model and what it is trained for.
public struct LiraOptions: Sendable {
    /// Widths of each tower's layers and of the hidden layers behind them.
    public var tower = [128, 64]
    public var head = [128]
    /// Neighbours that a partition is wanted for.
    public var depth = 10
    public var training = TrainingOptions()

    public init() { training.batchSize = 512 }
}

/// Trains one probing model on pairs.
public final class LiraTrainer {
    private static let blockSize = 256
    /// Training rows that standardise the distances.
    private static let sampleCount = 16_384
    /// Held-out rows that calibrate.
    private static let calibrationCount = 2000

    private let centroids: CentroidIndex
    private let rows: VectorMatrix
    private let pairs: TrainingPairs
    private let homes: Homes
    private let options: LiraOptions
    let distanceTower: Network
    let vectorTower: Network
    let head: Network
    private let distanceMean: [Float]
    private let distanceScale: [Float]
    private var workspaces: [LiraWorkspace] = []
    private var progress: TrainingState
    public var report: TrainingReport { progress.report }

    public init(centroids: CentroidIndex, pairs: TrainingPairs, homes: Homes, options: LiraOptions) {
        precondition(options.depth >= 1 && options.depth <= pairs.neighbourCount && !options.tower.isEmpty)
        self.centroids = centroids
        self.pairs = pairs
        self.homes = homes
        self.options = options
        rows = centroids.centroids()
        (distanceMean, distanceScale) = Self.standardise(rows: rows, pairs: pairs)
        let inputs = Network.standardisation(of: pairs.queries)
        let seed = options.training.seed
        let (hidden, width) = (Array(options.tower.dropLast()), options.tower[options.tower.count - 1])
        // Distances come standardised; the query as the predictors' networks take it.
        distanceTower = Network(
            dimension: rows.count, hidden: hidden, partitions: width,
            mean: [Float](repeating: 0, count: rows.count),
            scale: 1, seed: seed, startsAtZero: false)
        vectorTower = Network(
            dimension: rows.dimension, hidden: hidden, partitions: width, mean: inputs.mean,
            scale: inputs.scale,
            seed: seed &+ 1, startsAtZero: false)
        head = Network(
            dimension: 2 * width, hidden: options.head, partitions: rows.count,
            mean: [Float](repeating: 0, count: 2 * width), scale: 1, seed: seed &+ 2)
        progress = TrainingState(pairs: pairs.trainingCount)
        let blocks = (options.training.batchSize + Self.blockSize - 1) / Self.blockSize
        workspaces = (0..<blocks).map { _ in LiraWorkspace(self, capacity: Self.blockSize) }
    }

    /// Parameters in a fixed order.
    public var tensors: [Tensor] { distanceTower.tensors + vectorTower.tensors + head.tensors }

    /// Mean and inverse deviation of the distance to each centroid, over a sample of the training queries.
    private static func standardise(rows: VectorMatrix, pairs: TrainingPairs) -> ([Float], [Float]) {
        let count = min(sampleCount, pairs.trainingCount)
        let distance = Distance(metric: .l2, elementType: rows.elementType)
        var (sums, squares) = (
            [Double](repeating: 0, count: rows.count), [Double](repeating: 0, count: rows.count)
        )
        var distances = [Float](repeating: 0, count: rows.count)
        for sample in 0..<count {
            let row = sample * pairs.trainingCount / count
            distance.rows(
                pairs.queries.row(row), rows.bytes, count: rows.count, dimension: rows.dimension,
                into: &distances)
            for partition in 0..<rows.count {
                let root = Double(max(distances[partition], 0).squareRoot())
                sums[partition] += root
                squares[partition] += root * root
            }
        }
        let mean = sums.map { Float($0 / Double(max(count, 1))) }
        let scale = zip(sums, squares).map { sum, square -> Float in
            let mean = sum / Double(max(count, 1))
            return Float(1 / max((square / Double(max(count, 1)) - mean * mean).squareRoot(), 1e-6))
        }
        return (mean, scale)
    }

    /// Runs the epochs that are left, or fewer where held-out pairs say so, and keeps the best parameters. `afterEpoch`
    /// may store a checkpoint (`state`).
    public func train<Failure: Error>(
        progress report: @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in },
        afterEpoch: (LiraTrainer) throws(Failure) -> Void
    ) throws(Failure) {
        let training = options.training
        let steps = pairs.trainingCount / training.batchSize
        if progress.epoch == 0 { progress.begin(heldOutLoss: heldOutLoss(), tensors: tensors) }
        while !progress.hasEnded(training) && steps > 0 {
            var random = SeededRandom(seed: training.seed, stream: UInt64(progress.epoch) + 1)
            var order = Array(0..<UInt32(pairs.trainingCount))
            random.shuffle(&order)
            var loss = 0.0
            for batch in 0..<steps {
                progress.step += 1
                let step = progress.step
                let schedule = 0.5 * (1 + cosf(Float.pi * Float(step - 1) / Float(training.epochs * steps)))
                loss += gradient(of: order[batch * training.batchSize..<(batch + 1) * training.batchSize])
                for tensor in tensors {
                    tensor.step(step, schedule: schedule * training.rate, threads: training.threads)
                }
                report(step, training.epochs * steps)
            }
            progress.endEpoch(
                trainLoss: loss / Double(steps * training.batchSize), heldOutLoss: heldOutLoss(),
                tensors: tensors)
            try afterEpoch(self)
        }
        progress.restoreBest(tensors)
    }

    /// The same, without checkpoints.
    public func train(progress report: @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in }) {
        train(progress: report) { _ in }
    }

    /// Everything that `restore` needs to go on as if nothing had happened.
    public var state: [UInt8] { progress.encoded(tensors) }

    /// Takes back a `state` of the same model and options; false where it does not fit.
    public func restore(_ state: [UInt8]) -> Bool { progress.restore(state, tensors: tensors) }

    /// Sum of the losses of up to a batch of pairs (each the mean over partitions), and the mean gradient into the
    /// tensors.
    public func gradient(of chosen: ArraySlice<UInt32>) -> Double {
        for tensor in tensors { tensor.clearGradient() }
        let loss = pass(chosen, withGradient: true)
        let scale = 1 / Float(chosen.count)
        for (number, tensor) in tensors.enumerated() {
            for block in 0..<(chosen.count + Self.blockSize - 1) / Self.blockSize {
                let gradient = workspaces[block].gradients[number]
                for position in 0..<tensor.count { tensor.gradient[position] += gradient[position] * scale }
            }
        }
        return loss
    }

    /// Mean loss over the held-out pairs.
    public func heldOutLoss() -> Double {
        var sum = 0.0
        var first = pairs.heldOut.lowerBound
        while first < pairs.heldOut.upperBound {
            let end = min(pairs.heldOut.upperBound, first + options.training.batchSize)
            sum += pass(Array(UInt32(first)..<UInt32(end))[...], withGradient: false)
            first = end
        }
        return sum / Double(max(pairs.heldOutCount, 1))
    }

    private func pass(_ chosen: ArraySlice<UInt32>, withGradient: Bool) -> Double {
        let blocks = (chosen.count + Self.blockSize - 1) / Self.blockSize
        let losses = UnsafeMutablePointer<Double>.allocate(capacity: max(blocks, 1))
        defer { losses.deallocate() }
        nonisolated(unsafe) let (blockLosses, trainer) = (losses, self)
        Workers.forEach(count: blocks, threads: options.training.threads) { block in
            let part = chosen.dropFirst(block * Self.blockSize).prefix(Self.blockSize)
            blockLosses[block] = trainer.run(part, trainer.workspaces[block], withGradient: withGradient)
        }
        return (0..<blocks).reduce(0) { $0 + losses[$1] }
    }

    /// Fills the head's logits for a block.
    private func forward(_ chosen: ArraySlice<UInt32>, _ work: LiraWorkspace) {
        let first = chosen.startIndex
        for row in 0..<chosen.count {
            let query = pairs.queries.row(Int(chosen[first + row]))
            let distances = work.distances + row * rows.count
            work.distance.rows(
                query, rows.bytes, count: rows.count, dimension: rows.dimension, into: distances)
            for partition in 0..<rows.count {
                distances[partition] =
                    (max(distances[partition], 0).squareRoot() - distanceMean[partition])
                    * distanceScale[partition]
            }
            VectorMatrix.toFloat(
                query, pairs.queries.elementType, count: rows.dimension,
                into: work.floats + row * rows.dimension)
        }
        distanceTower.forward(work.distances, count: chosen.count, activations: work.distanceTower)
        vectorTower.forward(work.floats, count: chosen.count, activations: work.vectorTower)
        let width = distanceTower.partitionCount
        for row in 0..<chosen.count {
            for unit in 0..<width {
                work.joined[row * 2 * width + unit] = max(work.distanceTower.logits[row * width + unit], 0)
                work.joined[row * 2 * width + width + unit] = max(
                    work.vectorTower.logits[row * width + unit], 0)
            }
        }
        head.forward(work.joined, count: chosen.count, activations: work.head)
    }

    private func run(_ chosen: ArraySlice<UInt32>, _ work: LiraWorkspace, withGradient: Bool) -> Double {
        if withGradient { work.clearGradients() }
        forward(chosen, work)
        let (count, partitions) = (chosen.count, rows.count)
        let share = 1 / Float(partitions)
        var loss = 0.0
        for row in 0..<count {
            let logits = work.head.logits + row * partitions
            let deltas = work.head.logitDeltas + row * partitions
            var sum: Float = 0
            for partition in 0..<partitions {
                let small = expf(-abs(logits[partition]))
                sum += max(logits[partition], 0) + log1pf(small)
                deltas[partition] = (logits[partition] >= 0 ? 1 : small) / (1 + small) * share
            }
            forEachWanted(Int(chosen[chosen.startIndex + row]), work) { partition in
                sum -= logits[partition]
                deltas[partition] -= share
            }
            loss += Double(sum * share)
        }
        guard withGradient else { return loss }
        let towers = distanceTower.tensors.count
        head.backward(
            count: count, activations: work.head, into: Array(work.gradients[(2 * towers)...]), toInputs: true
        )
        let width = distanceTower.partitionCount
        for row in 0..<count {
            for unit in 0..<width {
                let (near, own) = (row * 2 * width + unit, row * 2 * width + width + unit)
                work.distanceTower.logitDeltas[row * width + unit] =
                    work.joined[near] > 0 ? work.head.deltas[0][near] : 0
                work.vectorTower.logitDeltas[row * width + unit] =
                    work.joined[own] > 0 ? work.head.deltas[0][own] : 0
            }
        }
        distanceTower.backward(
            count: count, activations: work.distanceTower, into: Array(work.gradients[..<towers]))
        vectorTower.backward(
            count: count, activations: work.vectorTower, into: Array(work.gradients[towers..<2 * towers]))
        return loss
    }

    /// Calls `body` once for each partition that holds one of the pair's nearest.
    private func forEachWanted(_ pair: Int, _ work: LiraWorkspace, _ body: (Int) -> Void) {
        work.stamp += 1
        let start = pair * pairs.neighbourCount
        for id in pairs.neighbours[start..<start + options.depth] where Int(id) < homes.count {
            for partition in homes[Int(id)] where work.stamps[Int(partition)] != work.stamp {
                work.stamps[Int(partition)] = work.stamp
                body(Int(partition))
            }
        }
    }

    /// The model as it is searched, calibrated on held-out pairs by Platt's scaling (two numbers, Newton's method).
    public func model() -> LiraModel {
        let work = workspaces[0]
        let held = Array(pairs.heldOut.prefix(Self.calibrationCount)).map { UInt32($0) }
        var samples: [(logit: Float, wanted: Bool)] = []
        for start in stride(from: 0, to: held.count, by: Self.blockSize) {
            let part = held[start..<min(start + Self.blockSize, held.count)]
            forward(part, work)
            for (row, pair) in part.enumerated() {
                var wanted = [Bool](repeating: false, count: rows.count)
                forEachWanted(Int(pair), work) { wanted[$0] = true }
                for partition in 0..<rows.count {
                    let logit = work.head.logits[row * rows.count + partition]
                    // Beyond this the answer is known; such pairs only drown the others.
                    if wanted[partition] || logit > -9 { samples.append((logit, wanted[partition])) }
                }
            }
        }
        let (slope, shift) = Self.scaling(samples)
        return LiraModel(
            centroids: centroids, distanceTower: foldedDistanceTower(),
            vectorTower: NetworkInference(vectorTower),
            head: NetworkInference(head), slope: slope, shift: shift, depth: options.depth)
    }

    private static func scaling(_ samples: [(logit: Float, wanted: Bool)]) -> (Float, Float) {
        var (slope, shift) = (1.0, 0.0)
        guard samples.contains(where: \.wanted), samples.contains(where: { !$0.wanted }) else {
            return (1, 0)
        }
        for _ in 0..<20 {
            var (g0, g1, h00, h01, h11) = (0.0, 0.0, 1e-6, 0.0, 1e-6)
            for sample in samples {
                let x = Double(sample.logit)
                let p = 1 / (1 + exp(-(slope * x + shift)))
                let error = p - (sample.wanted ? 1 : 0)
                let weight = p * (1 - p)
                g0 += error * x
                g1 += error
                h00 += weight * x * x
                h01 += weight * x
                h11 += weight
            }
            let determinant = h00 * h11 - h01 * h01
            guard determinant > 0 else { break }
            slope -= (h11 * g0 - h01 * g1) / determinant
            shift -= (h00 * g1 - h01 * g0) / determinant
        }
        return slope.isFinite && shift.isFinite && slope > 0 ? (Float(slope), Float(shift)) : (1, 0)
    }

    /// The tower over plain distances: what standardises them goes into its first layer.
    private func foldedDistanceTower() -> NetworkInference {
        let trained = NetworkInference(distanceTower)
        let first = trained.weights[0]
        let folded = VectorMatrix(count: first.count, dimension: first.dimension, elementType: .f32)
        for unit in 0..<first.count {
            for partition in 0..<first.dimension {
                folded.floatRow(unit)[partition] = first.floatRow(unit)[partition] * distanceScale[partition]
            }
        }
        return NetworkInference(
            widths: trained.widths, mean: distanceMean, scale: 1,
            weights: [folded] + trained.weights.dropFirst(),
            biases: trained.biases)
    }
}

/// Memory of one block of a pass.
final class LiraWorkspace {
    let distance: Distance
    let distances: UnsafeMutablePointer<Float>
    let floats: UnsafeMutablePointer<Float>
    let joined: UnsafeMutablePointer<Float>
    let distanceTower: Network.Activations
    let vectorTower: Network.Activations
    let head: Network.Activations
    let gradients: [UnsafeMutablePointer<Float>]
    private let counts: [Int]
    var stamps: [UInt32]
    var stamp: UInt32 = 0

    init(_ trainer: LiraTrainer, capacity: Int) {
        let partitions = trainer.head.partitionCount
        distance = Distance(metric: .l2, elementType: trainer.elementType)
        distances = .allocate(capacity: capacity * partitions)
        floats = .allocate(capacity: capacity * trainer.vectorTower.widths[0])
        joined = .allocate(capacity: capacity * trainer.head.widths[0])
        distanceTower = Network.Activations(network: trainer.distanceTower, capacity: capacity)
        vectorTower = Network.Activations(network: trainer.vectorTower, capacity: capacity)
        head = Network.Activations(network: trainer.head, capacity: capacity)
        counts = trainer.tensors.map(\.count)
        gradients = counts.map { .allocate(capacity: $0) }
        stamps = [UInt32](repeating: 0, count: partitions)
    }

    deinit {
        distances.deallocate()
        floats.deallocate()
        joined.deallocate()
        for memory in gradients { memory.deallocate() }
    }

    func clearGradients() {
        for (gradient, count) in zip(gradients, counts) { gradient.update(repeating: 0, count: count) }
    }
}

extension LiraTrainer {
    var elementType: ElementType { centroids.elementType }
}
