// Codes of all records of an index, resident: they tell which pages hold a query's neighbours before any is read
// (docs/explain/pages.md). A code is the quantised residual r of a record to the centroid c of its partition. With m the
// mean of all centroids and e what coding lost,
//   |q - x|^2 = |q - c|^2 + (|r|^2 + 2 <c - m, r> + |e|^2) - 2 <q - m, r>   in the mean,
// so that one table of inner products with the codewords serves all partitions (Jegou et al. 2011, equation 12). Codes lie
// in the order of the records: partition and slot are the address, no id and no page number is kept. The codes of a
// partition are a block of their own: first all corrections, then the upper four bits of all codes by sub-space, which are
// scanned, then the lower four bits by record, which are looked up where the upper ones say that a record may be near.

import CKernels
import Vectors

/// The codes of all records. Immutable, shared by all workers.
public final class RecordCodes: Sendable {
    static let section = "codes"
    /// Where codes lay by whole bytes, before any index was released with them.
    private static let olderSection = "records"
    private static let pageByteCount = 4096

    public let quantiser: ProductQuantiser
    /// Records of partition p: `starts[p] ..< starts[p + 1]`, in the order of its segment.
    public let starts: [UInt32]
    public let model: RecordModel
    /// What is taken from a query before its tables are made.
    let mean: [Float]
    /// What distances are multiplied by before they are kept as corrections: a power of two that makes them fit.
    let scale: Float
    /// The blocks of all partitions, one after the other: in all so many bytes a record as a row has. nil where they lie in
    /// the index, in codes.bin.
    public let blocks: VectorMatrix?
    /// The checksum of each page of codes.bin; none where the blocks are in memory.
    public let pageChecksums: [UInt32]

    init(
        quantiser: ProductQuantiser, starts: [UInt32], model: RecordModel, mean: [Float], scale: Float,
        blocks: VectorMatrix?, pageChecksums: [UInt32] = []
    ) {
        self.quantiser = quantiser
        self.starts = starts
        self.model = model
        self.mean = mean
        self.scale = scale
        self.blocks = blocks
        self.pageChecksums = pageChecksums
    }

    /// The same codes with another model.
    public func with(model: RecordModel) -> RecordCodes {
        RecordCodes(
            quantiser: quantiser, starts: starts, model: model, mean: mean, scale: scale, blocks: blocks,
            pageChecksums: pageChecksums)
    }

    /// The same codes once their blocks lie in the index.
    public func inIndex(pageChecksums: [UInt32]) -> RecordCodes {
        RecordCodes(
            quantiser: quantiser, starts: starts, model: model, mean: mean, scale: scale, blocks: nil,
            pageChecksums: pageChecksums)
    }

    public var count: Int { Int(starts[starts.count - 1]) }
    public var partitionCount: Int { starts.count - 1 }
    public func recordCount(of partition: Int) -> Int { Int(starts[partition + 1] - starts[partition]) }
    public var isResident: Bool { blocks != nil }

    /// Bytes of a record's code with its correction.
    public var recordByteCount: Int { CodeBlock.byteCount(spaces: quantiser.codeByteCount) }

    /// Where the block of a partition lies among all of them.
    public func blockRange(of partition: Int) -> Range<Int> {
        Int(starts[partition]) * recordByteCount..<Int(starts[partition + 1]) * recordByteCount
    }

    /// Bytes that a search keeps.
    public var residentByteCount: Int {
        (blocks?.byteCount ?? 0) + pageChecksums.count * 4 + starts.count * 4 + mean.count * 4
            + quantiser.residentByteCount + model.byteCount
    }

    // Bytes: the quantiser, mean f32, scale f32, the model, partitions u32, starts u32, then u32 0 and the blocks, or u32 1,
    // pages of codes.bin u32, and their checksums u32.

    /// The section that holds them.
    public func encode() -> (tag: String, bytes: [UInt8]) {
        var writer = SectionWriter()
        quantiser.encode(into: &writer)
        writer.append(mean)
        writer.append(scale)
        model.encode(into: &writer)
        writer.append(UInt32(partitionCount))
        writer.append(starts)
        if let blocks {
            writer.append(UInt32(0))
            writer.append(blocks)
        } else {
            writer.append(UInt32(1))
            writer.append(UInt32(pageChecksums.count))
            writer.append(pageChecksums)
        }
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
        let (count, size) = (
            Int(starts[counts.count]), CodeBlock.byteCount(spaces: quantiser.codeByteCount)
        )
        let place = try reader.integer(UInt32.self)
        guard place <= 1 else { throw reader.failure("codes in place \(place)") }
        guard place == 0 else {
            let pages = Int(try reader.integer(UInt32.self))
            guard pages == (count * size + pageByteCount - 1) / pageByteCount else {
                throw reader.failure("\(pages) pages for \(count) records")
            }
            let checksums = try reader.numbers(pages)
            try reader.finish()
            return RecordCodes(
                quantiser: quantiser, starts: starts, model: model, mean: mean, scale: scale, blocks: nil,
                pageChecksums: checksums)
        }
        let blocks = try reader.matrix(count: count, dimension: size, elementType: .u8, inHugePages: true)
        try reader.finish()
        let codes = RecordCodes(
            quantiser: quantiser, starts: starts, model: model, mean: mean, scale: scale, blocks: blocks)
        for partition in counts.indices where counts[partition] > 0 {
            guard let block = codes.block(of: partition, at: nil), block.isFinite else {
                throw reader.failure("corrections that are no numbers")
            }
        }
        return codes
    }

    /// The codes of a partition that lie at `bytes`, or where that is nil in memory; nil where they do not.
    func block(of partition: Int, at bytes: UnsafeRawPointer?) -> CodeBlock? {
        guard let bytes = bytes ?? blocks.map({ UnsafeRawPointer($0.row(Int(starts[partition]))) })
        else { return nil }
        return CodeBlock(
            at: bytes, count: recordCount(of: partition), spaces: quantiser.codeByteCount)
    }

    /// Has the part of a partition's codes that is scanned brought near.
    func prefetch(_ partition: Int) {
        guard let blocks else { return }
        sonde_prefetch(
            blocks.row(Int(starts[partition])),
            recordCount(of: partition) * (2 + CodeBlock.pairs(quantiser.codeByteCount)))
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

    var isFinite: Bool { sonde_find_not_finite(SONDE_F16, corrections, count) == count }

    /// Sub-spaces by two, whose four bits share a byte.
    static func pairs(_ spaces: Int) -> Int { (spaces + 1) / 2 }

    /// Bytes of a record.
    static func byteCount(spaces: Int) -> Int { 2 + 2 * pairs(spaces) }
}
