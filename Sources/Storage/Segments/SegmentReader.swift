// segments.bin read once from its start to its end, as merging does: large reads, one page of records after
// the other, each checked before it is handed out.

import Glibc

/// Reads the units of an index in file order. One thread at a time.
public final class SegmentReader {
    public let path: String
    public let table: SegmentTable
    private let file: InputFile
    private let window: Scratch
    private var windowOffset: UInt64 = 0
    private var windowEnd: UInt64 = 0
    private var partition = 0
    private var unit = 0
    private var checksum: UInt32 = 0

    /// Opens the file, whose size must be what the table says.
    ///
    /// - Parameter bufferByteCount: bytes read at a time; at least a unit is.
    public init(path: String, table: SegmentTable, bufferByteCount: Int) throws(StorageError) {
        self.path = path
        self.table = table
        file = try InputFile(path: path)
        guard file.byteCount == table.byteCount else {
            throw .truncated(path: path, offset: 0, expected: table.byteCount, found: file.byteCount)
        }
        posix_fadvise(file.descriptor, 0, 0, POSIX_FADV_SEQUENTIAL)
        let size = table.layout.unitByteCount
        window = Scratch(max(1, bufferByteCount / size) * size)
    }

    /// Goes to the first unit of a partition; partitions must rise, and the one before must be read to its end.
    public func begin(partition next: Int) {
        precondition(next >= partition && next < table.count)
        (partition, unit, checksum) = (next, 0, 0)
    }

    /// The number, in its segment, of the unit that was read last.
    public var unitNumber: Int { unit - 1 }

    /// The next unit of the partition, valid until the next call.
    ///
    /// - Throws: kind `corrupt` for a unit that fails its checksum, or that is not of the segment which the
    ///   table describes.
    public func nextUnit() throws(StorageError) -> UnsafeRawPointer {
        let (entry, layout) = (table[partition], table.layout)
        precondition(unit < Int(entry.unitCount))
        let offset = entry.offset + UInt64(unit * layout.unitByteCount)
        if offset < windowOffset || offset + UInt64(layout.unitByteCount) > windowEnd {
            let count = Int(min(UInt64(window.count), file.byteCount - offset))
            try file.read(at: offset, into: window.bytes, count: count)
            (windowOffset, windowEnd) = (offset, offset + UInt64(count))
        }
        let bytes = window.raw + Int(offset - windowOffset)
        guard layout.verify(unit: bytes, partition: partition, unitNumber: unit) else {
            throw StorageError(
                .corrupt, path: path, detail: "partition \(partition): a page fails its checksum",
                offset: offset, advice: "run `sonde verify` for all damaged pages and build the index again")
        }
        unit += 1
        var stored = layout.storedChecksum(unit: bytes).littleEndian
        checksum = Checksum.crc32c(&stored, count: 4, continuing: checksum)
        guard unit < Int(entry.unitCount) || checksum == entry.checksum else {
            throw StorageError(
                .corrupt, path: path,
                detail: "partition \(partition): its pages are not those that segments.table describes",
                offset: entry.offset, expected: Checksum.text(entry.checksum), found: Checksum.text(checksum),
                advice: "run `sonde verify` for all damaged pages and build the index again")
        }
        return bytes
    }
}
