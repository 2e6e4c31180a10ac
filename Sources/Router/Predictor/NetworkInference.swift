// A trained perceptron as it is searched: inner products by the scan kernels, one query at a time, so that a query
// gets the same bits alone and among others.

import CKernels
import Vectors

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
            for memory in layers { memory.deallocate() }
            raw.deallocate()
        }
    }

    /// Runs all layers but the last.
    func hidden(of query: UnsafeRawPointer, type: ElementType, scratch: Scratch) {
        VectorMatrix.toFloat(query, type, count: widths[0], into: scratch.layers[0])
        runHidden(scratch)
    }

    private func runHidden(_ scratch: Scratch) {
        for column in 0..<widths[0] {
            scratch.layers[0][column] = (scratch.layers[0][column] - mean[column]) * scale
        }
        for index in 0..<weights.count - 1 {
            product.rows(
                scratch.layers[index], weights[index].bytes, count: widths[index + 1],
                dimension: widths[index],
                into: scratch.raw)
            for output in 0..<widths[index + 1] {
                scratch.layers[index + 1][output] = max(biases[index][output] - scratch.raw[output], 0)
            }
        }
    }

    /// All outputs for inputs that are floats already, into the last of the scratch's layers.
    func outputs(of inputs: UnsafePointer<Float>, scratch: Scratch) -> UnsafeMutablePointer<Float> {
        scratch.layers[0].update(from: inputs, count: widths[0])
        runHidden(scratch)
        let last = weights.count - 1
        product.rows(
            scratch.layers[last], weights[last].bytes, count: widths[last + 1], dimension: widths[last],
            into: scratch.raw)
        let outputs = scratch.layers[last + 1]
        for output in 0..<widths[last + 1] { outputs[output] = biases[last][output] - scratch.raw[output] }
        return outputs
    }

    /// The last layer's output for one partition.
    func logit(of partition: Int, scratch: Scratch) -> Float {
        let last = weights.count - 1
        let dot = product.pair(scratch.layers[last], weights[last].row(partition), dimension: widths[last])
        return biases[last][partition] - dot
    }
}
