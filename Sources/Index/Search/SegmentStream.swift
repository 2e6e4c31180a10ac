// A whole index read once, in file order: what verification, training and replanning share.

import Router
import Storage
import Vectors

extension DiskIndex {
    /// Calls `body` with each partition that has records and its checked segment, in file order. Groups of
    /// neighbouring segments come with one large read, the next one under way while one is worked on.
    ///
    /// - Throws: `StorageError` from reading, `IndexError.corruptSegment` for a page that fails its checksum
    ///   (unless `checking` is false), and whatever `body` throws.
    package func forEachSegment(checking: Bool = true, _ body: (Int, UnsafeRawPointer) throws -> Void) throws
    {
        var everything = Array(0..<UInt32(partitionCount))
        var reads: [SegmentRead] = []
        SegmentRead.plan(&everything, table: table, into: &reads)
        guard !reads.isEmpty else { return }
        let largest = reads.reduce(0) { max($0, $1.byteCount) }
        let pipeline = try ReadPipeline(
            device: device, depth: 2, arenaByteCount: 3 * largest, order: .submission)
        try pipeline.run(reads.lazy.map { Extent(offset: $0.offset, byteCount: $0.byteCount) }) {
            number, bytes in
            let read = reads[number]
            for partition in read.partitions where table[partition].recordCount > 0 {
                let segment = UnsafeRawPointer(bytes) + Int(table[partition].offset - read.offset)
                if checking { try check(segment, partition: partition) }
                try body(partition, segment)
            }
        }
    }

    /// Refuses a segment of which a page is damaged, or is not the one of its place.
    func check(_ segment: UnsafeRawPointer, partition: Int) throws(IndexError) {
        for unit in 0..<Int(table[partition].unitCount)
        where !layout.verify(
            unit: segment + unit * layout.unitByteCount, partition: partition, unitNumber: unit)
        {
            throw .corruptSegment(
                path: device.path, partition: partition,
                offset: table[partition].offset + UInt64(unit * layout.unitByteCount))
        }
        try refuseStray(segment: segment, partition: partition)
    }

    /// Calls `body(id, vector)` for each record of a segment, in the order of its pages.
    package func forEachRecord(
        of partition: Int, in segment: UnsafeRawPointer, _ body: (UInt64, UnsafeRawPointer) throws -> Void
    ) rethrows {
        var left = Int(table[partition].recordCount)
        var unit = segment
        while left > 0 {
            let count = min(left, layout.recordsPerUnit)
            for slot in 0..<count {
                try body(
                    layout.id(unit: unit, slot: slot),
                    unit + layout.vectorsOffset + slot * layout.rowByteCount)
            }
            left -= count
            unit += layout.unitByteCount
        }
    }

    /// The vectors and ids of a segment, gathered without the gaps between pages.
    package func records(of partition: Int, in segment: UnsafeRawPointer) -> (
        vectors: VectorMatrix, ids: [UInt64]
    ) {
        let count = Int(table[partition].recordCount)
        let vectors = VectorMatrix(count: count, dimension: dimension, elementType: elementType)
        var ids: [UInt64] = []
        ids.reserveCapacity(count)
        forEachRecord(of: partition, in: segment) { id, vector in
            vectors.row(ids.count).copyMemory(from: vector, byteCount: layout.rowByteCount)
            ids.append(id)
        }
        return (vectors, ids)
    }

    /// The partitions of every vector (by its number), in file order. Holds n small lists in memory: for training and planning,
    /// not for search.
    public func homes() throws -> Homes {
        let numbers = try numbers()
        var counts = [UInt32](repeating: 0, count: count + 1)
        // Numbers in file order: with the table they tell where each record lies.
        var inFileOrder: [UInt32] = []
        inFileOrder.reserveCapacity(manifest.records)
        try forEachSegment { partition, segment in
            try forEachRecord(of: partition, in: segment) { id, _ in
                let number = try numbers.require(id)
                counts[number + 1] += 1
                inFileOrder.append(UInt32(number))
            }
        }
        for number in 0..<count { counts[number + 1] += counts[number] }
        var next = counts
        var partitions = [UInt32](repeating: 0, count: inFileOrder.count)
        var record = 0
        for partition in 0..<partitionCount {
            for _ in 0..<Int(table[partition].recordCount) {
                let number = Int(inFileOrder[record])
                partitions[Int(next[number])] = UInt32(partition)
                next[number] += 1
                record += 1
            }
        }
        return Homes(starts: counts, partitions: partitions)
    }

    /// `count` different records drawn evenly, in file order, and the numbers of their vectors.
    package func sampleRecords(count wanted: Int, random: inout SeededRandom) throws -> (
        vectors: VectorMatrix, ids: [UInt32]
    ) {
        let numbers = try numbers()
        let records = manifest.records
        let count = min(wanted, records)
        // Selection sampling: record i is taken with the chance that fills the sample exactly (Knuth, 3.4.2 S).
        let vectors = VectorMatrix(count: count, dimension: dimension, elementType: elementType)
        var ids: [UInt32] = []
        ids.reserveCapacity(count)
        var left = records
        try forEachSegment { partition, segment in
            try forEachRecord(of: partition, in: segment) { id, vector in
                if random.below(left) < count - ids.count {
                    vectors.row(ids.count).copyMemory(from: vector, byteCount: layout.rowByteCount)
                    let number = try numbers.require(id)
                    ids.append(UInt32(number))
                }
                left -= 1
            }
        }
        return (vectors, ids)
    }
}
