// Optimised product quantisation (Ge, He, Ke, Sun 2013): the vectors are turned so that the stretches of product codes
// lose least. Codewords and rotation are found by turns: means of what has a code, then the rotation that brings the
// vectors nearest to what their codes stand for (OrthogonalMatrix.nearest).

import Glibc
import Vectors

/// A rotation before product codes.
package enum OptimisedCodes {
    /// Turns of codewords and rotation.
    static let rounds = 15
    /// Rows of a product of matrices at once: sums are of these blocks in order, on any number of threads.
    private static let blockRows = 4096

    /// - Parameters:
    ///   - weights: how much is lost with what is lost of each direction; nil: the same with all.
    static func train(
        _ rows: VectorMatrix, codeByteCount: Int, seed: UInt64, threads: Int,
        family: CodeFamily = .opq, weights: DirectionWeights? = nil
    ) -> ProductQuantiser {
        let weighted = weights.map { rows.mapped(by: $0.root, threads: threads) } ?? rows
        return train(
            weighted: weighted, moments: covariance(weighted, threads: threads), kept: rows.dimension,
            codeByteCount: codeByteCount, seed: seed, threads: threads, family: family, weights: weights)
    }

    /// The same of rows that are weighted already.
    ///
    /// - Parameter kept: components that codes are made of, the greatest ones.
    static func train(
        weighted: VectorMatrix, moments: SymmetricEigen, kept: Int, codeByteCount: Int, seed: UInt64,
        threads: Int, family: CodeFamily, weights: DirectionWeights?
    ) -> ProductQuantiser {
        let starts = ProductQuantiser.equalStarts(dimension: kept, codeByteCount: codeByteCount)
        let first = balanced(moments, starts: starts)
        // Turns are within what is kept: there rows have as many components as the codes.
        let rows = weighted.mapped(by: first, threads: threads)
        let (turned, means) = optimise(rows, starts: starts, seed: seed, threads: threads)
        let words = VectorMatrix(count: kept, dimension: ProductQuantiser.wordCount, elementType: .f16)
        for (space, means) in means.enumerated() {
            PlainCodes.write(means, Int(starts[space])..<Int(starts[space + 1]), into: words)
        }
        // Row by row of the first map's transpose, turned: the product of both maps.
        let rotation = first.transposed().mapped(by: turned, threads: threads).transposed()
        return quantiser(
            family, rotation: rotation, weights: weights, starts: starts, words: words, threads: threads)
    }

    /// A quantiser of rows that were weighted and then turned.
    static func quantiser(
        _ family: CodeFamily, rotation: VectorMatrix, weights: DirectionWeights?, starts: [UInt32],
        words: VectorMatrix, threads: Int
    ) -> ProductQuantiser {
        guard let weights else {
            return ProductQuantiser(family: family, transform: rotation, starts: starts, words: words)
        }
        // The weights' matrices are symmetric: their rows are their columns.
        return ProductQuantiser(
            family: family, transform: weights.inverse.mapped(by: rotation, threads: threads).transposed(),
            encodingTransform: weights.root.mapped(by: rotation, threads: threads).transposed(),
            starts: starts, words: words)
    }

    private static func identity(_ dimension: Int) -> VectorMatrix {
        let matrix = VectorMatrix(count: dimension, dimension: dimension, elementType: .f32)
        for row in 0..<dimension { matrix.floatRow(row)[row] = 1 }
        return matrix
    }

    /// The rotation after all turns, and the codewords that go with it, by stretch.
    private static func optimise(_ rows: VectorMatrix, starts: [UInt32], seed: UInt64, threads: Int)
        -> (rotation: VectorMatrix, means: [VectorMatrix])
    {
        let spaces = starts.count - 1
        var rotation: VectorMatrix?
        nonisolated(unsafe) var means = [VectorMatrix?](repeating: nil, count: spaces)
        for round in 0...rounds {
            let mapped = rotation.map { rows.mapped(by: $0, threads: threads) } ?? rows
            let coded = VectorMatrix(count: rows.count, dimension: mapped.dimension, elementType: .f32)
            let lock = Lock()
            let before = means
            Workers.forEach(count: spaces, threads: threads) { space in
                let components = Int(starts[space])..<Int(starts[space + 1])
                let part = mapped.columns(components)
                var seeding = KMeans(
                    partitions: ProductQuantiser.wordCount, seed: seed &+ UInt64(space), threads: 1)
                seeding.seedingRows = 4
                var lloyd = Lloyd(
                    rows: part,
                    means: before[space] ?? seeding.seeds(part, min(part.count, seeding.partitions)),
                    threads: 1)
                lloyd.run(iterations: round == 0 || round == rounds ? 4 : 1, tolerance: 0)
                let found = lloyd.assignment.partitions
                for row in 0..<rows.count {
                    (coded.floatRow(row) + components.lowerBound).update(
                        from: lloyd.means.floatRow(Int(found[row])), count: components.count)
                }
                let next = lloyd.means
                lock.with { means[space] = next }
            }
            if round < rounds { rotation = nearestRotation(coded, rows, threads: threads) }
        }
        return (rotation ?? identity(rows.dimension), means.compactMap { $0 })
    }

    /// The rotation that brings `rows` nearest to `targets`.
    private static func nearestRotation(_ targets: VectorMatrix, _ rows: VectorMatrix, threads: Int)
        -> VectorMatrix
    {
        let order = rows.dimension
        let nearest = OrthogonalMatrix.nearest(
            to: products(targets, rows, threads: threads), order: order)
        return matrix(nearest, count: order, dimension: order)
    }

    package static func matrix(_ numbers: [Double], count: Int, dimension: Int) -> VectorMatrix {
        let matrix = VectorMatrix(count: count, dimension: dimension, elementType: .f32)
        for (index, number) in numbers.enumerated() { matrix.floats[index] = Float(number) }
        return matrix
    }

    /// The sums over rows of left component times right component.
    static func products(_ left: VectorMatrix, _ right: VectorMatrix, threads: Int) -> [Double] {
        let size = left.dimension * right.dimension
        let blocks = (left.count + blockRows - 1) / blockRows
        let memory = UnsafeMutablePointer<Float>.allocate(capacity: blocks * size)
        defer { memory.deallocate() }
        nonisolated(unsafe) let parts = memory
        Workers.forEachBlock(count: left.count, blockSize: blockRows, threads: threads) { _, range in
            MatrixProduct.multiply(
                left.floatRow(range.lowerBound), transposedA: true, stride: left.dimension,
                right.floatRow(range.lowerBound), strideB: right.dimension, m: left.dimension,
                n: right.dimension, k: range.count, into: parts + range.lowerBound / blockRows * size,
                stride: right.dimension)
        }
        return (0..<size).map { place in (0..<blocks).reduce(0) { $0 + Double(parts[$1 * size + place]) } }
    }

    /// Second moments of rows: residuals have no mean to speak of.
    static func covariance(_ rows: VectorMatrix, threads: Int) -> SymmetricEigen {
        let sums = products(rows, rows, threads: threads)
        return SymmetricEigen(sums.map { $0 / Double(rows.count) }, order: rows.dimension)
    }

    /// Principal components dealt to the stretches so that the products of their variances are alike (the same paper,
    /// section 3.2): the next largest goes to the stretch whose product is least so far.
    private static func balanced(_ eigen: SymmetricEigen, starts: [UInt32]) -> VectorMatrix {
        let spaces = starts.count - 1
        let least = max(eigen.values[0], 1e-30) * 1e-9
        let rooms = (0..<spaces).map { Int(starts[$0 + 1] - starts[$0]) }
        // Logarithms must be of numbers above one for the emptiest to be the least.
        let logs = eigen.values.map { log(max($0, least) / least) + 1 }
        var dealt = [[Int]](repeating: [], count: spaces)
        var sums = [Double](repeating: 0, count: spaces)
        for component in 0..<Int(starts[spaces]) {
            let free = (0..<spaces).filter { dealt[$0].count < rooms[$0] }
            let space = free.min { sums[$0] != sums[$1] ? sums[$0] < sums[$1] : $0 < $1 } ?? 0
            dealt[space].append(component)
            sums[space] += logs[component]
        }
        let order = dealt.flatMap { $0 }
        return matrix(
            order.flatMap { eigen.vectors[$0 * eigen.order..<($0 + 1) * eigen.order] }, count: order.count,
            dimension: eigen.order)
    }
}

/// Weights of directions: an error e of a code counts e^T M e, M a power of second moments. A query at q errs by 2 <q - x, e>
/// in the distance to x, so that what is lost along directions in which near vectors differ most does most harm.
struct DirectionWeights {
    /// The symmetric square root of M, and its inverse.
    let root: VectorMatrix
    let inverse: VectorMatrix

    /// The power of second moments that weights are. On sift-photos at 16 and 32 bytes 0.5 and 1 find as many of the
    /// true ten, and 0.5 loses less.
    static let power = 0.5

    init(_ moments: SymmetricEigen) {
        let order = moments.order
        // What hardly varies must not be blown up without bound on the way back.
        let least = max(moments.values[0], 1e-30) * 1e-3
        let scales = moments.values.map { pow(max($0, least), Self.power / 2) }
        let mean = scales.reduce(0, +) / Double(order)
        func matrix(_ scale: (Int) -> Double) -> VectorMatrix {
            var sums = [Double](repeating: 0, count: order * order)
            for index in 0..<order {
                let row = moments.vectors[index * order..<(index + 1) * order]
                for (i, left) in row.enumerated() {
                    let scaled = left * scale(index)
                    for (j, right) in row.enumerated() { sums[i * order + j] += scaled * right }
                }
            }
            return OptimisedCodes.matrix(sums, count: order, dimension: order)
        }
        root = matrix { scales[$0] / mean }
        inverse = matrix { mean / scales[$0] }
    }
}

extension VectorMatrix {
    /// Rows and columns exchanged (f32).
    func transposed() -> VectorMatrix {
        let result = VectorMatrix(count: dimension, dimension: count, elementType: .f32)
        for row in 0..<count {
            for column in 0..<dimension { result.floatRow(column)[row] = floatRow(row)[column] }
        }
        return result
    }
}
