// A new index directory from one that stands: the same centroids, other records or another router. Records
// of copies and moves are spread over spill files in one pass, then the old segments are streamed a second
// time and written with what has come. Memory is bounded; the old index is only read.

import Index
import Learn
import Router
import Storage
import Vectors

/// Writes an index again, with a plan carried out.
///
///     let plan = try planner.plan(.slots)
///     try IndexRewriter(index: index).write(to: "photos-2.sonde", plan: plan)
public struct IndexRewriter {
    public let index: DiskIndex
    public var threads = 2
    public var memoryByteCount = 2 << 30
    public var progress = JobProgress.none

    public init(index: DiskIndex) { self.index = index }

    /// Writes and publishes `directory`.
    ///
    /// - Parameters:
    ///   - sections: what router.bin is to hold (head ids are added where the index has them); nil: what it
    ///     holds now.
    ///   - codes: what codes.bin is to hold, beside `sections` that say so; nil: it is as before where they are nil too.
    ///   - build: entries to add to the manifest's description of the build, or to replace in it.
    /// - Returns: the new manifest.
    /// - Throws: `IndexError.invalid` for a plan that names vectors or partitions that are not there,
    ///   `storage` from reading and writing, an existing `directory` among it. Nothing is left then.
    @discardableResult
    public func write(
        to directory: String, plan: Placements = Placements(),
        sections: [(tag: String, bytes: [UInt8])]? = nil, codes: VectorMatrix? = nil,
        build: [String: String] = [:]
    ) throws(IndexError) -> Manifest {
        try IndexError.door {
            let target = try AtomicDirectory.create(path: directory)
            do {
                return try write(to: target, plan: plan, sections: sections, codes: codes, build: build)
            } catch {
                target.discard()
                throw error
            }
        }
    }

    /// The same into a directory that was begun before, which is published at the end; whatever an earlier run has
    /// left of the index's files is replaced.
    @discardableResult
    func write(
        to target: AtomicDirectory, plan: Placements = Placements(),
        sections: [(tag: String, bytes: [UInt8])]? = nil, codes: VectorMatrix? = nil,
        build: [String: String] = [:], job: JobIdentity? = nil
    ) throws -> Manifest {
        try validate(plan)
        for name in try Directory.names(target.contentPath) { try Directory.removeTree(target.file(name)) }
        let files = IndexFiles(directory: target.contentPath)
        var manifest = index.manifest
        if plan.isEmpty {
            try share(into: files)
        } else {
            let rewriting = try Rewriting(rewriter: self, plan: plan, directory: target)
            try rewriting.requireSpace(incoming: plan.copies.count + plan.moves.count)
            let (table, digest) = try rewriting.run()
            manifest.records = table.recordCount
            manifest.index = table.layout.binding?.description
            manifest.files[IndexFiles.segmentsName] = digest
            manifest.files[IndexFiles.tableName] = try table.write(path: files.table)
            let heads = index.headIds?.count ?? 0
            manifest.build["replication"] = String(
                Double(table.recordCount + heads) / Double(max(manifest.count, 1)))
        }
        // What was promised of the old router or of fewer records is not promised of the new ones.
        if sections != nil || !plan.isEmpty {
            manifest.build = manifest.build.filter { !ResidentRule.isRuleKey($0.key) }
        }
        manifest.build.merge(build) { $1 }
        // With another router or other records it joins its siblings no more.
        manifest.shard = nil
        manifest.job = job?.digest
        manifest.files[IndexFiles.routerName] = try TaggedFile.write(
            path: files.router, sections: try routerSections(sections))
        manifest.files[IndexFiles.codesName] = try writeCodes(codes, isKept: sections == nil, into: files)
        try manifest.write(path: files.manifest)
        try target.publish()
        return manifest
    }

    private func validate(_ plan: Placements) throws(IndexError) {
        for placement in plan.copies + plan.moves
        where placement.id >= index.count || placement.partition >= index.partitionCount {
            throw .invalid(
                "the plan puts vector \(placement.id) into partition \(placement.partition); the index holds "
                    + "\(index.count) vectors in \(index.partitionCount) partitions")
        }
        if Set(plan.moves.map(\.id)).count < plan.moves.count {
            throw .invalid("the plan moves a vector twice")
        }
        if let heads = index.headIds {
            let moved = Set(plan.moves.map(\.id) + plan.copies.map(\.id))
            if let head = heads.first(where: { moved.contains($0) }) {
                throw .invalid("the plan places vector \(head), which is a head and has no records")
            }
        }
    }

    private func share(into files: IndexFiles) throws {
        let old = IndexFiles(directory: index.path)
        for (source, target, name) in [
            (old.segments, files.segments, IndexFiles.segmentsName),
            (old.table, files.table, IndexFiles.tableName),
        ] {
            guard let digest = index.manifest.files[name] else {
                throw IndexError.inconsistent(path: old.manifest, detail: "names no file \(name)")
            }
            try FileSharing.share(source, as: target, digest: digest)
        }
    }

    /// Writes or shares codes.bin; nil where the index has none.
    private func writeCodes(_ codes: VectorMatrix?, isKept: Bool, into files: IndexFiles) throws
        -> FileDigest?
    {
        if let codes { return try codes.writeCodes(path: files.codes) }
        guard isKept, let digest = index.manifest.files[IndexFiles.codesName] else { return nil }
        try FileSharing.share(IndexFiles(directory: index.path).codes, as: files.codes, digest: digest)
        return digest
    }

    private func routerSections(_ given: [(tag: String, bytes: [UInt8])]?) throws -> [(
        tag: String, bytes: [UInt8]
    )] {
        guard var sections = given else {
            let present = try TaggedFile.read(path: IndexFiles(directory: index.path).router)
            return present.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
        }
        if let heads = index.headIds, !sections.contains(where: { $0.tag == IndexFiles.headIdsTag }) {
            sections.append((IndexFiles.headIdsTag, IndexFiles.encode(headIds: heads)))
        }
        return sections
    }
}

/// One rewriting under way.
private struct Rewriting {
    let rewriter: IndexRewriter
    let directory: AtomicDirectory
    private let index: DiskIndex
    /// Of the index that is written.
    private let indexId: IndexId
    private let numbers: VectorNumbers
    private let homes: Homes
    private let planned: Homes
    private let counts: [Int]
    /// Consecutive partitions whose records fit half of the memory together.
    private let ranges: [Range<Int>]
    private let rangeOfPartition: [UInt32]

    /// Partitions that are ordered at a time, by thread.
    private static let batch = 64

    init(rewriter: IndexRewriter, plan: Placements, directory: AtomicDirectory) throws {
        self.rewriter = rewriter
        self.directory = directory
        index = rewriter.index
        indexId = Self.indexId(rewriting: index, plan: plan)
        numbers = try index.numbers()
        homes = try index.homes()
        planned = homes.applying(plan)
        counts = planned.recordCounts(partitionCount: index.partitionCount)
        let ranges = Bucket.ranges(
            counts: counts, rowByteCount: index.layout.rowByteCount,
            byteCountMaximum: rewriter.memoryByteCount / 2)
        self.ranges = ranges
        var numbers = [UInt32](repeating: 0, count: counts.count)
        for (number, range) in ranges.enumerated() {
            for partition in range { numbers[partition] = UInt32(number) }
        }
        rangeOfPartition = numbers
    }

    /// The segments that were and what the plan changes decide those that come.
    private static func indexId(rewriting index: DiskIndex, plan: Placements) -> IndexId {
        func text(_ placements: [Placement]) -> String {
            var checksum = UInt32(0)
            for placement in placements {
                var bytes = (UInt64(placement.id) << 32 | UInt64(placement.partition)).littleEndian
                checksum = Checksum.crc32c(&bytes, count: 8, continuing: checksum)
            }
            return "\(placements.count) \(Checksum.text(checksum))"
        }
        return IndexId(
            of: JobIdentity([
                ("version of the build", "\(IndexBuilder.formatVersion)"), ("rewritten", "1"),
                ("segments", index.segmentsIdentity ?? "unknown"),
                ("index", index.layout.binding?.description ?? "none"),
                ("copies", text(plan.copies)), ("moves", text(plan.moves)),
            ]))
    }

    /// Refuses to start where the device has no room for so many incoming records and the segments with them.
    func requireSpace(incoming: Int) throws {
        let segments = counts.reduce(0) {
            $0 + index.layout.byteCount(records: $1) + SegmentEntry.byteCount
        }
        let each = MemoryLayout<IncomingRecord>.size + index.layout.rowByteCount
        let needed = UInt64(segments + incoming * each)
        let free = try Directory.freeByteCount(at: directory.workPath)
        guard free < needed else { return }
        throw StorageError(
            .noSpace, path: directory.path,
            detail: "there is too little free space for the index with its copies",
            expected: "\(needed) bytes free", found: "\(free)",
            advice: "free space, write to another device, or plan fewer copies")
    }

    func run() throws -> (table: SegmentTable, digest: FileDigest) {
        let spills = try (0..<ranges.count).map { try SpillFile(path: directory.temporary("incoming-\($0)")) }
        let incoming = try collect(into: spills)
        let writer = try SegmentWriter(
            path: directory.file(IndexFiles.segmentsName), layout: index.layout.bound(to: indexId))
        var current = 0
        var bucket = Bucket(partitions: ranges[0], counts: counts, layout: index.layout)
        let distances = CentroidDistances(index: index)
        func finishBucket() throws {
            try take(incoming[current], from: spills[current], into: bucket, distances: distances)
            try write(bucket, to: writer)
            current += 1
            if current < ranges.count {
                bucket = Bucket(partitions: ranges[current], counts: counts, layout: index.layout)
            }
        }
        try index.forEachSegment { partition, segment in
            while partition >= ranges[current].upperBound { try finishBucket() }
            try index.forEachRecord(of: partition, in: segment) { id, vector in
                let number = try numbers.require(id)
                guard planned[number].contains(UInt32(partition)) else { return }
                bucket.add(
                    id: id, vector: vector, partition: UInt32(partition), isHome: true,
                    distance: distances.of(vector, partition: partition))
            }
        }
        while current < ranges.count { try finishBucket() }
        return try writer.finish()
    }

    /// First pass: every record that comes into a partition, once, into the spill file of its range.
    private func collect(into spills: [SpillFile]) throws -> [Int] {
        var counts = [Int](repeating: 0, count: spills.count)
        try index.forEachSegment { partition, segment in
            try index.forEachRecord(of: partition, in: segment) { id, vector in
                let number = try numbers.require(id)
                let old = homes[number]
                // Where a vector has several records already, the first one speaks for all.
                guard old.first == UInt32(partition) else { return }
                for target in planned[number] where !old.contains(target) {
                    let range = Int(rangeOfPartition[Int(target)])
                    var header = IncomingRecord(id: id, partition: target)
                    try spills[range].append(&header, count: MemoryLayout<IncomingRecord>.size)
                    try spills[range].append(vector, count: index.layout.rowByteCount)
                    counts[range] += 1
                }
            }
            rewriter.progress(stage: "collect", done: partition + 1, total: index.partitionCount)
        }
        for spill in spills { try spill.rewind() }
        return counts
    }

    private func take(_ count: Int, from spill: SpillFile, into bucket: Bucket, distances: CentroidDistances)
        throws
    {
        let vector = UnsafeMutableRawPointer.allocate(byteCount: index.layout.rowByteCount, alignment: 64)
        defer { vector.deallocate() }
        for _ in 0..<count {
            var header = IncomingRecord(id: 0, partition: 0)
            try spill.read(into: &header, count: MemoryLayout<IncomingRecord>.size)
            try spill.read(into: vector, count: index.layout.rowByteCount)
            bucket.add(
                id: header.id, vector: vector, partition: header.partition, isHome: false,
                distance: distances.of(vector, partition: Int(header.partition)))
        }
        spill.remove()
    }

    /// Orders the records of a bucket's segments on all threads and writes them one after the other.
    private func write(_ bucket: Bucket, to writer: SegmentWriter) throws {
        let distance = Distance(metric: .l2, elementType: index.layout.elementType)
        var start = bucket.partitions.lowerBound
        while start < bucket.partitions.upperBound {
            let first = start
            let end = min(bucket.partitions.upperBound, first + Self.batch * rewriter.threads)
            let orders = ResultSlots<[UInt32]>(count: end - start)
            Workers.forEach(count: end - start, threads: rewriter.threads) { task in
                orders.set(
                    task, bucket.order(partition: first + task, recordsMaximum: nil, distance: distance))
            }
            for task in 0..<end - start {
                try bucket.append(partition: first + task, order: orders.take(task) ?? [], to: writer)
            }
            start = end
            rewriter.progress(stage: "write", done: end, total: index.partitionCount)
        }
    }
}

/// What stands before each vector in a spill file.
private struct IncomingRecord {
    var id: UInt64
    var partition: UInt32
}

/// Squared distances of records to centroids, in routing space. Used by one thread.
private final class CentroidDistances {
    private let space: RoutingSpace
    private let distance: Distance
    private let centroids: VectorMatrix
    private let dimension: Int
    private let row: UnsafeMutableRawPointer

    init(index: DiskIndex) {
        space = index.space
        distance = space.distance
        centroids = index.centroids.centroids()
        row = .allocate(byteCount: centroids.dimension * 4, alignment: 64)
        dimension = index.dimension
    }

    deinit { row.deallocate() }

    func of(_ vector: UnsafeRawPointer, partition: Int) -> Float {
        space.convert(vector, dimension: dimension, into: row)
        return max(0, distance.pair(row, centroids.row(partition), dimension: centroids.dimension))
    }
}

extension VectorMatrix {
    /// Writes the blocks of codes as codes.bin.
    func writeCodes(path: String) throws(StorageError) -> FileDigest {
        try CodePages.write(path: path, codes: UnsafeRawBufferPointer(start: bytes, count: byteCount))
    }
}
