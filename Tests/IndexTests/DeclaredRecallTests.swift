// A declared recall is kept, or refused: what was calibrated, what lies between, and what was never measured.

import Foundation
import Index
import Router
import Storage
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
            source: .init(isMade: isMade, calibrating: 500, checking: 500, caution: isMade ? 0.3 : 0),
            checks: [.init(curve: "vectors", k: 1, declared: 0.9, found: 0.8, error: 0.01)])
    }

    @Test func aDepthBetweenTakesTheThresholdThatReadsMore() throws {
        let policies = Self.policies()
        let ten = try policies.declared(recall: 0.9, k: 10, rounds: 1, cost: .vectors)
        let eleven = try policies.declared(recall: 0.9, k: 11, rounds: 1, cost: .vectors)
        let twenty = try policies.declared(recall: 0.9, k: 20, rounds: 1, cost: .vectors)
        #expect(eleven.threshold == twenty.threshold && twenty.threshold < ten.threshold)
        #expect(eleven.notes == ["k 11 uses the calibration of k 20"] && ten.notes.isEmpty)
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

    @Test func queriesOfTheBaseLeaveAMarginAndSaySo() throws {
        let sure = try Self.policies().declared(recall: 0.9, k: 1, rounds: 1, cost: .vectors)
        let made = try Self.policies(isMade: true).declared(recall: 0.9, k: 1, rounds: 1, cost: .vectors)
        #expect(made.threshold < sure.threshold)
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
}
