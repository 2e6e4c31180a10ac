// The one training loop: mini-batches, Adam with a cosine schedule, held-out loss, early stop, checkpoints.
// Batches are cut into blocks of fixed size whose gradients are added in order, so that the same seed gives
// the same model on any number of threads.

import CKernels
import Glibc
import Vectors

/// How to train.
public struct TrainingOptions: Sendable {
    public var epochs = 4
    public var batchSize = 2048
    public var seed: UInt64 = 1
    public var threads = 2
    /// Standard deviation of the Gaussian noise added to each number of a query (the paper's augmentation).
    public var noise: Float = 0
    /// How many of each query's nearest neighbours are targets: 1 for the nearest, more for soft targets.
    public var targets = 1
    /// Stop after this many epochs without a better held-out loss.
    public var patience = 1
    /// Multiplies every rate.
    public var rate: Float = 1

    public init() {}
}

/// What training did, epoch by epoch. Losses are mean negative log-likelihoods in nats.
public struct TrainingReport: Sendable, Codable {
    public var pairs: Int
    public var heldOutStart: Double
    public var trainLosses: [Double] = []
    public var heldOutLosses: [Double] = []
    /// The epoch whose parameters were kept; 0 where none beat the start.
    public var bestEpoch = 0

    /// A report before any epoch.
    public init(pairs: Int, heldOutStart: Double) {
        self.pairs = pairs
        self.heldOutStart = heldOutStart
    }
}

/// Trains one predictor on pairs.
public final class PredictorTrainer {
    private static let blockSize = 256

    public let model: TrainablePredictor
    let pairs: TrainingPairs
    let homes: Homes
    let options: TrainingOptions
    private var workspaces: [PassWorkspace]
    private let rows: VectorMatrix
    private var progress: TrainingState
    /// Epochs done; a checkpoint continues after them.
    public var epoch: Int { progress.epoch }
    public var report: TrainingReport { progress.report }

    public init(model: TrainablePredictor, pairs: TrainingPairs, homes: Homes, options: TrainingOptions) {
        precondition(options.targets >= 1 && options.targets <= pairs.neighbourCount)
        self.model = model
        self.pairs = pairs
        self.homes = homes
        self.options = options
        let blocks = (options.batchSize + Self.blockSize - 1) / Self.blockSize
        workspaces = (0..<blocks).map { _ in PassWorkspace() }
        rows = VectorMatrix(count: options.batchSize, dimension: pairs.queries.dimension, elementType: .f32)
        progress = TrainingState(pairs: pairs.trainingCount)
    }

    /// Runs the epochs that are left and leaves the best parameters in the model. `afterEpoch` may store a
    /// checkpoint (`state`) and returns false to stop.
    public func train(
        progress report: @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in },
        afterEpoch: (PredictorTrainer) throws -> Bool = { _ in true }
    ) throws {
        let stepsAnEpoch = pairs.trainingCount / options.batchSize
        if epoch == 0 { progress.begin(heldOutLoss: heldOutLoss(), tensors: model.tensors) }
        while !progress.hasEnded(options) && stepsAnEpoch > 0 {
            let order = permutation()
            var loss = 0.0
            for batch in 0..<stepsAnEpoch {
                let chosen = order[batch * options.batchSize..<(batch + 1) * options.batchSize]
                progress.step += 1
                let (step, total) = (progress.step, options.epochs * stepsAnEpoch)
                let schedule = 0.5 * (1 + cosf(Float.pi * Float(step - 1) / Float(total))) * options.rate
                loss += gradient(of: chosen, noiseSeed: UInt64(step)) / Double(chosen.count)
                for tensor in model.tensors {
                    tensor.step(step, schedule: schedule, threads: options.threads)
                }
                report(step, total)
            }
            progress.endEpoch(
                trainLoss: loss / Double(stepsAnEpoch), heldOutLoss: heldOutLoss(), tensors: model.tensors)
            if try !afterEpoch(self) { break }
        }
        progress.restoreBest(model.tensors)
    }

    private func permutation() -> [UInt32] {
        var random = SeededRandom(seed: options.seed, stream: UInt64(epoch) + 1)
        var order = Array(0..<UInt32(pairs.trainingCount))
        random.shuffle(&order)
        return order
    }

    /// Mean loss over the held-out pairs, or the first `limit` of them.
    public func heldOutLoss(limit: Int = .max) -> Double {
        var sum = 0.0
        let range = pairs.heldOut.prefix(limit)
        var first = range.lowerBound
        while first < range.upperBound {
            let end = min(range.upperBound, first + options.batchSize)
            sum += forward(Array(UInt32(first)..<UInt32(end))[...], noiseSeed: nil, withGradient: false)
            first = end
        }
        return sum / Double(max(range.count, 1))
    }

    /// Sum of the losses of the pairs.
    public func loss(of chosen: ArraySlice<UInt32>) -> Double {
        forward(chosen, noiseSeed: nil, withGradient: false)
    }

    /// Sum of the losses of the pairs and the mean gradient into the tensors. Public for gradient checks.
    public func gradient(of chosen: ArraySlice<UInt32>, noiseSeed: UInt64?) -> Double {
        for tensor in model.tensors { tensor.clearGradient() }
        let loss = forward(chosen, noiseSeed: noiseSeed, withGradient: true)
        let scale = 1 / Float(chosen.count)
        gatherPrototypeGradients(blocks: blockCount(chosen.count), scale: scale)
        gatherRowGradients(blocks: blockCount(chosen.count), scale: scale)
        if model.form.base == .distance {
            var sum = 0.0
            for block in 0..<blockCount(chosen.count) { sum += workspaces[block].betaGradient }
            model.logBeta.gradient[0] = Float(sum) * scale
        }
        if let network = model.network {
            for (index, tensor) in network.tensors.dropLast(model.networkOfCandidates ? 2 : 0).enumerated() {
                for block in 0..<blockCount(chosen.count) {
                    sonde_add_scaled(
                        tensor.gradient, workspaces[block].networkGradients[index], scale, tensor.count)
                }
            }
        }
        return loss
    }

    private func blockCount(_ count: Int) -> Int { (count + Self.blockSize - 1) / Self.blockSize }

    private func forward(_ chosen: ArraySlice<UInt32>, noiseSeed: UInt64?, withGradient: Bool) -> Double {
        model.prototypes?.refreshBetas()
        let blocks = blockCount(chosen.count)
        let losses = UnsafeMutablePointer<Double>.allocate(capacity: blocks)
        defer { losses.deallocate() }
        nonisolated(unsafe) let blockLosses = losses
        nonisolated(unsafe) let trainer = self
        Workers.forEach(count: blocks, threads: options.threads) { block in
            let first = block * Self.blockSize
            let count = min(Self.blockSize, chosen.count - first)
            blockLosses[block] = trainer.run(
                block: block, chosen: chosen.dropFirst(first).prefix(count), noiseSeed: noiseSeed,
                withGradient: withGradient)
        }
        return (0..<blocks).reduce(0) { $0 + losses[$1] }
    }

    private func run(block: Int, chosen: ArraySlice<UInt32>, noiseSeed: UInt64?, withGradient: Bool) -> Double
    {
        let floats = rows.floatRow(block * Self.blockSize)
        let dimension = rows.dimension
        let first = chosen.startIndex
        for (row, pair) in chosen.enumerated() {
            VectorMatrix.toFloat(
                pairs.queries.row(Int(pair)), pairs.queries.elementType, count: dimension,
                into: floats + row * dimension)
            if let noiseSeed, options.noise > 0 {
                var random = SeededRandom(seed: options.seed ^ noiseSeed, stream: UInt64(pair))
                for column in 0..<dimension {
                    floats[row * dimension + column] += options.noise * Float(random.gaussian())
                }
            }
        }
        return model.pass(
            raw: { UnsafeRawPointer(self.pairs.queries.row(Int(chosen[first + $0]))) }, floats: floats,
            count: chosen.count,
            targets: { row in
                let start = Int(chosen[first + row]) * self.pairs.neighbourCount
                return self.pairs.neighbours[start..<start + self.options.targets]
            }, homes: homes, withGradient: withGradient, workspace: workspaces[block])
    }

    /// The events of all blocks by target, those of one in the order of blocks and rows, so that sums do not hang on
    /// threads. `take` gets each target's with the numbers of the rows that said them.
    private func forEachTarget(
        count: Int, blocks: Int, events: (PassWorkspace) -> [RowEvent],
        take: @Sendable (_ target: Int, _ events: UnsafeBufferPointer<(event: RowEvent, row: Int)>) -> Void
    ) {
        var starts = [Int](repeating: 0, count: count + 1)
        for block in 0..<blocks {
            for event in events(workspaces[block]) { starts[Int(event.target) + 1] += 1 }
        }
        for index in 0..<count { starts[index + 1] += starts[index] }
        var next = starts
        let sorted = UnsafeMutableBufferPointer<(event: RowEvent, row: Int)>.allocate(capacity: starts[count])
        defer { sorted.deallocate() }
        for block in 0..<blocks {
            for event in events(workspaces[block]) {
                sorted[next[Int(event.target)]] = (event, block * Self.blockSize + Int(event.row))
                next[Int(event.target)] += 1
            }
        }
        nonisolated(unsafe) let all = UnsafeBufferPointer(sorted)
        let begins = starts
        Workers.forEachBlock(count: count, blockSize: 1024, threads: options.threads) { _, range in
            for target in range where begins[target + 1] > begins[target] {
                take(target, UnsafeBufferPointer(rebasing: all[begins[target]..<begins[target + 1]]))
            }
        }
    }

    /// Adds up what queries said to each prototype.
    private func gatherPrototypeGradients(blocks: Int, scale: Float) {
        guard let prototypes = model.prototypes else { return }
        nonisolated(unsafe) let model = prototypes
        let slopes = UnsafeMutablePointer<Float>.allocate(capacity: prototypes.count)
        defer { slopes.deallocate() }
        slopes.initialize(repeating: 0, count: prototypes.count)
        nonisolated(unsafe) let betaSlopes = slopes
        let (rows, dimension) = (rows, prototypes.dimension)
        forEachTarget(count: prototypes.count, blocks: blocks, events: \.events) { index, events in
            let beta = model.betas[index]
            let center = model.centers.gradient + index * dimension
            var (weight, logBeta) = (Float(0), Float(0))
            for (event, row) in events {
                sonde_add_scaled(center, rows.floatRow(row), 2 * beta * event.share * scale, dimension)
                weight += event.share
                logBeta -= event.share * beta * event.distance
            }
            sonde_add_scaled(
                center, model.centers.values + index * dimension, -2 * beta * weight * scale, dimension)
            model.weights.gradient[index] = weight * scale
            betaSlopes[index] = logBeta * scale
        }
        if prototypes.sharesBeta {
            prototypes.logBetas.gradient[0] = Float(
                (0..<prototypes.count).reduce(0.0) { $0 + Double(slopes[$1]) })
        } else {
            prototypes.logBetas.gradient.update(from: slopes, count: prototypes.count)
        }
    }

    /// Adds up what queries said to each partition's row of a network's last layer.
    private func gatherRowGradients(blocks: Int, scale: Float) {
        guard let network = model.network, model.networkOfCandidates else { return }
        let last = network.layers.count - 1
        let width = network.widths[last]
        nonisolated(unsafe) let (weights, biases) = (
            network.layers[last].weights.gradient, network.layers[last].biases.gradient
        )
        nonisolated(unsafe) let hidden = workspaces.map { $0.activations?.logits }
        forEachTarget(count: network.partitionCount, blocks: blocks, events: \.rowEvents) {
            partition, events in
            for (event, row) in events {
                let (block, place) = row.quotientAndRemainder(dividingBy: Self.blockSize)
                guard let values = hidden[block] else { continue }
                sonde_add_scaled(
                    weights + partition * width, values + place * width, event.share * scale, width)
                biases[partition] += event.share * scale
            }
        }
    }

    // Checkpoints.

    /// Everything that `restore` needs to go on as if nothing had happened.
    public var state: [UInt8] { progress.encoded(model.tensors) }

    /// Takes back a `state` of the same model and options; false where it does not fit.
    public func restore(_ state: [UInt8]) -> Bool { progress.restore(state, tensors: model.tensors) }
}
