// Giving an index that stands another router, other replicas, or both: a new directory beside the old one,
// which is only read. Replicas are planned with a first router; the router that is published is trained and
// calibrated on the segments as they then are.

import Foundation
import Index
import Learn
import Router
import Storage
import Vectors

/// A retraining as a value.
public struct Retraining: Sendable {
    public var training: RouterTraining
    public var copyRule = CopyRule.none
    /// Records over vectors at most.
    public var replicationMaximum = 1.3
    /// Rounds of planning (paper, gain, moves).
    public var rounds = 3
    /// What gain and moves economise.
    public var cost = ReadCost.vectors
    /// gain, moves, lira: the recall that is held while vectors are saved is recall@depth.
    public var depth = 1
    public var recall = 0.9
    /// Memory that the open index may hold: a router that comes out larger is refused; nil: no limit.
    public var residentByteCount: Int?
    /// What the manifest keeps besides, such as the plan that chose the router.
    public var notes: [String: String] = [:]

    /// What was asked for: by this a finished retraining is known again.
    public var request: JobIdentity?

    public init(training: RouterTraining) { self.training = training }

    /// Writes into a directory that may have been begun before, where replicas that an earlier run has placed are found
    /// again.
    func run(_ index: DiskIndex, to target: AtomicDirectory, progress: JobProgress) throws -> BuildReport {
        let start = monotonicNanoseconds()
        if copyRule == .none { return try publish(index, to: target, start: start, progress: progress) }
        let planned = target.temporary(Self.plannedName)
        if !Directory.exists(planned) {
            var rewriter = IndexRewriter(index: index)
            rewriter.threads = training.predictor.training.threads
            rewriter.memoryByteCount = training.pairs.memoryByteCount
            rewriter.progress = progress
            try rewriter.write(
                to: planned, plan: try plan(for: index, progress: progress),
                build: ["duplicate": copyRule.name.rawValue, "replication-max": String(replicationMaximum)])
        }
        return try publish(DiskIndex(path: planned), to: target, start: start, progress: progress)
    }

    /// The index with its replicas and the router that it had, within the directory of the one that is made.
    static let plannedName = "planned"

    private func publish(
        _ index: DiskIndex, to target: AtomicDirectory, start: UInt64, progress: JobProgress
    ) throws -> BuildReport {
        // Plain centroid distance without any queries has nothing to learn.
        let learns = training.predictor.kind != .distance || training.hasQueries || residentByteCount != nil
        let trained = learns ? try index.trainRouter(training, progress: progress) : nil
        let resident =
            (trained.map {
                $0.residentByteCount
            }
                ?? index.router.residentByteCount + index.posteriorsByteCount) + index.table.residentByteCount
            + (index.headIds?.count ?? 0) * 4
        if let limit = residentByteCount, resident > limit {
            throw IndexError.overBudget(path: target.path, resident: resident, limit: limit)
        }
        let manifest = try IndexRewriter(index: index).write(
            to: target, sections: try trained?.sections(), codes: trained?.codeBlocks,
            build: (learns ? training.description : [:]).merging(notes) { $1 }, job: request)
        var report = BuildReport(
            count: index.count, partitions: index.partitionCount, records: manifest.records,
            replication: index.replication, indexByteCount: manifest.totalByteCount,
            residentByteCount: resident, stages: [("retrain", Double(monotonicNanoseconds() - start) / 1e9)])
        report.promises =
            trained?.policies.promises ?? []
        return report
    }

    /// The replicas that the duplication asks for, not yet written. A limit on pages that the index was built with
    /// holds for them too.
    public func plan(for index: DiskIndex, progress: JobProgress = .none) throws -> Placements {
        let plan = try unlimitedPlan(for: index, progress: progress)
        guard let pages = index.manifest.build["pages-max"].flatMap({ Int($0) }) else { return plan }
        return plan.within(
            recordsMaximum: index.layout.recordsMaximum(pages: pages), homes: try index.homes(),
            partitionCount: index.partitionCount)
    }

    private func unlimitedPlan(for index: DiskIndex, progress: JobProgress) throws -> Placements {
        let threads = training.predictor.training.threads
        var planner = CopyPlanner(index: index, homes: try index.homes())
        planner.replicationMaximum = replicationMaximum
        planner.threads = threads
        planner.progress = progress
        guard copyRule.name.needsQueries else { return try planner.plan(copyRule) }
        let learned = try index.learnPairs(training, progress: progress)
        func router(_ homes: Homes) throws -> any LearnedRouter {
            try index.trainLearnedRouter(
                pairs: learned.pairs, homes: homes, parameters: training.predictor, progress: progress
            ).router
        }
        if case .lira(let eta) = copyRule {
            let probing = try router(planner.homes)
            if let eta { return try planner.lira(router: probing, eta: eta) }
            return try planner.liraAdaptive(
                router: probing, pairs: learned.pairs, depth: depth, recall: recall)
        }
        if copyRule == .paper { return try paper(planner, learned: learned, router: router) }
        var gain = GainParameters()
        gain.cost = cost
        gain.k = depth
        gain.recall = recall
        gain.rounds = rounds
        gain.moving = copyRule == .moves
        let own = try index.selfNeighbours(
            count: min(index.count, 1 << 20), neighbourCount: 4, threads: threads,
            memoryByteCount: training.pairs.memoryByteCount, progress: progress)
        let routes = try CatchmentRoutes(
            planner: planner, router: router(planner.homes), pairs: learned.pairs, selfNeighbours: own)
        return try GainPlanner(planner: planner, routes: routes, parameters: gain).run()
    }

    /// The paper's rounds: train, copy the costliest fifth of what was missed, train with what it made.
    private func paper(
        _ planner: CopyPlanner, learned: LearnPairs, router: (Homes) throws -> any LearnedRouter
    ) throws -> Placements {
        var planner = planner
        var plan = Placements()
        let pairs = learned.pairs
        let seen = 0..<pairs.trainingCount
        let nearest = seen.map { pairs.neighbours[$0 * pairs.neighbourCount] }
        for _ in 0..<rounds {
            let routes = planner.index.routes(
                of: learned.queries.gather(seen), router: try router(planner.homes), limit: 64,
                threads: training.predictor.training.threads)
            let round = planner.paperRound(routes: routes, nearest: nearest)
            if round.isEmpty { break }
            planner.homes = planner.homes.applying(round)
            plan = plan.followed(by: round)
        }
        return plan
    }
}
