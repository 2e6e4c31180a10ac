// What an open index holds in memory, counted before it is built: the arithmetic behind `--resident`. The terms are
// those of `residentByteCount` of the router, the table and the posteriors; a test builds indexes and compares.

import Index
import Learn
import Router
import Storage
import Vectors

/// What a resident budget may be spent on.
public enum PlannedRouter: Sendable, Hashable {
    /// Centroids alone.
    case centroids
    /// A code of so many bytes for every record, by which pages are chosen.
    case records(byteCount: Int)
    /// The same where codes lie in the index and are read.
    case recordsInIndex(byteCount: Int)

    /// The name in tables.
    public var name: String {
        switch self {
        case .centroids: "centroids"
        case .records(let bytes): "a code of \(bytes) B for every record"
        case .recordsInIndex(let bytes): "a code of \(bytes) B for every record, in the index"
        }
    }

    /// Bytes of a record's code and whether it lies in the index, where every record has one.
    var recordCodes: (byteCount: Int, areInIndex: Bool)? {
        switch self {
        case .records(let bytes): (bytes, false)
        case .recordsInIndex(let bytes): (bytes, true)
        case .centroids: nil
        }
    }
}

/// Resident bytes of indexes of one base that do not exist yet.
public struct ResidentBudget: Sendable {
    /// Vectors of the base.
    public let count: Int
    public let dimension: Int
    /// The type of numbers in routing space.
    public let elementType: ElementType

    public init(count: Int, dimension: Int, elementType: ElementType) {
        self.count = count
        self.dimension = dimension
        self.elementType = elementType
    }

    /// The two posteriors of an index with a calibrated router (11-32-32-1 each).
    static let posteriorsByteCount = 2 * ((11 * 32 + 32 * 32 + 32 + 65) * 4 + 11 * 8)
    /// The model of records: a spread for each depth.
    static let modelByteCount = 8 + CalibratedPolicies.depths.count * 12

    /// Resident bytes of an index of `partitions`.
    public func byteCount(partitions: Int, router: PlannedRouter) -> Int {
        let row = dimension * elementType.byteCount
        var bytes = partitions * (row + MemoryLayout<SegmentEntry>.stride)
        if partitions > CentroidIndex.scanLimit {
            let groups = CentroidGroups.groupCount(for: partitions)
            bytes += partitions * 4 + groups * row + (groups + 1) * 8
        }
        if let (size, areInIndex) = router.recordCodes {
            // Codes with two bytes of correction each, or checksums of their pages, where each partition's begin, the
            // mean, the codewords, maps of all dimensions, and the model.
            let codes = count * Self.recordByteCount(codes: size)
            bytes += areInIndex ? CodePages.fileByteCount(of: codes) / CodePages.byteCount * 4 : codes
            bytes += (partitions + 1) * 4 + dimension * 4
            bytes += dimension * ProductQuantiser.wordCount * 2 + (size + 1) * 4
            let parameters = RecordCodeParameters.fitting(
                byteCount: size, areInIndex: areInIndex, count: count, dimension: dimension)
            return bytes + parameters.mapsByteCount(dimension: dimension) + Self.modelByteCount
        }
        return bytes + Self.posteriorsByteCount
    }

    /// The most partitions that fit into `limit` bytes; 0 where not even one does.
    public func partitionsMaximum(within limit: Int, router: PlannedRouter) -> Int {
        var (low, high) = (0, max(count, 1))
        while low < high {
            let middle = low + (high - low + 1) / 2
            if byteCount(partitions: middle, router: router) <= limit {
                low = middle
            } else {
                high = middle - 1
            }
        }
        return low
    }

    /// Bytes of a record's code and correction: sub-spaces stand two by two.
    static func recordByteCount(codes size: Int) -> Int { (size + 1) / 2 * 2 + 2 }

    /// Memory that making the codes takes while an index is built: codes with what they are calibrated by, the bytes
    /// that are written of them, and where every vector lives.
    func trainingByteCount(_ router: PlannedRouter) -> Int {
        router.recordCodes.map { count * (2 * ($0.byteCount + 2) + 12) } ?? 0
    }
}
