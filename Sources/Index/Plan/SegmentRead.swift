// From chosen partitions to reads. Partitions are numbered in file order, so neighbours in number are
// neighbours on the device, and their segments come with one read.

import Storage

/// One read: the segments of consecutive partitions.
struct SegmentRead {
    /// Partitions whose segments lie in the read, in file order.
    var partitions: Range<Int>
    var offset: UInt64
    var byteCount: Int
    var arenaOffset = 0

    /// Reads are joined up to this size; beyond it a larger read gains nothing on any SSD that we met.
    static let joinLimit = 1 << 20

    /// Sorts `chosen` into file order and appends the reads that fetch it; empty segments cost none.
    static func plan(
        _ chosen: inout [UInt32], table: SegmentTable, joinLimit: Int = joinLimit,
        into reads: inout [SegmentRead]
    ) {
        reads.removeAll(keepingCapacity: true)
        chosen.sort()
        for number in chosen {
            let partition = Int(number)
            let entry = table[partition]
            let byteCount = table.byteCount(ofSegment: partition)
            guard byteCount > 0 else { continue }
            if let last = reads.last, last.offset + UInt64(last.byteCount) == entry.offset,
                last.byteCount + byteCount <= joinLimit
            {
                // Only empty segments can lie between: they share the offset and have no bytes.
                reads[reads.count - 1].partitions = last.partitions.lowerBound..<partition + 1
                reads[reads.count - 1].byteCount += byteCount
            } else {
                reads.append(
                    SegmentRead(
                        partitions: partition..<partition + 1, offset: entry.offset, byteCount: byteCount))
            }
        }
    }

    static func tag(slot: Int, read: Int) -> UInt64 { UInt64(slot) << 32 | UInt64(read) }
    static func slot(ofTag tag: UInt64) -> Int { Int(tag >> 32) }
    static func read(ofTag tag: UInt64) -> Int { Int(tag & 0xffff_ffff) }
}
