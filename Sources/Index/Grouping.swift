// From "this vector belongs to these partitions" to segments on disk, without holding the base: partitions
// are cut into buckets that fit the memory asked for; where there is more than one, records are first
// spread over a spill file a bucket, sequentially, and each bucket is then sorted and written.

import Foundation
import Router
import Storage
import Vectors

/// The last data stage of a build: reads the base once, writes segments.bin once.
struct Grouping {
    let builder: IndexBuilder
    let layout: PageLayout
    let assignment: AssignStage.Result
    let centroids: VectorMatrix
    let temporaryDirectory: String

    /// Partitions that a task encodes at a time.
    private static let batch = 64

    /// Writes the segments of all partitions in file order.
    func write(segmentsPath: String) throws -> (table: SegmentTable, digest: FileDigest) {
        let writer = try SegmentWriter(path: segmentsPath, layout: layout)
        let ranges = buckets()
        if ranges.count == 1 {
            let bucket = Bucket(partitions: ranges[0], counts: assignment.counts, layout: layout)
            try forEachChunk { rows, first, count in
                let ids = try builder.parameters.ids.read(first..<first + count)
                try assignment.forEachRow(count) { row, home, partition, distance in
                    bucket.add(
                        id: ids[row], vector: rows.row(row), partition: partition, isHome: home,
                        distance: distance)
                }
            }
            try write(bucket, to: writer)
        } else {
            try writeThroughSpills(ranges, to: writer)
        }
        assignment.spill.remove()
        return try writer.finish()
    }

    /// Consecutive partitions whose records fit half of the memory.
    private func buckets() -> [Range<Int>] {
        let budget = builder.parameters.memoryByteCount / 2
        var ranges: [Range<Int>] = []
        var start = 0
        var held = 0
        for partition in 0..<assignment.counts.count {
            let cost = Bucket.byteCount(records: assignment.counts[partition], layout: layout)
            if held + cost > budget && partition > start {
                ranges.append(start..<partition)
                start = partition
                held = 0
            }
            held += cost
        }
        ranges.append(start..<assignment.counts.count)
        return ranges
    }

    /// Streams the base in chunks, in order.
    private func forEachChunk(_ body: (VectorMatrix, Int, Int) throws -> Void) throws {
        let base = builder.base
        try assignment.spill.rewind()
        let chunk = VectorMatrix(
            count: min(base.count, builder.rowsAtOnce), dimension: base.dimension,
            elementType: base.elementType)
        var first = 0
        while first < base.count {
            let count = min(chunk.count, base.count - first)
            try readInParallel(
                base, rows: first..<first + count, into: chunk, threads: builder.parameters.threads)
            try body(chunk, first, count)
            first += count
            builder.progress(stage: "group", done: first, total: base.count)
        }
    }

    private func writeThroughSpills(_ ranges: [Range<Int>], to writer: SegmentWriter) throws {
        var bucketOfPartition = [UInt32](repeating: 0, count: assignment.counts.count)
        var spills: [SpillFile] = []
        for (number, range) in ranges.enumerated() {
            for partition in range { bucketOfPartition[partition] = UInt32(number) }
            spills.append(try SpillFile(path: temporaryDirectory + "/bucket-\(number).tmp"))
        }
        let vectorByteCount = layout.rowByteCount
        try forEachChunk { rows, first, count in
            let ids = try builder.parameters.ids.read(first..<first + count)
            try assignment.forEachRow(count) { row, home, partition, distance in
                let spill = spills[Int(bucketOfPartition[Int(partition)])]
                var header = SpilledRecord(
                    id: ids[row], distance: distance, partition: partition | (home ? 1 << 31 : 0))
                try spill.append(&header, count: MemoryLayout<SpilledRecord>.size)
                try spill.append(rows.row(row), count: vectorByteCount)
            }
        }
        let vector = UnsafeMutableRawPointer.allocate(byteCount: vectorByteCount, alignment: 64)
        defer { vector.deallocate() }
        for (number, range) in ranges.enumerated() {
            let bucket = Bucket(partitions: range, counts: assignment.counts, layout: layout)
            let spill = spills[number]
            try spill.rewind()
            let records = range.reduce(0) { $0 + assignment.counts[$1] }
            for _ in 0..<records {
                var header = SpilledRecord(id: 0, distance: 0, partition: 0)
                try spill.read(into: &header, count: MemoryLayout<SpilledRecord>.size)
                try spill.read(into: vector, count: vectorByteCount)
                bucket.add(
                    id: header.id, vector: vector, partition: header.partition & 0x7fff_ffff,
                    isHome: header.partition >> 31 == 1, distance: header.distance)
            }
            spill.remove()
            try write(bucket, to: writer)
        }
    }

    /// Orders the records of a bucket's segments on all threads and writes them one after the other.
    private func write(_ bucket: Bucket, to writer: SegmentWriter) throws {
        let distance = Distance(metric: .l2, elementType: layout.elementType)
        let threads = builder.parameters.threads
        let recordsMaximum = builder.parameters.pagesMaximum.map { layout.recordsMaximum(pages: $0) }
        var start = bucket.partitions.lowerBound
        while start < bucket.partitions.upperBound {
            let first = start
            let end = min(bucket.partitions.upperBound, first + Self.batch * threads)
            let orders = ResultSlots<[UInt32]>(count: end - start)
            Workers.forEach(count: end - start, threads: threads) { task in
                orders.set(
                    task,
                    bucket.order(partition: first + task, recordsMaximum: recordsMaximum, distance: distance))
            }
            for task in 0..<end - start {
                try bucket.append(partition: first + task, order: orders.take(task) ?? [], to: writer)
            }
            start = end
            builder.progress(stage: "write", done: end, total: assignment.counts.count)
        }
    }
}

/// What stands before each vector in a bucket's spill file; the home bit is the partition's highest.
private struct SpilledRecord {
    var id: UInt64
    var distance: Float
    var partition: UInt32
}

/// A place for the result of each task of a parallel loop; written by one thread, read after all are done.
final class ResultSlots<Result: Sendable>: @unchecked Sendable {
    private let results: UnsafeMutablePointer<Result?>
    private let count: Int

    init(count: Int) {
        self.count = count
        results = .allocate(capacity: max(count, 1))
        results.initialize(repeating: nil, count: count)
    }

    deinit {
        results.deinitialize(count: count)
        results.deallocate()
    }

    func set(_ index: Int, _ result: Result) { results[index] = result }

    /// Moves a result out.
    func take(_ index: Int) -> Result? {
        let result = results[index]
        results[index] = nil
        return result
    }
}

/// The records of consecutive partitions in memory, each partition's back to back.
final class Bucket: @unchecked Sendable {
    let partitions: Range<Int>
    private let layout: PageLayout
    private let starts: [Int]
    private var filled: [Int]
    private let vectors: VectorMatrix
    private let ids: UnsafeMutablePointer<UInt64>
    private let distances: UnsafeMutablePointer<Float>
    private let homes: UnsafeMutablePointer<Bool>

    static func byteCount(records: Int, layout: PageLayout) -> Int { records * (layout.rowByteCount + 13) }

    init(partitions: Range<Int>, counts: [Int], layout: PageLayout) {
        self.partitions = partitions
        self.layout = layout
        var starts = [0]
        starts.reserveCapacity(partitions.count + 1)
        for partition in partitions { starts.append(starts[starts.count - 1] + counts[partition]) }
        let total = starts[starts.count - 1]
        self.starts = starts
        filled = Array(starts.dropLast())
        vectors = VectorMatrix(count: total, dimension: layout.dimension, elementType: layout.elementType)
        ids = .allocate(capacity: max(total, 1))
        distances = .allocate(capacity: max(total, 1))
        homes = .allocate(capacity: max(total, 1))
    }

    deinit {
        ids.deallocate()
        distances.deallocate()
        homes.deallocate()
    }

    /// Adds a record; records of a partition keep the order in which they come.
    func add(id: UInt64, vector: UnsafeRawPointer, partition: UInt32, isHome: Bool, distance: Float) {
        let index = Int(partition) - partitions.lowerBound
        let place = filled[index]
        filled[index] = place + 1
        vectors.row(place).copyMemory(from: vector, byteCount: layout.rowByteCount)
        ids[place] = id
        distances[place] = distance
        homes[place] = isHome
    }

    /// The records of a partition in the order in which they are to lie: copies beyond the maximum dropped,
    /// near records next to each other.
    func order(partition: Int, recordsMaximum: Int?, distance: Distance) -> [UInt32] {
        let start = starts[partition - partitions.lowerBound]
        let count = starts[partition - partitions.lowerBound + 1] - start
        guard count > 0 else { return [] }
        let walk = LocalityOrder.walk(
            rows: vectors.row(start), count: count, stride: vectors.rowByteCount, distance: distance,
            dimension: layout.dimension, grain: layout.recordsPerUnit)
        guard let recordsMaximum, count > recordsMaximum else { return walk }
        return dropFarthestCopies(walk, start: start, keeping: recordsMaximum)
    }

    /// Writes the segment of a partition.
    func append(partition: Int, order: [UInt32], to writer: SegmentWriter) throws(StorageError) {
        let start = starts[partition - partitions.lowerBound]
        var farthest: Float = 0
        for row in order { farthest = max(farthest, distances[start + Int(row)]) }
        try writer.append(count: order.count, radius: farthest.squareRoot()) { place in
            let record = start + Int(order[place])
            return (ids[record], UnsafeRawPointer(vectors.row(record)))
        }
    }

    /// A vector's record at home stays whatever its distance: no vector is ever lost to a cap.
    private func dropFarthestCopies(_ walk: [UInt32], start: Int, keeping maximum: Int) -> [UInt32] {
        let ranked = walk.sorted { a, b in
            let (x, y) = (start + Int(a), start + Int(b))
            if homes[x] != homes[y] { return homes[x] }
            if distances[x] != distances[y] { return distances[x] < distances[y] }
            return ids[x] < ids[y]
        }
        let homeCount = walk.reduce(0) { $0 + (homes[start + Int($1)] ? 1 : 0) }
        let kept = Set(ranked.prefix(max(maximum, homeCount)))
        return walk.filter { kept.contains($0) }
    }
}
