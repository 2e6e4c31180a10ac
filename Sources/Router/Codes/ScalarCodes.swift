// Scalar codes: principal components, levels of its own for each, bits dealt out by variance (the idea of RaBitQ with
// several bits and of SAQ, Li et al. 2025). The bits of some components fill a byte, whose 256 codewords are the product
// grid of their levels, so that tables, codes and kernels are those of product codes.
//
// SAQ adjusts codes by coordinate descent since its estimate divides by <x, code>. Here an estimate adds what was lost of
// a record, and orthonormal components are independent: the nearest codeword of each byte is the best code already.

import Glibc
import Vectors

/// Levels for each principal component.
package enum ScalarCodes {
    /// Share of the variance that the best 2^bits levels of a normal distribution lose (Max 1960).
    private static let losses = [
        1, 0.3634, 0.1175, 0.03454, 0.009497, 0.002499, 0.000642, 0.000163, 0.0000412,
    ]
    private static let bitsEach = 8

    static func train(
        _ rows: VectorMatrix, codeByteCount: Int, seed: UInt64, threads: Int, weights: DirectionWeights
    ) -> ProductQuantiser {
        let weighted = rows.mapped(by: weights.root, threads: threads)
        let moments = OptimisedCodes.covariance(weighted, threads: threads)
        let bytes = dealt(moments.values, codeByteCount: codeByteCount)
        let components = bytes.flatMap { $0 }
        let rotation = OptimisedCodes.matrix(
            components.flatMap {
                moments.vectors[$0.component * moments.order..<($0.component + 1) * moments.order]
            }, count: components.count, dimension: moments.order)
        let mapped = weighted.mapped(by: rotation, threads: threads)
        let starts = bytes.reduce(into: [UInt32(0)]) { $0.append($0[$0.count - 1] + UInt32($1.count)) }
        let words = VectorMatrix(
            count: components.count, dimension: ProductQuantiser.wordCount, elementType: .f16)
        Workers.forEach(count: bytes.count, threads: threads) { byte in
            var shift = 0
            for (place, component) in bytes[byte].enumerated() {
                let row = Int(starts[byte]) + place
                let levels = levels(
                    mapped.columns(row..<row + 1), count: 1 << component.bits, seed: seed &+ UInt64(row))
                let line = (0..<ProductQuantiser.wordCount).map { word in
                    levels[word >> shift & (1 << component.bits - 1)]
                }
                VectorMatrix.fromFloat(line, count: line.count, .f16, into: words.row(row))
                shift += component.bits
            }
        }
        return OptimisedCodes.quantiser(
            .scalar, rotation: rotation, weights: weights, starts: starts, words: words, threads: threads)
    }

    /// The levels of one component: means of k-means. Fewer where values repeat: the first stands in.
    private static func levels(_ values: VectorMatrix, count: Int, seed: UInt64) -> [Float] {
        var means = KMeans(partitions: count, seed: seed, threads: 1)
        means.refinements = 1
        let found = means.train(values).centroids
        let levels = (0..<found.count).map { found.floats[$0] }.sorted()
        return (0..<count).map { $0 < levels.count ? levels[$0] : levels[0] }
    }

    /// The components of each byte with their bits, eight together.
    ///
    /// - Parameter variances: falling.
    package static func dealt(_ variances: [Double], codeByteCount: Int) -> [[(component: Int, bits: Int)]] {
        // What a further bit saves falls with each, so that giving it where it saves most is what dynamic programming
        // over all ways would find.
        var bits = [Int](repeating: 0, count: variances.count)
        func gain(_ component: Int) -> Double {
            guard bits[component] < bitsEach else { return -1 }
            let variance = max(variances[component], 0)
            return variance * (losses[bits[component]] - losses[bits[component] + 1])
        }
        func best(_ some: some Sequence<Int>) -> Int? {
            some.filter { bits[$0] < bitsEach }.max { gain($0) != gain($1) ? gain($0) < gain($1) : $0 > $1 }
        }
        for _ in 0..<codeByteCount * bitsEach {
            if let component = best(variances.indices) { bits[component] += 1 }
        }
        // First fit, most bits first; what does not fit whole gives bits up, and room that is left goes to those of
        // its byte, or to a component that has none yet.
        var bytes = [[Int]](repeating: [], count: codeByteCount)
        var rooms = [Int](repeating: bitsEach, count: codeByteCount)
        for component in variances.indices.sorted(by: { bits[$0] != bits[$1] ? bits[$0] > bits[$1] : $0 < $1 }
        )
        where bits[component] > 0 {
            let byte =
                rooms.firstIndex { $0 >= bits[component] } ?? rooms.indices.max { rooms[$0] < rooms[$1] }
            guard let byte, rooms[byte] > 0 else {
                bits[component] = 0
                continue
            }
            bits[component] = min(bits[component], rooms[byte])
            rooms[byte] -= bits[component]
            bytes[byte].append(component)
        }
        for byte in bytes.indices {
            while rooms[byte] > 0 {
                let idle = variances.indices.first { bits[$0] == 0 }
                guard let component = best(bytes[byte] + [idle].compactMap { $0 }) else { break }
                if bits[component] == 0 { bytes[byte].append(component) }
                bits[component] += 1
                rooms[byte] -= 1
            }
        }
        return bytes.map { $0.map { ($0, bits[$0]) } }
    }
}
