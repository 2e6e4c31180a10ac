// What the candidates of a query say of one another: a small perceptron, shared by all partitions, adds to each
// logit what its rank, its distance beside the nearest ones' and the records of its partition tell. It costs two bytes
// a partition, and with many small partitions it saves more than learned rows (docs/results/refinement.md).

import CKernels
import Glibc
import Vectors

/// A correction of logits from ratios of distances. Immutable, shared by all workers.
public final class CandidateRefinement: Sendable {
    static let featureCount = 10
    static let hiddenCount = 16
    /// Hidden weights (by unit, then feature) and biases, the output's weights and bias; features standardised within.
    let hidden: [Float]
    let hiddenBiases: [Float]
    let output: [Float]
    let outputBias: Float
    /// Distances get this added, so that ratios stay finite.
    let floor: Float
    /// log(1 + records) of each partition, f16.
    let logRecords: [UInt16]

    init(
        hidden: [Float], hiddenBiases: [Float], output: [Float], outputBias: Float, floor: Float,
        logRecords: [UInt16]
    ) {
        self.hidden = hidden
        self.hiddenBiases = hiddenBiases
        self.output = output
        self.outputBias = outputBias
        self.floor = floor
        self.logRecords = logRecords
    }

    public var residentByteCount: Int { logRecords.count * 2 + (hidden.count + 2 * output.count + 2) * 4 }

    /// Memory for the candidates of one query: features one after the other, each of all candidates.
    final class Scratch {
        let capacity: Int
        let features: UnsafeMutablePointer<Float>
        fileprivate let unit: UnsafeMutablePointer<Float>
        fileprivate let logRanks: UnsafeMutablePointer<Float>

        init(capacity: Int) {
            self.capacity = capacity
            features = .allocate(capacity: capacity * CandidateRefinement.featureCount)
            unit = .allocate(capacity: capacity)
            logRanks = .allocate(capacity: capacity)
            for rank in 0..<capacity { logRanks[rank] = log1pf(Float(rank)) }
        }

        deinit {
            features.deallocate()
            unit.deallocate()
            logRanks.deallocate()
        }
    }

    /// Features of candidates, which stand in the order of their distances, with the logits known so far.
    static func fill(
        _ candidates: Route, logits: UnsafePointer<Float>, floor: Float, logRecords: [UInt16],
        scratch: Scratch
    ) {
        let count = candidates.count
        guard count > 0 else { return }
        let (features, stride) = (scratch.features, scratch.capacity)
        func logDistance(_ rank: Int) -> Float { logf(candidates.distances[min(rank, count - 1)] + floor) }
        let nearest = candidates.distances[0]
        let (first, tenth) = (logDistance(0), logDistance(9))
        let (wide, widest) = (logDistance(63) - first, logDistance(255) - first)
        var greatest = -Float.infinity
        for position in 0..<count { greatest = max(greatest, logits[position]) }
        for position in 0..<count {
            let distance = candidates.distances[position]
            let ratio = logf(distance + floor) - first
            features[position] = scratch.logRanks[position]
            features[stride + position] = ratio
            features[2 * stride + position] = distance - nearest
            features[3 * stride + position] = distance
            features[4 * stride + position] = first
            features[5 * stride + position] = ratio + first - tenth
            features[6 * stride + position] = wide
            features[7 * stride + position] = widest
            // A partition without prototypes has no logit at all.
            features[8 * stride + position] = max(logits[position] - greatest, -40)
        }
        logRecords.withUnsafeBufferPointer { logRecords in
            for position in 0..<count {
                withUnsafePointer(to: logRecords[Int(candidates.partitions[position])]) { half in
                    VectorMatrix.toFloat(half, .f16, count: 1, into: features + 9 * stride + position)
                }
            }
        }
    }

    /// Adds the correction to the logits of all candidates.
    func correct(_ candidates: Route, logits: UnsafeMutablePointer<Float>, scratch: Scratch) {
        let count = candidates.count
        Self.fill(candidates, logits: logits, floor: floor, logRecords: logRecords, scratch: scratch)
        let unit = scratch.unit
        for index in 0..<output.count {
            unit.update(repeating: hiddenBiases[index], count: count)
            for feature in 0..<Self.featureCount {
                sonde_add_scaled(
                    unit, scratch.features + feature * scratch.capacity,
                    hidden[index * Self.featureCount + feature], count)
            }
            let weight = output[index]
            for position in 0..<count {
                logits[position] += weight * (unit[position] > 0 ? unit[position] : 0)
            }
        }
        for position in 0..<count { logits[position] += outputBias }
    }
}

extension CandidateRefinement {
    private static let section = "refine"
    private static let format: UInt32 = 1

    /// The section that holds it: format u32, hidden units u32, floor f32, then f32 of the hidden weights and biases,
    /// of the output's weights and bias, and log(1 + records) f16 by partition.
    func encode() -> (tag: String, bytes: [UInt8]) {
        var writer = SectionWriter()
        writer.append(Self.format)
        writer.append(UInt32(output.count))
        writer.append(floor)
        for value in hidden + hiddenBiases + output + [outputBias] { writer.append(value) }
        for value in logRecords { writer.append(value) }
        return (Self.section, writer.bytes)
    }

    /// What `encode` wrote.
    convenience init(decoding sections: any SectionSource, partitionCount: Int) throws(RouterError) {
        var reader = try SectionReader(Self.section, in: sections)
        let format = try reader.integer(UInt32.self)
        guard format == Self.format else {
            throw reader.failure("format \(format), this program reads \(Self.format)")
        }
        let units = Int(try reader.integer(UInt32.self))
        guard (1...1024).contains(units) else { throw reader.failure("\(units) hidden units") }
        let floor = try reader.float()
        let hidden = try reader.floats(units * Self.featureCount)
        let biases = try reader.floats(units)
        let output = try reader.floats(units)
        let outputBias = try reader.float()
        let logRecords = try reader.halves(partitionCount)
        try reader.finish()
        guard (hidden + biases + output + [floor, outputBias]).allSatisfy(\.isFinite), floor > 0,
            logRecords.allSatisfy({ $0 & 0x7c00 != 0x7c00 })
        else { throw reader.failure("numbers that no refinement has") }
        self.init(
            hidden: hidden, hiddenBiases: biases, output: output, outputBias: outputBias, floor: floor,
            logRecords: logRecords)
    }
}
