// Rows to the codes of their residuals, and the numbers beside a code from which distances are put together: what codes of
// records and of prototypes share.

import CKernels
import Vectors

/// Codes rows of partitions by what they differ from their centroids. Shared by threads.
struct ResidualCoder: Sendable {
    /// By partition, f32.
    let centroids: VectorMatrix
    /// Of all centroids: what is taken from a query before its tables are made.
    let mean: [Float]
    let quantiser: ProductQuantiser
    private let encoder: ProductQuantiser.Encoder

    /// The codes of some rows, and with r what a code stands for, c the centroid and m the mean of all of them:
    struct Coded {
        /// `codeByteCount` bytes a row.
        var codes: [UInt8]
        /// By row: |r|^2 + 2 <c - m, r>.
        var constants: [Double]
        /// By row: the squared distance of the residual to r.
        var errors: [Double]
        /// By row: the squared length of the residual.
        var lengths: [Double]
    }

    init(centroids: VectorMatrix, quantiser: ProductQuantiser) {
        precondition(quantiser.dimension == centroids.dimension)
        let floats = centroids.converted(to: .f32)
        var mean = [Float](repeating: 0, count: floats.dimension)
        for row in 0..<floats.count {
            sonde_add_scaled(&mean, floats.floatRow(row), 1 / Float(floats.count), floats.dimension)
        }
        self.centroids = floats
        self.mean = mean
        self.quantiser = quantiser
        encoder = quantiser.encoder
    }

    /// Codes rows of one partition.
    func encode(_ rows: VectorMatrix, of partition: Int) -> Coded {
        let size = quantiser.codeByteCount
        let centroid = centroids.floatRow(partition)
        let residuals = rows.residuals(to: centroid)
        let none = [Double](repeating: 0, count: rows.count)
        var coded = Coded(codes: encoder.encode(residuals), constants: none, errors: none, lengths: none)
        var decoded = [Float](repeating: 0, count: mean.count)
        for index in 0..<rows.count {
            encoder.decode(coded.codes[index * size..<(index + 1) * size], into: &decoded)
            let residual = residuals.floatRow(index)
            var (constant, error, length) = (0.0, 0.0, 0.0)
            for column in 0..<mean.count {
                let (r, whole) = (Double(decoded[column]), Double(residual[column]))
                constant += r * (r + 2 * Double(centroid[column] - mean[column]))
                error += (whole - r) * (whole - r)
                length += whole * whole
            }
            (coded.constants[index], coded.errors[index], coded.lengths[index]) = (constant, error, length)
        }
        return coded
    }
}

extension VectorMatrix {
    /// Differences of rows to a centroid (f32 of their dimension), f32.
    package func residuals(to centroid: UnsafePointer<Float>) -> VectorMatrix {
        let floats = converted(to: .f32)
        let residuals = floats === self ? gather(0..<count) : floats
        for row in 0..<residuals.count {
            let values = residuals.floatRow(row)
            for column in 0..<residuals.dimension { values[column] -= centroid[column] }
        }
        return residuals
    }
}
