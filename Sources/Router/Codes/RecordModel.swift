// What a search by codes of records has to know beside the codes, learned on queries that were kept back.

import Glibc
import Vectors

/// What was learned of estimates on queries that were kept back: how far to look, and how surely estimates tell.
public struct RecordModel: Sendable, Equatable {
    /// Partitions whose codes are looked at, the nearest first.
    public var partitionLimit: Int
    /// Where codes lie in the index: those of a partition are read while its probability to hold the nearest exceeds so
    /// many times what a page has to be worth. 0: always.
    public var lookShare: Float
    /// By rising k: the spread s of (true - estimated distance) over the root of the estimate, for a search of k.
    public var spreads: [Spread]

    public struct Spread: Sendable, Equatable {
        public var k: Int
        public var value: Float

        public init(k: Int, value: Float) {
            self.k = k
            self.value = value
        }
    }

    public init(partitionLimit: Int, lookShare: Float = 0, spreads: [Spread]) {
        self.partitionLimit = partitionLimit
        self.lookShare = lookShare
        self.spreads = spreads
    }

    /// The spread for a k: between those that were fitted in proportion to the logarithm of k.
    public func spread(k: Int) -> Float {
        guard let upper = spreads.firstIndex(where: { $0.k >= k }) else {
            return spreads[spreads.count - 1].value
        }
        guard upper > 0, spreads[upper].k != k else { return spreads[upper].value }
        let (low, high) = (spreads[upper - 1], spreads[upper])
        let share = logf(Float(k) / Float(low.k)) / logf(Float(high.k) / Float(low.k))
        return low.value + share * (high.value - low.value)
    }

    /// Records that a search of k weighs at least: far more than can be near.
    public static func candidateCount(k: Int) -> Int { 128 + 8 * k }

    var byteCount: Int { 12 + spreads.count * 8 }

    func encode(into writer: inout SectionWriter) {
        writer.append(UInt32(partitionLimit))
        writer.append(lookShare)
        writer.append(UInt32(spreads.count))
        for spread in spreads {
            writer.append(UInt32(spread.k))
            writer.append(spread.value)
        }
    }

    static func decode(from reader: inout SectionReader) throws(RouterError) -> RecordModel {
        let limit = Int(try reader.integer(UInt32.self))
        let share = try reader.float()
        let count = Int(try reader.integer(UInt32.self))
        guard limit >= 1, share >= 0, share.isFinite, count >= 1, count <= 64 else {
            throw reader.failure("a model of \(limit) partitions, a share of \(share) and \(count) spreads")
        }
        var spreads: [Spread] = []
        for _ in 0..<count {
            let k = Int(try reader.integer(UInt32.self))
            let value = try reader.float()
            guard k > spreads.last?.k ?? 0, value > 0, value.isFinite else {
                throw reader.failure("a spread of \(value) for k \(k)")
            }
            spreads.append(Spread(k: k, value: value))
        }
        return RecordModel(partitionLimit: limit, lookShare: share, spreads: spreads)
    }
}
