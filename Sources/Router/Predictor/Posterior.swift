// What reading teaches: after a first round the distance of the best vector found is known, and with it how
// likely it is that a partition not read yet holds a nearer one. A small perceptron, shared by all partitions
// and fed with ratios only, turns the router's prior and that distance into a posterior (our own measurement,
// docs/explain/rounds.md: a fifth fewer vectors than the prior alone at recall@1 0.90, with a second round).

import CKernels
import Glibc
import Vectors

/// What is known of a query between rounds. Distances are those of routing space (squared l2).
public struct PosteriorState: Sendable {
    /// Distances that have to be kept for `tenth`.
    public static let depth = 10

    /// The best distance found, and the tenth best (or the farthest found while there are fewer).
    public var best: Float
    public var tenth: Float
    /// Sum of the prior probabilities of what was read.
    public var massRead: Float
    public var readCount: Int
    /// The least soft distance of any candidate.
    public var leastSoft: Float

    public init(best: Float, tenth: Float, massRead: Float, readCount: Int, leastSoft: Float) {
        self.best = best
        self.tenth = tenth
        self.massRead = massRead
        self.readCount = readCount
        self.leastSoft = leastSoft
    }
}

/// What is known of one candidate.
public struct PosteriorCandidate: Sendable {
    public var logProbability: Float
    /// The logit as a distance: -logit / beta.
    public var soft: Float
    public var centroidDistance: Float
    public var logRecords: Float

    public init(logProbability: Float, soft: Float, centroidDistance: Float, logRecords: Float) {
        self.logProbability = logProbability
        self.soft = soft
        self.centroidDistance = centroidDistance
        self.logRecords = logRecords
    }
}

/// The learned posterior: immutable, shared by all workers.
public final class PosteriorModel: Sendable {
    public static let featureCount = 11
    private let layers: [(weights: VectorMatrix, biases: [Float])]
    /// Distances are floored by this, so that ratios stay finite at a distance of zero.
    public let floor: Float
    /// The length that inner products are measured by, about that of the longest vectors; nil under the other metrics,
    /// and in indexes that were trained when products entered as they are.
    public let ceiling: Float?
    let mean: [Float]
    let scale: [Float]
    private let product = Distance(metric: .ip, elementType: .f32)

    init(
        layers: [(weights: VectorMatrix, biases: [Float])], floor: Float, ceiling: Float?, mean: [Float],
        scale: [Float]
    ) {
        self.layers = layers
        self.floor = floor
        self.ceiling = ceiling
        self.mean = mean
        self.scale = scale
    }

    public var residentByteCount: Int {
        layers.reduce(mean.count * 8) { $0 + $1.weights.byteCount + $1.biases.count * 4 }
    }

    /// Writes the features of one candidate, before standardisation.
    static func features(
        _ state: PosteriorState, _ candidate: PosteriorCandidate, floor: Float,
        into target: UnsafeMutablePointer<Float>
    ) {
        let best = max(state.best, 0) + floor
        let left = logf(max(1 - state.massRead, 1e-4))
        target[0] = max(candidate.logProbability, -20)
        target[1] = max(candidate.logProbability - left, -20)
        target[2] = candidate.logRecords
        target[3] = logf(max(candidate.centroidDistance, 0) / best + 0.02)
        target[4] = min(max(candidate.soft / best, -3), 6)
        target[5] = logf(Float(max(state.readCount, 1)))
        target[6] = left
        target[7] = logf((max(state.tenth, 0) + floor) / best)
        target[8] = min(max(state.leastSoft / best, -3), 6)
        target[9] = logf(best)
        target[10] = min(max((candidate.soft - state.leastSoft) / best, 0), 6)
    }

    /// Working memory for up to `capacity` candidates at a time.
    public final class Scratch {
        let capacity: Int
        let features: UnsafeMutablePointer<Float>
        let layers: [UnsafeMutablePointer<Float>]

        public init(model: PosteriorModel, capacity: Int) {
            self.capacity = capacity
            features = .allocate(capacity: capacity * PosteriorModel.featureCount)
            layers = model.layers.map { .allocate(capacity: capacity * $0.weights.count) }
        }

        deinit {
            features.deallocate()
            for memory in layers { memory.deallocate() }
        }
    }

    /// Log-probabilities that each candidate holds the neighbour, given the state.
    public func logProbabilities(
        _ state: PosteriorState, _ candidates: [PosteriorCandidate], scratch: Scratch,
        into result: inout [Float]
    ) {
        precondition(candidates.count <= scratch.capacity)
        result.removeAll(keepingCapacity: true)
        let width = Self.featureCount
        for (row, candidate) in candidates.enumerated() {
            let target = scratch.features + row * width
            Self.features(state, candidate, floor: floor, into: target)
            for column in 0..<width { target[column] = (target[column] - mean[column]) * scale[column] }
        }
        var input = scratch.features
        var inputs = width
        for (index, layer) in layers.enumerated() {
            let outputs = layer.weights.count
            let output = scratch.layers[index]
            product.block(
                input, queries: candidates.count, layer.weights.bytes, count: outputs, dimension: inputs,
                into: output, outStride: outputs)
            for row in 0..<candidates.count {
                for column in 0..<outputs {
                    let value = layer.biases[column] - output[row * outputs + column]
                    output[row * outputs + column] = index < layers.count - 1 ? max(value, 0) : value
                }
            }
            input = output
            inputs = outputs
        }
        for row in 0..<candidates.count {
            // log sigmoid, without overflow on either side.
            let logit = input[row]
            result.append(logit >= 0 ? -log1pf(expf(-logit)) : logit - log1pf(expf(logit)))
        }
    }
}

/// Training rows of a posterior: features, the share of the wanted neighbours that the candidate holds, and
/// how many rows each stands for.
public struct PosteriorRows: Sendable {
    public private(set) var features: [Float] = []
    public private(set) var labels: [Float] = []
    public private(set) var weights: [Float] = []
    let floor: Float
    let ceiling: Float?

    /// - Parameters:
    ///   - floor: a small squared distance of the data, about a hundredth of a typical nearest one.
    ///   - ceiling: the length that inner products are measured by; nil under the other metrics.
    public init(floor: Float, ceiling: Float? = nil) {
        self.floor = floor
        self.ceiling = ceiling
    }

    public var count: Int { labels.count }

    public mutating func append(
        _ state: PosteriorState, _ candidate: PosteriorCandidate, label: Float, weight: Float
    ) {
        withUnsafeTemporaryAllocation(of: Float.self, capacity: PosteriorModel.featureCount) { memory in
            PosteriorModel.features(state, candidate, floor: floor, into: memory.baseAddress!)
            features.append(contentsOf: memory)
        }
        labels.append(label)
        weights.append(weight)
    }
}

extension PosteriorModel {
    /// Fits a perceptron of two hidden layers by weighted cross-entropy, Adam with a cosine schedule.
    public static func fit(
        _ rows: PosteriorRows, hidden: [Int] = [32, 32], epochs: Int = 4, seed: UInt64
    ) -> PosteriorModel {
        let width = featureCount
        var (mean, scale) = ([Float](repeating: 0, count: width), [Float](repeating: 0, count: width))
        for row in 0..<rows.count {
            for column in 0..<width {
                mean[column] += rows.features[row * width + column] / Float(rows.count)
            }
        }
        for row in 0..<rows.count {
            for column in 0..<width {
                let off = rows.features[row * width + column] - mean[column]
                scale[column] += off * off / Float(rows.count)
            }
        }
        for column in 0..<width { scale[column] = 1 / (scale[column].squareRoot() + 1e-6) }
        let network = Network(
            dimension: width, hidden: hidden, partitions: 1, mean: [Float](repeating: 0, count: width),
            scale: 1,
            seed: seed)
        train(network, rows: rows, mean: mean, scale: scale, epochs: epochs, seed: seed)
        let inference = NetworkInference(network)
        return PosteriorModel(
            layers: Array(zip(inference.weights, inference.biases)).map { (weights: $0.0, biases: $0.1) },
            floor: rows.floor, ceiling: rows.ceiling, mean: mean, scale: scale)
    }

    private static func train(
        _ network: Network, rows: PosteriorRows, mean: [Float], scale: [Float], epochs: Int, seed: UInt64
    ) {
        let width = featureCount
        let batch = min(2048, max(rows.count, 1))
        let activations = Network.Activations(network: network, capacity: batch)
        let input = UnsafeMutablePointer<Float>.allocate(capacity: batch * width)
        defer { input.deallocate() }
        let meanWeight = rows.weights.reduce(0, +) / Float(max(rows.count, 1))
        var order = Array(0..<UInt32(rows.count))
        let steps = epochs * (rows.count / batch)
        var step = 0
        for epoch in 0..<epochs {
            var random = SeededRandom(seed: seed, stream: UInt64(epoch) + 1)
            random.shuffle(&order)
            for start in 0..<rows.count / batch {
                step += 1
                for tensor in network.tensors { tensor.clearGradient() }
                for place in 0..<batch {
                    let row = Int(order[start * batch + place])
                    for column in 0..<width {
                        input[place * width + column] =
                            (rows.features[row * width + column] - mean[column]) * scale[column]
                    }
                }
                network.forward(input, count: batch, activations: activations)
                for place in 0..<batch {
                    let row = Int(order[start * batch + place])
                    let probability = 1 / (1 + expf(-activations.logits[place]))
                    activations.logitDeltas[place] =
                        rows.weights[row] / meanWeight * (probability - rows.labels[row]) / Float(batch)
                }
                network.backward(
                    count: batch, activations: activations, into: network.tensors.map(\.gradient))
                let schedule = 2 * (1 + cosf(Float.pi * Float(step - 1) / Float(max(steps, 1)))) + 0.01
                for tensor in network.tensors { tensor.step(step, schedule: schedule, threads: 1) }
            }
        }
    }

    static let section = "rounds"
    /// Two: with a ceiling after the floor.
    private static let formats: ClosedRange<UInt32> = 1...2

    func write(to writer: inout SectionWriter) {
        writer.append(ceiling == nil ? Self.formats.lowerBound : Self.formats.upperBound)
        writer.append(UInt32(layers.count))
        for layer in layers { writer.append(UInt32(layer.weights.count)) }
        writer.append(floor)
        if let ceiling { writer.append(ceiling) }
        for value in mean + scale { writer.append(value) }
        for layer in layers {
            writer.append(layer.weights)
            for bias in layer.biases { writer.append(bias) }
        }
    }

    static func read(from reader: inout SectionReader) throws(RouterError) -> PosteriorModel {
        let format = try reader.integer(UInt32.self)
        guard Self.formats.contains(format) else {
            throw reader.failure(
                "format \(format), this program reads \(Self.formats.lowerBound) to \(Self.formats.upperBound)"
            )
        }
        let count = Int(try reader.integer(UInt32.self))
        guard (1...8).contains(count) else { throw reader.failure("\(count) layers") }
        let widths = try reader.numbers(count).map { Int($0) }
        guard widths.last == 1, widths.allSatisfy({ $0 > 0 && $0 <= 4096 }) else {
            throw reader.failure("widths \(widths)")
        }
        let floor = try reader.float()
        let ceiling = format == Self.formats.lowerBound ? nil : try reader.float()
        let mean = try reader.floats(featureCount)
        let scale = try reader.floats(featureCount)
        guard floor.isFinite, floor >= 0, ceiling.map({ $0.isFinite && $0 > 0 }) ?? true,
            (mean + scale).allSatisfy(\.isFinite)
        else {
            throw reader.failure("numbers that no posterior has")
        }
        var layers: [(weights: VectorMatrix, biases: [Float])] = []
        var inputs = featureCount
        for width in widths {
            layers.append(
                (
                    try reader.matrix(count: width, dimension: inputs, elementType: .f32),
                    try reader.floats(width)
                ))
            inputs = width
        }
        return PosteriorModel(layers: layers, floor: floor, ceiling: ceiling, mean: mean, scale: scale)
    }

    /// The posteriors for the nearest and for the ten nearest as one section.
    public static func encode(_ models: [PosteriorModel]) -> (tag: String, bytes: [UInt8]) {
        var writer = SectionWriter()
        writer.append(UInt32(models.count))
        for model in models { model.write(to: &writer) }
        return (section, writer.bytes)
    }

    /// What `encode` wrote, or nil where there is no such section.
    public static func decode(_ sections: any SectionSource) throws(RouterError) -> [PosteriorModel]? {
        guard sections.byteCount(ofSection: section) != nil else { return nil }
        var reader = try SectionReader(section, in: sections)
        let count = Int(try reader.integer(UInt32.self))
        guard (1...4).contains(count) else { throw reader.failure("\(count) models") }
        var models: [PosteriorModel] = []
        for _ in 0..<count { models.append(try read(from: &reader)) }
        return models
    }
}
