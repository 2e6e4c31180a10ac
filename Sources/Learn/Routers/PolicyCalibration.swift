// Thresholds for wanted recalls: set on one half of the queries that were kept back from training, checked on the
// other, both against exact neighbours.

import Foundation
import Index
import Router
import Storage
import Vectors

/// Queries kept back from training with their exact neighbours.
struct CalibrationSet: Sendable {
    let queries: VectorMatrix
    /// The base vectors that they were made from, by number; empty where they are of a learn file.
    let sources: [UInt32]
    /// Of queries that were made from the base: whether thresholds must hold for them alone, too; empty: of none.
    let isHard: [Bool]
    /// `depth` a query by number, nearest first.
    let neighbours: [UInt32]
    let depth: Int
    let ks: [Int]

    /// Queries at most, and of large bases at least: each costs a comparison with every vector.
    private static let countRange = 2048...8192
    private static let comparisons = 1 << 32

    /// How many queries are worth what their exact neighbours cost.
    static func countMaximum(vectors: Int) -> Int {
        min(countRange.upperBound, max(countRange.lowerBound, comparisons / max(vectors, 1)))
    }

    var count: Int { queries.count }
    /// The queries that set thresholds, and those that check them.
    var calibrating: Range<Int> { 0..<count / 2 }
    var checking: Range<Int> { count / 2..<count }

    /// Rows of a range by the groups whose recalls are told apart: all, and those that are hard.
    func groups(of range: Range<Int>) -> [[Int]] {
        isHard.isEmpty ? [Array(range)] : [Array(range), range.filter { isHard[$0] }]
    }

    /// The half of queries that lies farther from its nearest neighbours. Base vectors have near copies in the base (of
    /// one photo, of one page) that what is asked from outside has not: a threshold that counts them alike finds up to
    /// 0.04 less than it declares, one that must hold for this half, too, no less (docs/results/declared-recall.md).
    static func hardHalf(distances: [Float]) -> [Bool] {
        let rising = distances.indices.sorted { (distances[$0], $0) < (distances[$1], $1) }
        var isHard = [Bool](repeating: false, count: distances.count)
        for row in rising.suffix((distances.count + 1) / 2) { isHard[row] = true }
        return isHard
    }

    func neighbours(of rows: some Sequence<Int>) -> [UInt32] {
        rows.flatMap { neighbours[$0 * depth..<($0 + 1) * depth] }
    }

    var source: CalibratedPolicies.Source {
        .init(
            isMade: !sources.isEmpty, calibrating: calibrating.count, checking: checking.count)
    }
}

extension DiskIndex {
    /// Finds the exact neighbours of what was kept back.
    func calibrationSet(_ kept: KeptQueries, threads: Int, progress: JobProgress) throws -> CalibrationSet {
        let count = min(kept.queries.count, CalibrationSet.countMaximum(vectors: manifest.records))
        let queries = kept.queries.gather(0..<count)
        let sources = Array(kept.sources.prefix(count))
        // Nobody asks for a good part of a base.
        let depth = neighbourLimit(
            min(CalibratedPolicies.depths.reduce(1, max), max(100, self.count / 100)),
            hasSources: !sources.isEmpty)
        let exact = try exactNeighbours(
            of: queries, sources: sources, k: depth, threads: threads, stage: "calibrate", progress: progress)
        return CalibrationSet(
            queries: queries, sources: sources,
            isHard: kept.areMade ? CalibrationSet.hardHalf(distances: exact.nearestDistances) : [],
            neighbours: exact.numbers, depth: depth, ks: CalibratedPolicies.depths.filter { $0 <= depth })
    }

    /// Thresholds of one round of reads, and what they find on the queries that check them.
    func calibratePolicies(
        router: any LearnedRouter, set: CalibrationSet, homes: Homes, model: DeviceModel, threads: Int,
        provenance: [String: String]
    ) -> CalibratedPolicies {
        let routes = routes(of: set.queries, router: router, threads: threads)
        func accounts(_ range: Range<Int>) -> [FetchAccount] {
            set.groups(of: range).map { rows in
                FetchAccount(
                    index: self, routes: rows.map { routes[$0] }, neighbours: set.neighbours(of: rows),
                    depth: set.depth, homes: homes, model: model, threads: threads)
            }
        }
        let (calibrating, checking) = (accounts(set.calibrating), accounts(set.checking))
        var policies = CalibratedPolicies(
            model: model, curves: [:],
            reliability: FetchAccount.reliability(
                routes: routes, nearest: (0..<set.count).map { set.neighbours[$0 * set.depth] }, homes: homes),
            provenance: provenance, source: set.source, checks: [], reach: QueryDrift.reach(of: routes))
        func add(_ name: String, _ ladder: [Policy], cost: ReadCost, policy: (Float) -> Policy) {
            policies.add(
                name, thresholds: ladder.map { Float($0.parameter) }, ks: set.ks,
                calibrating: { calibrating.leastRecalls($0.map(policy), cost: cost, ks: set.ks) },
                checking: { checking.leastRecalls($0.map(policy), cost: cost, ks: set.ks) })
        }
        for cost in [ReadCost.vectors, .bytes, .reads, .time(model)] {
            add(cost.name, Policy.gainLadder(for: table, cost: cost, count: 48), cost: cost) { .gain($0) }
        }
        if !(router is Predictor) {
            add(CalibratedPolicies.sigmaName, Policy.sigmaLadder, cost: .vectors) { .sigma($0) }
        }
        return policies
    }

    /// Queries that are really asked, at most.
    package static let askedMaximum = 2000
    /// Segments are held while they are asked where they take no more than one part of so many of the memory.
    package static let heldShare = 4
    /// Two rounds are asked up to the recall beyond which a search would read much of the index.
    private static func highestRecall(k: Int) -> Double { k <= 10 ? 0.985 : 0.96 }

    /// Recall of two rounds by threshold. What later rounds read hangs on what is found, so queries are really asked:
    /// once for the nearest and once for all other depths, which share a posterior.
    func calibrateLaterRounds(
        predictor: Predictor, posteriors: [PosteriorModel], set: CalibrationSet, memoryByteCount: Int,
        threads: Int, into policies: inout CalibratedPolicies
    ) throws {
        let half = min(Self.askedMaximum / 2, set.count / 2)
        // The last that set thresholds and the first that check them.
        let range =
            set.checking.lowerBound - min(half, set.calibrating.count)..<set.checking.lowerBound + half
        let numbers = try numbers()
        let excluded: [UInt64]? =
            set.sources.isEmpty ? nil : range.map { numbers.id(of: Int(set.sources[$0])) }
        let nearest = set.neighbours(of: range).map { numbers.id(of: Int($0)) }
        let queries = set.queries.gather(range)
        // Every threshold reads again what the one before has read: from memory where there is room.
        let asked = try with(router: predictor, posteriors: posteriors).holdingSegments(
            atMost: memoryByteCount / Self.heldShare)
        let ladder = Policy.gainLadder(for: table, cost: .vectors, count: 32)
        guard let first = ladder.first else { return }
        // The router says the same at every threshold: it is asked once.
        let routes = asked.routes(
            of: queries,
            limit: first.candidateLimit(partitions: partitionCount, records: manifest.records),
            threads: threads)
        var checking: [String: [CalibratedPolicies.Point]] = [:]
        for ks in [set.ks.filter { $0 == 1 }, set.ks.filter { $0 > 1 }] {
            guard let deepest = ks.last else { continue }
            for policy in ladder {
                var parameters = SearchParameters(k: deepest, policy: policy, threads: threads)
                parameters.rounds = 2
                let answers = try asked.search(
                    queries, routes: routes, excluded: excluded, parameters: parameters
                ).answers
                let recalls = Self.recalls(of: answers, nearest: nearest, depth: set.depth, ks: ks)
                var isHighest = true
                for (place, k) in ks.enumerated() {
                    let name = CalibratedPolicies.curveName(CalibratedPolicies.laterRoundsName, k: k)
                    var (calibrated, checked) = (MeanRecall(), MeanRecall())
                    for (query, recall) in recalls[place].enumerated() {
                        if query + range.lowerBound < set.checking.lowerBound {
                            calibrated.add(recall)
                        } else {
                            checked.add(recall)
                        }
                    }
                    policies.curves[name, default: []].append(calibrated.point(policy.parameter))
                    checking[name, default: []].append(checked.point(policy.parameter))
                    if calibrated.mean < Self.highestRecall(k: k) { isHighest = false }
                }
                if isHighest { break }
            }
        }
        let declared = policies.declarations(of: CalibratedPolicies.laterRoundsName)
        policies.checks? += declared.compactMap { one in
            let name = CalibratedPolicies.curveName(CalibratedPolicies.laterRoundsName, k: one.k)
            return checking[name].flatMap { CalibratedPolicies.Point.at(one.threshold, of: $0) }.map {
                .init(
                    curve: CalibratedPolicies.laterRoundsName, k: one.k, declared: one.recall,
                    found: $0.recall,
                    error: $0.error ?? 0)
            }
        }
    }

    /// By depth and query, the share of the nearest that answers name.
    private static func recalls(
        of answers: TruthFile, nearest: [UInt64], depth: Int, ks: [Int]
    ) -> [[Double]] {
        var recalls = [[Double]](repeating: [], count: ks.count)
        for query in 0..<answers.count {
            let named = Set((0..<answers.k).map { answers.id(query: query, rank: $0) })
            var (found, rank) = (0, 0)
            for (place, k) in ks.enumerated() {
                while rank < k {
                    found += named.contains(nearest[query * depth + rank]) ? 1 : 0
                    rank += 1
                }
                recalls[place].append(Double(found) / Double(k))
            }
        }
        return recalls
    }
}

extension [FetchAccount] {
    /// The recalls of every policy by k: of the group of queries that each finds least for.
    fileprivate func leastRecalls(_ policies: [Policy], cost: ReadCost, ks: [Int]) -> [[MeanRecall]] {
        guard var least = first?.recalls(policies, cost: cost, ks: ks) else { return [] }
        for account in dropFirst() {
            for (policy, recalls) in account.recalls(policies, cost: cost, ks: ks).enumerated() {
                for place in ks.indices where recalls[place].sure < least[policy][place].sure {
                    least[policy][place] = recalls[place]
                }
            }
        }
        return least
    }
}

extension MeanRecall {
    fileprivate func check(_ declared: DeclaredRecall, curve: String) -> CalibratedPolicies.Check {
        .init(
            curve: curve, k: declared.k, declared: declared.recall, found: mean.shortened,
            error: error.shortened)
    }
}

extension CalibratedPolicies {
    /// Adds the curves of a policy, by k, and what its thresholds find on queries that had no part in them.
    ///
    /// - Parameters:
    ///   - calibrating: recalls by threshold and k on the queries that set thresholds.
    ///   - checking: the same on those that check them.
    mutating func add(
        _ name: String, thresholds: [Float], ks: [Int], calibrating: ([Float]) -> [[MeanRecall]],
        checking: ([Float]) -> [[MeanRecall]]
    ) {
        let recalls = calibrating(thresholds)
        for (place, k) in ks.enumerated() {
            curves[Self.curveName(name, k: k)] = zip(thresholds, recalls).map { $1[place].point(Double($0)) }
        }
        // Every declared recall has a threshold of its own: all are tried at once.
        let declared = declarations(of: name)
        for (one, recalls) in zip(declared, checking(declared.map(\.threshold))) {
            guard let place = ks.firstIndex(of: one.k) else { continue }
            checks?.append(recalls[place].check(one, curve: name))
        }
    }

    /// The recalls that are checked, at every depth of a curve where a threshold is sure of them.
    fileprivate func declarations(of name: String) -> [DeclaredRecall] {
        depths(of: name).flatMap { k in
            Self.checkedRecalls.compactMap { try? declared(recall: $0, k: k, curve: name) }
        }
    }
}

extension CalibratedPolicies.Point {
    /// What a threshold between those of a falling ladder finds.
    fileprivate static func at(_ threshold: Float, of points: [Self]) -> Self? {
        let wanted = Double(threshold)
        guard let below = points.firstIndex(where: { $0.lambda <= wanted * (1 + 1e-6) }) else {
            return points.last
        }
        guard below > 0 else { return points.first }
        let (a, b) = (points[below - 1], points[below])
        let share = (log(a.lambda) - log(wanted)) / max(log(a.lambda) - log(b.lambda), 1e-12)
        return .init(
            lambda: wanted, recall: a.recall + share * (b.recall - a.recall),
            error: max(a.error ?? 0, b.error ?? 0))
    }
}
