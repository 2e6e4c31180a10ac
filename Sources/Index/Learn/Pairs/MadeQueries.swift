// Queries in the image of the base, where no learn file says what will be asked.

import Foundation
import Router
import Storage
import Vectors

extension DiskIndex {
    /// Base vectors as queries. Each is left out, by its number, wherever its neighbours are counted.
    func madeQueries(
        _ parameters: LearnParameters, checkpoints: TrainingCheckpoints?, progress: Progress
    ) throws -> (queries: VectorMatrix, sources: [UInt32]) {
        var random = SeededRandom(seed: parameters.seed, stream: 77)
        let seeds = try sampleRecords(count: parameters.syntheticCount, random: &random)
        var order = Array(0..<UInt32(seeds.ids.count))
        random.shuffle(&order)
        let vectors = seeds.vectors.gather(order)
        let sources = order.map { seeds.ids[Int($0)] }
        let blur = Float(ProcessInfo.processInfo.environment["H2BLUR"] ?? "0") ?? 0
        guard blur > 0, count > 1 else { return (vectors, sources) }
        let labels = try labels(
            of: vectors, sources: sources, k: 1, nprobe: min(partitionCount, 8), parameters: parameters,
            checkpoints: checkpoints, stage: "synthetic queries", progress: progress)
        let moved = vectors.converted(to: .f32)
        let floats = moved === vectors ? vectors.gather(0..<vectors.count) : moved
        for row in 0..<floats.count {
            let d = max(labels.nearestDistances[row], 0)
            var length: Float = 0
            for c in 0..<dimension { length += floats.floatRow(row)[c] * floats.floatRow(row)[c] }
            let scale = metric == .l2 ? d.squareRoot() : metric == .cosine ? (2 * d * length).squareRoot() : 0
            let spread = blur * scale / Float(dimension).squareRoot()
            for column in 0..<dimension {
                floats.floatRow(row)[column] += spread * Float(random.gaussian())
            }
        }
        return (floats.converted(to: elementType), sources)
    }
}
