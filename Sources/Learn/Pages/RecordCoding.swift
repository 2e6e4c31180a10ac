// A code of every record of an index that stands, by two passes over its segments: one for the rows that codewords are
// trained on, one for the codes. Memory holds the codes and four bytes beside each.

import Index
import Router
import Storage
import Vectors

extension DiskIndex {
    /// Whether every vector has one record in a plain partition, so that a code of every record tells where it lies.
    public var mayHoldCodes: Bool { !hasReplicas && headIds == nil && cells == nil }

    /// Codes of all records, with a model that is still to be fitted.
    ///
    /// - Throws: `IndexError.invalid` for an index whose records are not one for each vector in plain partitions, and for a
    ///   size that the dimension does not allow.
    func codeRecords(_ wanted: RecordCodeParameters, seed: UInt64, threads: Int, progress: JobProgress) throws
        -> RecordCodes
    {
        guard mayHoldCodes else {
            throw IndexError.invalid(
                "\(path) has copies, heads or cells: a code of every record is for plain partitions of vectors held once"
            )
        }
        let most = CodeFamily.codeByteLimit(dimension: centroids.dimension)
        guard (1...most).contains(wanted.byteCount) else {
            throw IndexError.outOfRange(
                "codes", allowed: "from 1 to \(most) bytes for \(dimension) dimensions",
                found: "\(wanted.byteCount)")
        }
        let rows = centroids.centroids()
        let residuals = try sampledResiduals(to: rows, seed: seed, progress: progress)
        let quantiser = ProductQuantiser.train(
            wanted.family, rows: residuals, codeByteCount: wanted.byteCount, seed: seed, threads: threads)
        var coder = RecordCoder(
            counts: (0..<partitionCount).map { Int(table[$0].recordCount) }, centroids: rows,
            quantiser: quantiser)
        var parts: [(partition: Int, rows: VectorMatrix)] = []
        try forEachSegment { partition, segment in
            parts.append((partition, space.rows(from: records(of: partition, in: segment).vectors)))
            guard parts.count >= 32 * threads else { return }
            coder.encode(parts, threads: threads)
            progress(stage: "code", done: partition + 1, total: partitionCount)
            parts.removeAll(keepingCapacity: true)
        }
        coder.encode(parts, threads: threads)
        progress(stage: "code", done: partitionCount, total: partitionCount)
        return coder.finish(model: RecordModel(depths: [.init(k: 1, spread: 1, partitionLimit: 1)]))
    }

    /// Residuals of records drawn evenly to the centroids of their partitions.
    private func sampledResiduals(to centroids: VectorMatrix, seed: UInt64, progress: JobProgress) throws
        -> VectorMatrix
    {
        let floats = centroids.converted(to: .f32)
        let wanted = min(ProductQuantiser.trainingRows, manifest.records)
        let sample = VectorMatrix(count: max(wanted, 1), dimension: floats.dimension, elementType: .f32)
        var random = SeededRandom(seed: seed, stream: 20)
        var (left, taken) = (manifest.records, 0)
        try forEachSegment { partition, segment in
            var kept: [UInt32] = []
            let part = records(of: partition, in: segment)
            for row in 0..<part.ids.count {
                // Selection sampling: a record is taken with the chance that fills the sample (Knuth, 3.4.2 S).
                if random.below(left) < wanted - taken - kept.count { kept.append(UInt32(row)) }
                left -= 1
            }
            guard !kept.isEmpty else { return }
            let residuals = space.rows(from: part.vectors.gather(kept)).residuals(
                to: floats.floatRow(partition))
            sample.floatRow(taken).update(
                from: residuals.floatRow(0), count: residuals.count * residuals.dimension)
            taken += kept.count
            progress(stage: "sample codes", done: partition + 1, total: partitionCount)
        }
        return sample
    }
}

/// Which code every record gets.
public struct RecordCodeParameters: Sendable, Equatable {
    /// Bytes of a code; two more hold its correction.
    public var byteCount: Int
    public var family: CodeFamily
    /// Whether codes lie in the index and are read by a search, instead of in memory.
    public var areInIndex: Bool

    public init(byteCount: Int, family: CodeFamily = .opq, areInIndex: Bool = false) {
        self.byteCount = byteCount
        self.family = family
        self.areInIndex = areInIndex
    }

    /// The family that finds most for its resident bytes: weighted directions take a second map of all dimensions, which
    /// only large bases hide.
    public static func fitting(
        byteCount: Int, areInIndex: Bool = false, count: Int, dimension: Int
    ) -> RecordCodeParameters {
        let isHidden =
            !areInIndex && dimension * dimension * MemoryLayout<Float>.size * 5 <= count * byteCount
        return RecordCodeParameters(
            byteCount: byteCount, family: isHidden ? .weighted : .opq, areInIndex: areInIndex)
    }

    /// Bytes of its maps.
    public func mapsByteCount(dimension: Int) -> Int {
        dimension * dimension * MemoryLayout<Float>.size * (family == .weighted ? 2 : 1)
    }
}
