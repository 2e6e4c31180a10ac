// Codes of all records of an index, resident: they tell which pages hold a query's neighbours before any is read
// (docs/explain/pages.md). A code is the quantised residual r of a record to the centroid c of its partition. With m the
// mean of all centroids and e what coding lost,
//   |q - x|^2 = |q - c|^2 + (|r|^2 + 2 <c - m, r> + |e|^2) - 2 <q - m, r>   in the mean,
// so that one table of inner products with the codewords serves all partitions (Jegou et al. 2011, equation 12). Codes lie
// in the order of the records: partition and slot are the address, no id and no page number is kept.

import CKernels
import Glibc
import Vectors

/// The codes of all records. Immutable, shared by all workers.
public final class RecordCodes: Sendable {
    static let section = "records"

    public let quantiser: ProductQuantiser
    /// Records of partition p: `starts[p] ..< starts[p + 1]`, in the order of its segment.
    public let starts: [UInt32]
    public let model: RecordModel
    /// What is taken from a query before its tables are made.
    let mean: [Float]
    /// By partition, then by sub-space, then by record.
    let codes: [UInt8]
    /// f16, times `scale`: |r|^2 + 2 <c - m, r> + |e|^2.
    let corrections: [UInt16]
    /// What distances are multiplied by before they are kept: a power of two that makes them fit.
    let scale: Float

    init(
        quantiser: ProductQuantiser, starts: [UInt32], model: RecordModel, mean: [Float], codes: [UInt8],
        corrections: [UInt16], scale: Float
    ) {
        self.quantiser = quantiser
        self.starts = starts
        self.model = model
        self.mean = mean
        self.codes = codes
        self.corrections = corrections
        self.scale = scale
    }

    /// The same codes with another model.
    public func with(model: RecordModel) -> RecordCodes {
        RecordCodes(
            quantiser: quantiser, starts: starts, model: model, mean: mean, codes: codes,
            corrections: corrections, scale: scale)
    }

    public var count: Int { corrections.count }
    public var partitionCount: Int { starts.count - 1 }

    /// Bytes that a search keeps.
    public var residentByteCount: Int {
        codes.count + corrections.count * 2 + starts.count * 4 + mean.count * 4 + quantiser.residentByteCount
            + model.byteCount
    }

    // Bytes: the quantiser, mean f32, scale f32, the model, partitions u32, starts u32, codes, corrections f16.

    /// The section that holds them.
    public func encode() -> (tag: String, bytes: [UInt8]) {
        var writer = SectionWriter()
        quantiser.encode(into: &writer)
        writer.append(mean)
        writer.append(scale)
        model.encode(into: &writer)
        writer.append(UInt32(partitionCount))
        writer.append(starts)
        writer.append(codes)
        corrections.withUnsafeBytes { writer.append(raw: $0) }
        return (Self.section, writer.bytes)
    }

    /// The codes of an index; nil where it has none.
    ///
    /// - Parameters:
    ///   - counts: records of each partition.
    ///   - dimension: of routing space.
    public static func decode(
        _ source: any SectionSource, counts: [Int], dimension: Int
    ) throws(RouterError) -> RecordCodes? {
        guard source.byteCount(ofSection: section) != nil else { return nil }
        var reader = try SectionReader(section, in: source)
        let quantiser = try ProductQuantiser.decode(from: &reader)
        guard quantiser.dimension == dimension else {
            throw reader.failure("codes of \(quantiser.dimension) dimensions, the index has \(dimension)")
        }
        let mean = try reader.floats(dimension)
        let scale = try reader.float()
        guard scale > 0, scale.isFinite, mean.allSatisfy(\.isFinite) else {
            throw reader.failure("a mean or a scale that is no number")
        }
        let model = try RecordModel.decode(from: &reader)
        guard Int(try reader.integer(UInt32.self)) == counts.count else {
            throw reader.failure("partitions of another index: it has \(counts.count)")
        }
        let starts = try reader.numbers(counts.count + 1)
        guard starts[0] == 0,
            counts.indices.allSatisfy({ Int(starts[$0]) + counts[$0] == Int(starts[$0 + 1]) })
        else {
            throw reader.failure("records of another index: partitions hold other counts")
        }
        let count = Int(starts[counts.count])
        let codes = try reader.bytes(count: count, each: quantiser.codeByteCount)
        let corrections = try reader.halves(count)
        try reader.finish()
        guard
            corrections.withUnsafeBufferPointer({
                sonde_find_not_finite(SONDE_F16, $0.baseAddress, count) == count
            })
        else {
            throw reader.failure("corrections that are no numbers")
        }
        return RecordCodes(
            quantiser: quantiser, starts: starts, model: model, mean: mean, codes: codes,
            corrections: corrections, scale: scale)
    }
}

/// What was learned of estimates on queries that were kept back: how far to look, and how surely estimates tell.
public struct RecordModel: Sendable, Equatable {
    /// Partitions whose codes are looked at, the nearest first.
    public var partitionLimit: Int
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

    public init(partitionLimit: Int, spreads: [Spread]) {
        self.partitionLimit = partitionLimit
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

    var byteCount: Int { 8 + spreads.count * 8 }

    func encode(into writer: inout SectionWriter) {
        writer.append(UInt32(partitionLimit))
        writer.append(UInt32(spreads.count))
        for spread in spreads {
            writer.append(UInt32(spread.k))
            writer.append(spread.value)
        }
    }

    static func decode(from reader: inout SectionReader) throws(RouterError) -> RecordModel {
        let limit = Int(try reader.integer(UInt32.self))
        let count = Int(try reader.integer(UInt32.self))
        guard limit >= 1, count >= 1, count <= 64 else {
            throw reader.failure("a model of \(limit) partitions and \(count) spreads")
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
        return RecordModel(partitionLimit: limit, spreads: spreads)
    }
}
