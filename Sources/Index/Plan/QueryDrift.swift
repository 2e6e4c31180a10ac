// Whether the queries of a run are like those that thresholds were calibrated on: a declared recall holds for such alone.

import Router
import Storage
import Vectors

/// How far the queries of a run lie from the partitions, beside those that were calibrated.
public struct QueryDrift: Sendable, Equatable {
    /// Queries that were looked at.
    public let asked: Int
    /// Those of them that lie farther from their nearest centroid than all but one in ten of the calibrated queries do.
    public let far: Int

    /// Queries of a run that are looked at, at most.
    public static let sampleMaximum = 512
    /// The quantile of the calibrated queries' distances that is kept.
    static let quantile = 0.9
    /// Queries of other photos and other texts had 7 to 16 of a hundred beyond it, of another kind of text 79
    /// (docs/results/declared-recall.md).
    static let shareMaximum = 0.3

    /// Whether so many cannot be chance: more than the share, by two standard errors of it.
    public var isOtherKind: Bool {
        let share = Self.shareMaximum
        let error = (share * (1 - share) / Double(max(asked, 1))).squareRoot()
        return Double(far) / Double(max(asked, 1)) > share + 2 * error
    }

    /// What people read; nil where queries are like those that were calibrated.
    public var note: String? {
        guard isOtherKind else { return nil }
        return
            "these queries are of another kind than those that were calibrated: \(far) of \(asked) lie farther from the "
            + "partitions than 9 in 10 of those did, so that the declared recall does not carry; train with a learn file "
            + "of this kind"
    }

    /// The distance to the nearest centroid beyond which one in ten of the calibrated queries lies.
    package static func reach(of routes: [Route]) -> Double? {
        let nearest = routes.compactMap { $0.distances.min() }.filter(\.isFinite).sorted()
        guard !nearest.isEmpty else { return nil }
        return Double(nearest[Int(quantile * Double(nearest.count - 1))])
    }
}

extension DiskIndex {
    /// Compares queries with those that were calibrated; nil where the index has kept nothing of them.
    public func drift(of queries: VectorMatrix, threads: Int) -> QueryDrift? {
        guard let reach = policies?.reach, queries.dimension == dimension, queries.elementType == elementType
        else { return nil }
        let count = min(queries.count, QueryDrift.sampleMaximum)
        let sample = queries.gather((0..<count).map { UInt32($0 * queries.count / count) })
        let invalid = Set(InvalidVectors.rows(of: sample, count: count, metric: metric))
        let rows = (0..<count).filter { !invalid.contains($0) }.map { UInt32($0) }
        guard !rows.isEmpty else { return nil }
        let routes = routes(of: sample.gather(rows), limit: 16, threads: threads)
        let far = routes.count { ($0.distances.min()).map { Double($0) > reach } ?? false }
        return QueryDrift(asked: rows.count, far: far)
    }

    /// The same of a file.
    public func drift(of file: VectorFile, threads: Int) throws -> QueryDrift? {
        guard policies?.reach != nil, file.count > 0 else { return nil }
        let count = min(file.count, QueryDrift.sampleMaximum)
        let rows = try file.gather((0..<count).map { $0 * file.count / count }, checkFinite: false)
        return drift(of: rows, threads: threads)
    }
}
