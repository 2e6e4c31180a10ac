// The resident budget: what is counted before a build is what the index then holds, a plan keeps to its budget and is
// the same on any number of threads, and what exceeds a promise is refused.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import Testing
import Vectors

@Suite struct ResidentPlannerTests {
    private static func goal(_ bytes: Int, k: Int = 1) -> ResidentGoal {
        var goal = ResidentGoal(residentByteCount: bytes)
        goal.k = k
        return goal
    }

    private static func planner(_ fixture: Fixture, _ bytes: Int, k: Int = 1, threads: Int = 2)
        -> ResidentPlanner
    {
        var planner = ResidentPlanner(base: fixture.base, goal: goal(bytes, k: k))
        planner.sampleCount = 1000
        planner.sampleMaximum = 1500
        planner.queryCount = 256
        planner.threads = threads
        return planner
    }

    private static func training(_ kind: RouterKind, prototypes: Double = 1, codes: Int? = nil)
        -> RouterTraining
    {
        var training = RouterTraining()
        training.predictor.kind = kind
        training.predictor.prototypes = prototypes
        training.predictor.codeByteCount = codes
        training.pairs.syntheticCount = 300
        return training
    }

    @Test func bytesCountedBeforeABuildAreThoseOfTheIndex() throws {
        let fixture = try Fixture(count: 1500)
        let budget = ResidentBudget(count: 1500, dimension: 20, elementType: .u8)
        for (name, router, training) in [
            ("plain", PlannedRouter.centroids, Self.training(.distance)),
            (
                "all", PlannedRouter.codes(prototypes: nil, byteCount: 5),
                Self.training(.subcentroids, prototypes: 1500 / 30, codes: 5)
            ),
        ] {
            let report = try fixture.build(name, partitions: 30) { $0.router = training }
            #expect(report.residentByteCount == budget.byteCount(partitions: 30, router: router), "\(name)")
            #expect(try fixture.open(name).residentByteCount == report.residentByteCount)
        }
        let some = try fixture.build("some", partitions: 30) {
            $0.router = Self.training(.subcentroids, prototypes: 8, codes: 5)
        }
        let counted = budget.byteCount(partitions: 30, router: .codes(prototypes: 8, byteCount: 5))
        #expect(some.residentByteCount <= counted && some.residentByteCount > counted * 9 / 10)
    }

    @Test func groupsOfCentroidsAreCounted() {
        let count = CentroidIndex.scanLimit + 100
        let rows = VectorMatrix(count: count, dimension: 2, elementType: .u8)
        for row in 0..<count {
            rows.row(row).storeBytes(of: UInt8(truncatingIfNeeded: row), as: UInt8.self)
            (rows.row(row) + 1).storeBytes(of: UInt8(truncatingIfNeeded: row >> 8), as: UInt8.self)
        }
        let index = CentroidIndex(centroids: rows, beta: 1, seed: 1, threads: 2)
        #expect(index.kind == .groups)
        let budget = ResidentBudget(count: 10 * count, dimension: 2, elementType: .u8)
        let before = budget.byteCount(partitions: 1, router: .centroids) - 2 - 24
        #expect(
            budget.byteCount(partitions: count, router: .centroids) - before
                == index.residentByteCount + 24 * count)
        let most = budget.partitionsMaximum(within: 1 << 20, router: .centroids)
        #expect(budget.byteCount(partitions: most, router: .centroids) <= 1 << 20)
        #expect(budget.byteCount(partitions: most + 1, router: .centroids) > 1 << 20)
    }

    @Test func aPlanKeepsToItsBudgetAndSpendsItWhereItPays() throws {
        let fixture = try Fixture(count: 3000)
        let small = try Self.planner(fixture, 16_000).plan()
        #expect(small.choice.router == .centroids)
        let large = try Self.planner(fixture, 80_000).plan()
        #expect(large.choice.router == .codes(prototypes: nil, byteCount: 8))
        #expect(large.choice.pages <= small.choice.pages)
        for plan in [small, large] {
            #expect(plan.options.allSatisfy { $0.residentByteCount <= plan.goal.residentByteCount })
            #expect(plan.options.allSatisfy { $0.vectors > 0 && $0.pages > 0 && $0.reads > 0 })
            #expect(plan.text.contains("(chosen)") && plan.text.contains("resident budget"))
        }
    }

    @Test func theSamePlanComesOutOnAnyNumberOfThreads() throws {
        let fixture = try Fixture(count: 2500)
        let plans = try [1, 3].map { try Self.planner(fixture, 60_000, k: 10, threads: $0).plan() }
        #expect(plans[0].options.map(\.partitions) == plans[1].options.map(\.partitions))
        #expect(plans[0].options.map(\.pages) == plans[1].options.map(\.pages))
        #expect(plans[0].description == plans[1].description)
    }

    @Test func aPlannedBuildKeepsItsPromiseInTheManifest() throws {
        let fixture = try Fixture(count: 2500)
        let plan = try Self.planner(fixture, 60_000).plan()
        var parameters = BuildParameters()
        parameters.iterations = 6
        var training = RouterTraining()
        training.pairs.syntheticCount = 600
        plan.apply(to: &parameters, training: training)
        let report = try IndexBuilder(
            base: fixture.base, directory: fixture.directory.file("planned"), parameters: parameters
        ).build()
        #expect(report.partitions == plan.choice.partitions)
        #expect(
            report.residentByteCount <= 60_000 && report.residentByteCount <= plan.choice.residentByteCount)
        let opened = try fixture.open("planned")
        #expect(opened.residentMaximum == 60_000)
        #expect(opened.manifest.build["plan-pages"] != nil && opened.manifest.build["resident"] == "60000")
        // A wanted recall can be asked for, whatever the plan chose.
        #expect(opened.policies?.lambda(recall: 0.8, cost: .vectors) != nil)
        // Another router is another promise.
        let retraining = Retraining(training: Self.training(.distance))
        var kept = retraining
        kept.residentByteCount = 1 << 20
        kept.notes = ["resident": String(1 << 20)]
        _ = try kept.run(opened, to: fixture.directory.file("again"))
        let again = try fixture.open("again")
        #expect(again.residentMaximum == 1 << 20 && again.manifest.build["plan-pages"] == nil)
    }

    @Test func whatExceedsItsPromiseIsRefused() throws {
        let fixture = try Fixture()
        func isOver(_ body: () throws -> Void) -> Bool {
            do {
                try body()
                return false
            } catch IndexError.overBudget(_, let resident, let limit) {
                return resident > limit
            } catch {
                Issue.record("\(error)")
                return false
            }
        }
        #expect(isOver { try fixture.build("over") { $0.residentByteCount = 600 } })
        #expect(!fixture.directory.names.contains { $0.contains("over") })
        try fixture.build("index")
        let path = fixture.directory.file("index")
        let held = try DiskIndex(path: path).residentByteCount
        #expect(throws: Never.self) { try DiskIndex(path: path, residentMaximum: held) }
        #expect(isOver { _ = try DiskIndex(path: path, residentMaximum: held - 1) })
        #expect(isOver { _ = try DiskIndex(path: path, residentMaximum: 10) })
        // What a cache holds is resident too.
        let limited = try DiskIndex(path: path, residentMaximum: held + 5000)
        #expect(
            isOver {
                _ = try limited.caching(
                    byteCount: 1 << 20, learn: fixture.queries, policy: .nprobe(4), threads: 1)
            })
        #expect(throws: IndexError.self) { try Self.planner(fixture, 100).plan() }
    }
}
