import Foundation
import Storage
import TestSupport
import Testing
import Vectors

struct VectorFileTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private static let pairs: [(VectorFileFormat, ElementType)] = [
        (.fbin, .f32), (.u8bin, .u8), (.i8bin, .i8), (.f16bin, .f16), (.fvecs, .f32), (.bvecs, .u8),
        (.npy, .f32),
        (.npy, .f16), (.npy, .u8), (.npy, .i8),
    ]

    private func write(_ rows: VectorMatrix, _ format: VectorFileFormat, name: String = "v") throws -> String
    {
        let path = directory.file("\(name).\(format.rawValue)")
        let writer = try VectorFileWriter(
            path: path, dimension: rows.dimension, elementType: rows.elementType)
        try writer.append(rows, rows: 0..<rows.count / 2)
        #expect(!FileManager.default.fileExists(atPath: path))
        try writer.append(rows, rows: rows.count / 2..<rows.count)
        try writer.finish()
        #expect(!FileManager.default.fileExists(atPath: path + ".part"))
        return path
    }

    @Test(arguments: 0..<pairs.count)
    func eachFormatComesBack(pair: Int) throws {
        let (format, elementType) = Self.pairs[pair]
        // More than one chunk of reading for the widest type.
        let rows = matrix(count: 30_001, dimension: 13, elementType)
        let path = try write(rows, format)
        let file = try VectorFile.open(path: path)
        #expect(
            file.count == 30_001 && file.dimension == 13 && file.elementType == elementType
                && file.format == format)
        #expect(contents(try file.readAll()) == contents(rows))

        let part = try VectorFile.open(path: path, first: 100, skip: 7)
        let ofPart = file.range(7..<107)
        for view in [part, ofPart] {
            #expect(view.count == 100 && view.firstRow == 7)
            let got = try view.rows(10..<12)
            #expect(memcmp(got.bytes, rows.row(17), 2 * rows.rowByteCount) == 0)
        }
        #expect(contents(try ofPart.range(3..<5).readAll()) == contents(try file.rows(10..<12)))

        let sorted = [0, 1, 2, 9, 5000, 5001, 29_999, 30_000]
        let gathered = try file.gather(sorted)
        for (index, row) in sorted.enumerated() {
            #expect(memcmp(gathered.row(index), rows.row(row), rows.rowByteCount) == 0)
        }
        let target = VectorMatrix(count: 5, dimension: 13, elementType: elementType)
        try file.read(rows: 40..<42, into: target, at: 3)
        #expect(memcmp(target.row(3), rows.row(40), 2 * rows.rowByteCount) == 0)
        #expect(contents(target)[..<(3 * rows.rowByteCount)].allSatisfy { $0 == 0 })
    }

    @Test func goldenFiles() throws {
        let rows = VectorMatrix(count: 2, dimension: 3, elementType: .u8)
        for index in 0..<6 {
            rows.bytes.storeBytes(of: UInt8(index + 1), toByteOffset: index, as: UInt8.self)
        }
        #expect(try bytes(of: write(rows, .u8bin)) == [2, 0, 0, 0, 3, 0, 0, 0, 1, 2, 3, 4, 5, 6])
        #expect(try bytes(of: write(rows, .bvecs)) == [3, 0, 0, 0, 1, 2, 3, 3, 0, 0, 0, 4, 5, 6])
        let text = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }"
        let header =
            [0x93] + Array("NUMPY".utf8) + [1, 0, 118, 0] + Array(text.utf8)
            + [UInt8](repeating: 0x20, count: 117 - text.utf8.count) + [0x0a]
        #expect(try bytes(of: write(rows, .npy)) == header + [1, 2, 3, 4, 5, 6])
        let floats = VectorMatrix(count: 1, dimension: 2, elementType: .f32)
        floats.floats[0] = 1.5
        floats.floats[1] = -2
        #expect(try bytes(of: write(floats, .fbin)) == little([UInt32(1), 2]) + little([Float(1.5), -2]))
        #expect(try bytes(of: write(floats, .fvecs)) == little([UInt32(2)]) + little([Float(1.5), -2]))
        let signed = VectorMatrix(count: 1, dimension: 3, elementType: .i8)
        for (index, value) in [Int8(-128), 127, -1].enumerated() {
            signed.bytes.storeBytes(of: value, toByteOffset: index, as: Int8.self)
        }
        #expect(try bytes(of: write(signed, .i8bin)) == [1, 0, 0, 0, 3, 0, 0, 0, 0x80, 0x7f, 0xff])
        // 1.5 and -2 in binary16.
        let halves = floats.converted(to: .f16)
        #expect(try bytes(of: write(halves, .f16bin)) == [1, 0, 0, 0, 2, 0, 0, 0, 0x00, 0x3e, 0x00, 0xc0])
    }

    @Test func headersAreCheckedAgainstTheSize() throws {
        func open(_ bytes: [UInt8], _ name: String) -> StorageError.Kind? {
            kind { _ = try VectorFile.open(path: directory.write(bytes, as: name)) }
        }
        for format in VectorFileFormat.allCases {
            #expect(open([], "empty.\(format.rawValue)") == .truncated)
        }
        #expect(open([1, 0, 0], "a.u8bin") == .truncated)
        #expect(open(little([UInt32(2), 3]) + [1, 2, 3, 4, 5], "a.u8bin") == .truncated)
        #expect(open(little([UInt32(2), 3]) + [1, 2, 3, 4, 5, 6, 7], "a.u8bin") == .badHeader)
        #expect(open(little([UInt32(2), 0]), "a.u8bin") == .badHeader)
        #expect(open(little([UInt32.max, .max]), "a.fbin") == .badHeader)
        #expect(open(little([UInt32.max, 1 << 20]), "a.fbin") == .truncated)
        #expect(open(little([Int32(-1)]) + [0], "a.fvecs") == .badHeader)
        #expect(open(little([UInt32(1)]) + little([Float(1)]) + [1], "a.fvecs") == .truncated)
        #expect(open([1, 2, 3, 4], "a.unknown") == .unnamedFormat)
        #expect(kind { _ = try VectorFile.open(path: directory.file("none.fbin")) } == .missing)
        #expect(kind { _ = try VectorFile.open(path: directory.path, format: .fbin) } == .unsupported)
        let none = try directory.write(little([UInt32(0), 3]), as: "none.u8bin")
        #expect(try VectorFile.open(path: none).readAll().count == 0)
    }

    @Test func anErrorNamesFileOffsetExpectedAndFound() throws {
        let path = try directory.write(little([UInt32(2), 3]) + [1, 2, 3], as: "a.u8bin")
        do {
            _ = try VectorFile.open(path: path)
            Issue.record("a truncated file was opened")
        } catch {
            #expect(
                error.path == path && error.offset == 0 && error.expected == "14 bytes" && error.found == "11"
            )
            #expect(
                error.description
                    == "\(path): its header claims 2 vectors of 3 u8, which its size contradicts "
                    + "at offset 0: expected 14 bytes, found 11; the first 1 are there: fetch the rest, or ask for no "
                    + "more than those")
        }
    }

    @Test func everyCutOfANumpyHeaderIsRefused() throws {
        let good = try bytes(of: write(matrix(count: 4, dimension: 3, .f32), .npy))
        for length in 0..<good.count {
            let path = try directory.write(Array(good[..<length]), as: "cut.npy")
            #expect(throws: StorageError.self, "\(length) bytes") { try VectorFile.open(path: path) }
        }
        // Whatever byte of the header is damaged, nothing traps.
        for byte in 0..<128 {
            for value: UInt8 in [0, 0xff, UInt8(ascii: "9"), UInt8(ascii: "'")] {
                var bad = good
                bad[byte] = value
                let path = try directory.write(bad, as: "bad.npy")
                _ = try? VectorFile.open(path: path).readAll()
            }
        }
    }

    @Test func numpyDialects() throws {
        func npy(_ text: String, version: UInt8 = 1) throws -> String {
            let length = version == 1 ? little([UInt16(text.utf8.count)]) : little([UInt32(text.utf8.count)])
            let bytes =
                [0x93] + Array("NUMPY".utf8) + [version, 0] + length + Array(text.utf8) + [1, 2, 3, 4, 5, 6]
            return try directory.write(bytes, as: "x.npy")
        }
        for version: UInt8 in 1...3 {
            let path = try npy(
                "{'shape': (2,3), \"descr\":\"|u1\" , 'fortran_order':False}\n", version: version)
            #expect(contents(try VectorFile.open(path: path).readAll()) == [1, 2, 3, 4, 5, 6])
        }
        for text in [
            "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }",
            "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }",
            "{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), }",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (6,), }",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2, 3), }",
            "{'descr': '|u1', 'fortran_order': False}", "",
        ] {
            #expect(kind { _ = try VectorFile.open(path: npy(text)) } == .unsupported, "\(text)")
        }
        let huge = try npy("{'descr': '|u1', 'fortran_order': False, 'shape': (9223372036854775807, 3), }")
        #expect(throws: StorageError.self) { try VectorFile.open(path: huge) }
        #expect(kind { _ = try VectorFile.open(path: npy("{}", version: 4)) } == .unsupportedVersion)
    }

    @Test func rowsThatDoNotExistAreRefused() throws {
        let path = try write(matrix(count: 10, dimension: 2, .u8), .u8bin)
        #expect(kind { _ = try VectorFile.open(path: path, first: 11) } == .invalidValue)
        #expect(kind { _ = try VectorFile.open(path: path, first: 6, skip: 5) } == .invalidValue)
        #expect(kind { _ = try VectorFile.open(path: path, skip: 11) } == .invalidValue)
        #expect(kind { _ = try VectorFile.open(path: path, skip: -1) } == .invalidValue)
        #expect(kind { _ = try VectorFile.open(path: path, first: -1) } == .invalidValue)
        #expect(try VectorFile.open(path: path, first: 0, skip: 10).count == 0)
    }

    @Test(arguments: [VectorFileFormat.fbin, .fvecs, .npy, .f16bin])
    func numbersThatAreNotFiniteAreNamed(format: VectorFileFormat) throws {
        let elementType = format.elementType ?? .f32
        let rows = matrix(count: 50, dimension: 5, elementType)
        if elementType == .f32 {
            rows.floatRow(33)[2] = .nan
        } else {
            (rows.row(33) + 4).storeBytes(of: 0x7e00, as: UInt16.self)
        }
        let path = try write(rows, format)
        let file = try VectorFile.open(path: path, skip: 3)
        for read in [{ _ = try file.readAll() }, { _ = try file.gather([1, 30]) }] {
            do {
                try read()
                Issue.record("NaN was read")
            } catch let error as StorageError {
                #expect(
                    error.kind == .invalidValue && error.detail == "row 33, column 2" && error.found == "NaN")
            }
        }
        #expect(try file.rows(0..<30).count == 30)
        try file.read(
            rows: 0..<47, into: VectorMatrix(count: 47, dimension: 5, elementType: elementType),
            checkFinite: false)
        if elementType == .f32 {
            rows.floatRow(33)[2] = -.infinity
            let infinite = try VectorFile.open(path: write(rows, format, name: "inf"))
            #expect(throws: StorageError.self) { try infinite.readAll() }
        }
    }

    @Test func aRowOfAnotherDimensionIsNamed() throws {
        let path = try write(matrix(count: 5, dimension: 4, .u8), .bvecs)
        var damaged = try bytes(of: path)
        damaged[3 * 8] = 9
        let file = try VectorFile.open(path: directory.write(damaged, as: "d.bvecs"))
        #expect(try file.rows(0..<3).count == 3)
        do {
            _ = try file.readAll()
            Issue.record("a row of another dimension was read")
        } catch {
            #expect(error.kind == .badHeader && error.offset == 24 && error.found == "9")
        }
    }

    @Test func threadsShareAFile() async throws {
        let rows = matrix(count: 4000, dimension: 16, .u8)
        let file = try VectorFile.open(path: write(rows, .bvecs))
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for part in 0..<8 {
                group.addTask {
                    let got = try file.rows(part * 500..<(part + 1) * 500)
                    return memcmp(got.bytes, rows.row(part * 500), got.byteCount) == 0
                }
            }
            for try await same in group { #expect(same) }
        }
    }

    @Test func formatsAreFoundInNames() {
        #expect(VectorFileFormat(path: "/a.fbin/base.u8bin") == .u8bin)
        #expect(VectorFileFormat(path: "base.1B.u8bin.crop_nb_1000000") == .u8bin)
        #expect(VectorFileFormat(path: "X.FVECS") == .fvecs)
        #expect(VectorFileFormat(path: "fbin") == nil)
        #expect(VectorFileFormat(path: "a.txt") == nil)
    }

    @Test func anUnfinishedWriterLeavesNothing() throws {
        do {
            let writer = try VectorFileWriter(path: directory.file("v.fbin"), dimension: 2, elementType: .f32)
            try writer.append(matrix(count: 3, dimension: 2, .f32))
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
        #expect(
            kind {
                _ = try VectorFileWriter(path: directory.file("v.u8bin"), dimension: 2, elementType: .f32)
            } == .unsupported)
        #expect(
            kind {
                _ = try VectorFileWriter(path: directory.file("none/v.u8bin"), dimension: 2, elementType: .u8)
            } != nil)
    }
}

struct TruthFileTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    @Test func bothLayoutsComeBackAndAreGolden() throws {
        var truth = TruthFile(count: 2, k: 2)
        #expect(
            truth.id(query: 1, rank: 1) == TruthFile.noId && truth.distance(query: 1, rank: 1) == .infinity)
        for place in 0..<3 {
            truth.set(query: place / 2, rank: place % 2, id: UInt64(place + 5), distance: Float(place) / 2)
        }
        try truth.write(path: directory.file("t.bin"))
        #expect(
            try bytes(of: directory.file("t.bin"))
                == little([UInt32(2), 2, 5, 6, 7, .max]) + little([Float(0), 0.5, 1, .infinity]))
        #expect(try TruthFile.read(path: directory.file("t.bin")) == truth)

        try truth.write(path: directory.file("t.ivecs"))
        #expect(try bytes(of: directory.file("t.ivecs")) == little([UInt32(2), 5, 6, 2, 7, .max]))
        let ids = try TruthFile.read(path: directory.file("t.ivecs"))
        #expect(ids.ids == truth.ids && ids.distances == nil && ids.distance(query: 0, rank: 0).isNaN)

        try ids.write(path: directory.file("ids.bin"))
        #expect(try TruthFile.read(path: directory.file("ids.bin")) == ids)
    }

    @Test func sizesAreChecked() throws {
        func read(_ bytes: [UInt8], _ name: String = "t.bin") -> StorageError.Kind? {
            kind { _ = try TruthFile.read(path: directory.write(bytes, as: name)) }
        }
        #expect(read([]) == .truncated)
        #expect(read(little([UInt32(2), 2, 1])) == .truncated)
        #expect(read(little([UInt32(1), 1, 1, 1, 1])) == .badHeader)
        #expect(read(little([UInt32(1), 1, 1]) + [0]) == .badHeader)
        #expect(read(little([UInt32.max, .max])) == .truncated)
        #expect(read([], "t.ivecs") == .truncated)
        #expect(read(little([UInt32(0)]), "t.ivecs") == .badHeader)
        #expect(read(little([UInt32(2), 1]), "t.ivecs") == .truncated)
        #expect(read(little([UInt32(1), 1, 2, 1]), "t.ivecs") == .badHeader)
        let path = try directory.write(little([UInt32(0), 10]), as: "none.bin")
        #expect(try TruthFile.read(path: path).count == 0)
    }

    @Test func aDirectoryThatIsNotThereSaysSo() {
        #expect(
            kind { try TruthFile(count: 0, k: 1).write(path: directory.file("none/t.bin")) }
                == .systemCall(name: "open", errno: ENOENT))
    }
}
