// What a build is asked for. Values only; the manifest keeps them all, so that an index says how it was made.

import Vectors

/// Which second copies of vectors an index holds.
public enum Duplication: Sendable, Equatable {
    /// Every vector once.
    case none
    /// SPANN's closure (Chen et al. 2021, section 3.2): a vector goes to its nearest centroids as long as
    /// they are within (1 + eps1) times the distance of the nearest one (squared distances) and no centroid
    /// taken before is nearer to the candidate than the vector is (the RNG rule); at most `replicas` records.
    case closure(replicas: Int, eps1: Float)
    /// SOAR's one spill (Sun et al. 2024): the second centroid is the one that minimises
    /// |x-c|^2 + lambda <x-c, r/|r|>^2, r the residual at home.
    case soar(lambda: Float)

    /// The name in the command line and the manifest.
    public var name: String {
        switch self {
        case .none: "none"
        case .closure: "closure"
        case .soar: "soar"
        }
    }
}

/// Everything that decides the bytes of an index, besides the base itself. `threads` decides only how fast
/// they come out; `memoryByteCount` also bounds the sample, whose size the manifest keeps.
public struct BuildParameters: Sendable {
    public var metric = Metric.l2
    /// Partitions wanted; nil: from the count of vectors (about 4 sqrt n).
    public var partitions: Int?
    public var duplication = Duplication.none
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
    /// `PartitionPlan.apply` sets this and them.
    public var plan: PartitionPlan?
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
