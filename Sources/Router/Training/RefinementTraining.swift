// Learning the correction of logits from pairs that the predictor itself was not trained on: cross-entropy of the
// softmax over each query's candidates, a few queries a step.

import Glibc
import Vectors

extension Predictor {
    /// Queries of a step, and passes over all of them.
    private static let refinementBatch = 8
    private static let refinementEpochs = 3

    /// This predictor with a correction of its logits, learned from some of the pairs.
    ///
    /// - Parameters:
    ///   - range: the pairs to learn from; a few thousand, none of which trained the predictor.
    ///   - records: of each partition.
    public func refined(
        pairs: TrainingPairs, range: Range<Int>, homes: Homes, records: [UInt32], seed: UInt64, threads: Int
    ) -> Predictor {
        let width = CandidateRefinement.featureCount
        let logs = records.map { log1pf(Float($0)) }
        var halves = [UInt16](repeating: 0, count: logs.count)
        VectorMatrix.fromFloat(logs, count: logs.count, .f16, into: &halves)
        let examples = examples(pairs: pairs, range: range, homes: homes, threads: threads)
        guard !examples.isEmpty else { return self }
        let nearest = examples.map { $0.candidates.distances[0] }.sorted()
        let floor = max(0.01 * nearest[nearest.count / 2], 1e-12)
        let scratch = CandidateRefinement.Scratch(capacity: candidateCount)
        func fill(_ example: Example) {
            CandidateRefinement.fill(
                example.candidates, logits: example.logits, floor: floor, logRecords: halves, scratch: scratch
            )
        }
        // Standardised by the first thousand queries.
        var (sums, squares, count) = (
            [Double](repeating: 0, count: width), [Double](repeating: 0, count: width), 0.0
        )
        for example in examples.prefix(1000) {
            fill(example)
            count += Double(example.logits.count)
            for feature in 0..<width {
                for position in 0..<example.logits.count {
                    let value = Double(scratch.features[feature * scratch.capacity + position])
                    sums[feature] += value
                    squares[feature] += value * value
                }
            }
        }
        let mean = sums.map { Float($0 / count) }
        let scale = (0..<width).map { feature in
            let variance = squares[feature] / count - (sums[feature] / count) * (sums[feature] / count)
            return Float(1 / (max(variance, 0).squareRoot() + 1e-6))
        }
        let network = Network(
            dimension: width, hidden: [CandidateRefinement.hiddenCount], partitions: 1,
            mean: [Float](repeating: 0, count: width), scale: 1, seed: seed)
        let capacity = Self.refinementBatch * candidateCount
        let activations = Network.Activations(network: network, capacity: capacity)
        let input = UnsafeMutablePointer<Float>.allocate(capacity: capacity * width)
        defer { input.deallocate() }
        let stepsAnEpoch = examples.count / Self.refinementBatch
        let total = Self.refinementEpochs * stepsAnEpoch
        var step = 0
        for epoch in 0..<Self.refinementEpochs {
            var random = SeededRandom(seed: seed, stream: UInt64(epoch) + 1)
            var order = Array(0..<UInt32(examples.count))
            random.shuffle(&order)
            for batch in 0..<stepsAnEpoch {
                step += 1
                for tensor in network.tensors { tensor.clearGradient() }
                let chosen = order[batch * Self.refinementBatch..<(batch + 1) * Self.refinementBatch]
                    .map { examples[Int($0)] }
                var rows = 0
                for example in chosen {
                    fill(example)
                    for position in 0..<example.logits.count {
                        for feature in 0..<width {
                            input[(rows + position) * width + feature] =
                                (scratch.features[feature * scratch.capacity + position] - mean[feature])
                                * scale[feature]
                        }
                    }
                    rows += example.logits.count
                }
                network.forward(input, count: rows, activations: activations)
                var first = 0
                for example in chosen {
                    example.addSlopes(
                        corrections: activations.logits + first, into: activations.logitDeltas + first,
                        scale: 1 / Float(Self.refinementBatch))
                    first += example.logits.count
                }
                network.backward(count: rows, activations: activations, into: network.tensors.map(\.gradient))
                let schedule = 2 * (1 + cosf(Float.pi * Float(step - 1) / Float(max(total, 1)))) + 0.01
                for tensor in network.tensors { tensor.step(step, schedule: schedule, threads: 1) }
            }
        }
        return with(refinement(of: network, mean: mean, scale: scale, floor: floor, logRecords: halves))
    }

    /// A query's candidates with the logits of the unrefined predictor, in the order of distances.
    private struct Example: Sendable {
        var candidates: Route
        var logits: [Float]
        /// Positions of the candidates that hold the nearest vector; at least one.
        var right: [Int]

        /// dL/dlogit of the corrected softmax.
        func addSlopes(
            corrections: UnsafePointer<Float>, into slopes: UnsafeMutablePointer<Float>, scale: Float
        ) {
            var greatest = -Float.infinity
            for index in logits.indices { greatest = max(greatest, logits[index] + corrections[index]) }
            var sum: Float = 0
            for index in logits.indices {
                slopes[index] = expf(logits[index] + corrections[index] - greatest)
                sum += slopes[index]
            }
            let held = max(right.reduce(0) { $0 + slopes[$1] }, 1e-30)
            let shares = right.map { slopes[$0] / held }
            for index in logits.indices { slopes[index] *= scale / sum }
            for (share, index) in zip(shares, right) { slopes[index] -= scale * share }
        }
    }

    private func examples(
        pairs: TrainingPairs, range: Range<Int>, homes: Homes, threads: Int
    ) -> [Example] {
        var found = [Example?](repeating: nil, count: range.count)
        found.withUnsafeMutableBufferPointer { found in
            nonisolated(unsafe) let found = found
            Workers.forEachBlock(count: range.count, blockSize: 256, threads: threads) { _, block in
                let scratch = PredictorScratch(predictor: self)
                for index in block {
                    let pair = range.lowerBound + index
                    candidateLogits(pairs.queries.row(pair), scratch: scratch)
                    let home = homes[Int(pairs.neighbours[pair * pairs.neighbourCount])]
                    let right = scratch.candidates.partitions.indices.filter {
                        home.contains(scratch.candidates.partitions[$0])
                    }
                    guard !right.isEmpty else { continue }
                    found[index] = Example(
                        candidates: scratch.candidates,
                        logits: Array(
                            UnsafeBufferPointer(start: scratch.logits, count: scratch.candidates.count)),
                        right: right)
                }
            }
        }
        return found.compactMap { $0 }
    }

    /// The network as it is searched, with the standardisation folded into its first layer.
    private func refinement(
        of network: Network, mean: [Float], scale: [Float], floor: Float, logRecords: [UInt16]
    ) -> CandidateRefinement {
        let (units, width) = (CandidateRefinement.hiddenCount, CandidateRefinement.featureCount)
        var hidden = [Float](repeating: 0, count: units * width)
        var biases = (0..<units).map { network.layers[0].biases.values[$0] }
        for unit in 0..<units {
            for feature in 0..<width {
                let weight = network.layers[0].weights.values[unit * width + feature] * scale[feature]
                hidden[unit * width + feature] = weight
                biases[unit] -= weight * mean[feature]
            }
        }
        return CandidateRefinement(
            hidden: hidden, hiddenBiases: biases,
            output: (0..<units).map { network.layers[1].weights.values[$0] },
            outputBias: network.layers[1].biases.values[0], floor: floor, logRecords: logRecords)
    }
}
