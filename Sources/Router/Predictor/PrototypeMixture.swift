// Prototypes: resident points that stand for parts of partitions. The logit of partition p for query q is
// log sum_j exp(w_j - beta_j |q - mu_j|^2) over its prototypes j (docs/explain/routing.md). It is a network of
// radial basis functions whose centres start as the sub-clusters of the partition.

import CKernels
import Glibc
import Vectors

/// The prototypes of all partitions, as they are searched: immutable, compact.
public final class PrototypeMixture: Sendable {
    /// How prototypes are kept.
    enum Kept: Sendable {
        /// As they are, rounded to an element type, each with a weight and a beta.
        case rows(PrototypeRows)
        /// As product-quantised residuals to their partition's centroid.
        case codes(PrototypeCodes)
    }

    /// Prototypes of partition p: `starts[p] ..< starts[p + 1]`.
    public let starts: [UInt32]
    let kept: Kept
    /// Mean of the betas.
    public let meanBeta: Float

    public convenience init(starts: [UInt32], centers: VectorMatrix, weights: [Float], betas: [Float]) {
        precondition(weights.count == centers.count && betas.count == centers.count)
        self.init(
            starts: starts,
            kept: .rows(
                PrototypeRows(
                    centers: centers, weights: weights, betas: betas,
                    distance: Distance(metric: .l2, elementType: centers.elementType))))
    }

    init(starts: [UInt32], kept: Kept) {
        self.starts = starts
        self.kept = kept
        let held: Int
        switch kept {
        case .rows(let rows):
            held = rows.centers.count
            meanBeta = rows.betas.reduce(0, +) / Float(max(held, 1))
        case .codes(let codes):
            held = codes.weights.count
            meanBeta = codes.beta
        }
        precondition(starts.last.map { Int($0) } == held)
    }

    public var partitionCount: Int { starts.count - 1 }
    public var count: Int { Int(starts[starts.count - 1]) }
    public var largestPartition: Int {
        (0..<partitionCount).reduce(0) { max($0, Int(starts[$1 + 1] - starts[$1])) }
    }

    /// Bytes of a prototype's code; nil where prototypes are kept as rows.
    public var codeByteCount: Int? { quantiser?.codeByteCount }

    fileprivate var quantiser: ProductQuantiser? {
        if case .codes(let codes) = kept { codes.quantiser } else { nil }
    }

    public var residentByteCount: Int {
        switch kept {
        case .rows(let rows): rows.centers.byteCount + count * 8 + starts.count * 4
        case .codes(let codes): codes.residentByteCount + starts.count * 4
        }
    }

    /// Working memory of one worker, and what a query is turned into before partitions are asked.
    final class Scratch {
        fileprivate let floats: UnsafeMutablePointer<Float>
        fileprivate let converted: UnsafeMutableRawPointer
        fileprivate let values: UnsafeMutablePointer<Float>
        fileprivate var tables: ProductQuantiser.Tables
        fileprivate(set) var query: UnsafeRawPointer

        init(_ mixture: PrototypeMixture, dimension: Int) {
            floats = .allocate(capacity: dimension)
            converted = .allocate(byteCount: dimension * 4, alignment: 64)
            values = .allocate(capacity: max(mixture.largestPartition, 1))
            tables = ProductQuantiser.Tables(mixture.quantiser)
            query = UnsafeRawPointer(converted)
        }

        deinit {
            floats.deallocate()
            converted.deallocate()
            values.deallocate()
        }
    }

    /// Turns a query into what `logit` looks at.
    func prepare(_ query: UnsafeRawPointer, type: ElementType, dimension: Int, scratch: Scratch) {
        scratch.query = query
        switch kept {
        case .rows(let rows):
            guard rows.centers.elementType != type else { return }
            VectorMatrix.toFloat(query, type, count: dimension, into: scratch.floats)
            VectorMatrix.fromFloat(
                scratch.floats, count: dimension, rows.centers.elementType, into: scratch.converted)
            scratch.query = UnsafeRawPointer(scratch.converted)
        case .codes(let codes):
            VectorMatrix.toFloat(query, type, count: dimension, into: scratch.floats)
            sonde_add_scaled(scratch.floats, codes.mean, -1, dimension)
            scratch.tables.fill(codes.quantiser, query: scratch.floats)
        }
    }

    /// The logits of the partitions for the query that was prepared, `distances` being those to their
    /// centroids.
    func logits(
        partitions: UnsafePointer<UInt32>, distances: UnsafePointer<Float>, count: Int, scratch: Scratch,
        into logits: UnsafeMutablePointer<Float>
    ) {
        starts.withUnsafeBufferPointer { starts in
            switch kept {
            case .rows(let rows):
                let query = scratch.query
                for position in 0..<count {
                    let first = Int(starts[Int(partitions[position])])
                    let size = Int(starts[Int(partitions[position]) + 1]) - first
                    logits[position] = rows.logit(
                        first: first, count: size, query: query, values: scratch.values)
                }
            case .codes(let codes):
                for position in 0..<count {
                    // Candidates lie anywhere in megabytes of codes: without this each waits for memory.
                    if position + Self.prefetchDistance < count {
                        prefetch(codes, partition: Int(partitions[position + Self.prefetchDistance]))
                    }
                    logits[position] = logit(
                        codes, partition: Int(partitions[position]), distance: distances[position],
                        scratch: scratch)
                }
            }
        }
    }
}

extension PrototypeMixture {
    /// Candidates ahead, and bytes of each, that are asked for early.
    private static let prefetchDistance = 4
    private static let prefetchByteCount = 2048

    private func prefetch(_ codes: PrototypeCodes, partition: Int) {
        let first = Int(starts[partition])
        let size = Int(starts[partition + 1]) - first
        codes.codes.withUnsafeBufferPointer { bytes in
            codes.weights.withUnsafeBufferPointer { weights in
                guard let bytes = bytes.baseAddress, let weights = weights.baseAddress else { return }
                sonde_prefetch(
                    bytes + first * codes.quantiser.codeByteCount,
                    min(size * codes.quantiser.codeByteCount, Self.prefetchByteCount))
                sonde_prefetch(weights + first, min(size * 2, Self.prefetchByteCount))
            }
        }
    }

    /// The logit of one partition from its codes.
    @inline(__always)
    func logit(_ codes: PrototypeCodes, partition: Int, distance: Float, scratch: Scratch) -> Float {
        let first = Int(starts[partition])
        return codes.logit(
            first: first, count: Int(starts[partition + 1]) - first, centroidDistance: distance,
            tables: scratch.tables, values: scratch.values)
    }
}

/// Prototypes as rows of one element type.
struct PrototypeRows: Sendable {
    let centers: VectorMatrix
    let weights: [Float]
    let betas: [Float]
    let distance: Distance

    /// log sum_j exp(w_j - beta_j |q - mu_j|^2) over prototypes `first ..< first + count`.
    @inline(__always)
    func logit(
        first: Int, count: Int, query: UnsafeRawPointer, values: UnsafeMutablePointer<Float>
    ) -> Float {
        guard count > 0 else { return -.infinity }
        distance.rows(query, centers.row(first), count: count, dimension: centers.dimension, into: values)
        return logit(first: first, count: count, distances: values)
    }

    /// The same from distances that are known.
    @inline(__always)
    func logit(first: Int, count: Int, distances values: UnsafePointer<Float>) -> Float {
        guard count > 0 else { return -.infinity }
        return weights.withUnsafeBufferPointer { weights in
            betas.withUnsafeBufferPointer { betas in
                sonde_mixture(weights.baseAddress! + first, betas.baseAddress! + first, values, count, nil)
            }
        }
    }
}

/// Prototypes under training: the same in floats, with gradients.
final class TrainablePrototypes {
    let starts: [UInt32]
    let dimension: Int
    let centers: Tensor
    let weights: Tensor
    /// One a prototype, or one for all where they share it.
    let logBetas: Tensor
    let sharesBeta: Bool
    /// exp(logBetas) by prototype, as `refreshBetas` left it.
    let betas: UnsafeMutablePointer<Float>

    /// Starts from sub-clusters with equal weights and one calibrated beta.
    ///
    /// - Parameter sharesBeta: one beta is learned for all; codes keep no more than one.
    init(
        starts: [UInt32], centers initial: VectorMatrix, weights initialWeights: [Float], beta: Float,
        sharesBeta: Bool = false
    ) {
        let floats = initial.converted(to: .f32)
        self.starts = starts
        self.sharesBeta = sharesBeta
        dimension = initial.dimension
        // Rates that a pilot on SIFT found: half a SIFT byte at beta 1e-4, so 0.005 of the length 1 / sqrt(beta).
        centers = Tensor(name: "centers", count: initial.count * dimension, rate: 0.005 / beta.squareRoot())
        weights = Tensor(name: "weights", count: initial.count, rate: 0.02)
        logBetas = Tensor(name: "log betas", count: sharesBeta ? 1 : initial.count, rate: 0.01)
        betas = .allocate(capacity: max(initial.count, 1))
        centers.values.update(from: floats.floats, count: centers.count)
        weights.restoreValues(initialWeights)
        setBeta(beta)
        refreshBetas()
    }

    deinit { betas.deallocate() }

    var count: Int { weights.count }
    var tensors: [Tensor] { [centers, weights, logBetas] }

    func setBeta(_ beta: Float) {
        for index in 0..<logBetas.count { logBetas.values[index] = logf(beta) }
    }

    /// Takes the exponentials once for a whole step.
    func refreshBetas() {
        if sharesBeta {
            betas.update(repeating: expf(logBetas.values[0]), count: count)
        } else {
            for index in 0..<count { betas[index] = expf(logBetas.values[index]) }
        }
    }

    /// What a search uses, centers rounded to `elementType`.
    func frozen(as elementType: ElementType) -> PrototypeMixture {
        let floats = VectorMatrix(count: count, dimension: dimension, elementType: .f32)
        floats.floats.update(from: centers.values, count: centers.count)
        refreshBetas()
        return PrototypeMixture(
            starts: starts, centers: floats.converted(to: elementType), weights: weights.snapshot,
            betas: Array(UnsafeBufferPointer(start: betas, count: count)))
    }

    /// The same as codes of residuals to the centroids.
    func encoded(codeByteCount: Int, centroids: VectorMatrix, seed: UInt64, threads: Int) -> PrototypeCoder {
        PrototypeCoder(
            starts: starts, centers: centers.values, weights: weights.snapshot, centroids: centroids,
            codeByteCount: codeByteCount, seed: seed, threads: threads)
    }

    /// The geometric mean of the betas.
    var meanLogBeta: Double {
        (0..<logBetas.count).reduce(0.0) { $0 + Double(logBetas.values[$1]) } / Double(max(logBetas.count, 1))
    }
}
