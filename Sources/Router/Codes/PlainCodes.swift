// Codewords by one k-means a stretch: product quantisation as published, and the first and last step of the families
// that turn the vectors before.

import Vectors

/// k-means in each stretch of components.
enum PlainCodes {
    /// Iterations of each k-means.
    static let iterations = 12

    /// Product quantisation of rows as they are.
    static func train(_ rows: VectorMatrix, codeByteCount: Int, seed: UInt64, threads: Int)
        -> ProductQuantiser
    {
        let starts = ProductQuantiser.equalStarts(dimension: rows.dimension, codeByteCount: codeByteCount)
        let words = words(rows, starts: starts, seed: seed, threads: threads)
        return ProductQuantiser(starts: starts, words: words)
    }

    /// Codewords by component, f16, of rows that are mapped already.
    static func words(_ rows: VectorMatrix, starts: [UInt32], seed: UInt64, threads: Int) -> VectorMatrix {
        let words = VectorMatrix(
            count: rows.dimension, dimension: ProductQuantiser.wordCount, elementType: .f16)
        Workers.forEach(count: starts.count - 1, threads: threads) { space in
            let components = Int(starts[space])..<Int(starts[space + 1])
            var means = KMeans(
                partitions: ProductQuantiser.wordCount, seed: seed &+ UInt64(space), threads: 1)
            means.iterations = iterations
            means.refinements = 1
            write(means.train(rows.columns(components)).centroids, components, into: words)
        }
        return words
    }

    /// Puts the codewords of a stretch into their lines. Fewer than there is room for: the first stands in for what is
    /// missing.
    static func write(_ found: VectorMatrix, _ components: Range<Int>, into words: VectorMatrix) {
        var line = [Float](repeating: 0, count: ProductQuantiser.wordCount)
        for component in 0..<components.count {
            for word in line.indices {
                line[word] = found.floatRow(word < found.count ? word : 0)[component]
            }
            VectorMatrix.fromFloat(
                line, count: line.count, .f16, into: words.row(components.lowerBound + component))
        }
    }
}

extension VectorMatrix {
    /// Some components of each row (f32).
    func columns(_ components: Range<Int>) -> VectorMatrix {
        let part = VectorMatrix(count: count, dimension: components.count, elementType: .f32)
        for row in 0..<count {
            part.floatRow(row).update(
                from: floatRow(row) + components.lowerBound, count: components.count)
        }
        return part
    }
}
