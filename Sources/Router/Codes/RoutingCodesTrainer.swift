// Routing-guided learned product quantisation (Yue et al. 2023, arXiv 2311.18724) for an index that reads pages: a
// rotation R = exp(A), A skew-symmetric, and codewords are learned so that codes choose well. The published routing loss is
// over the steps of a walk through a graph; here the decision is which of the records that near partitions offer to read,
// so that each true neighbour must come before the records that the codes of the moment put highest by mistake. A loss of
// reconstruction and one of triplets stand beside it as published. Training keeps what is best on
// held-out queries, so that it ends no worse than it began (RoutingCodesStart.swift).

import CKernels
import Glibc
import Vectors

/// How routing codes are trained.
public struct RoutingCodesOptions: Sendable {
    public var training = TrainingOptions()
    /// Records that stand against the neighbours of a query.
    public var competitors = 30
    /// What the lost squared distance of a record counts for in estimates.
    public var errorWeight: Float = 0.5
    public var reconstruction: Float = 0.2
    public var triplet: Float = 0.1
    /// Whether words are drawn with noise; otherwise slopes go through the softmax about the nearest.
    public var isNoisy = true
    /// Steps of Adam: words in root mean squares of their components, the rotation in radians.
    public var wordRate: Float = 0.004
    public var turnRate: Float = 1e-4

    public init() {
        training.epochs = 4
        training.patience = 2
        training.batchSize = 64
    }
}

/// Trains one quantiser on examples.
public final class RoutingCodesTrainer {
    static let blockQueries = 8
    let start: ProductQuantiser
    let examples: RoutingExamples
    let options: RoutingCodesOptions
    /// Words by sub-space, then by word; the turn's generator A, which is folded into `rotation` after each step; the
    /// rotation so far; logarithms of temperatures by sub-space.
    package let words: Tensor
    package let turn: Tensor
    package let rotation: Tensor
    let temperatures: Tensor
    /// Differences of estimates are told in units of what estimates err by at the start.
    private(set) var inverseError: Float = 1
    private(set) var meanLoss: Float = 1
    private var progress: TrainingState
    public var report: TrainingReport { progress.report }
    private var blocks: [RoutingCodesBlock] = []

    /// - Parameters:
    ///   - start: any family; its maps are turned, its words moved.
    ///   - inverseError: one over the unit of differences of estimates; nil: what this start's estimates err by.
    public init(
        start: ProductQuantiser, examples: RoutingExamples, options: RoutingCodesOptions,
        inverseError: Float? = nil
    ) {
        precondition(examples.queries.dimension == start.dimension)
        self.start = start
        self.examples = examples
        self.options = options
        let (size, order) = (ProductQuantiser.wordCount, start.mappedDimension)
        let parts = (0..<start.codeByteCount).map { start.words(of: $0) }
        var square = 0.0
        for part in parts {
            for place in 0..<part.count * part.dimension {
                square += Double(part.floats[place] * part.floats[place])
            }
        }
        let spread = Float((square / Double(size * order)).squareRoot())
        words = Tensor(name: "words", count: size * order, rate: options.wordRate * spread)
        for (space, part) in parts.enumerated() {
            (words.values + Int(start.starts[space]) * size).update(
                from: part.floats, count: part.count * part.dimension)
        }
        turn = Tensor(name: "turn", count: order * order, rate: options.turnRate)
        rotation = Tensor(name: "rotation", count: order * order, rate: 0)
        for row in 0..<order { rotation.values[row * order + row] = 1 }
        temperatures = Tensor(name: "temperatures", count: start.codeByteCount, rate: 0.01)
        trainingCount = examples.queries.count - examples.queries.count / 10
        progress = TrainingState(pairs: trainingCount)
        let count = (options.training.batchSize + Self.blockQueries - 1) / Self.blockQueries
        blocks = (0..<count).map { _ in RoutingCodesBlock(self) }
        calibrate()
        if let inverseError { self.inverseError = inverseError }
    }

    var tensors: [Tensor] { [words, turn, rotation, temperatures] }
    /// The last tenth of the queries is held out.
    private let trainingCount: Int

    /// The units of the losses, and temperatures at which the nearest word is drawn more often than not.
    private func calibrate() {
        let maps = maps()
        let (block, each) = (blocks[0], examples.recordsEach)
        var (errors, losses, count) = (0.0, 0.0, 0)
        var bySpace = [Double](repeating: 0, count: start.codeByteCount)
        for query in stride(from: 0, to: trainingCount, by: max(1, trainingCount / 64)) {
            block.load([(query, Array(0..<each))], maps)
            block.assignNearest()
            block.estimate(maps)
            for row in 0..<each {
                let off = Double(block.estimates[row] - block.trueDistance(row))
                errors += off * off
                count += 1
                for space in bySpace.indices {
                    let loss = Double(block.loss(row, start.components(of: space)))
                    bySpace[space] += loss
                    losses += loss
                }
            }
        }
        inverseError = Float(1 / max(errors / Double(max(count, 1)), 1e-30).squareRoot())
        meanLoss = Float(max(losses / Double(max(count, 1)), 1e-30))
        for space in bySpace.indices {
            temperatures.values[space] = logf(Float(max(bySpace[space] / Double(max(count, 1)), 1e-30)) * 0.1)
        }
    }

    /// The maps as they are turned now, of vectors and of queries, and the second one's products with itself.
    func maps() -> RoutingCodesMaps {
        let order = start.mappedDimension
        let now = VectorMatrix(count: order, dimension: order, elementType: .f32)
        now.floats.update(from: rotation.values, count: order * order)
        func turned(_ map: VectorMatrix?) -> VectorMatrix {
            map?.transposed().mapped(by: now, threads: options.training.threads).transposed() ?? now
        }
        let query = turned(start.transform)
        let vector = start.encodingTransform.map(turned) ?? query
        return RoutingCodesMaps(
            vector: vector, query: query, products: query.mapped(by: query, threads: options.training.threads)
        )
    }

    /// Runs the epochs that are left, and keeps the best parameters. `afterEpoch` may store a checkpoint (`state`).
    public func train<Failure: Error>(afterEpoch: (RoutingCodesTrainer) throws(Failure) -> Void)
        throws(Failure)
    {
        let training = options.training
        let steps = trainingCount / training.batchSize
        if progress.epoch == 0 { progress.begin(heldOutLoss: heldOutLoss(), tensors: tensors) }
        while !progress.hasEnded(training) && steps > 0 {
            var random = SeededRandom(seed: training.seed, stream: UInt64(progress.epoch) + 1)
            var order = Array(0..<UInt32(trainingCount))
            random.shuffle(&order)
            let mined = mine()
            var loss = 0.0
            for batch in 0..<steps {
                progress.step += 1
                let step = progress.step
                let schedule = 0.5 * (1 + cosf(Float.pi * Float(step - 1) / Float(training.epochs * steps)))
                let chosen = order[batch * training.batchSize..<(batch + 1) * training.batchSize]
                loss += gradient(
                    of: chosen.map { (Int($0), mined[Int($0)]) }, seed: training.seed &+ UInt64(step) << 20)
                for tensor in [words, turn, temperatures] {
                    tensor.step(step, schedule: schedule * training.rate, threads: training.threads)
                }
                foldTurn()
            }
            progress.endEpoch(
                trainLoss: loss / Double(steps * training.batchSize), heldOutLoss: heldOutLoss(),
                tensors: tensors)
            try afterEpoch(self)
        }
        progress.restoreBest(tensors)
    }

    /// Everything that `restore` needs to go on as if nothing had happened.
    public var state: [UInt8] { progress.encoded(tensors) }

    /// Takes back a `state` of the same start and options; false where it does not fit.
    public func restore(_ state: [UInt8]) -> Bool { progress.restore(state, tensors: tensors) }

    /// For each training query the places among its records that stand against each other: its neighbours, then the
    /// records that are put highest by mistake now.
    private func mine() -> [[Int]] {
        let maps = maps()
        nonisolated(unsafe) var mined = [[Int]](repeating: [], count: trainingCount)
        nonisolated(unsafe) let trainer = self
        let (each, neighbours, wanted) = (examples.recordsEach, examples.neighbours, options.competitors)
        let scratch = (0..<max(1, options.training.threads)).map { _ in RoutingCodesBlock(self) }
        nonisolated(unsafe) let blocks = scratch
        let lock = Lock()
        Workers.forEach(count: mined.count, threads: options.training.threads) { worker, query in
            let block = blocks[worker]
            block.load([(query, Array(0..<trainer.examples.recordsEach))], maps)
            block.assignNearest()
            block.estimate(maps)
            let wrong = (neighbours..<each).sorted {
                (block.estimates[$0], $0) < (block.estimates[$1], $1)
            }
            let pool = Array(0..<neighbours) + wrong.prefix(wanted)
            lock.with { mined[query] = pool }
        }
        return mined
    }

    /// Mean routing loss of the held-out queries, all of their records standing against the neighbours, nearest words.
    public func heldOutLoss() -> Double {
        let maps = maps()
        let first = trainingCount
        let count = examples.queries.count - first
        let memory = UnsafeMutablePointer<Double>.allocate(capacity: max(count, 1))
        defer { memory.deallocate() }
        nonisolated(unsafe) let losses = memory
        let scratch = (0..<max(1, options.training.threads)).map { _ in RoutingCodesBlock(self) }
        nonisolated(unsafe) let blocks = scratch
        nonisolated(unsafe) let trainer = self
        Workers.forEach(count: count, threads: options.training.threads) { worker, index in
            let block = blocks[worker]
            block.load([(first + index, Array(0..<trainer.examples.recordsEach))], maps)
            block.assignNearest()
            block.estimate(maps)
            losses[index] = block.routingLoss(0, slopes: nil)
        }
        return (0..<count).reduce(0) { $0 + losses[$1] } / Double(max(count, 1))
    }

    /// Sum of the losses of up to a batch of queries, and the mean gradient into the tensors.
    ///
    /// - Parameters:
    ///   - chosen: queries, each with places among its records, neighbours first.
    ///   - seed: of the noise; nil: nearest words, and no slope through the choice of words.
    package func gradient(of chosen: [(query: Int, places: [Int])], seed: UInt64?) -> Double {
        for tensor in tensors { tensor.clearGradient() }
        let maps = maps()
        let count = (chosen.count + Self.blockQueries - 1) / Self.blockQueries
        let memory = UnsafeMutablePointer<Double>.allocate(capacity: max(count, 1))
        defer { memory.deallocate() }
        nonisolated(unsafe) let (losses, blocks) = (memory, blocks)
        let parts = (0..<count).map {
            Array(chosen.dropFirst($0 * Self.blockQueries).prefix(Self.blockQueries))
        }
        Workers.forEach(count: count, threads: options.training.threads) { part in
            losses[part] = blocks[part].pass(parts[part], maps, seed: seed.map { $0 &+ UInt64(part) })
        }
        let scale = 1 / Float(chosen.count)
        let order = start.mappedDimension
        for block in blocks.prefix(count) {
            sonde_add_scaled(words.gradient, block.wordSlopes, scale, words.count)
            sonde_add_scaled(temperatures.gradient, block.temperatureSlopes, scale, temperatures.count)
            // A and -A^T are one: the slope by an entry counts its mirror's.
            for row in 0..<order {
                for column in 0..<order {
                    turn.gradient[row * order + column] +=
                        scale
                        * (block.turnSlopes[row * order + column] - block.turnSlopes[column * order + row])
                }
            }
        }
        return (0..<count).reduce(0) { $0 + losses[$1] }
    }

    /// R becomes exp(A) R, and A nothing: what A moves next begins where R stands.
    package func foldTurn() {
        let order = start.mappedDimension
        let size = order * order
        // Adam moves an entry and its mirror by opposite steps; exact opposites keep R a rotation.
        var a = [Float](repeating: 0, count: size)
        for row in 0..<order {
            for column in 0..<order {
                a[row * order + column] =
                    (turn.values[row * order + column] - turn.values[column * order + row]) / 2
            }
        }
        turn.values.update(repeating: 0, count: size)
        // exp(A) R = R + A R + A (A R) / 2 + ...: steps are small, so that a few terms are all of it.
        var term = Array(UnsafeBufferPointer(start: rotation.values, count: size))
        var next = term
        for power in 1...4 {
            MatrixProduct.multiply(
                a, stride: order, term, strideB: order, m: order, n: order, k: order, into: &next,
                stride: order, alpha: 1 / Float(power))
            swap(&term, &next)
            sonde_add_scaled(rotation.values, term, 1, size)
        }
        // What rounding took is given back: R (3 - R^T R) / 2 is orthogonal to twice as many digits.
        let moved = Array(UnsafeBufferPointer(start: rotation.values, count: size))
        MatrixProduct.multiply(
            moved, transposedA: true, stride: order, moved, strideB: order, m: order, n: order, k: order,
            into: &next, stride: order)
        MatrixProduct.multiply(
            moved, stride: order, next, strideB: order, m: order, n: order, k: order,
            into: rotation.values, stride: order, alpha: -0.5, beta: 1.5)
    }

    /// The quantiser with the parameters as they are.
    public var quantiser: ProductQuantiser {
        let order = start.mappedDimension
        let now = maps()
        let found = VectorMatrix(
            count: order, dimension: ProductQuantiser.wordCount, elementType: .f16)
        for space in 0..<start.codeByteCount {
            let components = start.components(of: space)
            let rows = VectorMatrix(
                count: ProductQuantiser.wordCount, dimension: components.count, elementType: .f32)
            rows.floats.update(
                from: words.values + components.lowerBound * ProductQuantiser.wordCount,
                count: rows.count * rows.dimension)
            PlainCodes.write(rows, components, into: found)
        }
        return ProductQuantiser(
            family: .rpq, transform: now.query,
            encodingTransform: start.encodingTransform == nil ? nil : now.vector, starts: start.starts,
            words: found)
    }
}

/// The maps of one step.
struct RoutingCodesMaps: Sendable {
    let vector: VectorMatrix
    let query: VectorMatrix
    /// Of the query map's rows with each other: what the squared length of a decoded vector is made of.
    let products: VectorMatrix
}
