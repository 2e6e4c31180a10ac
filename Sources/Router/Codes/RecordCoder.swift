// Codes of records as their segments come by: what stands in memory is the codes and four bytes beside each.

import CKernels
import Vectors

/// Codes the records of an index, some partitions at a time; each partition once.
public struct RecordCoder: Sendable {
    /// Records of partition p: `starts[p] ..< starts[p + 1]`.
    private let starts: [UInt32]
    private let centroids: VectorMatrix
    private let mean: [Float]
    private let quantiser: ProductQuantiser
    private let encoder: ProductQuantiser.Encoder
    private var codes: [UInt8]
    private var corrections: [Float]
    /// How much of what a code lost is added to a distance. All of it makes estimates right in the mean; of coarse codes
    /// half puts the near records first more often (docs/results/codes.md).
    private let lostShare: Double

    /// - Parameters:
    ///   - counts: records of each partition, fewer than 2^32 in all.
    ///   - centroids: by partition, as a route's distances are taken to them.
    public init(counts: [Int], centroids: VectorMatrix, quantiser: ProductQuantiser) {
        precondition(counts.count == centroids.count && quantiser.dimension == centroids.dimension)
        var starts: [UInt32] = [0]
        starts.reserveCapacity(counts.count + 1)
        for count in counts { starts.append(starts[starts.count - 1] + UInt32(count)) }
        let floats = centroids.converted(to: .f32)
        var mean = [Float](repeating: 0, count: floats.dimension)
        for row in 0..<floats.count {
            sonde_add_scaled(&mean, floats.floatRow(row), 1 / Float(floats.count), floats.dimension)
        }
        self.starts = starts
        self.centroids = floats
        self.mean = mean
        self.quantiser = quantiser
        encoder = quantiser.encoder
        lostShare = quantiser.codeByteCount <= 16 ? 0.5 : 1
        let count = Int(starts[counts.count])
        codes = [UInt8](repeating: 0, count: count * quantiser.codeByteCount)
        corrections = [Float](repeating: 0, count: count)
    }

    /// Codes the records of some partitions; `rows` are those of routing space, in the order of the segment.
    public mutating func encode(_ parts: [(partition: Int, rows: VectorMatrix)], threads: Int) {
        let (starts, centroids, mean, encoder, lostShare) = (starts, centroids, mean, encoder, lostShare)
        let size = quantiser.codeByteCount
        codes.withUnsafeMutableBufferPointer { codes in
            corrections.withUnsafeMutableBufferPointer { corrections in
                // Each partition writes its own stretch.
                nonisolated(unsafe) let (codes, corrections) = (codes, corrections)
                Workers.forEach(count: parts.count, threads: threads) { task in
                    let (partition, rows) = parts[task]
                    let first = Int(starts[partition])
                    let count = Int(starts[partition + 1]) - first
                    precondition(rows.count == count)
                    guard count > 0 else { return }
                    let centroid = centroids.floatRow(partition)
                    let residuals = PrototypeCoder.residuals(of: rows, to: centroid)
                    let found = encoder.encode(residuals)
                    var decoded = [Float](repeating: 0, count: mean.count)
                    for index in 0..<count {
                        let code = found[index * size..<(index + 1) * size]
                        for (space, byte) in code.enumerated() {
                            codes[first * size + space * count + index] = byte
                        }
                        encoder.decode(code, into: &decoded)
                        let residual = residuals.floatRow(index)
                        var correction = 0.0
                        for column in 0..<mean.count {
                            let r = Double(decoded[column])
                            let lost = Double(residual[column]) - r
                            correction +=
                                r * (r + 2 * Double(centroid[column] - mean[column])) + lostShare * lost
                                * lost
                        }
                        corrections[first + index] = Float(correction)
                    }
                }
            }
        }
    }

    /// The codes, with a model that is still to be fitted.
    public func finish(model: RecordModel) -> RecordCodes {
        var largest: Float = 0
        for correction in corrections { largest = max(largest, abs(correction)) }
        // Half precision ends at 65,504: a quarter of that leaves nothing to overflow.
        let scale: Float = largest > 0 ? (16_384 / largest).binadePower : 1
        var halves = [UInt16](repeating: 0, count: corrections.count)
        let piece = 1 << 16
        halves.withUnsafeMutableBufferPointer { halves in
            for first in stride(from: 0, to: corrections.count, by: piece) {
                let values = corrections[first..<min(first + piece, corrections.count)].map { $0 * scale }
                VectorMatrix.fromFloat(values, count: values.count, .f16, into: halves.baseAddress! + first)
            }
        }
        return RecordCodes(
            quantiser: quantiser, starts: starts, model: model, mean: mean, codes: codes,
            corrections: halves, scale: scale)
    }
}

extension Float {
    /// The greatest power of two that is no greater.
    fileprivate var binadePower: Float { Float(sign: .plus, exponent: exponent, significand: 1) }
}
