// Fewer dimensions with more bits each (the idea of ASH, learned projections before scalar codes): principal components
// that are worth bits are kept, the rest is lost and known as such, and product codes with a rotation of their own code
// what is kept. Where codes are short and vectors long this loses nothing that codewords of all components would have
// kept, and a query's tables cost as many products fewer.

import Glibc
import Vectors

/// A projection before product codes.
package enum NarrowCodes {
    static func train(
        _ rows: VectorMatrix, codeByteCount: Int, seed: UInt64, threads: Int, weights: DirectionWeights
    ) -> ProductQuantiser {
        let weighted = rows.mapped(by: weights.root, threads: threads)
        let moments = OptimisedCodes.covariance(weighted, threads: threads)
        let kept = dimensions(moments.values, bits: codeByteCount * 8, atLeast: codeByteCount)
        return OptimisedCodes.train(
            weighted: weighted, moments: moments, kept: kept, codeByteCount: codeByteCount, seed: seed,
            threads: threads, family: .narrow, weights: weights)
    }

    /// Components that the best code of so many bits would spend any on (reverse water-filling: each is coded down to one
    /// level of loss, and those below it not at all).
    ///
    /// - Parameter variances: falling.
    package static func dimensions(_ variances: [Double], bits: Int, atLeast least: Int) -> Int {
        var logs = 0.0
        for (index, variance) in variances.enumerated() {
            guard variance > 0 else { return min(max(index, least), variances.count) }
            logs += log2(variance)
            // Bits to bring all so far down to this one's variance.
            if (logs - Double(index + 1) * log2(variance)) / 2 > Double(bits) {
                return min(max(index, least), variances.count)
            }
        }
        return variances.count
    }
}
