// Quantisers as bytes. Plain product codes of equal stretches are written as they always were:
//   dimension u32, code bytes u32, codewords f16 by component.
// All others begin with a zero where those have their dimension:
//   0 u32, family u32, dimension u32, mapped components u32, code bytes u32, maps u32 (0 none, 1 one for queries and
//   vectors, 2 one each), starts u32 (code bytes + 1), maps f32 by rows, codewords f16 by component.

import CKernels
import Vectors

extension ProductQuantiser {
    func encode(into writer: inout SectionWriter) {
        let maps = [transform, encodingTransform].compactMap { $0 }
        if family == .pq, maps.isEmpty,
            starts == Self.equalStarts(dimension: dimension, codeByteCount: codeByteCount)
        {
            writer.append(UInt32(dimension))
            writer.append(UInt32(codeByteCount))
        } else {
            for number in [0, Int(family.number), dimension, mappedDimension, codeByteCount, maps.count] {
                writer.append(UInt32(number))
            }
            writer.append(starts)
            for map in maps { writer.append(map) }
        }
        writer.append(words)
    }

    static func decode(from reader: inout SectionReader) throws(RouterError) -> ProductQuantiser {
        let first = Int(try reader.integer(UInt32.self))
        guard first == 0 else { return try decodePlain(from: &reader, dimension: first) }
        let number = try reader.integer(UInt32.self)
        guard let family = CodeFamily(number: number) else {
            throw reader.failure("codes of kind \(number), which this version does not know")
        }
        let dimension = Int(try reader.integer(UInt32.self))
        let mapped = Int(try reader.integer(UInt32.self))
        let codeByteCount = Int(try reader.integer(UInt32.self))
        let maps = try reader.integer(UInt32.self)
        guard dimension > 0, codeByteCount > 0, codeByteCount <= min(mapped, codeByteLimit),
            maps <= 2, maps > 0 || mapped == dimension
        else {
            throw reader.failure(
                "codes of \(codeByteCount) bytes for \(mapped) of \(dimension) dimensions by \(maps) maps")
        }
        let starts = try reader.numbers(codeByteCount + 1)
        guard starts[0] == 0, Int(starts[codeByteCount]) == mapped,
            zip(starts, starts.dropFirst()).allSatisfy({ $0 < $1 })
        else { throw reader.failure("stretches that do not follow one another") }
        let transform = maps > 0 ? try map(from: &reader, count: mapped, dimension: dimension) : nil
        let encoding = maps > 1 ? try map(from: &reader, count: mapped, dimension: dimension) : nil
        return ProductQuantiser(
            family: family, transform: transform, encodingTransform: encoding, starts: starts,
            words: try words(from: &reader, count: mapped))
    }

    private static func decodePlain(from reader: inout SectionReader, dimension: Int) throws(RouterError)
        -> ProductQuantiser
    {
        let codeByteCount = Int(try reader.integer(UInt32.self))
        guard codeByteCount > 0, codeByteCount <= min(dimension, codeByteLimit) else {
            throw reader.failure("codes of \(codeByteCount) bytes for \(dimension) dimensions")
        }
        return ProductQuantiser(
            starts: equalStarts(dimension: dimension, codeByteCount: codeByteCount),
            words: try words(from: &reader, count: dimension))
    }

    private static func words(from reader: inout SectionReader, count: Int) throws(RouterError)
        -> VectorMatrix
    {
        let words = try reader.matrix(count: count, dimension: wordCount, elementType: .f16)
        guard sonde_find_not_finite(SONDE_F16, words.bytes, count * wordCount) == count * wordCount else {
            throw reader.failure("codewords that are no numbers")
        }
        return words
    }

    private static func map(from reader: inout SectionReader, count: Int, dimension: Int)
        throws(RouterError) -> VectorMatrix
    {
        let map = try reader.matrix(count: count, dimension: dimension, elementType: .f32)
        guard sonde_find_not_finite(SONDE_F32, map.bytes, count * dimension) == count * dimension else {
            throw reader.failure("a map with entries that are no numbers")
        }
        return map
    }

    /// The quantiser as the bytes of a section of its own.
    public func encode() -> [UInt8] {
        var writer = SectionWriter()
        encode(into: &writer)
        return writer.bytes
    }

    public static func decode(_ bytes: [UInt8]) throws(RouterError) -> ProductQuantiser {
        var reader = try SectionReader(section, in: [section: bytes])
        let quantiser = try decode(from: &reader)
        try reader.finish()
        return quantiser
    }
}
