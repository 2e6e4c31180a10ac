// segments.table: where each segment lies, fixed-width and resident. Entry i is partition i, and segments
// lie in the file in the order of their partitions.

import Vectors

/// Where one segment lies and what is in it; 24 bytes on disk and in memory.
public struct SegmentEntry: Sendable, Equatable {
    /// Where its first unit starts in segments.bin. An empty segment has the offset of the next one.
    public var offset: UInt64
    public var unitCount: UInt32
    public var recordCount: UInt32
    /// CRC-32C of the checksums of its units, in order.
    public var checksum: UInt32
    /// Whatever the index keeps of a partition's extent; Storage gives it no meaning.
    public var radius: Float

    public init(offset: UInt64, unitCount: UInt32, recordCount: UInt32, checksum: UInt32, radius: Float) {
        self.offset = offset
        self.unitCount = unitCount
        self.recordCount = recordCount
        self.checksum = checksum
        self.radius = radius
    }

    /// Bytes of an entry on disk.
    public static let byteCount = 24

    /// The entry that 24 bytes hold.
    public init(decoding bytes: UnsafeRawPointer) {
        self.init(
            offset: bytes.u64(0), unitCount: bytes.u32(8), recordCount: bytes.u32(12),
            checksum: bytes.u32(16), radius: Float(bitPattern: bytes.u32(20)))
    }

    /// Writes 24 bytes.
    public func encode(into bytes: UnsafeMutableRawPointer) {
        bytes.put(offset, at: 0)
        bytes.put(unitCount, at: 8)
        bytes.put(recordCount, at: 12)
        bytes.put(checksum, at: 16)
        bytes.put(radius.bitPattern, at: 20)
    }
}

/// The table of all segments of an index. Immutable.
public final class SegmentTable: @unchecked Sendable {
    /// The newest that is known. 1 is that of a layout whose units are bound to no place.
    public static let formatVersion: UInt32 = 2
    public let layout: PageLayout
    /// Segments, one for each partition.
    public let count: Int
    /// Bytes of the largest segment.
    public let largestSegmentByteCount: Int
    /// Records of all segments.
    public let recordCount: Int
    // Raw memory: an array in a class costs a retain and checks on each access.
    @usableFromInline let entries: UnsafeMutablePointer<SegmentEntry>

    static let headerByteCount = 64
    private static let indexIdOffset = 40
    static let entryByteCount = SegmentEntry.byteCount

    /// A table of these entries, which must lie in the file in order and without overlap.
    public convenience init(layout: PageLayout, entries: [SegmentEntry]) {
        let copy = UnsafeMutablePointer<SegmentEntry>.allocate(capacity: max(entries.count, 1))
        copy.initialize(from: entries, count: entries.count)
        self.init(layout: layout, entries: copy, count: entries.count)
    }

    private init(layout: PageLayout, entries: UnsafeMutablePointer<SegmentEntry>, count: Int) {
        self.layout = layout
        self.entries = entries
        self.count = count
        var (largest, records) = (0, 0)
        for index in 0..<count {
            largest = max(largest, Int(entries[index].unitCount) * layout.unitByteCount)
            records += Int(entries[index].recordCount)
        }
        largestSegmentByteCount = largest
        recordCount = records
    }

    deinit { entries.deallocate() }

    /// The segment of partition `index`. Inlinable: searches look at an entry for every candidate of a query.
    @inlinable public subscript(index: Int) -> SegmentEntry {
        precondition(index >= 0 && index < count)
        return entries[index]
    }

    /// Bytes of the segment of partition `index`.
    public func byteCount(ofSegment index: Int) -> Int { Int(self[index].unitCount) * layout.unitByteCount }

    /// Where the segment of partition `index` lies.
    public func extent(ofSegment index: Int) -> Extent {
        Extent(offset: self[index].offset, byteCount: byteCount(ofSegment: index))
    }

    /// The size that segments.bin must have.
    public var byteCount: UInt64 {
        count == 0 ? 0 : entries[count - 1].offset + UInt64(byteCount(ofSegment: count - 1))
    }

    /// Memory that the open table holds.
    public var residentByteCount: Int { count * MemoryLayout<SegmentEntry>.stride }

    /// Writes the table and returns what a manifest keeps of it. The file must not exist.
    @discardableResult
    public func write(path: String) throws(StorageError) -> FileDigest {
        let file = Scratch(Self.headerByteCount + count * Self.entryByteCount)
        let (header, body) = (file.bytes, file.bytes + Self.headerByteCount)
        for index in 0..<count {
            entries[index].encode(into: body + index * Self.entryByteCount)
        }
        header.put("SONDESTB", at: 0)
        header.put(UInt32(layout.binding == nil ? 1 : 2), at: 8)
        header.put(UInt32(layout.elementType.rawValue), at: 12)
        header.put(UInt32(layout.dimension), at: 16)
        header.put(UInt32(layout.idByteCount), at: 20)
        header.put(UInt64(count), at: 24)
        header.put(UInt32(layout.recordsPerUnit), at: 32)
        header.put(UInt32(layout.unitByteCount), at: 36)
        layout.binding?.encode(into: header + Self.indexIdOffset)
        header.put(Checksum.crc32c(body, count: count * Self.entryByteCount), at: 56)
        header.put(Checksum.crc32c(header, count: 60), at: 60)
        return try OutputFile.write(file.bytes, count: file.count, path: path, atomically: false)
    }

    /// Reads and checks a table.
    public static func read(path: String) throws(StorageError) -> SegmentTable {
        let input = try InputFile(path: path)
        guard input.byteCount >= UInt64(headerByteCount) else {
            throw .truncated(path: path, offset: 0, expected: UInt64(headerByteCount), found: input.byteCount)
        }
        let start = Scratch(headerByteCount)
        try input.read(at: 0, into: start.bytes, count: headerByteCount)
        let header = start.raw
        guard header.holds("SONDESTB", at: 0) else {
            throw StorageError(
                .badHeader, path: path, detail: "is no table of segments", offset: 0, expected: "SONDESTB")
        }
        guard header.u32(8) == 1 || header.u32(8) == formatVersion else {
            throw .version(path: path, offset: 8, known: formatVersion, found: UInt64(header.u32(8)))
        }
        let headerChecksum = Checksum.crc32c(header, count: 60)
        guard headerChecksum == header.u32(60) else {
            throw .checksum(
                path: path, what: "the header", offset: 60, expected: header.u32(60), found: headerChecksum)
        }
        let layout = try readLayout(header, path: path)
        let count = header.u64(24)
        let (bodyByteCount, overflow) = count.multipliedReportingOverflow(by: UInt64(entryByteCount))
        guard !overflow, bodyByteCount == input.byteCount - UInt64(headerByteCount) else {
            throw StorageError(
                .badHeader, path: path, detail: "its size is not that of \(count) entries",
                offset: 24, expected: overflow ? "fewer" : "\(bodyByteCount) bytes after the header",
                found: "\(input.byteCount - UInt64(headerByteCount))")
        }
        return try readEntries(
            input, count: Int(count), layout: layout, expected: header.u32(56))
    }

    private static func readLayout(_ header: UnsafeRawPointer, path: String) throws(StorageError)
        -> PageLayout
    {
        guard let elementType = UInt8(exactly: header.u32(12)).flatMap(ElementType.init(rawValue:)) else {
            throw StorageError(
                .badHeader, path: path, detail: "names an unknown element type", offset: 12,
                found: "\(header.u32(12))")
        }
        let layout: PageLayout
        do {
            layout = try PageLayout(
                dimension: Int(header.u32(16)), elementType: elementType, idByteCount: Int(header.u32(20)),
                binding: header.u32(8) == 1 ? nil : IndexId(decoding: header + indexIdOffset))
        } catch {
            throw StorageError(
                .badHeader, path: path, detail: error.detail, offset: 16, expected: error.expected,
                found: error.found)
        }
        guard layout.recordsPerUnit == Int(header.u32(32)), layout.unitByteCount == Int(header.u32(36)) else {
            throw StorageError(
                .badHeader, path: path, detail: "its units are not those of its dimension", offset: 32,
                expected: "\(layout.recordsPerUnit) records in \(layout.unitByteCount) bytes",
                found: "\(header.u32(32)) in \(header.u32(36))")
        }
        return layout
    }

    /// Entries read at a time: the file and the table in memory are never both whole.
    private static let pieceCount = 1 << 13

    private static func readEntries(
        _ input: InputFile, count: Int, layout: PageLayout, expected: UInt32
    ) throws(StorageError) -> SegmentTable {
        let entries = UnsafeMutablePointer<SegmentEntry>.allocate(capacity: max(count, 1))
        do throws(StorageError) {
            try fill(entries, from: input, count: count, layout: layout, expected: expected)
        } catch {
            entries.deallocate()
            throw error
        }
        return SegmentTable(layout: layout, entries: entries, count: count)
    }

    private static func fill(
        _ entries: UnsafeMutablePointer<SegmentEntry>, from input: InputFile, count: Int, layout: PageLayout,
        expected: UInt32
    ) throws(StorageError) {
        let piece = Scratch(min(count, pieceCount) * entryByteCount)
        var (end, checksum) = (UInt64(0), UInt32(0))
        var contradiction: StorageError?
        for first in stride(from: 0, to: count, by: pieceCount) {
            let part = min(pieceCount, count - first)
            try input.read(
                at: UInt64(headerByteCount + first * entryByteCount), into: piece.bytes,
                count: part * entryByteCount)
            checksum = Checksum.crc32c(piece.bytes, count: part * entryByteCount, continuing: checksum)
            for index in 0..<part {
                let entry = SegmentEntry(decoding: piece.raw + index * entryByteCount)
                (entries + first + index).initialize(to: entry)
                if let next = Self.end(of: entry, after: end, layout: layout) {
                    end = next
                } else if contradiction == nil {
                    contradiction = StorageError(
                        .corrupt, path: input.path,
                        detail: "the entry of segment \(first + index) contradicts itself or the one before",
                        offset: UInt64(headerByteCount + (first + index) * entryByteCount),
                        expected: "whole units from offset \(end) on",
                        found: "\(entry.recordCount) records in \(entry.unitCount) units at \(entry.offset)")
                }
            }
        }
        // A damaged table is told from one that was written wrong.
        guard checksum == expected else {
            throw .checksum(
                path: input.path, what: "the table", offset: UInt64(headerByteCount), expected: expected,
                found: checksum)
        }
        if let contradiction { throw contradiction }
    }

    /// Where a segment ends that begins at `start` or later; nil where its entry makes no sense.
    private static func end(of entry: SegmentEntry, after start: UInt64, layout: PageLayout) -> UInt64? {
        let (next, overflow) = entry.offset.addingReportingOverflow(
            UInt64(entry.unitCount) * UInt64(layout.unitByteCount))
        guard entry.offset >= start, entry.offset % UInt64(PageLayout.pageByteCount) == 0, !overflow,
            next <= UInt64(Int64.max),
            layout.unitCount(records: Int(entry.recordCount)) == Int(entry.unitCount)
        else { return nil }
        return next
    }
}
