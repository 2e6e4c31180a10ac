// segments.bin from its first byte to its last, for verification: each unit against its checksum and the
// table, the whole file against the manifest, in one pass with several large reads under way.

import Storage
import Vectors

/// One pass over the units of an index. Without a table every unit of the file is checked by itself.
struct PageSweep {
    private let device: any BlockDevice
    private let layout: PageLayout
    private let table: SegmentTable?
    /// Where units are, without a table.
    private var places: PlaceSearch
    /// Ticks off ids, where it is known which there ought to be.
    var ids: IdCheck?
    private(set) var report: VerificationReport

    /// The segment that is being read: its partition, the next unit of it, records that are left, and the
    /// checksum of its units' checksums.
    private var (partition, unit, left, checksum) = (0, 0, 0, UInt32(0))
    private var fileChecksum = UInt32(0)
    /// Whether every byte so far could be read.
    private var isComplete = true

    /// A large read, and how many are under way: more gain nothing on any device that we met.
    private static let readByteCount = 1 << 20
    private static let depth = 4

    /// Whole units, or bytes between segments that nothing describes.
    private struct Piece {
        var extent: Extent
        var holdsUnits: Bool
    }

    init(
        device: any BlockDevice, layout: PageLayout, table: SegmentTable?, places: PlaceSearch,
        report: VerificationReport
    ) {
        self.device = device
        self.layout = layout
        self.table = table
        self.places = places
        self.report = report
        if let table, table.count > 0 { left = Int(table[0].recordCount) }
    }

    /// Reads and checks everything.
    ///
    /// - Returns: the digest of the file, or nil where a part of it could not be read.
    /// - Throws: `StorageError` where memory or a queue is refused; what cannot be read is damage.
    mutating func run(progress: JobProgress) throws -> FileDigest? {
        let pieces = plan()
        let largest = pieces.reduce(PageLayout.pageByteCount) { max($0, $1.extent.byteCount) }
        let pipeline = try ReadPipeline(
            device: device, depth: Self.depth, arenaByteCount: Self.depth * largest, order: .submission)
        var done = 0
        while done < pieces.count {
            let rest = pieces[done...]
            do {
                try pipeline.run(rest.lazy.map(\.extent)) { _, bytes in
                    take(bytes, of: pieces[done])
                    done += 1
                    progress(stage: "verify", done: done, total: pieces.count)
                }
            } catch {
                // One of the reads under way failed; the first that was not handed out is read unit by unit.
                try readSingly(pieces[done], with: pipeline)
                done += 1
            }
        }
        finishSegments(before: table?.count ?? 0)
        if let ids { report.damage += ids.damage(path: device.path) }
        let covered = pieces.last.map { $0.extent.end } ?? 0
        return isComplete && covered == device.byteCount
            ? FileDigest(byteCount: device.byteCount, crc32c: fileChecksum) : nil
    }

    /// The file in reads; what a table promises beyond the file's end is damage.
    private mutating func plan() -> [Piece] {
        var pieces: [Piece] = []
        let end = device.byteCount / UInt64(PageLayout.pageByteCount) * UInt64(PageLayout.pageByteCount)
        var place: UInt64 = 0
        func add(to limit: UInt64, inUnits: Bool) {
            let grain = inUnits ? layout.unitByteCount : PageLayout.pageByteCount
            let most = max(1, Self.readByteCount / grain) * grain
            while place + UInt64(grain) <= limit {
                let count = min(most, Int(limit - place) / grain * grain)
                pieces.append(Piece(extent: Extent(offset: place, byteCount: count), holdsUnits: inUnits))
                place += UInt64(count)
            }
        }
        if let table {
            var start = place
            for partition in 0..<table.count where table[partition].unitCount > 0 {
                let entry = table[partition]
                // Segments that follow one another are read as one stretch.
                if entry.offset != start {
                    add(to: min(start, end), inUnits: true)
                    add(to: min(entry.offset, end), inUnits: false)
                    start = entry.offset
                }
                start += UInt64(table.byteCount(ofSegment: partition))
            }
            add(to: min(start, end), inUnits: true)
            add(to: end, inUnits: false)
        } else {
            add(to: end, inUnits: true)
        }
        if device.byteCount != end || (table == nil && place != end) {
            report.note(
                "\(device.path): \(device.byteCount) bytes are not whole pages of \(layout.unitByteCount) bytes"
            )
        }
        return pieces
    }

    private mutating func take(_ bytes: UnsafeRawPointer, of piece: Piece) {
        fileChecksum = Checksum.crc32c(bytes, count: piece.extent.byteCount, continuing: fileChecksum)
        guard piece.holdsUnits else { return }
        for offset in stride(from: 0, to: piece.extent.byteCount, by: layout.unitByteCount) {
            check(unit: bytes + offset, at: piece.extent.offset + UInt64(offset))
        }
    }

    /// After a failed read: each unit alone, so that every one that cannot be read is named.
    private mutating func readSingly(_ piece: Piece, with pipeline: ReadPipeline) throws {
        let grain = piece.holdsUnits ? layout.unitByteCount : piece.extent.byteCount
        for offset in stride(from: 0, to: piece.extent.byteCount, by: grain) {
            let extent = Extent(offset: piece.extent.offset + UInt64(offset), byteCount: grain)
            do {
                try pipeline.run([extent]) { _, bytes in
                    take(bytes, of: Piece(extent: extent, holdsUnits: piece.holdsUnits))
                }
            } catch {
                isComplete = false
                report.note("\(error)")
                if piece.holdsUnits { check(unit: nil, at: extent.offset) }
            }
        }
    }

    /// Checks the unit at `offset`; nil where it could not be read, which has been noted.
    private mutating func check(unit bytes: UnsafeRawPointer?, at offset: UInt64) {
        report.pages += layout.pagesPerUnit
        var name = device.path
        var expected: Int?
        if let table {
            // Empty segments have no units; the first that does is the one that holds this offset.
            while partition < table.count, unit == Int(table[partition].unitCount) { finishSegment() }
            guard partition < table.count else { return }
            if unit == 0 { report.segments += 1 }
            unit += 1
            expected = min(left, layout.recordsPerUnit)
            left -= expected ?? 0
            name += ": partition \(partition)"
        }
        guard let bytes else { return places.miss() }
        var stored = layout.storedChecksum(unit: bytes).littleEndian
        checksum = Checksum.crc32c(&stored, count: 4, continuing: checksum)
        let place = layout.placeChecksum(of: bytes)
        let isWhole =
            table == nil
            ? places.accept(place)
            : layout.verify(unit: bytes, partition: partition, unitNumber: unit - 1)
        guard isWhole else {
            let other = table.flatMap { places.place(of: place, in: $0) }
            return report.note(
                "\(name): the page at offset \(offset) fails its checksum"
                    + (other.map { ": it is page \($0.unitNumber) of partition \($0.partition)" } ?? ""))
        }
        let found = layout.recordCount(unit: bytes)
        if let expected, found != expected {
            report.note(
                "\(name): the page at offset \(offset) holds \(found) records, segments.table expects \(expected)"
            )
        }
        report.records += found
        let layout = layout
        for slot in 0..<found { ids?.met(layout.id(unit: bytes, slot: slot)) }
    }

    /// Ends the segment that is being read and goes to the next.
    private mutating func finishSegment() {
        guard let table else { return }
        let entry = table[partition]
        if entry.unitCount > 0, unit == Int(entry.unitCount), checksum != entry.checksum {
            report.note(
                "\(device.path): partition \(partition): the segment at offset \(entry.offset) is not the one that "
                    + "segments.table describes")
        }
        partition += 1
        (unit, checksum) = (0, 0)
        left = partition < table.count ? Int(table[partition].recordCount) : 0
    }

    private mutating func finishSegments(before end: Int) {
        while partition < end { finishSegment() }
    }
}

/// Whether every vector has a record, and no record a vector that is not there. Positions are ticked off, a bit
/// each; external ids are collected, 8 bytes a record.
struct IdCheck {
    private var seen: [UInt64]
    private var collected: [UInt64] = []
    private let ids: IdRange
    private let count: Int
    private var outside = 0

    init(ids: IdRange, count: Int, heads: [UInt32]) {
        self.ids = ids
        self.count = count
        seen = [UInt64](repeating: 0, count: ids.kind == .external ? 0 : (count + 63) / 64)
        for id in heads { met(UInt64(id)) }
    }

    /// Ticks off the id of a record.
    mutating func met(_ id: UInt64) {
        guard ids.contains(id), ids.kind == .external || id - ids.least < UInt64(count) else {
            outside += 1
            return
        }
        if ids.kind == .external {
            collected.append(id)
        } else {
            let number = id - ids.least
            seen[Int(number >> 6)] |= 1 << (number & 63)
        }
    }

    /// A line for each kind of contradiction.
    func damage(path: String) -> [String] {
        var lines: [String] = []
        if outside > 0 { lines.append("\(path): \(outside) records name ids beyond the \(count) vectors") }
        var met = seen.reduce(0) { $0 + $1.nonzeroBitCount }
        if ids.kind == .external {
            let sorted = collected.sorted()
            met = sorted.indices.reduce(0) { $0 + ($1 == 0 || sorted[$1 - 1] != sorted[$1] ? 1 : 0) }
        }
        if met < count { lines.append("\(path): \(count - met) of \(count) vectors have no record") }
        if met > count { lines.append("\(path): records name \(met) vectors, manifest.json counts \(count)") }
        return lines
    }
}
