// segments.bin, streamed: segments in the order of their partitions, in large sequential writes.

import Vectors

/// Writes the segments of an index one after the other.
public final class SegmentWriter {
    public let layout: PageLayout
    private let file: OutputFile
    /// Of the segments written so far.
    public private(set) var entries: [SegmentEntry] = []

    /// Creates the file, which must not exist; or goes on with it behind the segments of `continuing`.
    public init(
        path: String, layout: PageLayout, continuing: (digest: FileDigest, entries: [SegmentEntry])? = nil
    ) throws(StorageError) {
        self.layout = layout
        file = try OutputFile(
            path: path, atomically: false, bufferByteCount: max(4 << 20, layout.unitByteCount),
            continuing: continuing?.digest)
        entries = continuing?.entries ?? []
    }

    /// Bytes appended so far.
    public var byteCount: UInt64 { file.byteCount }

    /// Appends the segment of the next partition: `count` records (0 makes an empty segment), each given
    /// by `record`, in the order in which they are to lie.
    ///
    /// - Throws: kind `invalidValue` for an id that does not fit the layout.
    @discardableResult
    public func append(
        count: Int, radius: Float, record: (Int) -> (id: UInt64, row: UnsafeRawPointer)
    ) throws(StorageError) -> SegmentEntry {
        try append(count: count, radius: radius) { (unit, range, number) throws(StorageError) in
            for index in range where record(index).id > layout.idMaximum {
                throw StorageError(
                    .invalidValue, path: file.path, detail: "an id does not fit \(layout.idByteCount) bytes",
                    expected: "at most \(layout.idMaximum)", found: "\(record(index).id)")
            }
            layout.encode(
                count: range.count, into: unit, partition: entries.count, unitNumber: number
            ) { record(range.lowerBound + $0) }
        }
    }

    /// Appends the segment of the next partition unit by unit: `encode` writes a whole unit, its checksum
    /// among it, of the records of this range; last comes its number in the segment.
    @discardableResult
    public func append(
        count: Int, radius: Float,
        encode: (UnsafeMutableRawPointer, Range<Int>, Int) throws(StorageError) -> Void
    ) throws(StorageError) -> SegmentEntry {
        precondition(count >= 0)
        guard UInt32(exactly: count) != nil else {
            throw StorageError(
                .invalidValue, path: file.path, detail: "a segment holds too many records",
                expected: "at most \(UInt32.max)", found: "\(count)")
        }
        var entry = SegmentEntry(
            offset: file.byteCount, unitCount: 0, recordCount: UInt32(count), checksum: 0, radius: radius)
        var checksum = UInt32(0).littleEndian
        var first = 0
        while first < count {
            let part = min(layout.recordsPerUnit, count - first)
            let unit = try file.reserve(layout.unitByteCount)
            try encode(unit, first..<first + part, Int(entry.unitCount))
            checksum = layout.storedChecksum(unit: unit).littleEndian
            entry.checksum = Checksum.crc32c(&checksum, count: 4, continuing: entry.checksum)
            entry.unitCount += 1
            first += part
        }
        entries.append(entry)
        return entry
    }

    /// Appends the segment of the next partition from vectors that lie back to back.
    @discardableResult
    public func append(
        ids: UnsafePointer<UInt64>, rows: UnsafeRawPointer, count: Int, radius: Float
    ) throws(StorageError) -> SegmentEntry {
        try append(count: count, radius: radius) { (ids[$0], rows + $0 * layout.rowByteCount) }
    }

    /// Brings the segments appended so far to the device, and says what the file is.
    public func sync() throws(StorageError) -> FileDigest { try file.sync() }

    /// Brings everything to the device. The table is not written yet.
    public func finish() throws(StorageError) -> (table: SegmentTable, digest: FileDigest) {
        let digest = try file.finish()
        return (SegmentTable(layout: layout, entries: entries), digest)
    }

    /// The checksum of a segment that lies whole in memory, as its entry keeps it.
    public static func checksum(segment: UnsafeRawPointer, unitCount: Int, layout: PageLayout) -> UInt32 {
        var result: UInt32 = 0
        for unit in 0..<unitCount {
            var stored = layout.storedChecksum(unit: segment + unit * layout.unitByteCount).littleEndian
            result = Checksum.crc32c(&stored, count: 4, continuing: result)
        }
        return result
    }
}
