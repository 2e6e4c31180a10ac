// Ids of 64 bits and ids of users through training, which counts by numbers of its own.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

struct LearnIdTests {
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
