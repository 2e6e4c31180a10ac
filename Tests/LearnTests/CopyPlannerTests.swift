// Planners of copies by their properties.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

private let geometric: [CopyRule] = [
    .closure(replicas: 4, eps1: 1), .soar(lambda: 1), .random(seed: 7), .slots,
]

@Suite struct CopyPlannerTests {
    @Test(arguments: geometric)
    func aPlanStaysWithinTheReplicationAllowedAndNeverDoublesAHome(plan: CopyRule) throws {
        let planned = try Planned()
        for maximum in [1.0, 1.1, 1.4] {
            let copies = try planned.planner(maximum: maximum).plan(plan).copies
            #expect(Double(planned.index.count + copies.count) <= maximum * Double(planned.index.count))
            #expect(maximum == 1 || !copies.isEmpty)
            #expect(Set(copies).count == copies.count)
            for copy in copies { #expect(!planned.homes[Int(copy.id)].contains(copy.partition)) }
        }
    }

    @Test func slotsAddNoPage() throws {
        let planned = try Planned()
        let plan = try planned.planner(maximum: 8).plan(.slots)
        let index = try planned.rewritten(plan)
        #expect(index.table.byteCount == planned.index.table.byteCount)
        #expect(index.table.recordCount == planned.index.table.recordCount + plan.copies.count)
    }

    @Test func aLimitOfRecordsHoldsForWhatIsPlanned() throws {
        let planned = try Planned()
        let partitions = planned.index.partitionCount
        let counts = planned.homes.recordCounts(partitionCount: partitions)
        let limit = (counts.max() ?? 0) + 2
        let plan = try planned.planner(maximum: 3).plan(.random(seed: 1))
        let moves = Placements(moves: plan.copies)
        for wanted in [plan, moves] {
            #expect(
                (planned.homes.applying(wanted).recordCounts(partitionCount: partitions).max() ?? 0) > limit)
            let kept = wanted.within(recordsMaximum: limit, homes: planned.homes, partitionCount: partitions)
            #expect(!kept.isEmpty && Set(kept.copies + kept.moves).isSubset(of: wanted.copies + wanted.moves))
            #expect(
                planned.homes.applying(kept).recordCounts(partitionCount: partitions).allSatisfy {
                    $0 <= limit
                })
        }
        #expect(plan.within(recordsMaximum: .max, homes: planned.homes, partitionCount: partitions) == plan)
    }

    @Test func theSamePlanComesOutOnAnyNumberOfThreads() throws {
        let planned = try Planned()
        for plan in geometric {
            var one = planned.planner()
            one.threads = 1
            #expect(try one.plan(plan) == planned.planner().plan(plan))
        }
    }

    @Test func aPaperRoundCopiesMissedNeighboursToWhereTheRouterLooked() throws {
        let planned = try Planned()
        let routes = planned.index.routes(of: planned.queries, threads: 1)
        // Vectors that surely live elsewhere than where each query is sent first.
        let nearest = routes.map { route in
            UInt32((0..<planned.homes.count).first { !planned.homes[$0].contains(route.partitions[0]) }!)
        }
        let plan = planned.planner().paperRound(routes: routes, nearest: nearest, share: 1)
        #expect(!plan.isEmpty)
        for copy in plan.copies {
            #expect(zip(routes, nearest).contains { $0.partitions[0] == copy.partition && $1 == copy.id })
        }
        #expect(planned.planner().paperRound(routes: routes, nearest: nearest, share: 0).isEmpty)
    }
}

@Suite struct LiraRedundancyTests {
    private func probing(_ planned: Planned) throws -> (model: any LearnedRouter, pairs: LearnPairs) {
        let learned = try planned.index.learnPairs(learn: planned.learn, parameters: LearnParameters())
        var parameters = PredictorParameters()
        parameters.kind = .lira
        parameters.lira.tower = [24, 12]
        parameters.lira.head = [24]
        parameters.training.epochs = 6
        parameters.training.batchSize = 128
        parameters.training.rate = 5
        return (
            try planned.index.trainLearnedRouter(
                pairs: learned.pairs, homes: planned.homes, parameters: parameters
            ).router,
            learned
        )
    }

    /// By falling predicted nprobe; to the likeliest partition that is not home, the second likeliest only where two
    /// exceed one half; nothing where only the home does.
    @Test func thePublishedRuleIsFollowed() throws {
        let planned = try Planned()
        let model = try probing(planned).model
        let ranking = try planned.planner().liraRanking(router: model)
        #expect(ranking.count > 50 && Set(ranking.map(\.id)).count == ranking.count)
        var expected: [UInt32: (nprobe: Int, target: UInt32)] = [:]
        try planned.planner().forEachVector { id, row in
            var route = Route()
            model.route(row, limit: 40, scratch: model.makeScratch(), into: &route)
            let wanted = route.logProbabilities.filter { exp($0) > 0.5 }.count
            let home = planned.homes[Int(id)]
            if wanted >= 1, !home.contains(route.partitions[0]) {
                expected[id] = (wanted, route.partitions[0])
            } else if wanted >= 2, !home.contains(route.partitions[1]) {
                expected[id] = (wanted, route.partitions[1])
            }
        }
        #expect(ranking.count == expected.count)
        #expect(ranking.allSatisfy { expected[$0.id]?.target == $0.partition })
        let order = ranking.compactMap { expected[$0.id]?.nprobe }
        #expect(order == order.sorted(by: >) && Set(order).count > 1)
        #expect(try planned.planner().lira(router: model, eta: 0.01).copies == Array(ranking.prefix(30)))
        #expect(try planned.planner().lira(router: model, eta: 0).isEmpty)
    }

    /// Copies that cost nothing to hold are taken while they save anything; dear ones are not.
    @Test func onlyAsManyAsPayAreCopied() throws {
        let planned = try Planned()
        let (model, learned) = try probing(planned)
        func count(_ price: Double) throws -> Int {
            try planned.planner().liraAdaptive(
                router: model, pairs: learned.pairs, depth: 10, recall: 0.8, bytePrice: price
            ).copies.count
        }
        #expect(try count(1e6) == 0)
        #expect(try count(-1e6) == planned.planner().liraRanking(router: model).count)
    }
}

/// Takes partition 0 for partition 1 and the other way round: a router whose mistakes are known.
private struct Confused: PartitionRouter {
    let router: any PartitionRouter
    var partitionCount: Int { router.partitionCount }
    var residentByteCount: Int { router.residentByteCount }
    func makeScratch() -> RouterScratch { router.makeScratch() }
    func route(_ query: UnsafeRawPointer, limit: Int, scratch: RouterScratch, into route: inout Route) {
        router.route(query, limit: limit, scratch: scratch, into: &route)
        for position in 0..<route.count where route.partitions[position] < 2 {
            route.partitions[position] = 1 - route.partitions[position]
        }
    }
}

@Suite struct GainPlannerTests {
    private func plan(
        _ planned: Planned, maximum: Double = 1.3, change: (inout GainParameters) -> Void = { _ in }
    ) throws -> (plan: Placements, rounds: [GainRound], planner: GainPlanner) {
        let learned = try planned.index.learnPairs(learn: planned.learn, parameters: LearnParameters())
        let planner = planned.planner(maximum: maximum)
        let near = try planned.index.selfNeighbours(count: 1000, neighbourCount: 4, threads: 1)
        let routes = try CatchmentRoutes(
            planner: planner, router: Confused(router: planned.index.router), pairs: learned.pairs,
            selfNeighbours: near)
        var parameters = GainParameters()
        change(&parameters)
        let gain = try GainPlanner(planner: planner, routes: routes, parameters: parameters)
        var rounds: [GainRound] = []
        let plan = try gain.run { rounds.append($0) }
        return (plan, rounds, gain)
    }

    @Test(arguments: [ReadCost.vectors, .bytes])
    func whatAConfusedRouterMissesIsCopiedToWhereItLooks(cost: ReadCost) throws {
        let planned = try Planned()
        let (plan, rounds, gain) = try plan(planned) { $0.cost = cost }
        let repaired = plan.copies.filter {
            $0.partition < 2 && planned.homes[Int($0.id)].first == 1 - $0.partition
        }
        let misplaced = (0..<planned.homes.count).filter {
            planned.homes[$0][planned.homes[$0].startIndex] < 2
        }
        #expect(repaired.count > misplaced.count / 3)
        #expect(Set(plan.copies).count == plan.copies.count)
        for copy in plan.copies { #expect(!planned.homes[Int(copy.id)].contains(copy.partition)) }
        #expect(Double(gain.homes.partitions.count) <= 1.3 * Double(planned.index.count))
        let first = try #require(rounds.first)
        #expect(first.after < first.before && first.wonMass > 0)
        for round in rounds { #expect(round.after <= round.before) }
        let applied = planned.homes.applying(plan)
        for id in 0..<applied.count { #expect(Set(applied[id]) == Set(gain.homes[id])) }
    }

    @Test func movesKeepTheNumberOfRecords() throws {
        let planned = try Planned()
        let (plan, rounds, gain) = try plan(planned) { $0.moving = true }
        #expect(plan.copies.isEmpty && !plan.moves.isEmpty)
        #expect(gain.homes.partitions.count == planned.homes.partitions.count)
        #expect((rounds.last?.after ?? 0) < (rounds.first?.before ?? 0))
        let index = try planned.rewritten(plan)
        #expect(try Verification.run(path: index.path).damage.isEmpty)
    }

    @Test func withoutRoomNothingIsCopied() throws {
        #expect(try plan(Planned(), maximum: 1).plan.isEmpty)
    }

    @Test func theSamePlanComesOutTwice() throws {
        let planned = try Planned()
        #expect(try plan(planned).plan == plan(planned).plan)
    }
}
