// What a build is asked for. Values only; the manifest keeps them all, so that an index says how it was made.

import Index
import Learn
import Vectors

/// Everything that decides the bytes of an index, besides the base itself. `threads` decides only how fast
/// they come out; `memoryByteCount` also bounds the sample, whose size the manifest keeps.
public struct BuildParameters: Sendable {
    public var metric = Metric.l2
    /// Partitions wanted; nil: from the count of vectors (about 4 sqrt n).
    public var partitions: Int?
    public var copyRule = CopyRule.none
    /// Cells of each partition, each a segment of its own beside its siblings, so that a partition need not be read
    /// whole; nil: a partition is one segment.
    public var subSegments: Int?
    /// SPANN's heads: this share of the base become centroids themselves, resident and in no segment.
    public var headShare: Double?
    /// No partition holds more records than fit into this many pages: larger ones are split when they are
    /// made, and copies beyond it are dropped, the farthest first. Never a vector's only record: where
    /// partitions are learned from a sample, some come out a little larger.
    public var pagesMaximum: Int?
    public var seed: UInt64 = 1
    public var threads = 2
    public var memoryByteCount = 2 << 30
    /// Vectors that partitions are learned from, at most; nil: up to four million or 256 a partition. No
    /// more than fit into a quarter of the memory, and no fewer than partitions.
    public var sampleCount: Int?
    /// Rounds of Lloyd's algorithm.
    public var iterations = 20

    /// The ids of the vectors.
    public var ids = VectorIds.positions(first: 0)
    /// Partitions that were learned before: metric, partitions and all that decides them are the plan's.
    /// `SharedPartitions.apply` sets this and them.
    public var plan: SharedPartitions?
    /// Ids up to this one have to fit, beyond those of the vectors: the greatest of all shards.
    public var greatestId: UInt64 = 0
    /// Which shard of the plan's base the base is.
    public var shard: Shard?
    /// Vectors of the whole base, where partitions are learned from a file that holds some of them.
    public var wholeCount: Int?

    /// A router to learn once the segments are written; nil: centroid distance.
    public var router: RouterTraining?
    /// Memory that the open index may hold: a build that comes out larger fails; nil: no limit.
    public var residentByteCount: Int?
    /// What the manifest keeps besides the parameters, such as the plan that chose them.
    public var notes: [String: String] = [:]

    public init() {}
}
