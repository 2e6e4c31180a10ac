// Which partitions each base vector belongs to: one pass over the base, chunk by chunk. What is decided goes
// to a spill file in the order of the base, so that memory does not grow with it.

import Router
import Storage
import Vectors

/// The assign stage.
struct AssignStage {
    let builder: IndexBuilder
    let centroids: VectorMatrix
    let heads: [UInt32]?

    /// Candidates that closure looks at (SPTAG's InternalResultNum).
    private static let closureCandidates = 64
    /// SOAR looks for its spill among this many nearest centroids; the formula favours near ones.
    private static let soarCandidates = 32

    /// What the pass decided: the records of each partition, and for each vector in order how many records
    /// it has, where, and at which distance from the centroid (home first).
    final class Result {
        let spill: SpillFile
        var counts: [Int]

        init(spill: SpillFile, partitions: Int) {
            self.spill = spill
            counts = [Int](repeating: 0, count: partitions)
        }

        /// Reads back the next `count` vectors: `body(row, isHome, partition, distance)` once a record.
        func forEachRow(_ count: Int, _ body: (Int, Bool, UInt32, Float) throws -> Void) throws {
            for row in 0..<count {
                var records: UInt8 = 0
                try spill.read(into: &records, count: 1)
                for record in 0..<Int(records) {
                    var entry = AssignedPartition(partition: 0, distance: 0)
                    try spill.read(into: &entry, count: MemoryLayout<AssignedPartition>.size)
                    try body(row, record == 0, entry.partition, entry.distance)
                }
            }
        }
    }

    func run(spillPath: String) throws -> Result {
        let base = builder.base
        let result = Result(spill: try SpillFile(path: spillPath), partitions: centroids.count)
        let chunk = VectorMatrix(
            count: min(base.count, builder.rowsAtOnce), dimension: base.dimension,
            elementType: base.elementType)
        var headRows = HeadCursor(heads: heads)
        let search = NearestCentroids(
            centroids, seed: builder.parameters.seed, threads: builder.parameters.threads)
        var first = 0
        while first < base.count {
            let count = min(chunk.count, base.count - first)
            try readInParallel(
                base, rows: first..<first + count, into: chunk, threads: builder.parameters.threads)
            let start = first
            try refuseLengths(chunk, count: count, metric: builder.parameters.metric) {
                "\(base.path): vector \(start + $0)"
            }
            let rows = count == chunk.count ? chunk : chunk.gather(0..<count)
            let lists = assign(builder.space.rows(from: rows), search: search)
            for row in 0..<count {
                // Heads are resident and in no segment.
                let places =
                    headRows.contains(first + row) ? 0..<0 : lists.starts[row]..<lists.starts[row + 1]
                var records = UInt8(places.count)
                try result.spill.append(&records, count: 1)
                for place in places {
                    var entry = AssignedPartition(
                        partition: lists.partitions[place], distance: lists.distances[place])
                    try result.spill.append(&entry, count: MemoryLayout<AssignedPartition>.size)
                    result.counts[Int(entry.partition)] += 1
                }
            }
            first += count
            builder.progress(stage: "assign", done: first, total: base.count)
        }
        return result
    }

    /// Home and copies of every row, by the duplication asked for.
    private func assign(_ rows: VectorMatrix, search: NearestCentroids) -> PartitionLists {
        let threads = builder.parameters.threads
        switch builder.parameters.duplication {
        case .none:
            return PartitionLists(homes: search.assign(rows, threads: threads))
        case .closure(let replicas, let eps1):
            let candidates = search.nearest(
                min(Self.closureCandidates, centroids.count), rows, threads: threads)
            return Closure(maximum: replicas, eps1: eps1)
                .replicas(candidates, centroids: centroids, threads: threads)
        case .soar(let lambda):
            let candidates = search.nearest(min(Self.soarCandidates, centroids.count), rows, threads: threads)
            return Soar(lambda: lambda).spill(rows, candidates, centroids: centroids, threads: threads)
        }
    }
}

extension IndexBuilder {
    /// Rows of the base that a pass holds at a time.
    var rowsAtOnce: Int {
        let rowByteCount =
            base.dimension * (base.elementType.byteCount + (parameters.metric.isSpherical ? 4 : 0)) + 1024
        return max(1024, min(parameters.memoryByteCount / 8, 64 << 20) / rowByteCount)
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

    init(heads: [UInt32]?) { sorted = (heads ?? []).sorted() }

    mutating func contains(_ row: Int) -> Bool {
        guard next < sorted.count, Int(sorted[next]) == row else { return false }
        next += 1
        return true
    }
}
