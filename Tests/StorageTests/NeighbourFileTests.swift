// Files of neighbours are what their names and their bytes say.

import Foundation
import Storage
import TestSupport
import Testing

struct NeighbourFileTests {
    private let directory: TemporaryDirectory
    private let truth = TruthFile(
        count: 2, k: 3, ids: [7, 8, 9, 1, 2, TruthFile.noId], distances: [0.5, 1, 2, 0, 4, .infinity])

    init() throws { directory = try TemporaryDirectory() }

    private func bytes(_ name: String) throws -> [UInt8] {
        Array(try Data(contentsOf: URL(fileURLWithPath: directory.file(name))))
    }

    @Test func textHoldsWhatIsFilled() throws {
        try truth.write(path: directory.file("t.csv"))
        #expect(
            String(decoding: try bytes("t.csv"), as: UTF8.self)
                == "query,rank,id,distance\n0,0,7,0.5\n0,1,8,1.0\n0,2,9,2.0\n1,0,1,0.0\n1,1,2,4.0\n")
        try truth.write(path: directory.file("t.jsonl"))
        let lines = String(decoding: try bytes("t.jsonl"), as: UTF8.self).split(separator: "\n")
        #expect(lines.last == #"{"query":1,"ids":[1,2],"distances":[0.0,4.0]}"#)
    }

    @Test func numpyHoldsIdsAndIsReadByItsBytes() throws {
        try truth.write(path: directory.file("t.npy"))
        try Data(bytes("t.npy")).write(to: URL(fileURLWithPath: directory.file("t.bin")))
        for name in ["t.npy", "t.bin"] {
            let found = try TruthFile.read(path: directory.file(name))
            #expect(found.ids == truth.ids && found.distances == nil)
        }
    }

    /// Written some queries at a time, every format is what it is written whole.
    @Test func theWriterGivesTheSameFiles() throws {
        for name in ["bin", "ivecs", "ids64", "npy", "csv", "jsonl"] {
            try truth.write(path: directory.file("whole." + name))
            let writer = try NeighbourWriter(
                path: directory.file("parts." + name), count: 2, k: 3, greatestId: 9)
            for query in 0..<2 {
                let range = query * 3..<query * 3 + 3
                try writer.append(
                    TruthFile(
                        count: 1, k: 3, ids: Array(truth.ids[range]),
                        distances: truth.distances.map { Array($0[range]) }))
            }
            try writer.finish()
            #expect(try bytes("parts." + name) == bytes("whole." + name), "\(name)")
        }
    }

    @Test func namesOfOtherFormatsAreRefused() throws {
        for name in ["t.json", "t.hdf5", "t.fvecs", "t.parquet", "t.xyz"] {
            #expect(kind { try truth.write(path: directory.file(name)) } == .unsupported)
        }
        try truth.write(path: directory.file("t"))
        for name in ["t.json", "t.csv", "t.fbin"] {
            try Data(bytes("t")).write(to: URL(fileURLWithPath: directory.file(name)))
            #expect(
                kind { _ = try TruthFile.read(path: directory.file(name)) } == .unsupported)
        }
    }

    /// n * k ids of 64 bits take the room of ids of 32 and distances.
    @Test func idsOf64BitsUnderTheHeaderOf32AreRecognised() throws {
        var raw: [UInt8] = []
        for word: UInt32 in [2, 3] { withUnsafeBytes(of: word.littleEndian) { raw.append(contentsOf: $0) } }
        for id in truth.ids { withUnsafeBytes(of: id.littleEndian) { raw.append(contentsOf: $0) } }
        try Data(raw).write(to: URL(fileURLWithPath: directory.file("wide")))
        let found = try TruthFile.read(path: directory.file("wide"))
        #expect(found.ids == truth.ids && found.distances == nil)
        try truth.write(path: directory.file("narrow"))
        #expect(try TruthFile.read(path: directory.file("narrow")) == truth)
    }
}
