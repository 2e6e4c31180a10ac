// How records lie in a page: ids, then vectors, then the checksum. A page (or the smallest run of pages
// that wastes under a tenth, for vectors that fill a page badly) is a unit: whole in itself, so that it can
// be read, checked and scanned alone.

import Vectors

/// The unit that segments are made of; drawn in docs/reference/format.md.
public struct PageLayout: Sendable, Equatable {
    public static let pageByteCount = 4096
    /// More numbers than any embedding has; what a damaged header may claim is refused by it.
    public static let dimensionMaximum = 1 << 20
    /// What `id` never returns for a record: all ones in 64 bits.
    public static let noId = UInt64.max

    public let dimension: Int
    public let elementType: ElementType
    /// 4 or 8.
    public let idByteCount: Int
    /// Bytes of one vector; vectors lie back to back.
    public let rowByteCount: Int
    public let recordsPerUnit: Int
    public let pagesPerUnit: Int
    public let unitByteCount: Int
    /// Where the first vector of a unit lies.
    public let vectorsOffset: Int
    /// The index whose units' checksums are bound to their places; nil: they cover bytes alone (format 1).
    public private(set) var binding: IndexId?

    /// Units of more pages than this are made only for vectors that need them.
    private static let pagesMaximum = 64
    private static let checksumByteCount = 4

    /// - Parameter binding: the index that units belong to; nil for format 1, and where only sizes matter.
    /// - Throws: kind `unsupported` for a dimension or a size of ids that no unit is laid out for.
    public init(
        dimension: Int, elementType: ElementType, idByteCount: Int, binding: IndexId? = nil
    ) throws(StorageError) {
        guard dimension > 0, dimension <= Self.dimensionMaximum else {
            throw StorageError(
                .unsupported, path: "page layout", detail: "no page is laid out for this dimension",
                expected: "1 to \(Self.dimensionMaximum)", found: "\(dimension)")
        }
        guard idByteCount == 4 || idByteCount == 8 else {
            throw StorageError(
                .unsupported, path: "page layout", detail: "no page is laid out for ids of this size",
                expected: "4 or 8 bytes", found: "\(idByteCount)")
        }
        self.dimension = dimension
        self.elementType = elementType
        self.idByteCount = idByteCount
        self.binding = binding
        rowByteCount = dimension * elementType.byteCount
        let pages = Self.pages(recordByteCount: rowByteCount + idByteCount)
        pagesPerUnit = pages
        unitByteCount = pages * Self.pageByteCount
        recordsPerUnit = (unitByteCount - Self.checksumByteCount) / (rowByteCount + idByteCount)
        vectorsOffset = recordsPerUnit * idByteCount
    }

    private static func pages(recordByteCount: Int) -> Int {
        let least = (recordByteCount + checksumByteCount + pageByteCount - 1) / pageByteCount
        var best = (pages: least, waste: 1.0)
        for pages in least...max(least, pagesMaximum) {
            let size = pages * pageByteCount
            let used = (size - checksumByteCount) / recordByteCount * recordByteCount + checksumByteCount
            let waste = Double(size - used) / Double(size)
            if waste < 0.1 { return pages }
            if waste < best.waste { best = (pages, waste) }
        }
        return best.pages
    }

    /// The same units, of another index.
    public func bound(to binding: IndexId?) -> PageLayout {
        var layout = self
        layout.binding = binding
        return layout
    }

    /// The largest id that fits; the one above marks empty slots.
    public var idMaximum: UInt64 { idByteCount == 4 ? UInt64(UInt32.max) - 1 : UInt64.max - 1 }

    /// Records that fit a segment of at most so many pages; at least those of one unit.
    public func recordsMaximum(pages: Int) -> Int { max(1, pages / pagesPerUnit) * recordsPerUnit }

    public func unitCount(records: Int) -> Int { (records + recordsPerUnit - 1) / recordsPerUnit }

    public func byteCount(records: Int) -> Int { unitCount(records: records) * unitByteCount }

    /// Writes one unit of `count` records, number `unitNumber` of its segment; `record` gives the id and the vector of
    /// each. Empty slots get an id of all ones and zeros. Ids must not exceed `idMaximum`.
    public func encode(
        count: Int, into unit: UnsafeMutableRawPointer, partition: Int, unitNumber: Int,
        record: (Int) -> (id: UInt64, row: UnsafeRawPointer)
    ) {
        precondition(count >= 0 && count <= recordsPerUnit)
        for slot in 0..<count {
            let (id, row) = record(slot)
            precondition(id <= idMaximum)
            if idByteCount == 4 {
                unit.put(UInt32(truncatingIfNeeded: id), at: slot * 4)
            } else {
                unit.put(id, at: slot * 8)
            }
            (unit + vectorsOffset + slot * rowByteCount).copyMemory(from: row, byteCount: rowByteCount)
        }
        close(unit, count: count, partition: partition, unitNumber: unitNumber)
    }

    /// Copies records from slots of a unit of another one's layout (of the same vectors, and of ids that fit)
    /// to slots of a unit of this one; `close` ends the unit.
    public func copy(
        _ count: Int, from source: UnsafeRawPointer, slot: Int, of other: PageLayout,
        to unit: UnsafeMutableRawPointer, slot target: Int
    ) {
        precondition(rowByteCount == other.rowByteCount && idByteCount >= other.idByteCount)
        precondition(slot + count <= other.recordsPerUnit && target + count <= recordsPerUnit)
        (unit + vectorsOffset + target * rowByteCount).copyMemory(
            from: other.vector(unit: source, slot: slot), byteCount: count * rowByteCount)
        if idByteCount == other.idByteCount {
            (unit + target * idByteCount).copyMemory(
                from: source + slot * idByteCount, byteCount: count * idByteCount)
        } else {
            for index in 0..<count {
                unit.put(other.id(unit: source, slot: slot + index), at: (target + index) * 8)
            }
        }
    }

    /// Marks the slots of a unit from `count` on as empty and writes the checksum that it has at its place.
    public func close(_ unit: UnsafeMutableRawPointer, count: Int, partition: Int, unitNumber: Int) {
        precondition(count >= 0 && count <= recordsPerUnit)
        (unit + count * idByteCount).initializeMemory(
            as: UInt8.self, repeating: 0xff, count: (recordsPerUnit - count) * idByteCount)
        let used = vectorsOffset + count * rowByteCount
        (unit + used).initializeMemory(as: UInt8.self, repeating: 0, count: unitByteCount - used)
        let checked = unitByteCount - Self.checksumByteCount
        unit.put(
            Checksum.crc32c(unit, count: checked) ^ placeChecksum(partition, unitNumber), at: checked)
    }

    /// Writes one unit from vectors that lie back to back.
    public func encode(
        ids: UnsafePointer<UInt64>, rows: UnsafeRawPointer, count: Int, into unit: UnsafeMutableRawPointer,
        partition: Int, unitNumber: Int
    ) {
        encode(count: count, into: unit, partition: partition, unitNumber: unitNumber) {
            (ids[$0], rows + $0 * rowByteCount)
        }
    }

    /// Whether the unit's checksum is that of its bytes at this place: unit `unitNumber` of the segment of `partition`
    /// in this index. Nothing of a unit that fails may be used.
    public func verify(unit: UnsafeRawPointer, partition: Int, unitNumber: Int) -> Bool {
        placeChecksum(of: unit) == placeChecksum(partition, unitNumber)
    }

    /// What a whole unit's checksum says of its place: that of the place by `binding`, 0 where there is none. Anything
    /// else for a damaged one.
    public func placeChecksum(of unit: UnsafeRawPointer) -> UInt32 {
        Checksum.crc32c(unit, count: unitByteCount - Self.checksumByteCount) ^ storedChecksum(unit: unit)
    }

    @inline(__always)
    private func placeChecksum(_ partition: Int, _ unitNumber: Int) -> UInt32 {
        guard let binding else { return 0 }
        return binding.checksum(partition: partition, unitNumber: unitNumber)
    }

    /// Turns the checksum of a unit of another index (of these sizes) into that of the same bytes at a place here, without
    /// looking at them: what was damaged stays so.
    public func rebind(
        _ unit: UnsafeMutableRawPointer, from other: PageLayout, unitNumber old: Int, partition: Int,
        unitNumber: Int
    ) {
        let stored = storedChecksum(unit: unit)
        unit.put(
            stored ^ other.placeChecksum(partition, old) ^ placeChecksum(partition, unitNumber),
            at: unitByteCount - Self.checksumByteCount)
    }

    /// The checksum that the unit carries.
    public func storedChecksum(unit: UnsafeRawPointer) -> UInt32 {
        unit.u32(unitByteCount - Self.checksumByteCount)
    }

    /// Records in the unit; they fill its slots from the first.
    public func recordCount(unit: UnsafeRawPointer) -> Int {
        var (low, high) = (0, recordsPerUnit)
        while low < high {
            let middle = (low + high) / 2
            if id(unit: unit, slot: middle) == Self.noId { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// The id in `slot`, or `noId` for an empty one.
    public func id(unit: UnsafeRawPointer, slot: Int) -> UInt64 {
        if idByteCount == 4 {
            let id = UInt32(littleEndian: unit.loadUnaligned(fromByteOffset: slot &* 4, as: UInt32.self))
            return id == .max ? .max : UInt64(id)
        }
        return UInt64(littleEndian: unit.loadUnaligned(fromByteOffset: slot &* 8, as: UInt64.self))
    }

    /// The first vector; slot s lies `s * rowByteCount` further.
    public func vectors(unit: UnsafeRawPointer) -> UnsafeRawPointer { unit + vectorsOffset }

    /// The vector in `slot`.
    public func vector(unit: UnsafeRawPointer, slot: Int) -> UnsafeRawPointer {
        unit + vectorsOffset + slot * rowByteCount
    }
}
