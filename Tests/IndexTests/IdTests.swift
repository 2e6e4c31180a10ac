// Ids of 64 bits and ids of users: from the build to every answer, and through training, which counts by
// numbers of its own.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import Testing
import Vectors

private let kinds: [Kind] = [.none, .closure, .soar]

extension Fixture {
    /// A file of ids beside the base.
    func ids(_ name: String = "ids", _ ids: [UInt64]) throws -> VectorIds {
        let path = directory.file(name)
        try Data(ids.flatMap { id in withUnsafeBytes(of: id.littleEndian) { Array($0) } })
            .write(to: URL(fileURLWithPath: path))
        return .file(try IdFile.open(path: path))
    }
}

/// Ids in the order of positions, so that equal distances are answered in the same order; all fit 32 bits.
private func rising(_ count: Int, step: UInt64 = 7, first: UInt64 = 1000) -> [UInt64] {
    (0..<count).map { first + UInt64($0) * step }
}

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

    /// Training and planned copies count by numbers: with ids in the order of positions every byte of the router
    /// is that of positions, and the same vectors are copied.
    @Test(arguments: [RouterKind.prototypes, .lira])
    func trainingIsThatOfPositions(router: RouterKind) throws {
        let fixture = try Fixture(.u8, count: 1500, queryCount: 400)
        let list = rising(1500)
        let given = try fixture.ids("own.ids", list)
        try fixture.build("plain", .l2, .closure, partitions: 30)
        try fixture.build("own", .l2, .closure, partitions: 30) { $0.ids = given }
        try fixture.build("far", .l2, .closure, partitions: 30) { $0.ids = .positions(first: 900_000) }
        for copyRule in [CopyRule.none, .slots, .gain] {
            for name in ["plain", "own", "far"] {
                var training = RouterTraining()
                training.predictor.kind = router
                training.predictor.prototypes = 2
                training.predictor.trainingCandidates = 20
                training.predictor.training.epochs = 1
                training.pairs.syntheticCount = 200
                training.learn = fixture.queryFile
                var retraining = Retraining(training: training)
                retraining.copyRule = copyRule
                retraining.replicationMaximum = 3
                retraining.rounds = 1
                _ = try retraining.run(
                    fixture.open(name), to: fixture.directory.file("\(name)-\(copyRule.name)"))
            }
            let plain = try fixture.open("plain-\(copyRule.name)")
            for name in ["own", "far"] {
                let path = fixture.directory.file("\(name)-\(copyRule.name)")
                #expect(try !differences(plain.path, path).contains("router.bin"), "\(name) \(copyRule)")
                let index = try fixture.open("\(name)-\(copyRule.name)")
                let wanted = try plain.idsByPartition().map {
                    $0.map { name == "own" ? list[Int($0)] : $0 + 900_000 }
                }
                #expect(try index.idsByPartition() == wanted)
                #expect(try Verification.run(path: path).damage == [])
            }
        }
    }

    /// Labels name vectors as answers do.
    @Test func labelsAreOfTheIndexsIds() throws {
        let fixture = try Fixture(.u8, count: 1500, queryCount: 200)
        let list = rising(1500, step: 1 << 33)
        let given = try fixture.ids("own.ids", list)
        try fixture.build("plain")
        try fixture.build("own") { $0.ids = given }
        var labels = try fixture.truth(k: 10)
        var parameters = LearnParameters()
        parameters.neighbourCount = 10
        let plain = try fixture.open("plain").learnPairs(
            learn: fixture.queryFile, labels: labels, parameters: parameters)
        #expect(
            refusal {
                _ = try fixture.open("own").learnPairs(
                    learn: fixture.queryFile, labels: labels, parameters: parameters)
            }.contains("the labels name vector"))
        try labels.rename(given, count: 1500, memoryByteCount: 1 << 20)
        let own = try fixture.open("own").learnPairs(
            learn: fixture.queryFile, labels: labels, parameters: parameters)
        #expect(own.pairs.neighbours == plain.pairs.neighbours && own.labelAccuracy == 1)
        // How a search probes is told of the same truth.
        let probed = try ["plain", "own"].map { name in
            var truth = try fixture.truth(k: 10)
            if name == "own" { try truth.rename(given, count: 1500, memoryByteCount: 1 << 20) }
            return try fixture.open(name).probing(
                queries: fixture.queries, truth: truth, k: 10, policy: .nprobe(4), threads: 2)
        }
        #expect(probed[0].recall == probed[1].recall && probed[0].needed == probed[1].needed)
        #expect(probed[0].recall > 0.3)
    }

    @Test func idsThatCannotBeAreRefused() throws {
        let fixture = try Fixture()
        func build(_ ids: VectorIds, _ kind: Kind = .none) -> String {
            refusal {
                try fixture.build("refused", .l2, kind) {
                    if kind == .heads { $0.partitions = nil }
                    $0.ids = ids
                }
            }
        }
        #expect(try build(fixture.ids("few", rising(1499))).contains("holds 1499 ids, the base 1500 vectors"))
        var doubled = rising(1500)
        doubled[1300] = doubled[17]
        #expect(
            try build(fixture.ids("doubled", doubled)).contains("gives the id \(doubled[17]) to two vectors"))
        #expect(build(.positions(first: 3), .heads).contains("heads are kept by their positions"))
        #expect(try build(fixture.ids("headed", rising(1500)), .heads).contains("heads are kept"))
        var marked = rising(1500)
        marked[2] = .max
        let error = storageError {
            let ids = try fixture.ids("marked", marked)
            try fixture.build("refused") { $0.ids = ids }
        }
        #expect(error?.kind == .invalidValue && error?.offset == 16)
        #expect(!fixture.directory.names.contains { $0.contains("refused") })
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

    /// Where an index is whole in its shards, so is its training.
    @Test func aJoinedIndexLearns() throws {
        let fixture = try Fixture(.u8, count: 1500, queryCount: 300)
        var parameters = BuildParameters()
        parameters.partitions = 30
        let plan = try SharedPartitions.learn(
            base: fixture.base, parameters: parameters, directory: fixture.directory.file("plan")
        ).plan
        for number in 0..<3 {
            var parameters = BuildParameters()
            parameters.ids = .positions(first: 5_000_000_000)
            let rows = try plan.apply(
                to: &parameters, shard: Shard(index: number, count: 3), base: fixture.base,
                holdsOwnRows: false)
            _ = try IndexBuilder(
                base: rows, directory: fixture.directory.file("shard-\(number)"), parameters: parameters
            ).build()
        }
        try IndexMerger().merge(
            (0..<3).map { fixture.directory.file("shard-\($0)") }, to: fixture.directory.file("merged"))
        var training = RouterTraining()
        training.predictor.kind = .prototypes
        training.predictor.prototypes = 2
        training.learn = fixture.queryFile
        _ = try Retraining(training: training).run(
            fixture.open("merged"), to: fixture.directory.file("trained"))
        let trained = try fixture.open("trained")
        #expect(try Verification.run(path: trained.path).damage == [])
        #expect(trained.ids.least == 5_000_000_000 && trained.policies != nil)
        let truth = try fixture.truth(k: 10).ids.map { $0 + 5_000_000_000 }
        #expect(try trained.ask(fixture.queries, .nprobe(30)).answers.ids == truth)
    }
}
