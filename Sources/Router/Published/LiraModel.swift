// LIRA's probing model (arXiv 2503.23409): two towers, one over the distances to all
// centroids and one over the query itself, joined by a last perceptron with a sigmoid a partition: the probability
// that the partition holds at least one of the k nearest. It decides partition by partition, so that every query
// probes as many as it needs.

import CKernels
import Glibc
import Vectors

/// A trained probing model. Immutable, shared by all workers.
public final class LiraModel: LearnedRouter {
    public let centroids: CentroidIndex
    /// Over standardised distances (square roots), over the query, and over both towers' outputs.
    let distanceTower: NetworkInference
    let vectorTower: NetworkInference
    let head: NetworkInference
    /// Logits become slope * logit + shift before the sigmoid (Platt's scaling on held-out pairs).
    public let slope: Float
    public let shift: Float
    /// Neighbours that a partition is wanted for.
    public let depth: Int
    private let rows: VectorMatrix

    init(
        centroids: CentroidIndex, distanceTower: NetworkInference, vectorTower: NetworkInference,
        head: NetworkInference,
        slope: Float, shift: Float, depth: Int
    ) {
        self.centroids = centroids
        self.distanceTower = distanceTower
        self.vectorTower = vectorTower
        self.head = head
        self.slope = slope
        self.shift = shift
        self.depth = depth
        rows = centroids.centroids()
    }

    public var partitionCount: Int { centroids.partitionCount }

    public var residentByteCount: Int {
        centroids.residentByteCount + distanceTower.residentByteCount + vectorTower.residentByteCount
            + head.residentByteCount
    }

    public func makeScratch() -> RouterScratch { Scratch(self) }

    final class Scratch: RouterScratch {
        let distance: Distance
        let distances: UnsafeMutablePointer<Float>
        let roots: UnsafeMutablePointer<Float>
        let query: UnsafeMutablePointer<Float>
        let joined: UnsafeMutablePointer<Float>
        let keys: UnsafeMutablePointer<UInt64>
        let spare: UnsafeMutablePointer<UInt64>
        let distanceTower: NetworkInference.Scratch
        let vectorTower: NetworkInference.Scratch
        let head: NetworkInference.Scratch

        init(_ model: LiraModel) {
            let count = model.partitionCount
            distance = Distance(metric: .l2, elementType: model.centroids.elementType)
            distances = .allocate(capacity: count)
            roots = .allocate(capacity: count)
            query = .allocate(capacity: model.centroids.dimension)
            joined = .allocate(capacity: model.head.widths[0])
            keys = .allocate(capacity: count)
            spare = .allocate(capacity: count)
            distanceTower = NetworkInference.Scratch(network: model.distanceTower)
            vectorTower = NetworkInference.Scratch(network: model.vectorTower)
            head = NetworkInference.Scratch(network: model.head)
        }

        deinit {
            distances.deallocate()
            roots.deallocate()
            query.deallocate()
            joined.deallocate()
            keys.deallocate()
            spare.deallocate()
        }
    }

    /// All partitions by falling probability, each probability for itself: they do not sum to one.
    public func route(
        _ query: UnsafeRawPointer, limit: Int, scratch anyScratch: RouterScratch, into route: inout Route
    ) {
        guard let scratch = anyScratch as? Scratch else { preconditionFailure("scratch of another router") }
        let logits = logits(query, scratch: scratch)
        for partition in 0..<partitionCount {
            let logit = slope * logits[partition] + shift
            logits[partition] = logit
            scratch.keys[partition] = PackedHeap.packFalling(logit, UInt32(partition))
        }
        sonde_sort_keys(scratch.keys, scratch.spare, partitionCount)
        route.removeAll()
        route.logNormaliser = 0
        route.beta = centroids.beta
        for place in 0..<min(limit, partitionCount) {
            let partition = Int(UInt32(truncatingIfNeeded: scratch.keys[place]))
            route.partitions.append(UInt32(partition))
            route.distances.append(scratch.distances[partition])
            route.logProbabilities.append(Self.logSigmoid(logits[partition]))
        }
    }

    /// The head's outputs before calibration; the scratch holds the distances then.
    func logits(_ query: UnsafeRawPointer, scratch: Scratch) -> UnsafeMutablePointer<Float> {
        scratch.distance.rows(
            query, rows.bytes, count: rows.count, dimension: rows.dimension, into: scratch.distances)
        for partition in 0..<rows.count {
            scratch.roots[partition] = max(scratch.distances[partition], 0).squareRoot()
        }
        VectorMatrix.toFloat(query, centroids.elementType, count: rows.dimension, into: scratch.query)
        let near = distanceTower.outputs(of: scratch.roots, scratch: scratch.distanceTower)
        let own = vectorTower.outputs(of: scratch.query, scratch: scratch.vectorTower)
        let width = distanceTower.widths[distanceTower.widths.count - 1]
        for unit in 0..<width { scratch.joined[unit] = max(near[unit], 0) }
        for unit in 0..<head.widths[0] - width { scratch.joined[width + unit] = max(own[unit], 0) }
        return head.outputs(of: scratch.joined, scratch: scratch.head)
    }

    /// log(1 / (1 + exp(-x))), without overflow.
    static func logSigmoid(_ x: Float) -> Float { x >= 0 ? -log1pf(expf(-x)) : x - log1pf(expf(x)) }
}

/// The model in an index: section "lira": format u32, depth u32, slope f32, shift f32, then the three networks as
/// `NetworkInference` writes them.
extension LiraModel {
    public static let section = "lira"
    private static let format: UInt32 = 1

    /// The sections that hold this model and its centroids.
    public func encode() -> [(tag: String, bytes: [UInt8])] {
        var writer = SectionWriter()
        writer.append(Self.format)
        writer.append(UInt32(depth))
        writer.append(slope)
        writer.append(shift)
        for network in [distanceTower, vectorTower, head] { network.encode(into: &writer) }
        return centroids.encode() + [(Self.section, writer.bytes)]
    }

    /// The model that `sections` hold over `centroids`, or nil where they hold none.
    public static func decode(
        _ sections: any SectionSource, centroids: CentroidIndex
    ) throws(RouterError) -> LiraModel? {
        guard sections.byteCount(ofSection: section) != nil else { return nil }
        var reader = try SectionReader(section, in: sections)
        let found = try reader.integer(UInt32.self)
        guard found == format else { throw reader.failure("format \(found), this program reads \(format)") }
        let depth = Int(try reader.integer(UInt32.self))
        let slope = try reader.float()
        let shift = try reader.float()
        guard depth > 0, slope.isFinite, shift.isFinite, slope > 0 else {
            throw reader.failure("numbers that no probing model has")
        }
        let distanceTower = try NetworkInference.decode(
            from: &reader, inputs: centroids.partitionCount, outputs: nil)
        let vectorTower = try NetworkInference.decode(
            from: &reader, inputs: centroids.dimension, outputs: nil)
        let joined = (distanceTower.widths.last ?? 0) + (vectorTower.widths.last ?? 0)
        let head = try NetworkInference.decode(
            from: &reader, inputs: joined, outputs: centroids.partitionCount)
        try reader.finish()
        return LiraModel(
            centroids: centroids, distanceTower: distanceTower, vectorTower: vectorTower, head: head,
            slope: slope,
            shift: shift, depth: depth)
    }
}
