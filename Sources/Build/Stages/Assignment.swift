// Which partitions each base vector belongs to: one pass over the base, chunk by chunk. What is decided goes
// to a file in the order of the base, so that memory does not grow with it, and a run that follows a kill goes on
// behind the last vector that counts.

import Index
import Learn
import Router
import Storage
import Vectors

/// What the assign stage decided.
final class Assigned {
    /// Records of each partition.
    let counts: [Int]
    /// Consecutive partitions whose records fit into memory together.
    let buckets: [Range<Int>]
    /// Share of some vectors that are in the partition whose centroid is their nearest; nil where every centroid was
    /// looked at.
    let nearestShare: Double?
    /// Of the index whose segments come out of this.
    let indexId: IndexId
    /// For each vector in order its checksum, how many records it has, where, and at which distance from the centroid
    /// (home first); nil where nobody needs it any more.
    private var spill: SpillFile?

    fileprivate init(
        counts: [Int], buckets: [Range<Int>], nearestShare: Double?, indexId: IndexId, spill: SpillFile?
    ) {
        self.counts = counts
        self.buckets = buckets
        self.nearestShare = nearestShare
        self.indexId = indexId
        self.spill = spill
    }

    /// Goes back to the first vector.
    func rewind() throws(StorageError) { try spill?.rewind() }

    /// Lets go of the list, so that its file frees its room once it is removed.
    func close() { spill = nil }

    /// Reads back the next `count` vectors: `body(row, isHome, partition, distance)` once a record.
    func forEachRow(_ count: Int, _ body: (Int, Bool, UInt32, Float) throws -> Void) throws {
        guard let spill else { return }
        try Self.forEachRow(count, of: spill, partitions: counts.count, body)
    }

    fileprivate static func forEachRow(
        _ count: Int, of spill: SpillFile, partitions: Int, _ body: (Int, Bool, UInt32, Float) throws -> Void
    ) throws {
        for row in 0..<count {
            var (checksum, records) = (UInt32(0), UInt8(0))
            try spill.read(into: &checksum, count: 4)
            try spill.read(into: &records, count: 1)
            for record in 0..<Int(records) {
                var entry = AssignedPartition(partition: 0, distance: 0)
                try spill.read(into: &entry, count: MemoryLayout<AssignedPartition>.size)
                guard entry.partition < partitions else {
                    throw StorageError(
                        .corrupt, path: spill.path, detail: "names a partition that is not there",
                        expected: "fewer than \(partitions)", found: "\(entry.partition)",
                        advice: "begin anew", remedy: .beginAnew)
                }
                try body(row, record == 0, entry.partition, entry.distance)
            }
        }
    }
}

/// The assign stage.
struct AssignStage {
    let builder: IndexBuilder
    let job: BuildJob

    /// Candidates that closure looks at (SPTAG's InternalResultNum).
    private static let closureCandidates = 64
    /// SOAR looks for its spill among this many nearest centroids; the formula favours near ones.
    private static let soarCandidates = 32
    /// Vectors whose assignment is compared with an exact one.
    private static let checkedCount = 2000
    /// Groups of centroids to look through: the fewest with which `nearestShareWanted` of the checked vectors find
    /// their nearest centroid. Where copies are wanted, too, many near centroids have to be found.
    private static let probes = [8, 12, 16, 24, 32, 48, 64]
    private static let probesForCopies = 32
    private static let nearestShareWanted = 0.998
    /// Mostly enough, for estimates.
    static let likelyProbes = 12
    private static let (countsTag, bucketsTag, nearestTag, indexTag) = (
        "counts", "buckets", "nearest", "index"
    )

    func run() throws -> Assigned {
        if job.digest(.counts) != nil {
            let (counts, buckets, nearestShare, indexId) = try readCounts()
            try requireMemory(counts: counts, buckets: buckets)
            // A build that has spread all records has removed the list.
            let spill = try job.digest(.assignment).map {
                try SpillFile(keeping: job.path(.assignment), continuing: $0)
            }
            guard spill != nil || !needsList(buckets) else {
                throw StorageError(
                    .missing, path: job.path(.assignment), detail: "is not there", advice: "begin anew",
                    remedy: .beginAnew)
            }
            return Assigned(
                counts: counts, buckets: buckets, nearestShare: nearestShare, indexId: indexId, spill: spill)
        }
        return try assignAll()
    }

    /// Whether records have still to be found in the base.
    private func needsList(_ buckets: [Range<Int>]) -> Bool {
        buckets.count == 1
            ? job.position(.write) < buckets[0].upperBound : job.position(.group) < builder.base.count
    }

    private func assignAll() throws -> Assigned {
        let base = builder.base
        let partitions = try builder.keptPartitions(job)
        let centroids = partitions.router.centroids()
        var first = job.position(.assign)
        let spill = try SpillFile(keeping: job.path(.assignment), continuing: job.digest(.assignment))
        var counts = [Int](repeating: 0, count: centroids.count)
        if first > 0 {
            try spill.rewind()
            try Assigned.forEachRow(first, of: spill, partitions: counts.count) { _, _, partition, _ in
                counts[Int(partition)] += 1
            }
        }
        let chunk = VectorMatrix(
            count: min(base.count, builder.memory.rowsAtOnce), dimension: base.dimension,
            elementType: base.elementType)
        var headRows = HeadCursor(heads: partitions.heads, from: first)
        let (search, share) = try searchOf(centroids)
        var meter = WorkMeter(builder.unit)
        if first > 0 { builder.progress(stage: "assign", done: first, total: base.count) }
        while first < base.count {
            let count = min(chunk.count, base.count - first)
            try readInParallel(
                base, rows: first..<first + count, into: chunk, threads: builder.parameters.threads)
            let start = first
            try refuseLengths(chunk, count: count, metric: builder.parameters.metric) {
                "\(base.path): vector \(start + $0)"
            }
            let rows = count == chunk.count ? chunk : chunk.gather(0..<count)
            let lists = assign(builder.space.rows(from: rows), search: search, centroids: centroids)
            let ids = try builder.parameters.ids.read(first..<first + count)
            for row in 0..<count {
                // By this the file as a whole tells of every byte that goes into segments.
                var checksum = Self.checksum(of: rows.row(row), count: rows.rowByteCount, id: ids[row])
                try spill.append(&checksum, count: 4)
                // Heads are resident and in no segment.
                let places =
                    headRows.contains(first + row) ? 0..<0 : lists.starts[row]..<lists.starts[row + 1]
                var records = UInt8(places.count)
                try spill.append(&records, count: 1)
                for place in places {
                    var entry = AssignedPartition(
                        partition: lists.partitions[place], distance: lists.distances[place])
                    try spill.append(&entry, count: MemoryLayout<AssignedPartition>.size)
                    counts[Int(entry.partition)] += 1
                }
            }
            first += count
            builder.progress(stage: "assign", done: first, total: base.count)
            if meter.ends(after: count * base.rowByteCount) && first < base.count {
                try job.finish(.assign, position: first, files: [(.assignment, try spill.sync())])
            }
        }
        let (buckets, list) = (buckets(of: counts), try spill.sync())
        let indexId = try indexId(list)
        try job.finish(
            .assign, position: first,
            files: [
                (.assignment, list),
                (
                    .counts,
                    try write(counts: counts, buckets: buckets, nearestShare: share, indexId: indexId)
                ),
            ])
        return Assigned(
            counts: counts, buckets: buckets, nearestShare: share, indexId: indexId, spill: spill)
    }

    private static func checksum(of vector: UnsafeRawPointer, count: Int, id: UInt64) -> UInt32 {
        var id = id.littleEndian
        return Checksum.crc32c(&id, count: 8, continuing: Checksum.crc32c(vector, count: count)).littleEndian
    }

    /// What decides the bytes of the segments, and nothing else: every vector and its id, where its records are, and what
    /// becomes of too many. Segments are equal where ids are.
    private func indexId(_ list: FileDigest) throws -> IndexId {
        let base = builder.base
        return IndexId(
            of: JobIdentity([
                ("version of the build", "\(IndexBuilder.formatVersion)"),
                ("vectors", "\(base.count) of \(base.dimension) \(base.elementType.name)"),
                ("bytes of an id", "\(try builder.layout().idByteCount)"),
                ("assignment", "\(list.byteCount) bytes, \(Checksum.text(list.crc32c))"),
                ("pages-max", builder.parameters.pagesMaximum.map { "\($0)" } ?? "none"),
            ]))
    }

    /// Every centroid, or groups of them, and how often those find the nearest, over vectors spread evenly over the
    /// base (nil where every centroid is looked at).
    private func searchOf(_ centroids: VectorMatrix) throws -> (NearestCentroids, nearestShare: Double?) {
        let (base, parameters) = (builder.base, builder.parameters)
        if NearestCentroids.looksAtAll(rows: builder.wholeCount, centroids: centroids.count) {
            return (NearestCentroids(scanning: centroids), nil)
        }
        var search = NearestCentroids(
            centroids,
            groups: CentroidGroups(grouping: centroids, seed: parameters.seed, threads: parameters.threads))
        let count = min(Self.checkedCount, base.count)
        let rows = builder.space.rows(from: try base.gather((0..<count).map { $0 * base.count / count }))
        let exact = NearestCentroids(scanning: centroids).assign(rows, threads: parameters.threads)
        var share = 0.0
        for probes in parameters.copyRule == .none ? Self.probes : [Self.probesForCopies] {
            search.probes = probes
            let found = search.assign(rows, threads: parameters.threads)
            share = Double(zip(exact.distances, found.distances).count { $0 == $1 }) / Double(count)
            if share >= Self.nearestShareWanted { break }
        }
        return (search, share)
    }

    /// Home and copies of every row, by the copy rule asked for.
    private func assign(_ rows: VectorMatrix, search: NearestCentroids, centroids: VectorMatrix)
        -> PartitionLists
    {
        let threads = builder.parameters.threads
        switch builder.parameters.copyRule {
        case .closure(let replicas, let eps1):
            let candidates = search.nearest(
                min(Self.closureCandidates, centroids.count), rows, threads: threads)
            return Closure(maximum: replicas, eps1: eps1)
                .replicas(candidates, centroids: centroids, threads: threads)
        case .soar(let lambda):
            let candidates = search.nearest(min(Self.soarCandidates, centroids.count), rows, threads: threads)
            return Soar(lambda: lambda).spill(rows, candidates, centroids: centroids, threads: threads)
        default: return PartitionLists(homes: search.assign(rows, threads: threads))
        }
    }

    // Buckets and counts.

    /// Consecutive partitions whose records fit their share of the memory.
    private func buckets(of counts: [Int]) -> [Range<Int>] {
        Bucket.ranges(
            counts: counts, rowByteCount: builder.base.rowByteCount,
            byteCountMaximum: builder.memory.bucketByteCount(partitions: counts.count))
    }

    /// A run with less memory than the one that cut the buckets could not keep its promise.
    private func requireMemory(counts: [Int], buckets: [Range<Int>]) throws {
        let size = builder.base.rowByteCount
        func largest(_ ranges: [Range<Int>]) -> Int {
            ranges.map { range in
                Bucket.byteCount(records: range.reduce(0) { $0 + counts[$1] }, rowByteCount: size)
            }.max() ?? 0
        }
        let (needed, own) = (largest(buckets), largest(self.buckets(of: counts)))
        let allowed = max(own, builder.memory.bucketByteCount(partitions: counts.count))
        guard needed <= allowed else {
            throw StorageError(
                .invalidValue, path: job.path(.counts),
                detail: "the build was begun with more memory: its buckets do not fit into this one's",
                expected: "at most \(allowed) bytes a bucket", found: "\(needed)",
                advice: "give as much memory as it was begun with, or begin anew", remedy: .memoryOrBeginAnew)
        }
    }

    private func write(
        counts: [Int], buckets: [Range<Int>], nearestShare: Double?, indexId: IndexId
    ) throws -> FileDigest {
        func bytes(_ values: [Int]) -> [UInt8] {
            values.map { UInt64($0).littleEndian }.withUnsafeBytes { Array($0) }
        }
        let path = job.path(.counts)
        try Directory.removeTree(path)
        var sections = [
            (Self.countsTag, bytes(counts)), (Self.bucketsTag, bytes(buckets.map(\.upperBound))),
            (Self.indexTag, Array(indexId.description.utf8)),
        ]
        if let nearestShare {
            sections.append((Self.nearestTag, bytes([Int(bitPattern: UInt(nearestShare.bitPattern))])))
        }
        return try TaggedFile.write(path: path, sections: sections)
    }

    private func readCounts() throws -> (
        counts: [Int], buckets: [Range<Int>], nearestShare: Double?, indexId: IndexId
    ) {
        let path = job.path(.counts)
        let sections = try TaggedFile.read(path: path)
        func values(_ tag: String) -> [UInt64] {
            (sections[tag] ?? []).withUnsafeBytes { raw in
                (0..<raw.count / 8).map {
                    UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self))
                }
            }
        }
        let counts = values(Self.countsTag).map { Int(clamping: $0) }
        let ends = values(Self.bucketsTag).map { Int(clamping: $0) }
        let starts = [0] + ends.dropLast()
        guard !counts.isEmpty, ends.last == counts.count, zip(starts, ends).allSatisfy({ $0 < $1 }),
            counts.allSatisfy({ $0 <= builder.base.count }),
            let indexId = IndexId(String(decoding: sections[Self.indexTag] ?? [], as: UTF8.self))
        else {
            throw StorageError(
                .corrupt, path: path, detail: "contradicts itself", advice: "begin anew", remedy: .beginAnew)
        }
        return (
            counts, zip(starts, ends).map { $0..<$1 },
            values(Self.nearestTag).first.map { Double(bitPattern: $0) }, indexId
        )
    }
}

private struct AssignedPartition {
    var partition: UInt32
    var distance: Float
}

/// Tells of rising row numbers whether they are heads.
private struct HeadCursor {
    private let sorted: [UInt32]
    private var next = 0

    init(heads: [UInt32]?, from first: Int) {
        sorted = (heads ?? []).sorted()
        next = sorted.firstIndex { Int($0) >= first } ?? sorted.count
    }

    mutating func contains(_ row: Int) -> Bool {
        guard next < sorted.count, Int(sorted[next]) == row else { return false }
        next += 1
        return true
    }
}
