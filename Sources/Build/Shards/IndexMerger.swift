// Shards of one plan become one index. For each partition the shards' records are copied one shard after the
// other into one segment: whole pages where they fall into place, else records into the gaps that the last
// pages left, so that the file is as tight as that of one build. Nothing is routed, sorted or compared again;
// every page is checked as it passes. Reads and writes are sequential, memory is a window on each shard.

import Foundation
import Index
import Learn
import Storage
import Vectors

/// What a merge made.
public struct MergeReport: Sendable {
    public var shards: Int
    public var count: Int
    public var partitions: Int
    public var records: Int
    /// Bytes of segments, all shards together and joined.
    public var shardByteCount: UInt64
    public var mergedByteCount: UInt64
    /// Units that this run copied as they were, and all that it wrote.
    public var unitsCopied: Int
    public var units: Int
    public var seconds: Double

    /// One line for people.
    public var summary: String {
        "\(shards) shards joined: \(count) vectors in \(partitions) partitions, \(records) records; segments "
            + "\(shardByteCount) bytes apart, \(mergedByteCount) joined (\(unitsCopied) of \(units) pages of records "
            + "copied whole); "
            + String(
                format: "%.1f s, %.2f GB/s read and written", seconds,
                Double(shardByteCount + mergedByteCount) / 1e9 / max(seconds, 1e-9))
    }
}

/// Joins shards.
///
///     try IndexMerger().merge(["shard-0", "shard-1"], to: "photos.sonde")
public struct IndexMerger: Sendable {
    public var memoryByteCount = 2 << 30
    public var progress = JobProgress.none
    /// What to do with an unfinished merge that an earlier run has left.
    public var start = AtomicDirectory.Start.fresh
    /// How much work a kill may cost.
    public var unit = WorkUnit()

    /// What a shard is read through at a time, at most.
    private static let windowByteCount = 8 << 20

    public init() {}

    /// Joins the shards, in any order, and publishes `directory`.
    ///
    /// - Parameter afterUnit: told of each unit of work that is finished, by stage and position. What it throws ends the
    ///   merge, which another run goes on with.
    /// - Throws: `shards` where the shards are not all those of one plan, `inconsistent` where the files of a shard do
    ///   not fit each other, `doubledId` for an external id in two shards, `storage` from reading and writing, for a
    ///   page that fails its checksum and for an existing `directory`: nothing is left behind then that was not there
    ///   before. `unfinished` where the merge can be gone on with, `unread` where it is done.
    @discardableResult
    public func merge(
        _ shards: [String], to directory: String, afterUnit: ((String, Int) throws -> Void)? = nil
    ) throws(IndexError) -> MergeReport {
        try IndexError.door { try mergeOrGoOn(shards, to: directory, afterUnit: afterUnit) }
    }

    private func mergeOrGoOn(
        _ shards: [String], to directory: String, afterUnit: ((String, Int) throws -> Void)?
    ) throws -> MergeReport {
        let begun = monotonicNanoseconds()
        let sources = try MergeSource.all(shards)
        let layout = try mergedLayout(sources).bound(to: Self.indexId(sources))
        let window = try window(sources, layout: layout)
        var (unitsCopied, units) = (0, 0)
        let worked = try BuildJob.run(
            directory, start: start, identity: Self.identity(sources), base: sources[0].path,
            progress: progress, afterUnit: afterUnit
        ) { job in
            if !job.hasReached(.publish) {
                try requireSpace(sources, layout: layout, job: job)
                // Segments are copied only after the ids were found to be different.
                if job.position(.write) == 0 { try requireDistinctIds(sources, target: job.target) }
                let copied = SegmentMerging(
                    layout: layout,
                    readers: try sources.map {
                        try SegmentReader(path: $0.files.segments, table: $0.table, bufferByteCount: window)
                    })
                let (table, digest) = try copied.run(job, unit: unit, progress: progress)
                try finish(job, sources: sources, table: table, segmentsDigest: digest)
                (unitsCopied, units) = (copied.unitsCopied, copied.units)
            }
            try job.target.publish()
        }
        let read = { try Manifest.read(path: IndexFiles(directory: directory).manifest) }
        let manifest = worked ? try FinishedJob.reading(directory, read) : try read()
        return MergeReport(
            shards: sources.count, count: manifest.count, partitions: manifest.partitions,
            records: manifest.records, shardByteCount: sources.reduce(0) { $0 + $1.table.byteCount },
            mergedByteCount: manifest.files[IndexFiles.segmentsName]?.byteCount ?? 0,
            unitsCopied: unitsCopied, units: units,
            seconds: Double(monotonicNanoseconds() - begun) / 1e9)
    }

    /// Changes with what the segments hold.
    private static let formatVersion = 2

    /// The shards' segments decide the joined ones; those of one alone stay as they are.
    private static func indexId(_ sources: [MergeSource]) -> IndexId {
        if sources.count == 1, let same = sources[0].table.layout.binding { return same }
        return IndexId(
            of: JobIdentity(
                [("version of the merge", "\(formatVersion)")]
                    + sources.map { source in
                        let parts = [IndexFiles.segmentsName, IndexFiles.tableName].map { name in
                            source.manifest.files[name].map { "\($0.byteCount) \(Checksum.text($0.crc32c))" }
                                ?? "none"
                        }
                        return ("shard \(source.shard.number)", parts.joined(separator: ", "))
                    }))
    }

    /// All that decides the bytes: what the shards are, wherever they lie.
    private static func identity(_ sources: [MergeSource]) -> JobIdentity {
        var entries = [("version of the merge", "\(formatVersion)"), ("shards", "\(sources.count)")]
        let shards = sources.map { ("shard \($0.shard.number)", $0.manifest.checksum) }
        if shards.count <= namedMaximum {
            entries += shards
        } else {
            let bytes = Array(shards.map(\.1).joined().utf8)
            let checksum = Checksum.crc32c(bytes, count: bytes.count)
            entries.append(("checksums of the shards", Checksum.text(checksum)))
        }
        return JobIdentity(entries)
    }

    /// Shards that a journal, whose identity is short, tells of one by one.
    private static let namedMaximum = 1024

    /// Table, router and manifest.
    private func finish(
        _ job: BuildJob, sources: [MergeSource], table: SegmentTable, segmentsDigest: FileDigest
    ) throws {
        let files = job.files
        for path in [files.table, files.router, files.manifest] { try Directory.removeTree(path) }
        var manifest = sources[0].manifest
        manifest.shard = nil
        manifest.job = job.digest
        manifest.index = table.layout.binding?.description
        manifest.count = sources.reduce(0) { $0 + $1.manifest.count }
        manifest.records = table.recordCount
        manifest.ids = mergedIds(sources)
        manifest.build["shards"] = String(sources.count)
        let tableDigest = try table.write(path: files.table)
        manifest.files = [
            IndexFiles.segmentsName: segmentsDigest, IndexFiles.tableName: tableDigest,
            IndexFiles.routerName: sources[0].router,
        ]
        try FileSharing.share(sources[0].files.router, as: files.router, digest: sources[0].router)
        try job.finish(
            .publish, position: 1,
            files: [
                (.table, tableDigest), (.router, sources[0].router),
                (.manifest, try manifest.write(path: files.manifest)),
            ])
    }

    /// External ids are free, but none may be in two shards. The files of ids are smaller than the segments to come.
    private func requireDistinctIds(_ sources: [MergeSource], target: AtomicDirectory) throws {
        guard sources[0].ids.kind == .external else { return }
        try ShardIdCheck(memoryByteCount: memoryByteCount, progress: progress).run(
            sources.map {
                ShardIds(path: $0.path, segments: $0.files.segments, table: $0.table, range: $0.ids)
            }, temporary: { target.temporary("ids-\($0)") })
    }

    /// Refuses to start where the device has no room for the joined segments.
    private func requireSpace(_ sources: [MergeSource], layout: PageLayout, job: BuildJob) throws {
        let all = (0..<sources[0].table.count).reduce(0) { sum, partition in
            let records = sources.reduce(0) { $0 + Int($1.table[partition].recordCount) }
            return sum + layout.byteCount(records: records) + 2 * SegmentEntry.byteCount
        }
        // What an earlier run has written needs no room any more.
        let needed = UInt64(all) - min(UInt64(all), job.byteCount)
        let path = job.target.path
        let free = try Directory.freeByteCount(at: path)
        guard free < needed else { return }
        throw StorageError(
            .noSpace, path: path, detail: "there is too little free space for the joined index",
            expected: "\(needed) bytes free", found: "\(free)",
            advice: "free space, or merge to another device")
    }

    /// The widest ids of all shards.
    private func mergedLayout(_ sources: [MergeSource]) throws(StorageError) -> PageLayout {
        let layout = sources[0].table.layout
        return try PageLayout(
            dimension: layout.dimension, elementType: layout.elementType,
            idByteCount: sources.reduce(4) { max($0, $1.table.layout.idByteCount) })
    }

    /// Bytes of each shard to hold at a time: what the memory leaves beside the tables.
    private func window(_ sources: [MergeSource], layout: PageLayout) throws(IndexError) -> Int {
        let entry = MemoryLayout<SegmentEntry>.stride
        let fixed = sources[0].table.count * entry * (sources.count + 2) + max(4 << 20, layout.unitByteCount)
        let least = fixed + sources.count * layout.unitByteCount
        guard memoryByteCount >= least else {
            throw .memoryTooSmall(
                "a memory of \(memoryByteCount) bytes is too little to merge \(sources.count) shards of "
                    + "\(sources[0].table.count) partitions: \(least) are the least", given: memoryByteCount,
                least: least)
        }
        return min(Self.windowByteCount, (memoryByteCount - fixed) / sources.count)
    }

    private func mergedIds(_ sources: [MergeSource]) -> IdRange? {
        let ranges = sources.map(\.ids)
        let merged = IdRange(
            kind: ranges[0].kind, least: ranges.reduce(.max) { min($0, $1.least) },
            greatest: ranges.reduce(0) { max($0, $1.greatest) })
        return merged.kind == .positions && merged.least == 0 ? nil : merged
    }
}
