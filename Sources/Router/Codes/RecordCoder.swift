// Codes of records as their segments come by: what stands in memory is the codes and four bytes beside each.

import CKernels
import Vectors

/// Codes the records of an index, some partitions at a time; each partition once.
public struct RecordCoder: Sendable {
    /// Records of partition p: `starts[p] ..< starts[p + 1]`.
    private let starts: [UInt32]
    private let coder: ResidualCoder
    /// As `RecordCodes` keeps them, but for the corrections.
    private let blocks: VectorMatrix
    private var corrections: [Float]
    /// How much of what a code lost is added to a distance. All of it makes estimates right in the mean; of coarse codes
    /// half puts the near records first more often (docs/results/codes.md).
    private let lostShare: Double

    /// - Parameters:
    ///   - counts: records of each partition, fewer than 2^32 in all.
    ///   - centroids: by partition, as a route's distances are taken to them.
    public init(counts: [Int], centroids: VectorMatrix, quantiser: ProductQuantiser) {
        precondition(counts.count == centroids.count)
        var starts: [UInt32] = [0]
        starts.reserveCapacity(counts.count + 1)
        for count in counts { starts.append(starts[starts.count - 1] + UInt32(count)) }
        self.starts = starts
        coder = ResidualCoder(centroids: centroids, quantiser: quantiser.grouped())
        lostShare = quantiser.codeByteCount <= 16 ? 0.5 : 1
        let count = Int(starts[counts.count])
        blocks = VectorMatrix(
            count: count, dimension: CodeBlock.byteCount(spaces: quantiser.codeByteCount), elementType: .u8,
            inHugePages: true)
        corrections = [Float](repeating: 0, count: count)
    }

    /// Codes the records of some partitions; `rows` are those of routing space, in the order of the segment.
    public mutating func encode(_ parts: [(partition: Int, rows: VectorMatrix)], threads: Int) {
        let (starts, coder, blocks, lostShare) = (starts, coder, blocks, lostShare)
        let spaces = coder.quantiser.codeByteCount
        let pairs = CodeBlock.pairs(spaces)
        corrections.withUnsafeMutableBufferPointer { corrections in
            // Each partition writes its own stretch.
            nonisolated(unsafe) let corrections = corrections
            Workers.forEach(count: parts.count, threads: threads) { task in
                let (partition, rows) = parts[task]
                let first = Int(starts[partition])
                let count = Int(starts[partition + 1]) - first
                precondition(rows.count == count)
                guard count > 0 else { return }
                let coded = coder.encode(rows, of: partition)
                let block = CodeBlock(at: blocks.row(first), count: count, spaces: spaces)
                let (upper, lower) = (
                    UnsafeMutablePointer(mutating: block.upper), UnsafeMutablePointer(mutating: block.lower)
                )
                for index in 0..<count {
                    for space in 0..<spaces {
                        let byte = coded.codes[index * spaces + space]
                        let shift = UInt8(space % 2 * 4)
                        upper[space / 2 * count + index] |= (byte >> 4) << shift
                        lower[index * pairs + space / 2] |= (byte & 15) << shift
                    }
                    corrections[first + index] = Float(
                        coded.constants[index] + lostShare * coded.errors[index])
                }
            }
        }
    }

    /// The codes, with a model that is still to be fitted. Nothing is coded afterwards.
    public consuming func finish(model: RecordModel) -> RecordCodes {
        var largest: Float = 0
        for correction in corrections { largest = max(largest, abs(correction)) }
        // Half precision ends at 65,504: a quarter of that leaves nothing to overflow.
        let scale: Float = largest > 0 ? (16_384 / largest).binadePower : 1
        for partition in 0..<starts.count - 1 where starts[partition] < starts[partition + 1] {
            let range = Int(starts[partition])..<Int(starts[partition + 1])
            // A block begins with its corrections.
            VectorMatrix.fromFloat(
                corrections[range].map { $0 * scale }, count: range.count, .f16,
                into: blocks.row(range.lowerBound))
        }
        return RecordCodes(
            quantiser: coder.quantiser, starts: starts, model: model, mean: coder.mean, scale: scale,
            blocks: blocks)
    }
}

extension Float {
    /// The greatest power of two that is no greater.
    fileprivate var binadePower: Float { Float(sign: .plus, exponent: exponent, significand: 1) }
}
