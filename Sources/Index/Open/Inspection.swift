// What an index holds, told from its resident files.

import Foundation
import Storage
import Vectors

/// What `sonde inspect` prints.
public struct InspectionReport: Codable, Sendable {
    public var path: String
    public var formatVersion: Int
    public var metric: String
    public var dtype: String
    public var dimension: Int
    public var count: Int
    public var partitions: Int
    public var records: Int
    public var heads: Int
    public var replication: Double
    public var pages: Int
    public var pageByteCount: Int
    public var recordsPerPage: Int
    /// Share of record slots on disk that hold a record.
    public var fill: Double
    /// Records a partition: least, median, greatest.
    public var partitionRecords: [Int]
    public var emptyPartitions: Int
    public var indexByteCount: UInt64
    public var residentByteCount: Int
    /// What of it is what, in bytes.
    public var residentParts: [String: Int]
    /// What the build promised, where it did.
    public var residentPromised: Int?
    /// What the kernel says of the process that opened the index, where it does.
    public var process: ProcessReport?
    /// Whether ids are positions or external, the least and the greatest.
    public var ids: IdRange
    public var bytesPerId: Int
    /// Which shard of which plan this is.
    public var shard: ShardIdentity?
    public var build: [String: String]
    /// Which recalls can be declared, and how well they held; nil without a trained router.
    public var declaredRecall: DeclaredRecallReport?
    /// How segments are read here (see `BlockDevice.kind`).
    public var device: String

    /// Memory of a process around the opening of an index, in bytes.
    public struct ProcessReport: Codable, Sendable {
        public var beforeOpening: UInt64
        public var afterOpening: UInt64
        public var peak: UInt64
        /// What of it is the process's own: the rest is program and libraries, mapped from their files.
        public var ownBeforeOpening: UInt64
        public var ownAfterOpening: UInt64

        public init(
            beforeOpening: UInt64, afterOpening: UInt64, peak: UInt64, ownBeforeOpening: UInt64,
            ownAfterOpening: UInt64
        ) {
            self.beforeOpening = beforeOpening
            self.afterOpening = afterOpening
            self.peak = peak
            self.ownBeforeOpening = ownBeforeOpening
            self.ownAfterOpening = ownAfterOpening
        }
    }

    private var promise: String { residentPromised.map { " of \($0) promised" } ?? "" }

    private var parts: String {
        residentParts.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
    }

    private var memory: String {
        process.map {
            "\nprocess: \($0.beforeOpening) bytes before opening, \($0.afterOpening) after, \($0.peak) at its peak; its own, "
                + "without program and libraries, \($0.ownBeforeOpening) before, \($0.ownAfterOpening) after"
        } ?? ""
    }

    /// What people read.
    public var text: String {
        let options = build.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
        let shardText = shard.map { "\nshard \($0.number) (from 0) of \($0.count) of plan \($0.plan)" } ?? ""
        return """
            \(path): \(count) x \(dimension) \(dtype), \(metric), format \(formatVersion)
            partitions \(partitions) (empty \(emptyPartitions)), records \(records), heads \(heads), \
            replication \(String(format: "%.3f", replication))
            records a partition: least \(partitionRecords[0]), median \(partitionRecords[1]), greatest \(partitionRecords[2])
            pages \(pages) of \(pageByteCount) bytes, \(recordsPerPage) records each, \
            \(String(format: "%.1f", fill * 100)) % full
            on disk \(indexByteCount) bytes, resident \(residentByteCount) bytes\(promise) (\(parts))\(memory)
            device \(device)
            ids \(ids.kind == .external ? "external, " : "")\(ids.least) to \(ids.greatest), \(bytesPerId) bytes each\(shardText)
            built with \(options)\(declaredRecall.map { "\n" + $0.text } ?? "")
            """
    }
}

extension DiskIndex {
    /// Describes the index from what is resident.
    public func inspect() -> InspectionReport {
        let sizes = (0..<partitionCount).map { Int(table[$0].recordCount) }.sorted()
        let units = (0..<partitionCount).reduce(0) { $0 + Int(table[$1].unitCount) }
        return InspectionReport(
            path: path, formatVersion: manifest.formatVersion, metric: metric.name, dtype: elementType.name,
            dimension: dimension, count: count, partitions: partitionCount, records: manifest.records,
            heads: headIds?.count ?? 0, replication: replication, pages: units * layout.pagesPerUnit,
            pageByteCount: layout.unitByteCount, recordsPerPage: layout.recordsPerUnit,
            fill: Double(manifest.records) / Double(max(units * layout.recordsPerUnit, 1)),
            partitionRecords: [
                sizes.first ?? 0, sizes.isEmpty ? 0 : sizes[sizes.count / 2], sizes.last ?? 0,
            ],
            emptyPartitions: sizes.prefix { $0 == 0 }.count, indexByteCount: manifest.totalByteCount,
            residentByteCount: residentByteCount, residentParts: residentParts,
            residentPromised: manifest.build["resident"].flatMap { Int($0) }, process: nil,
            ids: ids, bytesPerId: layout.idByteCount, shard: manifest.shard, build: manifest.build,
            declaredRecall: policies.map(DeclaredRecallReport.init), device: deviceKind)
    }

    /// Resident bytes by what holds them; they sum to `residentByteCount`.
    var residentParts: [String: Int] {
        let parts = [
            "centroids": centroids.residentByteCount,
            "router": router.residentByteCount - centroids.residentByteCount,
            "table": table.residentByteCount, "heads": (headIds?.count ?? 0) * 4,
            "posteriors": posteriorsByteCount, "record codes": recordCodes?.residentByteCount ?? 0,
            "cache": cache?.byteCount ?? 0,
        ]
        return parts.filter { $0.value > 0 }
    }
}
