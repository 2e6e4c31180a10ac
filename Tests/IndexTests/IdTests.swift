// Ids of 64 bits and ids of users: from the build to every answer.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

private let kinds: [Kind] = [.none, .closure, .soar]

struct IdTests {
    /// Beyond 32 bits answers are those of positions from 0, with other names.
    @Test(arguments: kinds, [Metric.l2, .cosine])
    func wideIdsAnswerAsNarrowOnes(kind: Kind, metric: Metric) throws {
        for elementType in [ElementType.u8, .f32] {
            let fixture = try Fixture(elementType)
            let first: UInt64 = 5_000_000_000
            try fixture.build("narrow", metric, kind)
            try fixture.build("wide", metric, kind) { $0.ids = .positions(first: first) }
            let (narrow, wide) = (try fixture.open("narrow"), try fixture.open("wide"))
            #expect(narrow.layout.idByteCount == 4 && wide.layout.idByteCount == 8)
            #expect(wide.ids == IdRange(kind: .positions, least: first, greatest: first + 1499))
            #expect(narrow.manifest.formatVersion == 1 && wide.manifest.formatVersion == 2)
            #expect(try Verification.run(path: wide.path).damage == [])
            #expect(wide.inspect().text.contains("ids 5000000000 to 5000001499, 8 bytes each"))
            for policy in [Policy.nprobe(1), .nprobe(6), .nprobe(24)] {
                let few = try narrow.ask(fixture.queries, policy).answers
                let found = try wide.ask(fixture.queries, policy).answers
                #expect(found.ids == few.ids.map { $0 == TruthFile.noId ? $0 : $0 + first })
                #expect(found.distances == few.distances)
                let batch = try wide.batch(
                    fixture.queryFile, fixture.directory, name: "\(policy.parameter).ids64", policy)
                #expect(batch.answers == found)
            }
        }
    }

    /// The marks of 32 bits are no ids: one id more and records are wider.
    @Test func idsAreWideFromTheFirstThatDoesNotFit() throws {
        let fixture = try Fixture()
        let last = UInt64(UInt32.max) - 1
        for (first, width) in [(last - 1499, 4), (last - 1498, 8), (UInt64.max - 1500, 8)] {
            let name = "index-\(first)"
            try fixture.build(name) { $0.ids = .positions(first: first) }
            let index = try fixture.open(name)
            #expect(index.layout.idByteCount == width && index.ids.greatest == first + 1499)
            #expect(try Verification.run(path: index.path).damage == [])
            let found = try index.ask(fixture.queries, .nprobe(24)).answers
            #expect(try found.ids == fixture.truth(k: 10).ids.map { $0 + first })
        }
        #expect(
            refusal { try fixture.build("none") { $0.ids = .positions(first: .max - 1499) } }.contains(
                "leave room for 1500 ids"))
    }

    @Test func wideAnswersNeedAFileThatHoldsThem() throws {
        let fixture = try Fixture(queryCount: 300)
        try fixture.build { $0.ids = .positions(first: 5_000_000_000) }
        let index = try fixture.open()
        for name in ["out.bin", "out.ivecs"] {
            let error = storageError {
                _ = try index.batch(fixture.queryFile, fixture.directory, name: name, .nprobe(3))
            }
            #expect(error?.kind == .unsupported && error?.description.contains(".ids64") == true)
            #expect(
                storageError { try index.requireRoomForIds(in: name) }?.found == "ids up to 5000001499")
        }
        // Narrow ones fit a wide file too.
        try fixture.build("narrow")
        let narrow = try fixture.open("narrow")
        #expect(
            try narrow.batch(fixture.queryFile, fixture.directory, name: "n.ids64", .nprobe(3)).answers
                == narrow.batch(fixture.queryFile, fixture.directory, name: "n.bin", .nprobe(3)).answers)
    }

    /// Shards of a batch, and a batch that goes on after its end.
    @Test func wideAnswersAreSplitJoinedAndContinued() throws {
        struct Stopped: Error {}
        let fixture = try Fixture(queryCount: 300)
        try fixture.build("index", .l2, .closure) { $0.ids = .positions(first: 5_000_000_000) }
        try fixture.build("narrow", .l2, .closure)
        let index = try fixture.open()
        let whole = try index.batch(fixture.queryFile, fixture.directory, name: "whole.ids64", .nprobe(3))
        #expect(throws: IndexError.self) {
            _ = try index.batch(fixture.queryFile, fixture.directory, name: "again.ids64", .nprobe(3)) {
                $0.queriesAtOnceMaximum = 100
                $0.afterBlock = { if $0 >= 200 { throw Stopped() } }
            }
        }
        let again = try index.batch(fixture.queryFile, fixture.directory, name: "again.ids64", .nprobe(3))
        #expect(again.summary.continued == 200 && again.answers == whole.answers)
        func parts(_ name: String, of index: DiskIndex) throws -> [String] {
            try (0..<3).map { number in
                let path = fixture.directory.file("\(name)-\(number)")
                var parameters = BatchParameters(search: SearchParameters(k: 10, policy: .nprobe(3)))
                parameters.shard = Shard(index: number, count: 3)
                _ = try index.batch(fixture.queryFile, out: path, parameters: parameters)
                return path
            }
        }
        let wide = try parts("wide", of: index)
        let joined = fixture.directory.file("joined.ids64")
        try PartialResult.merge(wide, out: joined)
        #expect(
            try Data(contentsOf: URL(fileURLWithPath: joined))
                == Data(contentsOf: URL(fileURLWithPath: fixture.directory.file("whole.ids64"))))
        #expect(
            storageError { try PartialResult.merge(wide, out: fixture.directory.file("joined.bin")) }?.kind
                == .unsupported)
        let narrow = try parts("narrow", of: fixture.open("narrow"))
        for name in ["n.ids64", "n.bin"] {
            try PartialResult.merge(narrow, out: fixture.directory.file(name))
            #expect(
                try TruthFile.read(path: fixture.directory.file(name)).ids
                    == whole.answers.ids.map { $0 - 5_000_000_000 })
        }
    }

    @Test(arguments: kinds)
    func answersNameTheIdsOfTheUser(kind: Kind) throws {
        let fixture = try Fixture()
        try fixture.build("plain", .l2, kind)
        let plain = try fixture.open("plain").ask(fixture.queries, .nprobe(5))
        for (number, list) in [rising(1500), rising(1500, step: 1 << 40)].enumerated() {
            let name = "own-\(number)"
            let ids = try fixture.ids(name + ".ids", list)
            try fixture.build(name, .l2, kind) { $0.ids = ids }
            let index = try fixture.open(name)
            #expect(index.layout.idByteCount == (number == 0 ? 4 : 8))
            #expect(index.ids == IdRange(kind: .external, least: list[0], greatest: list[1499]))
            #expect(try Verification.run(path: index.path).damage == [])
            let found = try index.ask(fixture.queries, .nprobe(5))
            #expect(found.answers.ids == plain.answers.ids.map { list[Int($0)] })
            #expect(found.answers.distances == plain.answers.distances)
            #expect(found.counters.map(\.distinct) == plain.counters.map(\.distinct))
            // The truth is of the same ids; one of positions is told by ids that are not there.
            var truth = try fixture.truth(k: 10)
            #expect(
                refusal { try index.validate(truth: truth, queryCount: 40, k: 10) }.contains("another base"))
            try truth.rename(ids, count: 1500, memoryByteCount: 1 << 20)
            try index.validate(truth: truth, queryCount: 40, k: 10)
            #expect(try index.ask(fixture.queries, .nprobe(24)).answers == truth)
        }
        // In any order: each vector is still found under its own name.
        var random = SeededRandom(seed: 3)
        let shuffled = (0..<1500).map { _ in UInt64(random.below(1 << 60)) }
        let ids = try fixture.ids("shuffled.ids", shuffled)
        try fixture.build("shuffled", .l2, kind) { $0.ids = ids }
        let index = try fixture.open("shuffled")
        let base = try fixture.base.readAll()
        #expect(try Verification.run(path: index.path).damage == [])
        #expect(try index.ask(fixture.queries, .nprobe(5)).answers.distances == plain.answers.distances)
        let each = try index.ask(base.gather(0..<40), k: 2, .nprobe(24)).answers
        for row in 0..<40 where row % 50 != 24 {
            #expect(each.id(query: row, rank: 0) == shuffled[row] && each.distance(query: row, rank: 0) == 0)
        }
    }

    /// A file whose ids do not fit the memory is looked through class by class.
    @Test func doublesAreFoundInLittleMemory() throws {
        let fixture = try Fixture(count: 100)
        var many = rising(200_000, step: 1024)
        var truth = TruthFile(count: 1, k: 3, ids: [7, 150_000, TruthFile.noId], distances: nil)
        try truth.rename(fixture.ids("many", many), count: 200_000, memoryByteCount: 1)
        #expect(truth.ids == [many[7], many[150_000], TruthFile.noId])
        many[199_999] = many[3]
        let ids = try fixture.ids("doubled", many)
        #expect(
            refusal { try truth.rename(ids, count: 200_000, memoryByteCount: 1) }.contains("to two vectors"))
    }

    /// An index that counts a vector which no record names.
    @Test func verifyTellsOfVectorsWithoutRecords() throws {
        let fixture = try Fixture()
        let ids = try fixture.ids("ids", rising(1500))
        try fixture.build("index", .l2, .soar) { $0.ids = ids }
        let path = fixture.directory.file("index")
        #expect(try Verification.run(path: path).damage == [])
        var manifest = try Manifest.read(path: path + "/manifest.json")
        manifest.count += 1
        try FileManager.default.removeItem(atPath: path + "/manifest.json")
        try manifest.write(path: path + "/manifest.json")
        #expect(
            try Verification.run(path: path).damage.contains {
                $0.contains("1 of 1501 vectors have no record")
            })
        #expect(throws: IndexError.self) { _ = try DiskIndex(path: path).numbers() }
    }
}
