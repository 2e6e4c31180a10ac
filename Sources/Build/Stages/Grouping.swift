// From "this vector belongs to these partitions" to segments on disk, without holding the base: partitions
// are cut into buckets that fit the memory asked for; where there is more than one, records are first
// spread over a spill file a bucket, sequentially, and each bucket is then sorted and written. Both passes are
// journaled: a run that follows a kill spreads on behind the last vector, or writes on behind the last partition,
// that counts.

import Foundation
import Index
import Router
import Storage
import Vectors

/// The group and write stages of a build: reads the base once, writes segments.bin once.
struct Grouping {
    private let builder: IndexBuilder
    private let job: BuildJob
    private let layout: PageLayout
    private let assignment: Assigned
    /// Consecutive partitions that are written together.
    private let buckets: [Range<Int>]

    /// Partitions that a task encodes at a time.
    private static let batch = 64

    init(builder: IndexBuilder, job: BuildJob, layout: PageLayout, assignment: Assigned) {
        self.builder = builder
        self.job = job
        self.layout = layout
        self.assignment = assignment
        buckets = assignment.buckets
    }

    /// Writes the segments of all partitions in file order.
    func write() throws -> (table: SegmentTable, digest: FileDigest) {
        if buckets.count > 1 { try spread() }
        let segments = try JournaledSegments(job, layout: layout)
        let done = segments.done
        if done > 0 { builder.progress(stage: "write", done: done, total: assignment.counts.count) }
        for (number, range) in buckets.enumerated() where range.upperBound > done {
            let bucket = Bucket(partitions: range, counts: assignment.counts, layout: layout)
            if buckets.count == 1 { try fill(bucket) } else { try fill(bucket, from: number) }
            // Records are in memory: nothing that was read for them is needed any more, but after a kill.
            try write(
                bucket, from: max(done, range.lowerBound), to: segments,
                source: buckets.count == 1 ? .assignment : .bucket(number))
        }
        return try segments.writer.finish()
    }

    // Spreading.

    /// Every record into the spill file of its bucket.
    private func spread() throws {
        let done = job.position(.group)
        if done == builder.base.count { return }
        var bucketOfPartition = [UInt32](repeating: 0, count: assignment.counts.count)
        try SpillFile.allow(open: buckets.count, in: job.target.workPath)
        let bufferByteCount = builder.memory.spillBufferByteCount(buckets: buckets.count)
        let spills = try buckets.enumerated().map { number, range in
            for partition in range { bucketOfPartition[partition] = UInt32(number) }
            return try SpillFile(
                keeping: job.path(.bucket(number)), continuing: job.digest(.bucket(number)),
                bufferByteCount: bufferByteCount)
        }
        let rowByteCount = layout.rowByteCount
        var meter = WorkMeter(builder.unit)
        try forEachChunk(from: done) { rows, first, count in
            let ids = try builder.parameters.ids.read(first..<first + count)
            try assignment.forEachRow(count) { row, home, partition, distance in
                let spill = spills[Int(bucketOfPartition[Int(partition)])]
                var header = SpilledRecord(
                    id: ids[row], distance: distance, partition: partition | (home ? 1 << 31 : 0))
                try spill.append(&header, count: MemoryLayout<SpilledRecord>.size)
                try spill.append(rows.row(row), count: rowByteCount)
            }
            let end = first + count
            guard meter.ends(after: count * rowByteCount) || end == builder.base.count else { return }
            var files: [(BuildJob.File, FileDigest?)] = []
            for (number, spill) in spills.enumerated() { files.append((.bucket(number), try spill.sync())) }
            // Who has all records needs no list of where they belong.
            if end == builder.base.count {
                assignment.close()
                files.append((.assignment, nil))
            }
            try job.finish(.group, position: end, files: files)
        }
    }

    /// Streams the base in chunks, in order, with the assignment at the same row.
    private func forEachChunk(from start: Int, _ body: (VectorMatrix, Int, Int) throws -> Void) throws {
        let base = builder.base
        try assignment.rewind()
        try assignment.forEachRow(start) { _, _, _, _ in }
        let chunk = VectorMatrix(
            count: min(base.count, builder.memory.rowsAtOnce), dimension: base.dimension,
            elementType: base.elementType)
        var first = start
        if first > 0 { builder.progress(stage: "group", done: first, total: base.count) }
        while first < base.count {
            let count = min(chunk.count, base.count - first)
            try readInParallel(
                base, rows: first..<first + count, into: chunk, threads: builder.parameters.threads)
            try body(chunk, first, count)
            first += count
            builder.progress(stage: "group", done: first, total: base.count)
        }
    }

    // Writing.

    /// The one bucket that holds everything, from the base itself.
    private func fill(_ bucket: Bucket) throws {
        try forEachChunk(from: 0) { rows, first, count in
            let ids = try builder.parameters.ids.read(first..<first + count)
            try assignment.forEachRow(count) { row, home, partition, distance in
                bucket.add(
                    id: ids[row], vector: rows.row(row), partition: partition, isHome: home,
                    distance: distance)
            }
        }
    }

    /// A bucket from its spill file.
    private func fill(_ bucket: Bucket, from number: Int) throws {
        let path = job.path(.bucket(number))
        let spill = try SpillFile(
            keeping: path, continuing: job.digest(.bucket(number)), bufferByteCount: 1 << 20)
        try spill.rewind()
        let records = bucket.partitions.reduce(0) { $0 + assignment.counts[$1] }
        let vector = UnsafeMutableRawPointer.allocate(byteCount: layout.rowByteCount, alignment: 64)
        defer { vector.deallocate() }
        for _ in 0..<records {
            var header = SpilledRecord(id: 0, distance: 0, partition: 0)
            try spill.read(into: &header, count: MemoryLayout<SpilledRecord>.size)
            try spill.read(into: vector, count: layout.rowByteCount)
            let partition = header.partition & 0x7fff_ffff
            guard bucket.hasRoom(partition: Int(partition)) else {
                throw StorageError(
                    .corrupt, path: path, detail: "holds a record of a partition that has no room for it",
                    found: "partition \(partition)", advice: "begin anew", remedy: .beginAnew)
            }
            bucket.add(
                id: header.id, vector: vector, partition: partition, isHome: header.partition >> 31 == 1,
                distance: header.distance)
        }
    }

    /// Orders the records of a bucket's segments on all threads and writes them one after the other, from partition
    /// `first` on. `source` is what the bucket was made from, and is needed no more at its end.
    private func write(
        _ bucket: Bucket, from first: Int, to segments: JournaledSegments, source: BuildJob.File
    ) throws {
        let distance = Distance(metric: .l2, elementType: layout.elementType)
        let threads = builder.parameters.threads
        let recordsMaximum = builder.parameters.pagesMaximum.map { layout.recordsMaximum(pages: $0) }
        let writer = segments.writer
        var meter = WorkMeter(builder.unit)
        var start = first
        while start < bucket.partitions.upperBound {
            let (first, before) = (start, writer.byteCount)
            let end = min(bucket.partitions.upperBound, first + Self.batch * threads)
            let orders = ResultSlots<[UInt32]>(count: end - start)
            Workers.forEach(count: end - start, threads: threads) { task in
                orders.set(
                    task,
                    bucket.order(partition: first + task, recordsMaximum: recordsMaximum, distance: distance))
            }
            for task in 0..<end - start {
                try segments.note(
                    try bucket.append(partition: first + task, order: orders.take(task) ?? [], to: writer))
            }
            start = end
            builder.progress(stage: "write", done: end, total: assignment.counts.count)
            let isLast = end == bucket.partitions.upperBound
            if meter.ends(after: Int(writer.byteCount - before)) || isLast {
                try segments.finish(position: end, superfluous: isLast ? [source] : [])
            }
        }
    }
}

/// What stands before each vector in a bucket's spill file; the home bit is the partition's highest.
private struct SpilledRecord {
    var id: UInt64
    var distance: Float
    var partition: UInt32
}
