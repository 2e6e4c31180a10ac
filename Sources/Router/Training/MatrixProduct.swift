// The one door to BLAS, which only training needs and which is loaded when it begins. OpenBLAS is kept to one thread:
// callers split work into blocks of fixed shape over their own threads, so that a result has the same bits on any
// number of them.

import CBLAS

/// Products of matrices, as far as the system has a library of them.
public enum MatrixProduct {
    /// Why the library cannot be had; nil where it can. Without it products take many times as long.
    public static var failure: String? { sonde_blas_load().map { String(cString: $0) } }

    /// c = alpha * op(a) op(b) + beta * c, row-major; op(a) is m x k, op(b) k x n, c m x n. Strides are
    /// those of the rows as stored.
    static func multiply(
        _ a: UnsafePointer<Float>, transposedA transposeA: Bool = false, stride strideA: Int,
        _ b: UnsafePointer<Float>, transposedB transposeB: Bool = false, strideB: Int,
        m: Int, n: Int, k: Int, into c: UnsafeMutablePointer<Float>, stride strideC: Int, alpha: Float = 1,
        beta: Float = 0
    ) {
        sonde_sgemm(
            transposeA, transposeB, Int32(m), Int32(n), Int32(k), alpha, a, Int32(strideA), b, Int32(strideB),
            beta, c, Int32(strideC))
    }
}
