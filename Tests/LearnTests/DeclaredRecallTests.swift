// A declared recall is kept, or refused: what was calibrated, what lies between, and what was never measured.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

struct DeclaredRecallTests {
    /// Thresholds of three depths on a ladder of three lambdas.
    private static func policies(isMade: Bool = false) -> CalibratedPolicies {
        func points(_ recalls: [Double]) -> [CalibratedPolicies.Point] {
            zip([0.1, 0.01, 0.001], recalls).map { .init(lambda: $0, recall: $1, error: 0.01) }
        }
        return CalibratedPolicies(
            model: .common,
            curves: [
                "vectors": points([0.5, 0.91, 0.99]), "vectors, recall@10": points([0.4, 0.8, 0.97]),
                "vectors, recall@20": points([0.3, 0.7, 0.96]),
            ],
            reliability: Reliability(), provenance: [:],
            source: .init(isMade: isMade, calibrating: 500, checking: 500),
            checks: [.init(curve: "vectors", k: 1, declared: 0.9, found: 0.8, error: 0.01)])
    }

    @Test func aDepthBetweenTakesAThresholdBetween() throws {
        let policies = Self.policies()
        let ten = try policies.declared(recall: 0.9, k: 10, rounds: 1, cost: .vectors)
        let eleven = try policies.declared(recall: 0.9, k: 11, rounds: 1, cost: .vectors)
        let twenty = try policies.declared(recall: 0.9, k: 20, rounds: 1, cost: .vectors)
        let nineteen = try policies.declared(recall: 0.9, k: 19, rounds: 1, cost: .vectors)
        #expect(twenty.threshold < nineteen.threshold && nineteen.threshold < eleven.threshold)
        #expect(eleven.threshold < ten.threshold)
        #expect(eleven.notes == ["k 11 uses the calibration of k 10 and 20"] && ten.notes.isEmpty)
    }

    @Test func whatCodesCannotTellApartIsReadInWholePartitions() throws {
        var policies = Self.policies()
        policies.curves["pages"] = [0.5, 0.05].map { .init(lambda: $0, recall: 0.9 - $0 / 5, error: 0.001) }
        let few = try policies.declaredPagesOrPartitions(recall: 0.85, k: 1)
        #expect(few.policy == .pages(few.found.threshold))
        let many = try policies.declaredPagesOrPartitions(recall: 0.95, k: 1)
        #expect(many.policy == .gain(many.found.threshold))
        // Neither reaches it; the depth has no pages.
        #expect(throws: DeclaredRecallError.self) {
            try policies.declaredPagesOrPartitions(recall: 0.995, k: 1)
        }
        #expect(throws: DeclaredRecallError.self) {
            try policies.declaredPagesOrPartitions(recall: 0.5, k: 10)
        }
    }

    @Test func whatWasNotCalibratedIsRefused() throws {
        let policies = Self.policies()
        #expect(throws: DeclaredRecallError.self) {
            try policies.declared(recall: 0.9, k: 21, rounds: 1, cost: .vectors)
        }
        #expect(throws: DeclaredRecallError.self) {
            try policies.declared(recall: 0.9, k: 1, rounds: 2, cost: .vectors)
        }
        #expect(throws: DeclaredRecallError.self) {
            try policies.declared(recall: 0.9, k: 1, rounds: 1, cost: .bytes)
        }
        // Reached by the mean, not by what is sure of it.
        #expect(throws: DeclaredRecallError.self) {
            try policies.declared(recall: 0.985, k: 1, rounds: 1, cost: .vectors)
        }
    }

    @Test func queriesOfTheBaseSaySo() throws {
        let sure = try Self.policies().declared(recall: 0.9, k: 1, rounds: 1, cost: .vectors)
        let made = try Self.policies(isMade: true).declared(recall: 0.9, k: 1, rounds: 1, cost: .vectors)
        #expect(made.notes.contains { $0.contains("made from the base") })
        #expect(sure.notes.contains { $0.contains("did not hold") })
    }

    /// Partitions of few vectors: a query's nearest partitions hold fewer than it is to be labelled with.
    @Test func labelsThatNearPartitionsLackAreFoundElsewhere() throws {
        let fixture = try Fixture(count: 400, queryCount: 50)
        try fixture.build("index", .l2, .none, partitions: 200)
        let index = try fixture.open()
        var parameters = LearnParameters()
        parameters.syntheticCount = 200
        parameters.neighbourCount = 20
        parameters.nprobe = 1
        let learned = try index.learnPairs(learn: nil, parameters: parameters)
        #expect(learned.pairs.neighbours.allSatisfy { $0 < 400 })
        #expect(learned.pairs.neighbourCount == 20)
    }

    @Test func recallOfMadeQueriesIsCalibratedWithoutTheirSources() throws {
        let fixture = try Fixture(count: 3000, queryCount: 300)
        var training = RouterTraining()
        training.predictor.kind = .distance
        training.pairs.syntheticCount = 2000
        try fixture.build("index", .l2, .none, partitions: 60) { $0.router = training }
        let index = try fixture.open()
        let policies = try #require(index.policies)
        #expect(policies.source?.isMade == true && policies.checks?.isEmpty == false)
        let truth = try fixture.truth(k: 10)
        let declared = try policies.declared(recall: 0.8, k: 10, rounds: 1, cost: .vectors)
        let found = try index.ask(fixture.queries, .gain(declared.threshold)).answers
        #expect(Recall.mean(of: found, against: truth, k: 10, metric: .l2) > 0.77)
        // Two rounds are calibrated by queries from outside alone.
        #expect(policies.lambda(recall: 0.5, cost: .vectors, rounds: 2) == nil)
    }

    /// Inner products are negative: two rounds see what was found, and what they declare is what they find.
    @Test(arguments: [Metric.ip, .l2])
    func aRecallDeclaredForTwoRoundsIsFound(metric: Metric) throws {
        let fixture = try Fixture(.f32, count: 3000, queryCount: 4000)
        var training = RouterTraining()
        training.predictor.kind = .distance
        training.learn = fixture.queryFile.range(1000..<4000)
        try fixture.build("index", metric, .none, partitions: 60) { $0.router = training }
        let index = try fixture.open()
        let policies = try #require(index.policies)
        let queries = fixture.queries.gather(0..<1000)
        let truth = try ExactSearch(k: 10, metric: metric, threads: 2, memoryByteCount: 1 << 30)
            .run(base: fixture.base, queries: fixture.queryFile.range(0..<1000))
        for k in [1, 10] {
            let declared = try policies.declared(recall: 0.9, k: k, rounds: 2, cost: .vectors)
            var parameters = SearchParameters(k: k, policy: .gain(declared.threshold), threads: 2)
            parameters.rounds = 2
            let answers = try index.search(queries, parameters: parameters).answers
            let found = Recall.mean(of: answers, against: truth, k: k, metric: metric)
            #expect(found > 0.87, "k \(k): \(found)")
        }
        #expect(try #require(index.drift(of: queries, threads: 2)).note == nil)
    }

    /// A base of which half has near copies: thresholds that count them alike would promise what nothing else finds.
    @Test func nearCopiesInTheBaseDoNotMakeARecallEasy() throws {
        let fixture = try Fixture(.f32, count: 3000, queryCount: 500)
        let rows = try fixture.base.readAll()
        for row in 0..<750 {
            rows.row(row + 750).copyMemory(from: rows.row(row), byteCount: rows.rowByteCount)
        }
        let base = try Fixture.write(rows, to: fixture.directory.file("copies.npy"))
        var parameters = BuildParameters()
        parameters.partitions = 60
        parameters.iterations = 6
        var training = RouterTraining()
        training.predictor.kind = .distance
        training.pairs.syntheticCount = 3000
        parameters.router = training
        _ = try IndexBuilder(
            base: base, directory: fixture.directory.file("index"), parameters: parameters
        ).build()
        let index = try fixture.open()
        let policies = try #require(index.policies)
        let truth = try ExactSearch(k: 1, metric: .l2, threads: 2, memoryByteCount: 1 << 30)
            .run(base: base, queries: fixture.queryFile)
        let declared = try policies.declared(recall: 0.8, k: 1, rounds: 1, cost: .vectors)
        let found = try index.ask(fixture.queries, .gain(declared.threshold)).answers
        #expect(Recall.mean(of: found, against: truth, k: 1, metric: .l2) > 0.77)
    }

    @Test func queriesOfAnotherKindAreTold() throws {
        let fixture = try Fixture(.f32, count: 3000, queryCount: 600)
        var training = RouterTraining()
        training.predictor.kind = .distance
        training.learn = fixture.queryFile
        try fixture.build("index", .l2, .none, partitions: 60) { $0.router = training }
        let index = try fixture.open()
        #expect(try #require(index.drift(of: fixture.queries, threads: 1)).note == nil)
        let other = fixture.queries.gather(0..<200)
        for row in 0..<200 {
            for column in 0..<other.dimension { other.floatRow(row)[column] *= -3 }
        }
        let drift = try #require(index.drift(of: other, threads: 1))
        #expect(drift.asked == 200 && drift.note?.contains("another kind") == true)
    }
}
