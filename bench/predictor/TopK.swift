// Routers for the k nearest: LIRA's form and ours on the same index, before and after redundancy (issue 4).

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import Vectors

extension Methods {
    private static let depth = 100

    /// LIRA's form wanted for `depth` neighbours.
    private func lira(_ depth: Int, tower: [Int] = [128, 64]) -> PredictorParameters {
        var parameters = form(.lira, epochs: 10)
        parameters.lira.depth = depth
        parameters.lira.tower = tower
        return parameters
    }

    /// Ours: the same predictors, their targets all of the k nearest, so that a probability is the share of them
    /// that a partition holds.
    private func topK(_ parameters: PredictorParameters) -> PredictorParameters {
        var parameters = parameters
        parameters.training.targets = Self.depth
        return parameters
    }

    private func learned(
        _ parameters: PredictorParameters, for index: DiskIndex? = nil, homes: Homes? = nil
    ) throws -> (router: any LearnedRouter, note: String) {
        var parameters = parameters
        parameters.training.seed = experiment.seed
        parameters.training.threads = experiment.threads
        let pairs = try experiment.pairs(experiment.data.topKPairs, depth: Self.depth).pairs
        let (router, report) = try (index ?? experiment.index()).trainLearnedRouter(
            pairs: pairs, homes: homes ?? experiment.homes(), parameters: parameters)
        let losses = ([report.heldOutStart] + report.heldOutLosses).map { String(format: "%.4f", $0) }
        return (router, "held out \(losses.joined(separator: " ")), best epoch \(report.bestEpoch)")
    }

    func topKRouters() throws {
        let partitions = experiment.partitions
        let perPartition = Double(try experiment.index().count) / Double(partitions)
        try experiment.row("kmeans nprobe") { try none(experiment.index().router, .nprobe) }
        for depth in [100, 10] {
            try experiment.row("lira k \(depth)") {
                let (router, note) = try learned(lira(depth))
                return try none(router, .sigma, note)
            }
        }
        for tower in [[32, 16], [512, 256]] where partitions <= 400 {
            try experiment.row("lira k 100, towers \(tower[0])-\(tower[1])") {
                let (router, note) = try learned(lira(100, tower: tower))
                return try none(router, .sigma, note)
            }
        }
        var forms: [(String, PredictorParameters)] = [("topk distance", form(.distance))]
        for count in [16.0, 64, 256] where count < perPartition / 2 {
            forms.append(("topk codes \(Int(count)), 16 B", codes(count, bytes: 16)))
        }
        forms.append(("topk codes every vector, 16 B", codes(perPartition, bytes: 16)))
        forms.append(("topk prototypes 16", form(.prototypes, min(16, perPartition / 4))))
        for (name, parameters) in forms {
            try experiment.row(name) {
                let (router, note) = try learned(topK(parameters))
                return try none(router, .gain(.vectors), note)
            }
        }
    }

    /// Redundancy: the published rule with its router as it was and trained anew, the share that pays, and ours.
    func topKCopies() throws {
        for eta in [0.03, 0.1, 0.3, 1] {
            try redundant("lira k 100, eta \(eta)", .lira(eta: eta), lira(100), retrains: false)
            try redundant("lira k 100, eta \(eta), retrained", .lira(eta: eta), lira(100), retrains: true)
        }
        try redundant("lira k 100, eta auto, retrained", .lira(eta: nil), lira(100), retrains: true)
        let perPartition = Double(try experiment.index().count) / Double(experiment.partitions)
        try redundant(
            "topk codes + gain copies", .gain, topK(codes(min(256, perPartition / 4), bytes: 16)),
            retrains: true)
    }

    /// Partitions divided into cells that are read by themselves, by the sigma that names partitions times a cell's
    /// share, and by what a vector of it is worth; "whole" is `topKRouters`' row of the same router.
    func topKCells() throws {
        for cells in [4, 16, 64] {
            let (bySigma, byGain) = (
                "lira k 100, \(cells) cells, sigma", "lira k 100, \(cells) cells, by gain"
            )
            if [bySigma, byGain].allSatisfy({ experiment.isFinished($0) || !experiment.only($0) }) {
                continue
            }
            let path = experiment.path("\(cells) cells")
            try? FileManager.default.removeItem(atPath: path)
            defer { try? FileManager.default.removeItem(atPath: path) }
            var parameters = BuildParameters()
            parameters.metric = experiment.data.metric
            parameters.partitions = experiment.partitions
            parameters.subSegments = cells
            parameters.seed = experiment.seed
            parameters.threads = experiment.threads
            _ = try IndexBuilder(
                base: VectorFile.open(path: experiment.data.base), directory: path, parameters: parameters
            ).build()
            let index = try DiskIndex(path: path)
            let homes = try index.homes()
            let (router, note) = try learned(lira(100), for: index, homes: homes)
            for (name, sweep) in [(bySigma, Candidate.Sweep.sigma), (byGain, .gain(.vectors))] {
                try experiment.row(name) {
                    Candidate(index: index, router: router, homes: homes, sweep: sweep, note: note)
                }
            }
        }
    }

    private func redundant(
        _ name: String, _ plan: CopyRule, _ parameters: PredictorParameters, retrains: Bool
    ) throws {
        if experiment.isFinished(name) || !experiment.only(name) { return }
        var training = RouterTraining()
        training.predictor = parameters
        training.predictor.training.seed = experiment.seed
        training.predictor.training.threads = experiment.threads
        training.pairs = experiment.learnParameters(experiment.data.topKPairs, depth: Self.depth)
        training.learn = try VectorFile.open(path: experiment.data.learn)
        training.labels = try experiment.labels(experiment.data.topKPairs, depth: Self.depth)
        var retraining = Retraining(training: training)
        retraining.copyRule = plan
        retraining.replicationMaximum = 2
        retraining.depth = Self.depth
        retraining.recall = 0.95
        let path = experiment.path("redundant")
        try? FileManager.default.removeItem(atPath: path)
        defer { try? FileManager.default.removeItem(atPath: path) }
        try IndexRewriter(index: experiment.index()).write(
            to: path, plan: retraining.plan(for: experiment.index()))
        let index = try DiskIndex(path: path)
        let homes = try index.homes()
        try experiment.row(name) {
            let (router, note) =
                retrains
                ? try learned(parameters, for: index, homes: homes) : try learned(parameters)
            return Candidate(
                index: index, router: router, homes: homes,
                sweep: parameters.kind == .lira ? .sigma : .gain(.vectors), note: note)
        }
    }
}
