// What a build makes where nobody chose, and how much a resident plan may try: counted before, never timed.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import Testing
import Vectors

@Suite struct ResidentRuleTests {
    private static func rule(
        _ count: Int, _ dimension: Int, _ type: ElementType, change: (inout ResidentRule) -> Void = { _ in }
    ) throws -> ResidentRule.Choice {
        var rule = ResidentRule(count: count, dimension: dimension, elementType: type)
        change(&rule)
        return try rule.choose()
    }

    @Test func anEighthOfTheBaseBuysACodeOfEveryVector() throws {
        let bytes = try Self.rule(1_000_000, 128, .u8)
        #expect(bytes.partitions == 4_000)
        #expect(bytes.router == .records(byteCount: 13))
        #expect(bytes.limit == 16_000_000 && bytes.residentByteCount <= 16_000_000)
        // Longer vectors leave room for more bytes than are of use.
        let text = try Self.rule(100_000, 384, .f32)
        #expect(text.partitions == 1265)
        #expect(text.router == .records(byteCount: 48))
        #expect(text.limit == 19_200_000 && text.residentByteCount <= 19_200_000)
        for (count, dimension, type) in [
            (20_000, 96, ElementType.u8), (30_000, 768, .f32), (250_000, 100, .f16), (5_000_000, 64, .i8),
        ] {
            for metric in [Metric.l2, .ip, .cosine] {
                let choice = try Self.rule(count, dimension, type) { $0.metric = metric }
                let limit = try #require(choice.limit)
                #expect(choice.residentByteCount <= limit, "\(count) x \(dimension) \(type) \(metric)")
                #expect(choice.isCalibrated)
            }
        }
    }

    @Test func smallBasesAndSmallBudgetsGetCentroidsAlone() throws {
        let small = try Self.rule(10_000, 128, .u8)
        #expect(small.router == .centroids && small.partitions == 400)
        #expect(try !Self.rule(500, 128, .u8).isCalibrated)
        // Five bytes a vector would tell them apart no better than centroids do.
        let tight = try Self.rule(1_000_000, 128, .u8) { $0.residentByteCount = 7_000_000 }
        #expect(tight.router == .centroids && tight.residentByteCount <= 7_000_000)
        #expect(tight.partitions > 16_000)
        let six = try Self.rule(1_000_000, 128, .u8) { $0.residentByteCount = 9_000_000 }
        #expect(six.router == .records(byteCount: 6))
        // No smaller than half a page.
        let none = try Self.rule(1_000_000, 128, .u8) { $0.codes = .none }
        #expect(none.router == .centroids && none.partitions == 66_666)
        // Fewer ids of eight bytes fit a page.
        let partitions = try [nil, UInt64.max - 1].map { greatest in
            try Self.rule(1_000_000, 16, .u8) {
                $0.codes = .none
                $0.greatestId = greatest
            }.partitions
        }
        #expect(partitions[1] > partitions[0])
    }

    @Test func codesThatWereAskedForAreGivenOrRefused() throws {
        let given = try Self.rule(100_000, 128, .u8) { $0.codes = .bytes(32) }
        #expect(given.router == .records(byteCount: 32))
        let limit = try #require(given.limit)
        #expect(given.residentByteCount <= limit)
        let fewer = try Self.rule(100_000, 128, .u8) {
            $0.codes = .bytes(32)
            $0.residentByteCount = 3_650_000
        }
        #expect(fewer.residentByteCount <= 3_650_000 && fewer.partitions < given.partitions)
        #expect(
            try Self.rule(100_000, 128, .u8) {
                $0.codes = .bytes(8)
                $0.partitions = 77
            }.partitions == 77)
        #expect(throws: IndexError.self) {
            try Self.rule(100_000, 128, .u8) {
                $0.codes = .bytes(32)
                $0.residentByteCount = 2_000_000
            }
        }
        #expect(throws: IndexError.self) { try Self.rule(100_000, 16, .u8) { $0.codes = .bytes(17) } }
        #expect(throws: IndexError.self) { try Self.rule(100_000, 16, .u8) { $0.residentByteCount = 100 } }
        #expect(throws: IndexError.self) {
            try Self.rule(1_000_000, 128, .u8) { $0.memoryByteCount = 16 << 20 }
        }
        #expect(throws: IndexError.self) { try Self.rule(0, 16, .u8) }
    }

    @Test func whatTheRulePromisesIsKept() throws {
        let fixture = try Fixture(count: 1200, dimension: 16)
        for codes in [ResidentRule.Codes.fitting, .bytes(4)] {
            var rule = ResidentRule(base: fixture.base)
            rule.codes = codes
            let choice = try rule.choose()
            var parameters = BuildParameters()
            parameters.iterations = 4
            var training = RouterTraining()
            training.pairs.syntheticCount = 800
            choice.apply(to: &parameters, training: training)
            let name = "\(codes)"
            let report = try IndexBuilder(
                base: fixture.base, directory: fixture.directory.file(name), parameters: parameters
            ).build()
            #expect(report.residentByteCount <= choice.residentByteCount)
            let opened = try fixture.open(name)
            #expect(opened.residentMaximum == choice.limit)
            #expect(opened.manifest.build["plan-by"] == "rule")
            #expect(opened.policies?.lambda(recall: 0.95, cost: .vectors) != nil)
        }
    }

    // The planner.

    private static func planner(_ fixture: Fixture, work: Double?) -> ResidentPlanner {
        var goal = ResidentGoal(residentByteCount: 60_000)
        goal.recall = 0.8
        var planner = ResidentPlanner(base: fixture.base, goal: goal)
        planner.sampleCount = 1200
        planner.sampleMaximum = 1500
        planner.queryCount = 256
        planner.workMaximum = work
        return planner
    }

    @Test func aPlanShrinksUntilItsWorkIsLittle() throws {
        let fixture = try Fixture(count: 2500)
        let whole = try Self.planner(fixture, work: .infinity).plan()
        var planner = Self.planner(fixture, work: 1)
        let little = try planner.plan()
        #expect(little.options.count < whole.options.count)
        #expect(little.notes.contains { $0.contains("samples of") } && whole.notes.isEmpty)
        planner.threads = 1
        let alone = try planner.plan()
        #expect(alone.description == little.description)
    }

    @Test func trialsAreKeptForARunThatGoesOn() throws {
        let fixture = try Fixture(count: 2000)
        var planner = Self.planner(fixture, work: 1)
        let trials = PlanTrials(besideIndex: fixture.directory.file("index"))
        planner.trials = trials
        let steps = ProgressSteps()
        let first = try planner.plan(progress: steps.progress)
        #expect(steps.values.last == 1000 && steps.values == steps.values.sorted())
        #expect(fixture.directory.names.contains(".index.planning"))
        let kept = try Data(contentsOf: URL(fileURLWithPath: trials.path))
        let again = try planner.plan()
        #expect(again.description == first.description)
        #expect(try Data(contentsOf: URL(fileURLWithPath: trials.path)) == kept)
        // Another plan takes none of them up.
        planner.seed = 9
        let other = try planner.plan()
        #expect(other.options.map(\.pages) != first.options.map(\.pages))
        trials.discard()
        #expect(!fixture.directory.names.contains(".index.planning"))
    }

    @Test func idsOfEightBytesMakePagesOfAPlan() throws {
        let fixture = try Fixture(count: 2000)
        var planner = Self.planner(fixture, work: 1)
        let narrow = try planner.plan()
        planner.greatestId = .max - 1
        let wide = try planner.plan()
        func pages(_ plan: ResidentPlan) -> Double { plan.options.map(\.pages).reduce(0, +) }
        #expect(pages(wide) != pages(narrow))
    }
}

/// Steps of a stage as they are told.
private final class ProgressSteps: @unchecked Sendable {
    private let lock = NSLock()
    private var told: [Int] = []
    var values: [Int] { lock.withLock { told } }

    var progress: JobProgress {
        JobProgress { [self] _, done, _ in lock.withLock { told.append(done) } }
    }
}
