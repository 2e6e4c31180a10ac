// How a build divides the memory that it may take. The promise is of the whole process: what grows with partitions
// and what the process itself takes is set aside first, and what is left goes to samples, chunks and buckets.

import Router
import Storage
import Vectors

/// Sizes of all that a build holds, from `--memory`.
struct BuildMemory {
    let total: Int
    let count: Int
    let dimension: Int
    let elementType: ElementType
    let isSpherical: Bool
    let threads: Int
    let sampleMaximum: Int?

    /// What the process takes before it has done anything, and heaps that are not given back; measured.
    static let processByteCount = 40 << 20
    /// Of writing segments.
    private static let writerByteCount = 4 << 20
    private static let spillByteCountMaximum = 1 << 20
    /// Beside a row of a sample, k-means holds keys, two assignments and an order of them.
    private static let sampleRowOverhead = 40

    /// Bytes of a row as the base holds it, and beside it as routing needs it.
    var rowByteCount: Int { dimension * (elementType.byteCount + (isSpherical ? 4 : 0)) }
    private var routingRowByteCount: Int { dimension * (isSpherical ? 4 : elementType.byteCount) }
    /// What is left for data; with very little memory the process itself does not count.
    private var available: Int { max(total / 2, total - Self.processByteCount) }

    /// Rows of the base that a pass holds at a time, with the lists that are made of them.
    var rowsAtOnce: Int { max(1024, min(total / 8, 64 << 20) / (rowByteCount + 1024)) }
    private var chunkByteCount: Int { rowsAtOnce * (rowByteCount + 1024) }

    /// Rows that k-means sees: those wanted, no more than a quarter of the memory holds, and no fewer than partitions.
    func sampleCount(partitions: Int) -> Int {
        // k-means also copies part of its rows, up to all of them.
        let affordable = min(
            total / 4 / rowByteCount, total / 4 * 3 / (rowByteCount * 9 / 4 + Self.sampleRowOverhead))
        // k-means iterates over 256 rows a partition and ends with a few rounds over all that it is given:
        // everything, where it fits.
        let wanted = sampleMaximum ?? max(256 * partitions, 4 << 20)
        return min(count, max(min(wanted, affordable), min(count, partitions)))
    }

    /// Held for each partition while segments are written: counts, bucket numbers, entries and their table.
    private func writingByteCount(partitions: Int) -> Int {
        partitions * (8 + 4 + 2 * SegmentEntry.byteCount)
    }

    /// Records of a bucket, in bytes.
    func bucketByteCount(partitions: Int) -> Int {
        let fixed = writingByteCount(partitions: partitions) + Self.writerByteCount + chunkByteCount
        return max(available / 4, min(total / 2, available - fixed))
    }

    /// The buffer of each of `buckets` spill files.
    func spillBufferByteCount(buckets: Int) -> Int {
        max(4096, min(Self.spillByteCountMaximum, available / 8 / max(1, buckets)) / 4096 * 4096)
    }

    /// Estimates of what each stage holds at most, for `partitions` and buckets of so many bytes.
    func peaks(partitions: Int, heads: Bool, buckets: Int, bucketByteCount: Int) -> [(
        stage: String, byteCount: Int
    )] {
        let centroids = partitions * routingRowByteCount
        let sample = heads ? count : sampleCount(partitions: partitions)
        let part = heads ? 0 : min(sample, 2048 * 256)
        let means = partitions * dimension * 12 + centroids
        // A search through groups holds the centroids a second time; a router through groups too.
        let copies =
            (NearestCentroids.looksAtAll(rows: count, centroids: partitions) ? 0 : 1)
            + (partitions > CentroidIndex.scanLimit ? 1 : 0)
        let process = min(total / 2, Self.processByteCount)
        let spills = buckets > 1 ? buckets * spillBufferByteCount(buckets: buckets) : 0
        let writing = writingByteCount(partitions: partitions)
        return [
            (
                "partition",
                process + sample * (rowByteCount + Self.sampleRowOverhead) + part * routingRowByteCount
                    + means
            ),
            ("assign", process + centroids * (1 + copies) + chunkByteCount + partitions * 8),
            (
                "group",
                process + chunkByteCount + writing + (buckets > 1 ? spills : bucketByteCount)
            ),
            ("write", process + bucketByteCount + writing + Self.writerByteCount),
        ]
    }
}

extension IndexBuilder {
    var memory: BuildMemory {
        BuildMemory(
            total: parameters.memoryByteCount, count: base.count, dimension: base.dimension,
            elementType: base.elementType, isSpherical: parameters.metric.isSpherical,
            threads: parameters.threads, sampleMaximum: parameters.sampleCount)
    }
}
