import Foundation
import Storage
import TestSupport
import Testing
import Vectors

struct SegmentTests {
    private let directory: TemporaryDirectory
    private let id = IndexId(of: JobIdentity([("base", "one")]))

    init() throws { directory = try TemporaryDirectory() }

    /// A file of segments with the given numbers of records; ids count from 1000.
    private func writeSegments(_ counts: [Int], layout: PageLayout, name: String = "segments.bin") throws -> (
        SegmentTable, FileDigest
    ) {
        let writer = try SegmentWriter(path: directory.file(name), layout: layout)
        var next = 0
        for (segment, count) in counts.enumerated() {
            let rows = matrix(
                count: count, dimension: layout.dimension, layout.elementType, seed: UInt64(segment))
            let ids = (0..<count).map { UInt64(1000 + next + $0) }
            let entry = try writer.append(
                ids: ids, rows: rows.bytes, count: count, radius: Float(segment) / 2)
            #expect(
                Int(entry.recordCount) == count && Int(entry.unitCount) == layout.unitCount(records: count))
            next += count
        }
        let (table, digest) = try writer.finish()
        return (table, digest)
    }

    @Test func bytesOf128DimensionsFillAPageWith31Records() throws {
        let layout = try PageLayout(dimension: 128, elementType: .u8, idByteCount: 4)
        #expect(layout.recordsPerUnit == 31 && layout.pagesPerUnit == 1 && layout.unitByteCount == 4096)
        #expect(layout.vectorsOffset == 124 && layout.rowByteCount == 128)
        #expect(layout.unitCount(records: 0) == 0 && layout.unitCount(records: 32) == 2)
        #expect(layout.byteCount(records: 31) == 4096)
    }

    @Test func unitsWasteUnderATenth() throws {
        for elementType in ElementType.allCases {
            for dimension in [1, 7, 96, 100, 128, 384, 768, 960, 1024, 1536, 3072, 4096, 100_000] {
                let layout = try PageLayout(dimension: dimension, elementType: elementType, idByteCount: 8)
                let used = layout.recordsPerUnit * (layout.rowByteCount + 8) + 4
                #expect(used <= layout.unitByteCount && layout.recordsPerUnit > 0)
                #expect(Double(layout.unitByteCount - used) < 0.1 * Double(layout.unitByteCount))
            }
        }
        #expect(try PageLayout(dimension: 768, elementType: .f32, idByteCount: 4).pagesPerUnit == 4)
        #expect(throws: StorageError.self) { try PageLayout(dimension: 0, elementType: .u8, idByteCount: 4) }
        #expect(throws: StorageError.self) { try PageLayout(dimension: 8, elementType: .u8, idByteCount: 5) }
    }

    @Test func goldenPage() throws {
        let layout = try PageLayout(dimension: 1000, elementType: .u8, idByteCount: 4)
        #expect(layout.recordsPerUnit == 4)
        let rows = VectorMatrix(count: 2, dimension: 1000, elementType: .u8)
        for index in 0..<2000 {
            rows.bytes.storeBytes(of: UInt8(index % 251), toByteOffset: index, as: UInt8.self)
        }
        let unit = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 4096)
        defer { unit.deallocate() }
        layout.encode(
            ids: [7, 0x0102_0304], rows: rows.bytes, count: 2, into: unit, partition: 5, unitNumber: 1)
        var expected = little([UInt32(7), 0x0102_0304, .max, .max]) + contents(rows)
        expected += [UInt8](repeating: 0, count: 4092 - expected.count)
        let crc = expected.withUnsafeBytes { Checksum.crc32c($0.baseAddress!, count: 4092) }
        #expect(crc == 0xfe9f_303f)
        expected += little([crc])
        #expect(Array(UnsafeRawBufferPointer(start: unit, count: 4096)) == expected)
        // Format 1 says nothing of the place.
        #expect(layout.verify(unit: unit, partition: 0, unitNumber: 0) && layout.recordCount(unit: unit) == 2)
        #expect(
            layout.id(unit: unit, slot: 1) == 0x0102_0304 && layout.id(unit: unit, slot: 2) == PageLayout.noId
        )
    }

    @Test(arguments: ElementType.allCases, [4, 8])
    func recordsComeBack(elementType: ElementType, idByteCount: Int) throws {
        let layout = try PageLayout(
            dimension: 50, elementType: elementType, idByteCount: idByteCount,
            binding: idByteCount == 8 ? id : nil)
        let counts = [layout.recordsPerUnit, 0, 1, layout.recordsPerUnit * 2 + 1, 0]
        let (table, digest) = try writeSegments(counts, layout: layout)
        let file = try bytes(of: directory.file("segments.bin"))
        #expect(UInt64(file.count) == table.byteCount && table.recordCount == counts.reduce(0, +))
        #expect(table.largestSegmentByteCount == 3 * layout.unitByteCount)
        #expect(try FileDigest.of(path: directory.file("segments.bin")) == digest)
        var next = 0
        try file.withUnsafeBytes { raw in
            for (segment, count) in counts.enumerated() {
                let base = raw.baseAddress! + Int(table[segment].offset)
                let rows = matrix(count: count, dimension: 50, elementType, seed: UInt64(segment))
                #expect(
                    SegmentWriter.checksum(
                        segment: base, unitCount: Int(table[segment].unitCount), layout: layout)
                        == table[segment].checksum)
                for record in 0..<count {
                    let unit = base + record / layout.recordsPerUnit * layout.unitByteCount
                    let slot = record % layout.recordsPerUnit
                    try #require(
                        layout.verify(
                            unit: unit, partition: segment, unitNumber: record / layout.recordsPerUnit))
                    #expect(layout.id(unit: unit, slot: slot) == UInt64(1000 + next + record))
                    #expect(
                        memcmp(layout.vector(unit: unit, slot: slot), rows.row(record), layout.rowByteCount)
                            == 0)
                }
                next += count
            }
        }
    }

    @Test(arguments: [true, false]) func eachFlippedBitOfAPageIsNoticed(bound: Bool) throws {
        let layout = try PageLayout(
            dimension: 128, elementType: .u8, idByteCount: 4, binding: bound ? id : nil)
        _ = try writeSegments([20], layout: layout)
        var page = try bytes(of: directory.file("segments.bin"))
        page.withUnsafeMutableBytes { raw in
            #expect(layout.verify(unit: raw.baseAddress!, partition: 0, unitNumber: 0))
            for bit in 0..<4096 * 8 {
                raw[bit / 8] ^= 1 << UInt8(bit % 8)
                if layout.verify(unit: raw.baseAddress!, partition: 0, unitNumber: 0) {
                    Issue.record("bit \(bit) was not noticed")
                }
                raw[bit / 8] ^= 1 << UInt8(bit % 8)
            }
        }
        let zeros = [UInt8](repeating: 0, count: 4096)
        #expect(!zeros.withUnsafeBytes { layout.verify(unit: $0.baseAddress!, partition: 0, unitNumber: 0) })
    }

    @Test func theSameRecordsGiveTheSameBytes() throws {
        let layout = try PageLayout(dimension: 33, elementType: .f16, idByteCount: 8)
        let (_, first) = try writeSegments([5, 90], layout: layout, name: "a")
        let (_, second) = try writeSegments([5, 90], layout: layout, name: "b")
        #expect(first == second)
        #expect(try bytes(of: directory.file("a")) == bytes(of: directory.file("b")))
    }

    @Test func idsThatDoNotFitAreRefused() throws {
        let layout = try PageLayout(dimension: 4, elementType: .u8, idByteCount: 4)
        let writer = try SegmentWriter(path: directory.file("s"), layout: layout)
        let row: [UInt8] = [1, 2, 3, 4]
        #expect(
            kind { try writer.append(ids: [UInt64(UInt32.max)], rows: row, count: 1, radius: 0) }
                == .invalidValue)
        #expect(kind { _ = try SegmentWriter(path: directory.file("s"), layout: layout) } == .exists)
    }

    @Test(arguments: [true, false]) func goldenTable(bound: Bool) throws {
        let layout = try PageLayout(
            dimension: 128, elementType: .u8, idByteCount: 4, binding: bound ? id : nil)
        let table = SegmentTable(
            layout: layout,
            entries: [
                SegmentEntry(offset: 4096, unitCount: 2, recordCount: 32, checksum: 0xaabb_ccdd, radius: 1.5)
            ])
        try table.write(path: directory.file("t"))
        let body = little([UInt64(4096)]) + little([UInt32(2), 32, 0xaabb_ccdd, Float(1.5).bitPattern])
        var header =
            Array("SONDESTB".utf8) + little([UInt32(bound ? 2 : 1), 2, 128, 4]) + little([UInt64(1)])
        header += little([UInt32(31), 4096])
        header +=
            bound
            ? little([UInt64(0x1141_76ba_8495_3518), 0xebbe_a41d_6e9c_ae3b])
            : [UInt8](repeating: 0, count: 16)
        header += little([body.withUnsafeBytes { Checksum.crc32c($0.baseAddress!, count: 24) }])
        header += little([header.withUnsafeBytes { Checksum.crc32c($0.baseAddress!, count: 60) }])
        #expect(try bytes(of: directory.file("t")) == header + body)
        #expect(table.byteCount == 3 * 4096 && table.residentByteCount == 24)
    }

    @Test(arguments: [true, false]) func tablesComeBackAndEachFlippedBitIsNoticed(bound: Bool) throws {
        let layout = try PageLayout(
            dimension: 20, elementType: .f32, idByteCount: 8, binding: bound ? id : nil)
        let (table, _) = try writeSegments([3, 0, 300], layout: layout)
        let digest = try table.write(path: directory.file("t"))
        #expect(try FileDigest.of(path: directory.file("t")) == digest)
        let back = try SegmentTable.read(path: directory.file("t"))
        #expect(back.layout == layout && back.count == 3 && back.byteCount == table.byteCount)
        for index in 0..<3 { #expect(back[index] == table[index]) }
        let good = try bytes(of: directory.file("t"))
        for bit in 0..<good.count * 8 {
            var bad = good
            bad[bit / 8] ^= 1 << UInt8(bit % 8)
            let path = try directory.write(bad, as: "bad")
            #expect(throws: StorageError.self, "bit \(bit)") { try SegmentTable.read(path: path) }
        }
        for length in [0, 1, 63, 64, 65, good.count - 1] {
            let path = try directory.write(Array(good[..<length]), as: "short")
            #expect(throws: StorageError.self, "\(length) bytes") { try SegmentTable.read(path: path) }
        }
        let path = try directory.write(good + [0], as: "long")
        #expect(kind { _ = try SegmentTable.read(path: path) } == .badHeader)
    }

    @Test func aTableOfAnotherVersionIsRefusedByName() throws {
        let layout = try PageLayout(dimension: 20, elementType: .f32, idByteCount: 8)
        try SegmentTable(layout: layout, entries: []).write(path: directory.file("t"))
        var bytes = try bytes(of: directory.file("t"))
        #expect(try SegmentTable.read(path: directory.file("t")).count == 0)
        bytes[8] = 9
        let path = try directory.write(bytes, as: "new")
        do {
            _ = try SegmentTable.read(path: path)
            Issue.record("version 9 was read")
        } catch {
            #expect(error.kind == .unsupportedVersion && error.found == "9" && error.expected == "2")
            #expect(error.description.contains(path))
        }
    }

    @Test func entriesThatContradictThemselvesAreRefused() throws {
        let layout = try PageLayout(dimension: 128, elementType: .u8, idByteCount: 4)
        let good = SegmentEntry(offset: 0, unitCount: 1, recordCount: 31, checksum: 0, radius: 0)
        var bad = [good, good, good, good]
        bad[0].offset = 100
        bad[1].unitCount = 2
        bad[2].recordCount = 0
        bad[3].offset = UInt64(Int64.max) / 4096 * 4096
        for (index, entry) in bad.enumerated() {
            let path = directory.file("bad\(index)")
            try SegmentTable(layout: layout, entries: [entry]).write(path: path)
            #expect(kind { _ = try SegmentTable.read(path: path) } == .corrupt)
        }
        try SegmentTable(layout: layout, entries: [good, good]).write(path: directory.file("overlap"))
        #expect(kind { _ = try SegmentTable.read(path: directory.file("overlap")) } == .corrupt)
    }
}
