// Rows with planned copies: the same routers on an index whose replicas a planner chose with learned pairs,
// trained anew on what the planner left.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import Vectors

/// A planner with its limits.
struct CopyPlan {
    var name: String
    var copyRule: CopyRule
    var maximum = 1.3
    var cost = ReadCost.vectors
}

extension Methods {
    /// The two best routers at equal partitions for a few and for many resident bytes, with every planner.
    func copies() throws {
        let perPartition = Double(try experiment.index().count) / Double(experiment.partitions)
        let plans = [
            CopyPlan(name: "random copies", copyRule: .random(seed: 1)),
            CopyPlan(name: "paper copies", copyRule: .paper),
            CopyPlan(name: "gain copies", copyRule: .gain),
            CopyPlan(name: "moves", copyRule: .moves),
        ]
        for plan in plans {
            try copied("prototypes 16", form(.prototypes, min(16, perPartition / 4)), plan, rounds: false)
        }
        for plan in plans where plan.copyRule == .gain || plan.copyRule == .paper {
            try copied("codes 256, 16 B", codes(256, bytes: 16), plan, rounds: true)
        }
        // A code of every vector takes minutes to route the whole base with: the best planner only.
        try copied("codes every vector, 16 B", codes(perPartition, bytes: 16), plans[2], rounds: true)
    }

    /// Small partitions, where copies save pages and reads: what each planner does for the plain router.
    func fine() throws {
        let model = try experiment.deviceModel()
        var router = form(.distance)
        router.candidates = 1024
        for (name, sweep) in [
            ("kmeans nprobe", Candidate.Sweep.nprobe), ("kmeans gain", .gain(.time(model))),
        ] {
            try experiment.row(name) {
                if case .nprobe = sweep { return try none(experiment.index().router, sweep) }
                return try none(try trained(router).router, sweep)
            }
        }
        let perPartition = Double(try experiment.index().count) / Double(experiment.partitions)
        var coded = codes(perPartition, bytes: 16)
        coded.candidates = 1024
        for (suffix, targets) in [("", 1), (", 10 targets", 10)] {
            var parameters = coded
            parameters.training.targets = targets
            try experiment.row("codes every vector, 16 B" + suffix) {
                let (router, note) = try trained(parameters)
                return try none(router, .gain(.time(model)), note)
            }
        }
        try experiment.row("codes every vector, 16 B, 2 rounds") {
            let (router, note) = try trained(coded)
            return try none(router, .rounds(2, try posteriors(router)), note)
        }
        var plans = [
            CopyPlan(name: "slots", copyRule: .slots, maximum: 8),
            CopyPlan(name: "closure", copyRule: .closure(replicas: 8, eps1: 10), maximum: 8),
            CopyPlan(name: "random copies 2.0", copyRule: .random(seed: 1), maximum: 2),
        ]
        for maximum in [1.5, 2, 3] {
            plans.append(
                CopyPlan(
                    name: "gain copies \(maximum)", copyRule: .gain, maximum: maximum, cost: .time(model)))
            plans.append(
                CopyPlan(
                    name: "closure \(maximum)", copyRule: .closure(replicas: 8, eps1: 10), maximum: maximum
                ))
        }
        for plan in plans {
            try copied("kmeans", router, plan, rounds: false, cost: .time(model))
        }
        try copied(
            "codes every vector, 16 B", coded, CopyPlan(name: "slots", copyRule: .slots, maximum: 8),
            rounds: false,
            cost: .time(model))
    }

    /// One router on the index that a planner makes.
    func copied(
        _ name: String, _ parameters: PredictorParameters, _ plan: CopyPlan, rounds: Bool,
        cost: ReadCost = .vectors
    ) throws {
        let names = ["\(name) + \(plan.name)"] + (rounds ? ["\(name) + \(plan.name), 2 rounds"] : [])
        if names.allSatisfy({ experiment.isFinished($0) || !experiment.only($0) }) { return }
        let path = experiment.path("\(plan.name)-of-\(name)")
        defer { try? FileManager.default.removeItem(atPath: path) }
        try? FileManager.default.removeItem(atPath: path)
        let start = ContinuousClock.now
        try IndexRewriter(index: experiment.index()).write(
            to: path, plan: retraining(parameters, plan).plan(for: experiment.index()))
        let planned = start.duration(to: .now) / .seconds(1)
        let index = try DiskIndex(path: path)
        let homes = try index.homes()
        let (router, note) = try trained(parameters, for: index)
        let remark = String(format: "%@ planned in %.0f s", note, planned)
        try experiment.row(names[0]) {
            Candidate(index: index, router: router, homes: homes, sweep: .gain(cost), note: remark)
        }
        guard rounds else { return }
        try experiment.row(names[1]) {
            Candidate(
                index: index, router: router, homes: homes,
                sweep: .rounds(2, try posteriors(router, for: index)), note: remark)
        }
    }

    private func retraining(_ parameters: PredictorParameters, _ plan: CopyPlan) throws -> Retraining {
        var training = RouterTraining()
        training.predictor = parameters
        training.predictor.training.seed = experiment.seed
        training.predictor.training.threads = experiment.threads
        training.pairs = experiment.learnParameters(experiment.data.pairs)
        training.learn = try VectorFile.open(path: experiment.data.learn)
        training.labels = try experiment.labels(experiment.data.pairs)
        var retraining = Retraining(training: training)
        retraining.copyRule = plan.copyRule
        retraining.replicationMaximum = plan.maximum
        retraining.cost = plan.cost
        return retraining
    }
}
