// Base vectors asked as queries of the rest of the base: what gain plans learn catchments from beyond the pairs.

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
        memoryByteCount: Int = 2 << 30, progress: Progress = .none
    ) throws -> SelfNeighbours {
        var random = SeededRandom(seed: seed, stream: 78)
        let sample = try sampleRecords(count: wanted ?? manifest.records, random: &random)
        let probes = nprobe ?? min(partitionCount, max(8, Int(Double(partitionCount).squareRoot())))
        let found = try nearest(
            of: sample.vectors, k: neighbourCount + 1, nprobe: probes, threads: threads,
            memoryByteCount: memoryByteCount, stage: "neighbours", progress: progress)
        var neighbours: [UInt32] = []
        neighbours.reserveCapacity(sample.ids.count * neighbourCount)
        for (row, id) in sample.ids.enumerated() {
            // Among equal vectors the one asked need not be among the answers: then the last is too many.
            var left = neighbourCount
            for rank in 0...neighbourCount where left > 0 && found.id(query: row, rank: rank) != UInt64(id) {
                neighbours.append(UInt32(truncatingIfNeeded: found.id(query: row, rank: rank)))
                left -= 1
            }
        }
        return SelfNeighbours(ids: sample.ids, neighbours: neighbours, neighbourCount: neighbourCount)
    }
}
