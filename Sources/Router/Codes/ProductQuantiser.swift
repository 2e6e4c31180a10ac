// Product quantisation (Jegou, Douze, Schmid 2011): a vector, or what a linear map makes of it, is cut into
// sub-vectors, each is replaced by the number of the nearest of 256 codewords. Codewords are kept in half precision, by
// component, so that a query's inner products with all codewords of a sub-space are a few vector instructions a
// component. All families of codes are searched in this one form; CodeFamily says how each is trained.

import CKernels
import Glibc
import Vectors

/// One codebook of 256 codewords a sub-space. Immutable, shared by all workers.
public final class ProductQuantiser: Sendable {
    public static let wordCount = 256
    /// Sub-spaces at most: the sums of as many table bytes stay within sixteen bits.
    public static let codeByteLimit = 256
    /// Rows that codes are trained on at most.
    public static let trainingRows = 65_536
    static let section = "quantis"

    public let family: CodeFamily
    /// Of the vectors that are coded.
    public let dimension: Int
    /// Bytes of a code: the number of sub-spaces.
    public let codeByteCount: Int
    /// T: rows of `dimension` f32, one a mapped component; nil: vectors are coded as they are. A code stands for T^T w,
    /// w its codewords one after the other, so that <q, T^T w> = <T q, w>.
    public let transform: VectorMatrix?
    /// E, of the same shape: a vector's code is that of the w nearest to E x. nil: E is T, whose rows are orthonormal;
    /// otherwise E T^T = 1, and some directions are coded more finely than others.
    public let encodingTransform: VectorMatrix?
    /// Mapped components of sub-space m: `starts[m] ..< starts[m + 1]`.
    let starts: [UInt32]
    /// Row k: component k of the 256 codewords of its sub-space, f16.
    let words: VectorMatrix

    init(
        family: CodeFamily = .pq, transform: VectorMatrix? = nil, encodingTransform: VectorMatrix? = nil,
        starts: [UInt32], words: VectorMatrix
    ) {
        precondition(words.dimension == Self.wordCount && words.elementType == .f16)
        precondition(starts.count >= 2 && starts.count <= Self.codeByteLimit + 1)
        precondition(starts[0] == 0 && Int(starts[starts.count - 1]) == words.count)
        precondition(zip(starts, starts.dropFirst()).allSatisfy { $0 < $1 })
        for map in [transform, encodingTransform].compactMap({ $0 }) {
            precondition(
                map.elementType == .f32 && map.count == words.count
                    && map.dimension == transform?.dimension)
        }
        self.family = family
        self.transform = transform
        self.encodingTransform = encodingTransform
        dimension = transform?.dimension ?? words.count
        codeByteCount = starts.count - 1
        self.starts = starts
        self.words = words
    }

    /// Sub-spaces of equal size, or of sizes that differ by one.
    static func equalStarts(dimension: Int, codeByteCount: Int) -> [UInt32] {
        (0...codeByteCount).map { UInt32($0 * dimension / codeByteCount) }
    }

    /// Components of what vectors are mapped to.
    public var mappedDimension: Int { words.count }

    /// Bytes that a search keeps.
    public var residentByteCount: Int {
        words.byteCount + starts.count * 4 + (transform?.byteCount ?? 0) + (encodingTransform?.byteCount ?? 0)
    }

    /// Trains plain product codes on rows of f32 by one k-means a sub-space. The result depends on the rows and the
    /// seed, not on the number of threads.
    ///
    /// - Parameter codeByteCount: from 1 to the dimension, at most `codeByteLimit`.
    public static func train(_ rows: VectorMatrix, codeByteCount: Int, seed: UInt64, threads: Int)
        -> ProductQuantiser
    { train(.pq, rows: rows, codeByteCount: codeByteCount, seed: seed, threads: threads) }

    public var encoder: Encoder { Encoder(self) }
}

extension ProductQuantiser {
    /// Finds codes; made once for many rows, since it holds the codewords by rows.
    public struct Encoder: Sendable {
        private let quantiser: ProductQuantiser
        private let spaces: [NearestCentroids]

        init(_ quantiser: ProductQuantiser) {
            self.quantiser = quantiser
            spaces = (0..<quantiser.codeByteCount).map { NearestCentroids(scanning: quantiser.words(of: $0)) }
        }

        /// Codes of rows of f32, `codeByteCount` bytes a row, each sub-vector's nearest codeword.
        public func encode(_ rows: VectorMatrix) -> [UInt8] {
            precondition(rows.dimension == quantiser.dimension && rows.elementType == .f32)
            let size = quantiser.codeByteCount
            var codes = [UInt8](repeating: 0, count: rows.count * size)
            guard rows.count > 0 else { return codes }
            let mapped = quantiser.mapped(rows)
            for space in 0..<size {
                let components = quantiser.components(of: space)
                let found = spaces[space].assign(mapped.columns(components), threads: 1).partitions
                for row in 0..<rows.count {
                    codes[row * size + space] = UInt8(truncatingIfNeeded: found[row])
                }
            }
            return codes
        }

        /// The vector that a code stands for.
        public func decode(_ code: ArraySlice<UInt8>, into floats: UnsafeMutablePointer<Float>) {
            precondition(code.count == quantiser.codeByteCount)
            let transform = quantiser.transform
            if transform != nil { floats.update(repeating: 0, count: quantiser.dimension) }
            for (space, byte) in code.enumerated() {
                let components = quantiser.components(of: space)
                let word = spaces[space].centroids.floatRow(Int(byte))
                guard let transform else {
                    (floats + components.lowerBound).update(from: word, count: components.count)
                    continue
                }
                for component in components {
                    sonde_add_scaled(
                        floats, transform.floatRow(component), word[component - components.lowerBound],
                        quantiser.dimension)
                }
            }
        }
    }

    func components(of space: Int) -> Range<Int> { Int(starts[space])..<Int(starts[space + 1]) }

    /// The codewords of a sub-space by rows, f32.
    package func words(of space: Int) -> VectorMatrix {
        let components = components(of: space)
        let rows = VectorMatrix(count: Self.wordCount, dimension: components.count, elementType: .f32)
        var line = [Float](repeating: 0, count: Self.wordCount)
        for (column, component) in components.enumerated() {
            VectorMatrix.toFloat(words.row(component), .f16, count: line.count, into: &line)
            for word in line.indices { rows.floatRow(word)[column] = line[word] }
        }
        return rows
    }

    /// What rows are coded by: themselves without a map.
    private func mapped(_ rows: VectorMatrix) -> VectorMatrix {
        (encodingTransform ?? transform).map { rows.mapped(by: $0, threads: 1) } ?? rows
    }
}

extension ProductQuantiser {
    /// A query's inner products with all codewords, as bytes of one step (CKernels.h). One a worker: queries reuse its
    /// memory.
    public struct Tables: ~Copyable {
        /// 256 bytes a sub-space. The inner product with a coded vector is `offset` + `step` times the sum of the
        /// bytes that its code names.
        public let bytes: UnsafeMutablePointer<UInt8>
        public private(set) var step: Float = 0
        public private(set) var offset: Float = 0
        private let products: UnsafeMutablePointer<Float>
        private let mapped: UnsafeMutablePointer<Float>

        /// Tables for one quantiser; nil for none at all.
        public init(_ quantiser: ProductQuantiser?) {
            let size = (quantiser?.codeByteCount ?? 1) * wordCount
            bytes = .allocate(capacity: size)
            products = .allocate(capacity: size)
            mapped = .allocate(capacity: quantiser?.mappedDimension ?? 1)
        }

        deinit {
            bytes.deallocate()
            products.deallocate()
            mapped.deallocate()
        }

        /// Makes the tables of a query (less a mean, where the codes were made so) of the quantiser that they are for.
        public mutating func fill(_ quantiser: ProductQuantiser, query: UnsafePointer<Float>) {
            var from = query
            if let transform = quantiser.transform {
                transform.map(query, into: mapped)
                from = UnsafePointer(mapped)
            }
            sonde_code_tables(
                quantiser.words.bytes.assumingMemoryBound(to: UInt16.self), quantiser.starts,
                quantiser.codeByteCount, from, products, bytes, &step, &offset)
        }
    }
}

extension VectorMatrix {
    /// The product of this matrix (f32) with a vector. The same bits alone as among many.
    func map(_ vector: UnsafePointer<Float>, into floats: UnsafeMutablePointer<Float>) {
        Distance(metric: .ip, elementType: .f32).rows(
            vector, bytes, count: count, dimension: dimension, into: floats)
        for index in 0..<count { floats[index] = -floats[index] }
    }

    /// Each row (f32) as `transform` maps it.
    package func mapped(by transform: VectorMatrix, threads: Int) -> VectorMatrix {
        precondition(transform.dimension == dimension)
        let result = VectorMatrix(count: count, dimension: transform.count, elementType: .f32)
        let product = Distance(metric: .ip, elementType: .f32)
        Workers.forEachBlock(count: count, blockSize: 64, threads: threads) { _, range in
            product.block(
                floatRow(range.lowerBound), queries: range.count, transform.bytes, count: transform.count,
                dimension: dimension, into: result.floatRow(range.lowerBound), outStride: transform.count)
            let values = result.floatRow(range.lowerBound)
            for index in 0..<range.count * transform.count { values[index] = -values[index] }
        }
        return result
    }
}
