// Reads every byte of an index and checks it: files against the manifest, pages against their checksums,
// segments against the table, ids against the base they came from.

import Foundation
import Storage
import Vectors

/// What `sonde verify` found.
public struct VerificationReport: Codable, Sendable {
    public var path: String
    public var segments: Int = 0
    public var pages: Int = 0
    public var records: Int = 0
    /// How segments were read (see `BlockDevice.kind`); nil where the index could not be opened.
    public var device: String?
    /// One line for each damaged place: file, offset, expected, found. Empty: the index is whole.
    public var damage: [String] = []

    /// What people read.
    public var text: String {
        let head =
            "\(path): \(segments) segments, \(pages) pages, \(records) records read"
            + (device.map { " (\($0))" } ?? "")
        return damage.isEmpty
            ? head + "; whole"
            : head + "; \(damage.count) damaged\n" + damage.map { "  " + $0 }.joined(separator: "\n")
    }
}

/// The verification of one index directory.
public enum Verification {
    /// More damage than this is not listed line by line.
    static let damageLimit = 1000

    /// Checks the index at `path`. Damage is reported, not thrown; an error is thrown only where nothing can
    /// be read at all (no manifest, no device).
    public static func run(path: String, progress: Progress = .none) throws -> VerificationReport {
        var report = VerificationReport(path: path)
        let manifest = try Manifest.read(path: IndexFiles(directory: path).manifest)
        report.damage += try checkFiles(of: manifest, in: path)
        let index: DiskIndex
        do {
            index = try DiskIndex(path: path)
        } catch {
            report.damage.append("\(error)")
            return report
        }
        report.device = index.deviceKind
        try checkSegments(of: index, report: &report, progress: progress)
        return report
    }

    /// Size and checksum of every file that the manifest names.
    private static func checkFiles(of manifest: Manifest, in path: String) throws -> [String] {
        var damage: [String] = []
        for (name, expected) in manifest.files.sorted(by: { $0.key < $1.key }) {
            let file = path + "/" + name
            do {
                let found = try FileDigest.of(path: file)
                if found.byteCount != expected.byteCount {
                    damage.append("\(file): expected \(expected.byteCount) bytes, found \(found.byteCount)")
                } else if found != expected {
                    damage.append(
                        "\(file): expected checksum \(Checksum.text(expected.crc32c)), found \(Checksum.text(found.crc32c))"
                    )
                }
            } catch {
                damage.append("\(error)")
            }
        }
        return damage
    }

    private static func checkSegments(
        of index: DiskIndex, report: inout VerificationReport, progress: Progress
    ) throws {
        var everything = Array(0..<UInt32(index.partitionCount))
        var reads: [SegmentRead] = []
        SegmentRead.plan(&everything, table: index.table, into: &reads)
        let arena = try ReadArena(byteCount: max(4 << 20, index.table.largestSegmentByteCount))
        let queue = try index.device.makeQueue(depth: 8, arena: arena)
        var ids = IdCheck(ids: index.ids, count: index.count, heads: index.headIds ?? [])
        var completions: [ReadCompletion] = []
        for (number, read) in reads.enumerated() {
            guard let place = arena.allocate(byteCount: read.byteCount) else {
                throw IndexError.inconsistent(
                    path: index.path, detail: "a segment is larger than its table says")
            }
            defer { arena.release(offset: place, byteCount: read.byteCount) }
            queue.submit(offset: read.offset, byteCount: read.byteCount, arenaOffset: place, tag: 0)
            completions.removeAll(keepingCapacity: true)
            do {
                try queue.wait(atLeast: 1, into: &completions)
            } catch {
                report.damage.append("\(error)")
                continue
            }
            for partition in read.partitions {
                let entry = index.table[partition]
                check(
                    segment: arena.base + place + Int(entry.offset - read.offset), partition: partition,
                    index: index, ids: &ids, report: &report)
            }
            if report.damage.count > damageLimit {
                report.damage.append("more damage than \(damageLimit) places: the rest is not listed")
                return
            }
            progress(stage: "verify", done: number + 1, total: reads.count)
        }
        report.damage += ids.damage(path: index.device.path)
        if report.records != index.manifest.records {
            report.damage.append(
                "\(index.path): manifest.json counts \(index.manifest.records) records, \(report.records) were read"
            )
        }
    }

    private static func check(
        segment: UnsafeRawPointer, partition: Int, index: DiskIndex, ids: inout IdCheck,
        report: inout VerificationReport
    ) {
        let layout = index.layout
        let entry = index.table[partition]
        guard entry.recordCount > 0 else { return }
        report.segments += 1
        var left = Int(entry.recordCount)
        for number in 0..<Int(entry.unitCount) {
            let unit = segment + number * layout.unitByteCount
            let offset = entry.offset + UInt64(number * layout.unitByteCount)
            report.pages += layout.pagesPerUnit
            let expected = min(left, layout.recordsPerUnit)
            left -= expected
            guard layout.verify(unit: unit) else {
                report.damage.append(
                    "\(index.device.path): partition \(partition): the page at offset \(offset) fails its checksum"
                )
                continue
            }
            let found = layout.recordCount(unit: unit)
            if found != expected {
                report.damage.append(
                    "\(index.device.path): partition \(partition): the page at offset \(offset) holds \(found) records, "
                        + "segments.table expects \(expected)")
            }
            report.records += found
            for slot in 0..<found { ids.met(layout.id(unit: unit, slot: slot)) }
        }
        if SegmentWriter.checksum(segment: segment, unitCount: Int(entry.unitCount), layout: layout)
            != entry.checksum
        {
            report.damage.append(
                "\(index.device.path): partition \(partition): the segment at offset \(entry.offset) is not the one "
                    + "that segments.table describes")
        }
    }
}

/// Whether every vector has a record, and no record a vector that is not there. Positions are ticked off, a bit
/// each; external ids are collected, 8 bytes a record.
private struct IdCheck {
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

    mutating func damage(path: String) -> [String] {
        var lines: [String] = []
        if outside > 0 { lines.append("\(path): \(outside) records name ids beyond the \(count) vectors") }
        var met = seen.reduce(0) { $0 + $1.nonzeroBitCount }
        if ids.kind == .external {
            collected.sort()
            met = collected.indices.reduce(0) { $0 + ($1 == 0 || collected[$1 - 1] != collected[$1] ? 1 : 0) }
        }
        if met < count { lines.append("\(path): \(count - met) of \(count) vectors have no record") }
        if met > count { lines.append("\(path): records name \(met) vectors, manifest.json counts \(count)") }
        return lines
    }
}
