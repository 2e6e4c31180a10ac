// Prototypes as codes: many coarse ones in the bytes of few exact ones. A code is the product-quantised
// residual r_j to the centroid c of the prototype's partition. With m the mean of all centroids,
//   |q - c - r_j|^2 = |q - c|^2 + |r_j|^2 + 2 <c - m, r_j> - 2 <q - m, r_j>,
// so that one table of inner products with the codewords serves all partitions; |q - c|^2 is known since c
// named the candidate, and what hangs on j alone is folded into the prototype's weight. m changes nothing
// but the size of the numbers, which are rounded to f16 and to steps of a table.

import CKernels
import Glibc
import Vectors

/// The coded prototypes of all partitions, as they are searched: codes and a weight each, one beta.
struct PrototypeCodes: Sendable {
    let quantiser: ProductQuantiser
    /// What is taken from a query before the table is made.
    let mean: [Float]
    let beta: Float
    /// By partition, then by sub-space, then by prototype.
    let codes: [UInt8]
    /// f16: w_j - beta (|r_j|^2 + 2 <c - m, r_j> + e_j^2), e_j what coding lost of the prototype. The last
    /// term makes the distance right in the mean (Jegou et al. 2011, equation 12).
    let weights: [UInt16]

    var residentByteCount: Int {
        codes.count + weights.count * 2 + mean.count * 4 + quantiser.residentByteCount
    }

    /// log sum_j exp(w_j - beta |q - mu_j|^2) over prototypes `first ..< first + count`, a partition's.
    @inline(__always)
    func logit(
        first: Int, count: Int, centroidDistance: Float, tables: borrowing ProductQuantiser.Tables,
        values: UnsafeMutablePointer<Float>
    ) -> Float {
        guard count > 0 else { return -.infinity }
        let sum = codes.withUnsafeBufferPointer { codes in
            weights.withUnsafeBufferPointer { weights in
                sonde_code_mixture(
                    codes.baseAddress! + first * quantiser.codeByteCount, weights.baseAddress! + first, count,
                    quantiser.codeByteCount, tables.bytes, 2 * beta * tables.step, values)
            }
        }
        return sum + 2 * beta * tables.offset - beta * centroidDistance
    }
}
