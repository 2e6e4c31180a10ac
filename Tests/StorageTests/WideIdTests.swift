// Files whose ids take 64 bits, and pages that are copied record by record.

import Foundation
import Storage
import TestSupport
import Testing
import Vectors

struct WideIdTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private var truth: TruthFile {
        TruthFile(
            count: 2, k: 2, ids: [5, 1 << 40, .max - 1, TruthFile.noId], distances: [0, 0.5, 1, .infinity])
    }

    @Test func theWideLayoutComesBackAndIsGolden() throws {
        try truth.write(path: directory.file("t.ids64"))
        let head =
            Array("SONDENBR".utf8) + little([UInt32(1), 2]) + little([UInt64(2)]) + little([UInt32(0)])
        let checksum = head.withUnsafeBytes { Checksum.crc32c($0.baseAddress!, count: 28) }
        #expect(
            try bytes(of: directory.file("t.ids64"))
                == head + little([checksum]) + little([UInt64(5), 1 << 40, .max - 1, .max])
                + little([Float(0), 0.5, 1, .infinity]))
        #expect(try TruthFile.read(path: directory.file("t.ids64")) == truth)
        var ids = truth
        ids.distances = nil
        try ids.write(path: directory.file("ids.ids64"))
        #expect(try TruthFile.read(path: directory.file("ids.ids64")) == ids)
    }

    @Test func narrowLayoutsRefuseWideIds() throws {
        for name in ["t.bin", "t.ivecs"] {
            #expect(kind { try truth.write(path: directory.file(name)) } == .unsupported)
            var mark = TruthFile(count: 1, k: 1, ids: [UInt64(UInt32.max)], distances: nil)
            #expect(kind { try mark.write(path: directory.file(name)) } == .unsupported)
            mark.ids[0] -= 1
            try mark.write(path: directory.file(name))
            #expect(try TruthFile.read(path: directory.file(name)).ids == mark.ids)
        }
    }

    @Test func everyBitOfAWideHeaderIsChecked() throws {
        try truth.write(path: directory.file("t.ids64"))
        let whole = try bytes(of: directory.file("t.ids64"))
        for bit in 0..<32 * 8 {
            var damaged = whole
            damaged[bit / 8] ^= 1 << (bit % 8)
            #expect(throws: StorageError.self) {
                try TruthFile.read(path: directory.write(damaged, as: "damaged.ids64"))
            }
        }
        func read(_ bytes: [UInt8]) -> StorageError.Kind? {
            kind { _ = try TruthFile.read(path: directory.write(bytes, as: "cut.ids64")) }
        }
        #expect(read(Array(whole.dropLast(33))) == .truncated)
        #expect(read(Array(whole.dropLast(1))) == .badHeader && read(whole + [0]) == .badHeader)
        #expect(read(Array(whole.prefix(20))) == .truncated && read([]) == .truncated)
    }

    @Test func aFileOfIdsIsFlatOrHasAHeader() throws {
        let ids: [UInt64] = [3, 1 << 63, 0, .max - 1]
        let flat = try IdFile.open(path: directory.write(little(ids), as: "ids"))
        let headed = try IdFile.open(
            path: directory.write(little([UInt32(4), 1]) + little(ids), as: "ids.u64bin"))
        for file in [flat, headed] {
            #expect(file.count == 4)
            #expect(try file.read(0..<4) == ids)
            #expect(try file.range(1..<3).read(1..<2) == [0])
        }
        #expect(kind { _ = try IdFile.open(path: directory.write([1, 2, 3], as: "odd")) } == .truncated)
        for head in [[UInt32(4), 2], [3, 1], [5, 1]] {
            let path = try directory.write(little(head) + little(ids), as: "bad.u64bin")
            #expect(kind { _ = try IdFile.open(path: path) } == .badHeader)
        }
        let marked = try IdFile.open(path: directory.write(little([UInt64(1), .max]), as: "marked"))
        #expect(kind { _ = try marked.read(0..<2) } == .invalidValue)
        #expect(try marked.read(0..<1) == [1])
    }

    /// Copying records into a unit gives the bytes of encoding them there, also from narrower ids.
    @Test(arguments: ElementType.allCases)
    func copiedRecordsAreEncodedOnes(elementType: ElementType) throws {
        let narrow = try PageLayout(dimension: 30, elementType: elementType, idByteCount: 4)
        let wide = try PageLayout(dimension: 30, elementType: elementType, idByteCount: 8)
        let count = wide.recordsPerUnit
        let rows = matrix(count: count, dimension: 30, elementType)
        let ids = (0..<count).map { UInt64(900 + $0 * 3) }
        func unit(_ layout: PageLayout, _ fill: (UnsafeMutableRawPointer) -> Void) -> [UInt8] {
            let unit = UnsafeMutableRawPointer.allocate(byteCount: layout.unitByteCount, alignment: 4096)
            defer { unit.deallocate() }
            unit.initializeMemory(as: UInt8.self, repeating: 0xaa, count: layout.unitByteCount)
            fill(unit)
            return Array(UnsafeRawBufferPointer(start: unit, count: layout.unitByteCount))
        }
        for (from, to) in [(narrow, narrow), (wide, wide), (narrow, wide)] {
            let source = unit(from) {
                from.encode(
                    ids: ids, rows: rows.bytes, count: count, into: $0, partition: 0, unitNumber: 0)
            }
            let kept = count - 5
            let wanted = unit(to) { target in
                to.encode(count: kept, into: target, partition: 4, unitNumber: 2) {
                    (ids[$0 + 3], UnsafeRawPointer(rows.row($0 + 3)))
                }
            }
            let copied = unit(to) { target in
                source.withUnsafeBytes { bytes in
                    for (slot, part) in [(0, 7), (7, kept - 7)] {
                        to.copy(
                            part, from: bytes.baseAddress!, slot: slot + 3, of: from, to: target, slot: slot)
                    }
                }
                to.close(target, count: kept, partition: 4, unitNumber: 2)
            }
            #expect(copied == wanted)
        }
    }

    /// A manifest without ids is one that the first sonde reads; with them it is not.
    @Test func theVersionOfAManifestIsThatOfWhatItHolds() throws {
        var manifest = Manifest(
            metric: "l2", elementType: "u8", dimension: 4, count: 10, partitions: 2, records: 10, build: [:],
            files: [:])
        try manifest.write(path: directory.file("one"))
        #expect(try Manifest.read(path: directory.file("one")).formatVersion == 1)
        manifest.ids = IdRange(kind: .external, least: 3, greatest: .max - 1)
        manifest.shard = ShardIdentity(plan: "a", number: 1, count: 2)
        try manifest.write(path: directory.file("two"))
        let read = try Manifest.read(path: directory.file("two"))
        #expect(read.formatVersion == 2 && read.ids == manifest.ids && read.shard == manifest.shard)
        for (number, least) in [(0, UInt64(9)), (1, 3)] {
            manifest.ids = IdRange(kind: .positions, least: least, greatest: number == 0 ? 3 : .max)
            try manifest.write(path: directory.file("bad-\(number)"))
            #expect(kind { _ = try Manifest.read(path: directory.file("bad-\(number)")) } == .badHeader)
        }
    }
}
