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

/// Prototypes with their codes, before a beta is chosen.
struct PrototypeEncoding {
    let starts: [UInt32]
    private let quantiser: ProductQuantiser
    private let mean: [Float]
    private let codes: [UInt8]
    private let weights: [Float]
    /// What beta multiplies in the coded weight.
    private let constants: [Float]
    /// Mean squared distance of prototypes to what their codes stand for, and to their centroids.
    let error: Double
    let spread: Double

    /// - Parameters:
    ///   - centers: the prototypes, f32, by partition.
    ///   - centroids: by partition, as the candidates' distances are taken to them.
    init(
        starts: [UInt32], centers: UnsafePointer<Float>, weights: [Float], centroids: VectorMatrix,
        codeByteCount: Int, seed: UInt64, threads: Int
    ) {
        let dimension = centroids.dimension
        let count = weights.count
        let floats = centroids.converted(to: .f32)
        precondition(
            starts.count == centroids.count + 1 && Int(starts[centroids.count]) == count && count > 0)
        var mean = [Float](repeating: 0, count: dimension)
        for row in 0..<floats.count {
            sonde_add_scaled(&mean, floats.floatRow(row), 1 / Float(floats.count), dimension)
        }
        self.starts = starts
        self.weights = weights
        self.mean = mean
        nonisolated(unsafe) let centers = centers
        let quantiser = Self.quantiser(
            starts: starts, centers: centers, centroids: floats, codeByteCount: codeByteCount, seed: seed,
            threads: threads)
        self.quantiser = quantiser
        let encoder = quantiser.encoder
        var codes = [UInt8](repeating: 0, count: count * codeByteCount)
        var constants = [Float](repeating: 0, count: count)
        var errors = [Float](repeating: 0, count: count)
        var spreads = errors
        codes.withUnsafeMutableBufferPointer { codes in
            constants.withUnsafeMutableBufferPointer { constants in
                errors.withUnsafeMutableBufferPointer { errors in
                    spreads.withUnsafeMutableBufferPointer { spreads in
                        nonisolated(unsafe) let (codes, constants) = (
                            codes.baseAddress!, constants.baseAddress!
                        )
                        nonisolated(unsafe) let (errors, spreads) = (
                            errors.baseAddress!, spreads.baseAddress!
                        )
                        let mean = mean
                        Workers.forEach(count: starts.count - 1, threads: threads) { partition in
                            let first = Int(starts[partition])
                            let size = Int(starts[partition + 1]) - first
                            guard size > 0 else { return }
                            let centroid = floats.floatRow(partition)
                            let residuals = VectorMatrix(count: size, dimension: dimension, elementType: .f32)
                            for index in 0..<size {
                                Self.subtract(
                                    centers + (first + index) * dimension, centroid, count: dimension,
                                    into: residuals.floatRow(index))
                            }
                            let found = encoder.encode(residuals)
                            var decoded = [Float](repeating: 0, count: dimension)
                            for index in 0..<size {
                                let code = found[index * codeByteCount..<(index + 1) * codeByteCount]
                                for (space, byte) in code.enumerated() {
                                    codes[first * codeByteCount + space * size + index] = byte
                                }
                                encoder.decode(code, into: &decoded)
                                var (constant, error, spread) = (0.0, 0.0, 0.0)
                                for column in 0..<dimension {
                                    let r = Double(decoded[column])
                                    let whole = Double(residuals.floatRow(index)[column])
                                    constant += r * (r + 2 * Double(centroid[column] - mean[column]))
                                    error += (whole - r) * (whole - r)
                                    spread += whole * whole
                                }
                                constants[first + index] = Float(constant + error)
                                errors[first + index] = Float(error)
                                spreads[first + index] = Float(spread)
                            }
                        }
                    }
                }
            }
        }
        self.codes = codes
        self.constants = constants
        error = errors.reduce(0.0) { $0 + Double($1) } / Double(count)
        spread = spreads.reduce(0.0) { $0 + Double($1) } / Double(count)
    }

    private static func subtract(
        _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, count: Int,
        into difference: UnsafeMutablePointer<Float>
    ) {
        for column in 0..<count { difference[column] = a[column] - b[column] }
    }

    /// Trains on the residuals of a sample.
    private static func quantiser(
        starts: [UInt32], centers: UnsafePointer<Float>, centroids: VectorMatrix, codeByteCount: Int,
        seed: UInt64,
        threads: Int
    ) -> ProductQuantiser {
        var random = SeededRandom(seed: seed, stream: 20)
        let sample = random.sample(65_536, below: Int(starts[starts.count - 1]))
        let residuals = VectorMatrix(count: sample.count, dimension: centroids.dimension, elementType: .f32)
        var partition = 0
        for (row, prototype) in sample.enumerated() {
            while starts[partition + 1] <= prototype { partition += 1 }
            subtract(
                centers + Int(prototype) * centroids.dimension, centroids.floatRow(partition),
                count: centroids.dimension, into: residuals.floatRow(row))
        }
        return ProductQuantiser.train(residuals, codeByteCount: codeByteCount, seed: seed, threads: threads)
    }

    /// The prototypes as they are searched with one beta.
    func mixture(beta: Float) -> PrototypeMixture {
        var folded = [UInt16](repeating: 0, count: weights.count)
        let values = zip(weights, constants).map { $0 - beta * $1 }
        VectorMatrix.fromFloat(values, count: values.count, .f16, into: &folded)
        return PrototypeMixture(
            starts: starts,
            kept: .codes(
                PrototypeCodes(quantiser: quantiser, mean: mean, beta: beta, codes: codes, weights: folded)))
    }
}
