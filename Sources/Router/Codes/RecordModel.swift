// What a search by codes of records has to know beside the codes, learned on queries that were kept back.

import Glibc
import Vectors

/// What was learned of estimates on queries that were kept back: how far to look, and how surely estimates tell.
public struct RecordModel: Sendable, Equatable {
    /// By rising k.
    public var depths: [Depth]
    /// Where codes lie in the index: those of a partition are read while its probability to hold the nearest exceeds so
    /// many times what a page has to be worth. 0: always.
    public var lookShare: Float

    /// What a search of k takes.
    public struct Depth: Sendable, Equatable {
        public var k: Int
        /// The spread s of (true - estimated distance) over the root of the estimate.
        public var spread: Float
        /// Partitions whose codes are looked at, the nearest first.
        public var partitionLimit: Int

        public init(k: Int, spread: Float, partitionLimit: Int) {
            self.k = k
            self.spread = spread
            self.partitionLimit = partitionLimit
        }
    }

    public init(depths: [Depth], lookShare: Float = 0) {
        precondition(!depths.isEmpty)
        self.depths = depths
        self.lookShare = lookShare
    }

    /// The spread for a k: between those that were fitted in proportion to the logarithm of k.
    public func spread(k: Int) -> Float {
        guard let upper = depths.firstIndex(where: { $0.k >= k }) else {
            return depths[depths.count - 1].spread
        }
        guard upper > 0, depths[upper].k != k else { return depths[upper].spread }
        let (low, high) = (depths[upper - 1], depths[upper])
        let share = logf(Float(k) / Float(low.k)) / logf(Float(high.k) / Float(low.k))
        return low.spread + share * (high.spread - low.spread)
    }

    /// Partitions that a search of k looks at, at most.
    public func partitionLimit(k: Int) -> Int {
        (depths.first { $0.k >= k } ?? depths[depths.count - 1]).partitionLimit
    }

    /// Records that a search of k weighs at least: far more than can be near.
    public static func candidateCount(k: Int) -> Int { 128 + 8 * k }

    var byteCount: Int { 8 + depths.count * 12 }

    func encode(into writer: inout SectionWriter) {
        writer.append(lookShare)
        writer.append(UInt32(depths.count))
        for depth in depths {
            writer.append(UInt32(depth.k))
            writer.append(depth.spread)
            writer.append(UInt32(depth.partitionLimit))
        }
    }

    static func decode(from reader: inout SectionReader) throws(RouterError) -> RecordModel {
        let share = try reader.float()
        let count = Int(try reader.integer(UInt32.self))
        guard share >= 0, share.isFinite, count >= 1, count <= 64 else {
            throw reader.failure("a model of \(count) depths and a share of \(share)")
        }
        var depths: [Depth] = []
        for _ in 0..<count {
            let k = Int(try reader.integer(UInt32.self))
            let spread = try reader.float()
            let limit = Int(try reader.integer(UInt32.self))
            guard k > depths.last?.k ?? 0, spread > 0, spread.isFinite, limit >= 1 else {
                throw reader.failure("a spread of \(spread) and \(limit) partitions for k \(k)")
            }
            depths.append(Depth(k: k, spread: spread, partitionLimit: limit))
        }
        return RecordModel(depths: depths, lookShare: share)
    }
}
