// The whole of learning a router, as a build's stage and as a command: pairs, training, calibration, and
// the thresholds that held-out pairs say reach a wanted recall. What comes out is the sections of router.bin.

import Foundation
import Router
import Storage
import Vectors

/// What to learn a router from, and how.
public struct RouterTraining: Sendable {
    public var predictor = PredictorParameters()
    public var pairs = LearnParameters()
    /// Queries drawn like those that will be asked, never those that will be measured.
    public var learn: VectorFile?
    /// Neighbours of the first rows of `learn`, where they are known; else they are found with the index.
    public var labels: TruthFile?
    /// The device that thresholds of cost by time are calibrated for. An input like any other: one timed on
    /// the spot would make other bytes of every build.
    public var model = DeviceModel.common

    public init() {}
}

/// Where each threshold leads, measured on held-out pairs; kept in the index, so that a wanted recall can be
/// asked for. Recall is that of the nearest neighbour.
public struct CalibratedPolicies: Sendable, Codable {
    public struct Point: Sendable, Codable {
        public var lambda: Double
        public var recall: Double
    }
    public var model: DeviceModel
    /// By the name of the cost; for two rounds of reads, which are calibrated for vectors alone, by
    /// `laterRoundsName`.
    public var curves: [String: [Point]]
    /// Predicted against observed probabilities of candidates.
    public var reliability: Reliability
    /// Where the pairs came from and how training went.
    public var provenance: [String: String]

    static let section = "policies"
    /// The k of recall@k that thresholds are kept for, where the pairs go so deep.
    static let depths = [1, 10, 100]

    static func curveName(_ name: String, k: Int) -> String { k == 1 ? name : "\(name), recall@\(k)" }
    static let laterRoundsName = "vectors, 2 rounds"

    /// The lambda whose recall on held-out pairs is nearest above `recall`, interpolated; nil where no
    /// threshold reached it.
    ///
    /// - Parameter k: the recall meant is recall@k; between those that are kept, that of the next deeper one.
    public func lambda(recall: Double, cost: ReadCost, rounds: Int = 1, k: Int = 1) -> Float? {
        let name = rounds == 1 ? cost.name : cost == .vectors && rounds == 2 ? Self.laterRoundsName : ""
        return threshold(recall: recall, curve: name, k: rounds == 1 ? k : 1)
    }

    /// The sigma that reached a recall on held-out pairs.
    public func sigma(recall: Double, k: Int) -> Float? { threshold(recall: recall, curve: "sigma", k: k) }

    private func threshold(recall: Double, curve name: String, k: Int) -> Float? {
        let deep = Self.depths.first { $0 >= k && curves[Self.curveName(name, k: $0)] != nil }
        let name = Self.curveName(name, k: deep ?? 1)
        guard let points = curves[name]?.sorted(by: { $0.recall < $1.recall }),
            let above = points.firstIndex(where: { $0.recall >= recall })
        else { return nil }
        if above == 0 { return Float(points[0].lambda) }
        let (low, high) = (points[above - 1], points[above])
        let share = (recall - low.recall) / max(high.recall - low.recall, 1e-12)
        // Lambdas lie on a logarithmic ladder.
        return Float(exp(log(low.lambda) + share * (log(high.lambda) - log(low.lambda))))
    }
}

/// A router that was trained for an index.
public struct TrainedRouter: Sendable {
    public let router: any LearnedRouter
    public let report: TrainingReport
    public let policies: CalibratedPolicies
    public let posteriors: [PosteriorModel]

    /// What router.bin holds.
    public func sections() throws -> [(tag: String, bytes: [UInt8])] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        let learned = posteriors.isEmpty ? [] : [PosteriorModel.encode(posteriors)]
        return router.encode() + learned + [(CalibratedPolicies.section, Array(try encoder.encode(policies)))]
    }
}

extension DiskIndex {
    /// Learns a router for this index.
    ///
    /// - Throws: `IndexError.invalid` for parameters that mean nothing or a learn file that does not fit,
    ///   `StorageError` from reading.
    public func trainRouter(_ training: RouterTraining, progress: Progress = .none) throws -> TrainedRouter {
        try training.predictor.validate()
        if headIds != nil {
            throw IndexError.invalid(
                "\(path) has heads, which lie in no segment: a router is learned for partitions of k-means")
        }
        let learned = try learnPairs(training, progress: progress)
        let homes = try homes()
        let (router, report) = try trainLearnedRouter(
            pairs: learned.pairs, homes: homes, parameters: training.predictor, progress: progress)
        var policies = calibratePolicies(
            router: router, learned: learned, homes: homes, model: training.model, training: training,
            report: report)
        // A probing model gives each partition a probability of its own: there is no posterior of one neighbour.
        guard let predictor = router as? Predictor else {
            return TrainedRouter(router: router, report: report, policies: policies, posteriors: [])
        }
        // Half of what was held out teaches the posterior, half sets thresholds.
        let held = learned.pairs.heldOut
        let teaching = held.lowerBound..<held.lowerBound + held.count / 2
        let depth = learned.pairs.neighbourCount
        let posteriors = try trainPosteriors(
            router: predictor, queries: learned.queries.gather(teaching),
            neighbours: Array(
                learned.pairs.neighbours[teaching.lowerBound * depth..<teaching.upperBound * depth]),
            depth: depth, homes: homes, threads: training.predictor.training.threads,
            seed: training.predictor.training.seed)
        policies.curves[CalibratedPolicies.laterRoundsName] = try laterRoundsCurve(
            predictor: predictor, posteriors: posteriors, learned: learned,
            memoryByteCount: training.pairs.memoryByteCount, threads: training.predictor.training.threads)
        return TrainedRouter(router: router, report: report, policies: policies, posteriors: posteriors)
    }

    /// The labelled queries that a training asks for.
    func learnPairs(_ training: RouterTraining, progress: Progress) throws -> LearnPairs {
        guard let labels = training.labels else {
            return try learnPairs(
                learn: training.learn, parameters: training.pairs,
                checkpoints: training.predictor.checkpoints, progress: progress)
        }
        guard let learn = training.learn, training.pairs.syntheticCount == 0 else {
            throw IndexError.invalid("labels belong to a learn file, without synthetic queries beside it")
        }
        return try learnPairs(learn: learn, labels: labels, parameters: training.pairs, progress: progress)
    }

    private func calibratePolicies(
        router: any LearnedRouter, learned: LearnPairs, homes: Homes, model: DeviceModel,
        training: RouterTraining,
        report: TrainingReport
    ) -> CalibratedPolicies {
        let held = learned.pairs.heldOut.suffix(learned.pairs.heldOutCount / 2)
        let threads = training.predictor.training.threads
        let routes = routes(of: learned.queries.gather(held), router: router, threads: threads)
        let depth = learned.pairs.neighbourCount
        let nearest = held.map { learned.pairs.neighbours[$0 * depth] }
        let account = FetchAccount(
            index: self, routes: routes,
            neighbours: Array(learned.pairs.neighbours[held.lowerBound * depth..<held.upperBound * depth]),
            depth: depth, homes: homes, model: model, threads: threads)
        let depths = CalibratedPolicies.depths.filter { $0 <= depth }
        var curves: [String: [CalibratedPolicies.Point]] = [:]
        func add(_ name: String, _ points: [FetchPoint]) {
            for k in depths {
                curves[CalibratedPolicies.curveName(name, k: k)] = points.map {
                    .init(lambda: $0.parameter, recall: $0.recall[String(k)] ?? 0)
                }
            }
        }
        for cost in [ReadCost.vectors, .bytes, .reads, .time(model)] {
            add(cost.name, account.points(account.lambdaLadder(cost: cost), cost: cost, ks: depths))
        }
        if !(router is Predictor) { add("sigma", account.points(Policy.sigmaLadder, ks: depths)) }
        return CalibratedPolicies(
            model: model, curves: curves,
            reliability: FetchAccount.reliability(routes: routes, nearest: nearest, homes: homes),
            provenance: [
                "pairs": String(learned.pairs.trainingCount), "held-out": String(held.count),
                "label-accuracy": String(learned.labelAccuracy),
                "learn": training.learn.map { name(of: $0) } ?? "none",
                "synthetic": String(training.pairs.syntheticCount),
                "loss-at-start": String(report.heldOutStart),
                "losses": report.heldOutLosses.map { String($0) }.joined(separator: ","),
            ])
    }

    /// Queries that are really asked, at most.
    static let askedMaximum = 4000
    /// Segments are held while they are asked where they take no more than one part of so many of the memory.
    static let heldShare = 4

    /// Recall of two rounds by threshold. What later rounds read hangs on what is found, so held-out queries are
    /// really asked; up to the recall beyond which a search would read much of the index.
    private func laterRoundsCurve(
        predictor: Predictor, posteriors: [PosteriorModel], learned: LearnPairs, memoryByteCount: Int,
        threads: Int
    ) throws -> [CalibratedPolicies.Point] {
        let highestRecall = 0.985
        let held = learned.pairs.heldOut.suffix(
            min(Self.askedMaximum, learned.pairs.heldOutCount / 2))
        let depth = learned.pairs.neighbourCount
        let numbers = try numbers()
        let nearest = TruthFile(
            count: held.count, k: 1,
            ids: held.map { numbers.id(of: Int(learned.pairs.neighbours[$0 * depth])) }, distances: nil)
        let queries = learned.queries.gather(held)
        // Every threshold reads again what the one before has read: from memory where there is room.
        let asked = try with(router: predictor, posteriors: posteriors).holdingSegments(
            atMost: memoryByteCount / Self.heldShare)
        let ladder = Policy.gainLadder(for: table, cost: .vectors, count: 32)
        guard let first = ladder.first else { return [] }
        // The router says the same at every threshold: it is asked once.
        let routes = asked.routes(
            of: queries,
            limit: first.candidateLimit(partitions: partitionCount, records: manifest.records),
            threads: threads)
        var points: [CalibratedPolicies.Point] = []
        for policy in ladder {
            var parameters = SearchParameters(k: 1, policy: policy, threads: threads)
            parameters.rounds = 2
            let answers = try asked.search(queries, routes: routes, parameters: parameters).answers
            let recall = Recall.mean(of: answers, against: nearest, k: 1, metric: metric)
            points.append(.init(lambda: policy.parameter, recall: recall))
            if recall > highestRecall { break }
        }
        return points
    }

    private func name(of file: VectorFile) -> String { URL(fileURLWithPath: file.path).lastPathComponent }
}

extension FetchAccount {
    /// Each candidate's probability against whether it held the nearest neighbour. Candidates below one in
    /// ten thousand are left out: they would fill the lowest bin with certainties.
    public static func reliability(routes: [Route], nearest: [UInt32], homes: Homes) -> Reliability {
        var reliability = Reliability()
        for (query, route) in routes.enumerated() {
            let home = homes[Int(nearest[query])]
            for position in 0..<route.count {
                let probability = Float(exp(Double(route.logProbabilities[position])))
                guard probability > 1e-4 else { continue }
                reliability.add(probability: probability, happened: home.contains(route.partitions[position]))
            }
        }
        return reliability
    }
}

extension PredictorParameters {
    /// Refuses values that mean nothing.
    func validate() throws(IndexError) {
        if !(prototypes >= 1 && prototypes <= 65536) {
            throw .invalid("prototypes must be from 1 to 65536 a partition, found \(prototypes)")
        }
        if hidden.contains(where: { $0 < 1 || $0 > 65536 }) || hidden.count > 8 {
            throw .invalid("hidden must be up to eight widths from 1 to 65536, found \(hidden)")
        }
        if refines && kind == .lira {
            throw .invalid("lira gives partitions probabilities of their own, which are not refined")
        }
        if training.epochs < 1 { throw .invalid("epochs must be at least 1, found \(training.epochs)") }
        if !(training.noise >= 0 && training.noise.isFinite) {
            throw .invalid("noise must be 0 or more, found \(training.noise)")
        }
    }
}
