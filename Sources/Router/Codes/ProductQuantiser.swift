// Product quantisation (Jegou, Douze, Schmid 2011): a vector is cut into sub-vectors, each is replaced by the
// number of the nearest of 256 codewords. Codewords are kept in half precision, by component, so that a
// query's inner products with all codewords of a sub-space are a few vector instructions a component.

import CKernels
import Glibc
import Vectors

/// One codebook of 256 codewords a sub-space. Immutable, shared by all workers.
public final class ProductQuantiser: Sendable {
    public static let wordCount = 256
    /// Sub-spaces at most: the sums of as many table bytes stay within sixteen bits.
    public static let codeByteLimit = 256
    static let section = "quantis"
    /// Rows that codewords are trained on at most, and iterations of their k-means.
    private static let ownRows = 65_536
    private static let iterations = 12

    public let dimension: Int
    /// Bytes of a code: the number of sub-spaces.
    public let codeByteCount: Int
    /// Components of sub-space m: `starts[m] ..< starts[m + 1]`.
    let starts: [UInt32]
    /// Row k: component k of the 256 codewords of its sub-space, f16.
    let words: VectorMatrix

    init(codeByteCount: Int, words: VectorMatrix) {
        precondition(words.dimension == Self.wordCount && words.elementType == .f16)
        precondition(codeByteCount >= 1 && codeByteCount <= min(words.count, Self.codeByteLimit))
        dimension = words.count
        self.codeByteCount = codeByteCount
        starts = Self.starts(dimension: words.count, codeByteCount: codeByteCount)
        self.words = words
    }

    /// Sub-spaces of equal size, or of sizes that differ by one.
    private static func starts(dimension: Int, codeByteCount: Int) -> [UInt32] {
        (0...codeByteCount).map { UInt32($0 * dimension / codeByteCount) }
    }

    public var residentByteCount: Int { words.byteCount + starts.count * 4 }

    /// Trains codewords on rows of f32 by one k-means a sub-space. The result depends on the rows and the seed,
    /// not on the number of threads.
    ///
    /// - Parameter codeByteCount: from 1 to the dimension, at most `codeByteLimit`.
    public static func train(_ rows: VectorMatrix, codeByteCount: Int, seed: UInt64, threads: Int)
        -> ProductQuantiser
    {
        precondition(rows.count > 0 && rows.elementType == .f32)
        precondition(codeByteCount >= 1 && codeByteCount <= min(rows.dimension, codeByteLimit))
        var random = SeededRandom(seed: seed, stream: 21)
        let sample =
            rows.count <= ownRows ? rows : rows.gather(random.sample(ownRows, below: rows.count))
        let starts = starts(dimension: rows.dimension, codeByteCount: codeByteCount)
        let words = VectorMatrix(count: rows.dimension, dimension: wordCount, elementType: .f16)
        Workers.forEach(count: codeByteCount, threads: threads) { space in
            let components = Int(starts[space])..<Int(starts[space + 1])
            var means = KMeans(partitions: wordCount, seed: seed &+ UInt64(space), threads: 1)
            means.iterations = iterations
            means.refinements = 1
            let found = means.train(columns(components, of: sample)).centroids
            var line = [Float](repeating: 0, count: wordCount)
            for component in 0..<components.count {
                // Fewer rows than codewords: the first stands in for what is missing.
                for word in 0..<wordCount {
                    line[word] = found.floatRow(word < found.count ? word : 0)[component]
                }
                VectorMatrix.fromFloat(
                    line, count: wordCount, .f16, into: words.row(components.lowerBound + component))
            }
        }
        return ProductQuantiser(codeByteCount: codeByteCount, words: words)
    }

    private static func columns(_ components: Range<Int>, of rows: VectorMatrix) -> VectorMatrix {
        let part = VectorMatrix(count: rows.count, dimension: components.count, elementType: .f32)
        for row in 0..<rows.count {
            part.floatRow(row).update(
                from: rows.floatRow(row) + components.lowerBound, count: components.count)
        }
        return part
    }

    /// Finds codes; made once for many rows, since it holds the codewords by rows.
    public struct Encoder: Sendable {
        private let quantiser: ProductQuantiser
        private let spaces: [NearestCentroids]

        init(_ quantiser: ProductQuantiser) {
            self.quantiser = quantiser
            spaces = (0..<quantiser.codeByteCount).map { space in
                let first = Int(quantiser.starts[space])
                let width = Int(quantiser.starts[space + 1]) - first
                let words = VectorMatrix(count: wordCount, dimension: width, elementType: .f32)
                var line = [Float](repeating: 0, count: wordCount)
                for component in 0..<width {
                    VectorMatrix.toFloat(
                        quantiser.words.row(first + component), .f16, count: wordCount, into: &line)
                    for word in 0..<wordCount { words.floatRow(word)[component] = line[word] }
                }
                return NearestCentroids(scanning: words)
            }
        }

        /// Codes of rows of f32, `codeByteCount` bytes a row, each sub-vector's nearest codeword.
        public func encode(_ rows: VectorMatrix) -> [UInt8] {
            precondition(rows.dimension == quantiser.dimension && rows.elementType == .f32)
            let size = quantiser.codeByteCount
            var codes = [UInt8](repeating: 0, count: rows.count * size)
            for space in 0..<size where rows.count > 0 {
                let components = Int(quantiser.starts[space])..<Int(quantiser.starts[space + 1])
                let found = spaces[space].assign(columns(components, of: rows), threads: 1).partitions
                for row in 0..<rows.count {
                    codes[row * size + space] = UInt8(truncatingIfNeeded: found[row])
                }
            }
            return codes
        }

        /// The vector that a code stands for.
        public func decode(_ code: ArraySlice<UInt8>, into floats: UnsafeMutablePointer<Float>) {
            precondition(code.count == quantiser.codeByteCount)
            for (space, word) in code.enumerated() {
                let first = Int(quantiser.starts[space])
                let width = Int(quantiser.starts[space + 1]) - first
                (floats + first).update(from: spaces[space].centroids.floatRow(Int(word)), count: width)
            }
        }
    }

    public var encoder: Encoder { Encoder(self) }

    /// A query's inner products with all codewords, as bytes of one step (CKernels.h).
    struct Tables: ~Copyable {
        let bytes: UnsafeMutablePointer<UInt8>
        private let products: UnsafeMutablePointer<Float>
        private(set) var step: Float = 0
        private(set) var offset: Float = 0

        init(codeByteCount: Int) {
            bytes = .allocate(capacity: codeByteCount * wordCount)
            products = .allocate(capacity: codeByteCount * wordCount)
        }

        deinit {
            bytes.deallocate()
            products.deallocate()
        }

        mutating func fill(_ quantiser: ProductQuantiser, query: UnsafePointer<Float>) {
            sonde_code_tables(
                quantiser.words.bytes.assumingMemoryBound(to: UInt16.self), quantiser.starts,
                quantiser.codeByteCount,
                query, products, bytes, &step, &offset)
        }
    }

    // Bytes: dimension u32, code bytes u32, codewords f16 by component.

    func encode(into writer: inout SectionWriter) {
        writer.append(UInt32(dimension))
        writer.append(UInt32(codeByteCount))
        writer.append(words)
    }

    static func decode(from reader: inout SectionReader) throws(RouterError) -> ProductQuantiser {
        let dimension = Int(try reader.integer(UInt32.self))
        let codeByteCount = Int(try reader.integer(UInt32.self))
        guard dimension > 0, codeByteCount > 0, codeByteCount <= min(dimension, codeByteLimit) else {
            throw reader.failure("codes of \(codeByteCount) bytes for \(dimension) dimensions")
        }
        let words = try reader.matrix(count: dimension, dimension: wordCount, elementType: .f16)
        guard sonde_find_not_finite(SONDE_F16, words.bytes, dimension * wordCount) == dimension * wordCount
        else {
            throw reader.failure("codewords that are no numbers")
        }
        return ProductQuantiser(codeByteCount: codeByteCount, words: words)
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
