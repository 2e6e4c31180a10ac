// Reads every byte of an index and checks it: files against the manifest, pages against their checksums,
// segments against the table, ids against the base they came from. Whatever is broken, the rest is checked all
// the same; segments.bin is read once, at the rate of its device.

import Foundation
import Router
import Storage
import Vectors

/// What `sonde verify` found.
public struct VerificationReport: Codable, Sendable {
    public var path: String
    public var segments: Int = 0
    public var pages: Int = 0
    public var records: Int = 0
    /// How segments were read: see `DiskIndex.deviceKind`.
    public var device: String?
    /// One line for each damaged place: file, offset, expected, found. Empty: the index is whole.
    public var damage: [String] = []
    /// Damaged places beyond the longest list that is kept.
    public var damageNotListed = 0

    /// More places than this are counted, not listed.
    static let damageLimit = 1_000_000

    /// What people read.
    public var text: String {
        let head =
            "\(path): \(segments) segments, \(pages) pages, \(records) records read"
            + (device.map { " (\($0))" } ?? "")
        guard !damage.isEmpty else { return head + "; whole" }
        let rest = damageNotListed == 0 ? [] : ["  and \(damageNotListed) places more"]
        return head + "; \(damage.count + damageNotListed) damaged\n"
            + (damage.map { "  " + $0 } + rest).joined(separator: "\n")
    }

    mutating func note(_ line: String) {
        if damage.count < Self.damageLimit { damage.append(line) } else { damageNotListed += 1 }
    }
}

/// The verification of one index directory.
public enum Verification {
    /// Checks the index at `path`. Damage is reported, not thrown.
    ///
    /// - Parameter device: reads segments.bin instead of its own.
    /// - Throws: `storage` of kind `missing` where there is no manifest: such a directory is no index.
    public static func run(
        path: String, device: (any BlockDevice)? = nil, progress: JobProgress = .none
    ) throws(IndexError) -> VerificationReport {
        try IndexError.door { try verify(path: path, device: device, progress: progress) }
    }

    private static func verify(
        path: String, device: (any BlockDevice)?, progress: JobProgress
    ) throws -> VerificationReport {
        var report = VerificationReport(path: path)
        let files = IndexFiles(directory: path)
        var manifest: Manifest?
        do {
            manifest = try Manifest.read(path: files.manifest)
        } catch {
            guard error.kind != .missing else { throw error }
            report.note("\(error)")
        }
        for (name, expected) in (manifest?.files ?? [:]).sorted(by: { $0.key < $1.key })
        where name != IndexFiles.segmentsName {
            compare(path + "/" + name, with: expected, report: &report)
        }
        let table = noting(&report) { () throws in try SegmentTable.read(path: files.table) }
        let index = noting(&report) { () throws in try DiskIndex(path: path, device: device) }
        // The file as a whole was compared above; this tells which of its pages are damaged.
        if let codes = index?.recordCodes, let device = index?.codesDevice {
            try checkPages(of: device, codes: codes, report: &report)
        }
        let opened = noting(&report) { () throws in try device ?? Devices.open(path: files.segments) }
        guard let opened else { return report }
        report.device = opened.kind
        let places = PlaceSearch(
            id: manifest?.index.flatMap { IndexId($0) }, partitionCount: manifest?.partitions ?? 0)
        guard
            let layout = try table?.layout
                ?? manifest.flatMap({ try layout(of: $0, on: opened, places: places) })
        else {
            report.note(
                "\(files.segments): its pages cannot be told apart without manifest.json and segments.table")
            return report
        }
        var sweep = PageSweep(device: opened, layout: layout, table: table, places: places, report: report)
        // Which vectors ought to have a record is known where the manifest and the heads are.
        if let manifest, let index {
            sweep.ids = IdCheck(ids: index.ids, count: manifest.count, heads: index.headIds ?? [])
        }
        let digest = try sweep.run(progress: progress)
        report = sweep.report
        if let expected = manifest?.files[IndexFiles.segmentsName], let digest, digest != expected {
            report.note(difference(files.segments, expected: expected, found: digest))
        }
        if let manifest, report.records != manifest.records {
            report.note(
                "\(path): manifest.json counts \(manifest.records) records, \(report.records) were read")
        }
        return report
    }

    /// Checks each page of codes.bin.
    private static func checkPages(
        of device: any BlockDevice, codes: RecordCodes, report: inout VerificationReport
    ) throws {
        let piece = 256 * CodePages.byteCount
        let extents = stride(from: 0, to: Int(device.byteCount), by: piece).map {
            Extent(offset: UInt64($0), byteCount: min(piece, Int(device.byteCount) - $0))
        }
        let pipeline = try ReadPipeline(
            device: device, depth: 4, arenaByteCount: 4 * piece, order: .submission)
        try pipeline.run(extents) { number, bytes in
            for at in stride(from: 0, to: extents[number].byteCount, by: CodePages.byteCount) {
                let offset = Int(extents[number].offset) + at
                let found = CodePages.checksum(UnsafeRawPointer(bytes) + at)
                let expected = codes.pageChecksums[offset / CodePages.byteCount]
                report.pages += 1
                guard found != expected else { continue }
                report.note(
                    "\(device.path): page of codes at offset \(offset): expected checksum "
                        + "\(Checksum.text(expected)), found \(Checksum.text(found))")
            }
        }
    }

    /// What `body` returns; nil, and a line of damage that stands only once, where it throws.
    private static func noting<T>(_ report: inout VerificationReport, _ body: () throws -> T) -> T? {
        do {
            return try body()
        } catch {
            let line = "\(error)"
            if !report.damage.contains(line) { report.note(line) }
            return nil
        }
    }

    private static func compare(_ file: String, with expected: FileDigest, report: inout VerificationReport) {
        guard let found = noting(&report, { () throws in try FileDigest.of(path: file) }), found != expected
        else { return }
        report.note(difference(file, expected: expected, found: found))
    }

    private static func difference(_ file: String, expected: FileDigest, found: FileDigest) -> String {
        found.byteCount != expected.byteCount
            ? "\(file): expected \(expected.byteCount) bytes, found \(found.byteCount)"
            : "\(file): expected checksum \(Checksum.text(expected.crc32c)), found \(Checksum.text(found.crc32c))"
    }

    /// Without a table: the layout whose ids make a whole page of one of the first, by the manifest's vectors.
    private static func layout(
        of manifest: Manifest, on device: any BlockDevice, places: PlaceSearch
    ) throws -> PageLayout? {
        guard let elementType = ElementType(name: manifest.elementType) else { return nil }
        for idByteCount in [4, 8] {
            guard
                let layout = try? PageLayout(
                    dimension: manifest.dimension, elementType: elementType, idByteCount: idByteCount)
            else { return nil }
            let units = min(16, Int(device.byteCount) / layout.unitByteCount)
            var isWhole = false
            var places = places
            let pipeline = try ReadPipeline(
                device: device, depth: 4, arenaByteCount: 4 * layout.unitByteCount, order: .arrival)
            for unit in 0..<units where !isWhole {
                let extent = Extent(
                    offset: UInt64(unit * layout.unitByteCount), byteCount: layout.unitByteCount)
                try? pipeline.run([extent]) { _, bytes in
                    isWhole =
                        places.accept(layout.placeChecksum(of: bytes))
                        && (0..<layout.recordsPerUnit).contains {
                            layout.id(unit: bytes, slot: $0) != PageLayout.noId
                        }
                }
            }
            if isWhole { return layout }
        }
        return nil
    }
}
