// A multi-layer perceptron from the query to one logit a partition: the published predictor (Storage-NN,
// arXiv 2501.16375: three layers, softmax over clusters). Used plain, or as a residual on another form.

import Vectors

/// Layers of rectified linear units and a linear last one. The same object trains and is searched.
public final class Network: @unchecked Sendable {
    /// Numbers of inputs, of units of each hidden layer, of partitions.
    public let widths: [Int]
    /// Inputs are (x - mean) * scale.
    public let mean: [Float]
    public let scale: Float
    /// Weights (outputs x inputs, row-major) and biases of each layer.
    let layers: [(weights: Tensor, biases: Tensor)]

    /// He initialisation (He et al. 2015). The last layer starts at zero, so that a residual network starts
    /// as the form that it corrects; one that feeds another network (`startsAtZero` false) starts like the others.
    public init(
        dimension: Int, hidden: [Int], partitions: Int, mean: [Float], scale: Float, seed: UInt64,
        startsAtZero: Bool = true
    ) {
        precondition(mean.count == dimension)
        widths = [dimension] + hidden + [partitions]
        self.mean = mean
        self.scale = scale
        var random = SeededRandom(seed: seed)
        var layers: [(weights: Tensor, biases: Tensor)] = []
        for index in 0..<widths.count - 1 {
            let (inputs, outputs) = (widths[index], widths[index + 1])
            let weights = Tensor(name: "weights \(index)", count: inputs * outputs, rate: 0.001)
            let biases = Tensor(name: "biases \(index)", count: outputs, rate: 0.001)
            if index < widths.count - 2 || !startsAtZero {
                let spread = (2 / Float(inputs)).squareRoot()
                for position in 0..<weights.count {
                    weights.values[position] = Float(random.gaussian()) * spread
                }
            }
            layers.append((weights, biases))
        }
        self.layers = layers
    }

    var tensors: [Tensor] { layers.flatMap { [$0.weights, $0.biases] } }
    public var partitionCount: Int { widths[widths.count - 1] }
    public var residentByteCount: Int { tensors.reduce(0) { $0 + $1.count * 4 } + mean.count * 4 }

    /// Activations of a block of queries, layer by layer; the last are the logits, unless only candidates are asked
    /// for theirs.
    final class Activations {
        let capacity: Int
        let layers: [UnsafeMutablePointer<Float>]
        let deltas: [UnsafeMutablePointer<Float>]
        /// Whether the layers end with the last hidden one.
        let ofCandidates: Bool

        init(network: Network, capacity: Int, ofCandidates: Bool = false) {
            self.capacity = capacity
            self.ofCandidates = ofCandidates
            let widths = ofCandidates ? network.widths.dropLast() : network.widths[...]
            layers = widths.map { .allocate(capacity: $0 * capacity) }
            deltas = widths.map { .allocate(capacity: $0 * capacity) }
        }

        deinit {
            for memory in layers { memory.deallocate() }
            for memory in deltas { memory.deallocate() }
        }

        /// The logits, or the last hidden activations where only candidates are asked for theirs.
        var logits: UnsafeMutablePointer<Float> { layers[layers.count - 1] }
        /// Where the loss's gradient by them goes before `backward`.
        var logitDeltas: UnsafeMutablePointer<Float> { deltas[deltas.count - 1] }
    }

    /// Logits of `count` queries given as floats, or what their candidates' logits are computed from.
    func forward(_ queries: UnsafePointer<Float>, count: Int, activations: Activations) {
        precondition(count <= activations.capacity)
        let dimension = widths[0]
        for row in 0..<count {
            for column in 0..<dimension {
                activations.layers[0][row * dimension + column] =
                    (queries[row * dimension + column] - mean[column]) * scale
            }
        }
        for (index, layer) in layers.prefix(activations.layers.count - 1).enumerated() {
            let (inputs, outputs) = (widths[index], widths[index + 1])
            let target = activations.layers[index + 1]
            for row in 0..<count {
                (target + row * outputs).update(from: layer.biases.values, count: outputs)
            }
            MatrixProduct.multiply(
                activations.layers[index], stride: inputs, layer.weights.values, transposedB: true,
                strideB: inputs,
                m: count, n: outputs, k: inputs, into: target, stride: outputs, beta: 1)
            if index < layers.count - 1 {
                for position in 0..<count * outputs { target[position] = max(target[position], 0) }
            }
        }
    }

    /// The last layer's output for one partition, from the last hidden activations of a query.
    func logit(of partition: Int, hidden: UnsafePointer<Float>, product: Distance) -> Float {
        let (width, last) = (widths[layers.count - 1], layers[layers.count - 1])
        return last.biases.values[partition]
            - product.pair(hidden, last.weights.values + partition * width, dimension: width)
    }

    /// Adds to `gradients` (one memory a tensor, in the order of `tensors`) what the last of the deltas implies: those
    /// of the logits, or of the last hidden layer where only candidates were asked for theirs.
    ///
    /// - Parameter toInputs: leave the gradient by the inputs in the first of the activations' deltas.
    func backward(
        count: Int, activations: Activations, into gradients: [UnsafeMutablePointer<Float>],
        toInputs: Bool = false
    ) {
        if activations.ofCandidates, layers.count > 1 {
            let hidden = layers.count - 1
            for position in 0..<count * widths[hidden] where activations.layers[hidden][position] <= 0 {
                activations.deltas[hidden][position] = 0
            }
        }
        for index in stride(from: activations.layers.count - 2, through: 0, by: -1) {
            let (inputs, outputs) = (widths[index], widths[index + 1])
            let delta = activations.deltas[index + 1]
            MatrixProduct.multiply(
                delta, transposedA: true, stride: outputs, activations.layers[index], strideB: inputs,
                m: outputs,
                n: inputs, k: count, into: gradients[2 * index], stride: inputs, beta: 1)
            for row in 0..<count {
                for output in 0..<outputs {
                    gradients[2 * index + 1][output] += delta[row * outputs + output]
                }
            }
            guard index > 0 || toInputs else { continue }
            let below = activations.deltas[index]
            MatrixProduct.multiply(
                delta, stride: outputs, layers[index].weights.values, strideB: inputs, m: count, n: inputs,
                k: outputs, into: below, stride: inputs)
            if index == 0 { continue }
            for position in 0..<count * inputs where activations.layers[index][position] <= 0 {
                below[position] = 0
            }
        }
    }
}

extension Network {
    static func standardisation(of rows: VectorMatrix) -> (mean: [Float], scale: Float) {
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
}
