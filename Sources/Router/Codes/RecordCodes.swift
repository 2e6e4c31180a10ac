// Codes of all records of an index, resident: they tell which pages hold a query's neighbours before any is read
// (docs/explain/pages.md). A code is the quantised residual r of a record to the centroid c of its partition. With m the
// mean of all centroids and e what coding lost,
//   |q - x|^2 = |q - c|^2 + (|r|^2 + 2 <c - m, r> + |e|^2) - 2 <q - m, r>   in the mean,
// so that one table of inner products with the codewords serves all partitions (Jegou et al. 2011, equation 12). Codes lie
// in the order of the records: partition and slot are the address, no id and no page number is kept. The codes of a
// partition are a block of their own: first all corrections, then the upper four bits of all codes by sub-space, which are
// scanned, then the lower four bits by record, which are looked up where the upper ones say that a record may be near.

import CKernels
import Glibc
import Vectors

/// The codes of all records. Immutable, shared by all workers.
public final class RecordCodes: Sendable {
    static let section = "codes"
    /// Where codes lay by whole bytes, before any index was released with them.
    private static let olderSection = "records"

    public let quantiser: ProductQuantiser
    /// Records of partition p: `starts[p] ..< starts[p + 1]`, in the order of its segment.
    public let starts: [UInt32]
    public let model: RecordModel
    /// What is taken from a query before its tables are made.
    let mean: [Float]
    /// The blocks of all partitions, one after the other: in all so many bytes a record as a row has.
    let blocks: VectorMatrix
    /// What distances are multiplied by before they are kept as corrections: a power of two that makes them fit.
    let scale: Float

    init(
        quantiser: ProductQuantiser, starts: [UInt32], model: RecordModel, mean: [Float],
        blocks: VectorMatrix,
        scale: Float
    ) {
        self.quantiser = quantiser
        self.starts = starts
        self.model = model
        self.mean = mean
        self.blocks = blocks
        self.scale = scale
    }

    /// The same codes with another model.
    public func with(model: RecordModel) -> RecordCodes {
        RecordCodes(
            quantiser: quantiser, starts: starts, model: model, mean: mean, blocks: blocks, scale: scale)
    }

    public var count: Int { Int(starts[starts.count - 1]) }
    public var partitionCount: Int { starts.count - 1 }
    func recordCount(of partition: Int) -> Int { Int(starts[partition + 1] - starts[partition]) }

    /// Bytes that a search keeps.
    public var residentByteCount: Int {
        blocks.byteCount + starts.count * 4 + mean.count * 4 + quantiser.residentByteCount + model.byteCount
    }

    // Bytes: the quantiser, mean f32, scale f32, the model, partitions u32, starts u32, blocks.

    /// The section that holds them.
    public func encode() -> (tag: String, bytes: [UInt8]) {
        var writer = SectionWriter()
        quantiser.encode(into: &writer)
        writer.append(mean)
        writer.append(scale)
        model.encode(into: &writer)
        writer.append(UInt32(partitionCount))
        writer.append(starts)
        writer.append(blocks)
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
        guard source.byteCount(ofSection: olderSection) == nil else {
            throw try SectionReader(olderSection, in: source)
                .failure("codes of an older layout that this version does not read: build the index again")
        }
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
        let blocks = try reader.matrix(
            count: Int(starts[counts.count]),
            dimension: CodeBlock.byteCount(spaces: quantiser.codeByteCount), elementType: .u8,
            inHugePages: true)
        try reader.finish()
        let codes = RecordCodes(
            quantiser: quantiser, starts: starts, model: model, mean: mean, blocks: blocks, scale: scale)
        for partition in counts.indices where counts[partition] > 0 {
            let isFinite = codes.withBlock(of: partition) {
                sonde_find_not_finite(SONDE_F16, $0.corrections, counts[partition]) == counts[partition]
            }
            guard isFinite else { throw reader.failure("corrections that are no numbers") }
        }
        return codes
    }

    /// The codes of one partition.
    func withBlock<Result>(of partition: Int, _ body: (CodeBlock) -> Result) -> Result {
        body(
            CodeBlock(
                at: blocks.row(Int(starts[partition])), count: recordCount(of: partition),
                spaces: quantiser.codeByteCount))
    }
}

extension RecordCodes {
    /// Has the part of a partition's codes that is scanned brought near.
    func prefetch(_ partition: Int) {
        withBlock(of: partition) {
            sonde_prefetch($0.corrections, Int(bitPattern: $0.lower) - Int(bitPattern: $0.corrections))
        }
    }
}

/// Where the parts of a partition's codes lie.
struct CodeBlock {
    let count: Int
    /// f16, times the scale of the codes: |r|^2 + 2 <c - m, r> + |e|^2.
    let corrections: UnsafePointer<UInt16>
    /// By pair of sub-spaces, then by record.
    let upper: UnsafePointer<UInt8>
    /// By record, then by pair of sub-spaces.
    let lower: UnsafePointer<UInt8>

    init(at bytes: UnsafeRawPointer, count: Int, spaces: Int) {
        self.count = count
        corrections = bytes.assumingMemoryBound(to: UInt16.self)
        upper = (bytes + 2 * count).assumingMemoryBound(to: UInt8.self)
        lower = upper + Self.pairs(spaces) * count
    }

    /// Sub-spaces by two, whose four bits share a byte.
    static func pairs(_ spaces: Int) -> Int { (spaces + 1) / 2 }

    /// Bytes of a record.
    static func byteCount(spaces: Int) -> Int { 2 + 2 * pairs(spaces) }
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
