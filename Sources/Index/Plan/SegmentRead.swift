// From what was chosen to reads. Partitions are numbered in file order and units within them, so that neighbours in
// number are neighbours on the device and come with one read. A whole segment is a read of all its units.

import Storage

/// One read: consecutive units of consecutive partitions.
package struct SegmentRead {
    /// Partitions whose units lie in the read, in file order.
    var partitions: Range<Int>
    /// The first unit of the first partition, and the end of those of the last one.
    var firstUnit: Int
    var endUnit: Int
    var offset: UInt64
    package var byteCount: Int
    var arenaOffset = 0

    /// A read of bytes that are no segments'.
    init(pages: Range<Int>) {
        partitions = 0..<0
        (firstUnit, endUnit) = (0, 0)
        offset = UInt64(pages.lowerBound)
        byteCount = pages.count
    }

    private init(partitions: Range<Int>, firstUnit: Int, endUnit: Int, offset: UInt64, byteCount: Int) {
        self.partitions = partitions
        self.firstUnit = firstUnit
        self.endUnit = endUnit
        self.offset = offset
        self.byteCount = byteCount
    }

    /// Reads are joined up to this size; beyond it a larger read gains nothing on any SSD that we met.
    static let joinLimit = 1 << 20

    /// Sorts `chosen` into file order and appends the reads that fetch the whole segments; empty ones cost none.
    static func plan(
        _ chosen: inout [UInt32], table: SegmentTable, joinLimit: Int = joinLimit,
        into reads: inout [SegmentRead]
    ) {
        reads.removeAll(keepingCapacity: true)
        chosen.sort()
        for number in chosen {
            let partition = Int(number)
            let units = Int(table[partition].unitCount)
            guard units > 0 else { continue }
            append(
                partition: partition, units: 0..<units, table: table, joinLimit: joinLimit, to: &reads)
        }
    }

    /// Appends the reads that fetch units in file order.
    static func plan(
        _ chosen: [UnitAddress], table: SegmentTable, joinLimit: Int = joinLimit,
        into reads: inout [SegmentRead]
    ) {
        reads.removeAll(keepingCapacity: true)
        for address in chosen {
            append(
                partition: address.partition, units: address.unit..<address.unit + 1, table: table,
                joinLimit: joinLimit, to: &reads)
        }
    }

    private static func append(
        partition: Int, units: Range<Int>, table: SegmentTable, joinLimit: Int, to reads: inout [SegmentRead]
    ) {
        let size = table.layout.unitByteCount
        let offset = table[partition].offset + UInt64(units.lowerBound * size)
        if let last = reads.last, last.offset + UInt64(last.byteCount) == offset,
            last.byteCount + units.count * size <= joinLimit
        {
            // Only empty segments can lie between: they share the offset and have no bytes.
            reads[reads.count - 1].partitions = last.partitions.lowerBound..<partition + 1
            reads[reads.count - 1].endUnit = units.upperBound
            reads[reads.count - 1].byteCount += units.count * size
        } else {
            reads.append(
                SegmentRead(
                    partitions: partition..<partition + 1, firstUnit: units.lowerBound,
                    endUnit: units.upperBound, offset: offset, byteCount: units.count * size))
        }
    }

    /// The units of a partition that lie in the read, and the records in them.
    func part(of partition: Int, table: SegmentTable) -> (units: Range<Int>, records: Int) {
        let entry = table[partition]
        let first = partition == partitions.lowerBound ? firstUnit : 0
        let end = partition == partitions.upperBound - 1 ? endUnit : Int(entry.unitCount)
        let size = table.layout.recordsPerUnit
        return (
            first..<end, min(Int(entry.recordCount), end * size) - min(Int(entry.recordCount), first * size)
        )
    }

    static func tag(slot: Int, read: Int) -> UInt64 { UInt64(slot) << 32 | UInt64(read) }
    static func slot(ofTag tag: UInt64) -> Int { Int(tag >> 32) }
    static func read(ofTag tag: UInt64) -> Int { Int(tag & 0xffff_ffff) }
}
