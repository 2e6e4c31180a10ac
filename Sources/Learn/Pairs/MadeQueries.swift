// Queries in the image of the base, where no learn file says what will be asked.

import Index
import Router
import Storage
import Vectors

extension DiskIndex {
    /// Base vectors as queries. Each is left out, by its number, wherever its neighbours are counted.
    func madeQueries(_ parameters: LearnParameters) throws -> (queries: VectorMatrix, sources: [UInt32]) {
        var random = SeededRandom(seed: parameters.seed, stream: 77)
        let seeds = try sampleRecords(count: parameters.syntheticCount, random: &random)
        var order = Array(0..<UInt32(seeds.ids.count))
        random.shuffle(&order)
        let vectors = seeds.vectors.gather(order)
        let sources = order.map { seeds.ids[Int($0)] }
        return (vectors, sources)
    }
}
