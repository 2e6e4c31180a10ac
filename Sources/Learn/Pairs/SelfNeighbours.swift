// Base vectors asked as queries of the rest of the base: what gain plans learn catchments from beyond the pairs.

import Index
import Router
import Storage
import Vectors

/// Neighbours of base vectors among the others, all by their numbers.
public struct SelfNeighbours: Sendable {
    public let ids: [UInt32]
    /// `neighbourCount` a vector, nearest first, itself left out.
    public let neighbours: [UInt32]
    public let neighbourCount: Int
}

extension DiskIndex {
    /// The neighbours of `count` base vectors (nil: all), each left out of its own search.
    public func selfNeighbours(
        count wanted: Int?, neighbourCount: Int, nprobe: Int? = nil, seed: UInt64 = 1, threads: Int,
        memoryByteCount: Int = 2 << 30, progress: JobProgress = .none
    ) throws -> SelfNeighbours {
        var random = SeededRandom(seed: seed, stream: 78)
        let sample = try sampleRecords(count: wanted ?? manifest.records, random: &random)
        let probes = nprobe ?? min(partitionCount, max(8, Int(Double(partitionCount).squareRoot())))
        var parameters = LearnParameters()
        parameters.threads = threads
        parameters.memoryByteCount = memoryByteCount
        let depth = neighbourLimit(neighbourCount, hasSources: true)
        let labels = try labels(
            of: sample.vectors, sources: sample.ids, k: depth, nprobe: probes, parameters: parameters,
            stage: "neighbours", progress: progress)
        return SelfNeighbours(ids: sample.ids, neighbours: labels.numbers, neighbourCount: depth)
    }
}
