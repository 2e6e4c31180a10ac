// sonde train: another router for an index that stands, and other replicas where asked.

import ArgumentParser
import Foundation
import Index
import Storage
import Vectors

struct TrainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "train",
        abstract: "Retrain the router of an index, or replan its replicas, into a new directory.")

    @Option(help: "Index directory; it is only read.")
    var index: String

    @Option(help: "Directory to create; unchanged segments are linked, not copied.")
    var out: String

    @Option(help: "Router: distance, subcentroids, prototypes (predictor), network or lira.")
    var router: RouterKind?

    @OptionGroup var input: InputOptions

    @OptionGroup var routerOptions: RouterOptions

    @OptionGroup var residentOptions: ResidentOptions

    @Option(help: "Second copies to plan: none, random, slots, paper, gain, moves, closure or soar.")
    var duplicate: DuplicateName = .none

    @OptionGroup var replicaOptions: ReplicaOptions

    @Option(help: "Seed of training and planning.")
    var seed: UInt64 = 1

    @Option(
        help:
            "Directory for the state of training after every epoch: the same command goes on there after a kill."
    )
    var checkpoint: String?

    @Flag(help: "End well at once where --out is what this very command has made before; else train.")
    var resume = false

    @OptionGroup var work: WorkOptions

    func validate() throws {
        guard residentOptions.resident != nil else { return }
        if router != nil || routerOptions.prototypes != nil || routerOptions.prototypeCodes != nil {
            throw ValidationError("--resident chooses the router: leave --router and --prototypes out")
        }
        if duplicate != .none { throw ValidationError("--resident plans no copies: leave --duplicate out") }
    }

    func run() throws {
        try requireOutputs(
            directories: [out], shared: [checkpoint],
            inputs: [index, routerOptions.learn, routerOptions.learnTruth])
        let opened = try DiskIndex(path: index)
        var training = try routerOptions.training(
            router ?? (residentOptions.resident == nil ? .prototypes : .distance), copies: duplicate,
            seed: seed, work: work, input: input, for: opened.elementType)
        training.predictor.checkpoints = checkpoint.map { TrainingCheckpoints(directory: $0) }
        var retraining = try replicaOptions.retraining(
            duplicate, training: training, seed: seed, index: opened)
        let request = JobIdentity(
            [("index", opened.manifest.checksum), ("copies", replicaOptions.described(duplicate))]
                + (try training.identity()) + (residentOptions.goal?.identity ?? []))
        if resume, let report = try FinishedJob.report(at: out, of: request) {
            print(report.summary)
            return
        }
        retraining.request = request
        if let goal = residentOptions.goal {
            // Refused before a minute of planning, not after it.
            try AtomicDirectory.create(path: out).discard()
            var planner = ResidentPlanner(index: opened, goal: goal)
            planner.learn = training.learn.map {
                $0.range(0..<min($0.count, training.pairs.learnCount ?? $0.count))
            }
            planner.seed = seed
            planner.threads = work.threads
            planner.memoryByteCount = work.memory.byteCount
            let plan = try planner.plan(progress: work.progress)
            print(plan.text)
            plan.apply(to: &retraining)
        }
        print(try retraining.run(opened, to: out, progress: work.progress).summary)
        training.predictor.checkpoints?.discard()
    }
}

/// The options of planned replicas, shared by build and train.
struct ReplicaOptions: ParsableArguments {
    @Option(help: "closure: records of one vector at most.")
    var replicas: Int = 8

    @Option(help: "closure: centroids within (1 + eps1) times the nearest's squared distance.")
    var eps1: Float = 10

    @Option(help: "soar: weight of the residual's direction.")
    var lambda: Float = 1

    @Option(help: "random, slots, paper, gain, moves: records over vectors at most.")
    var replicationMax: Double = 1.3

    @Option(help: "paper, gain, moves: rounds of planning.")
    var rounds: Int = 3

    @Option(help: "gain, moves: what is economised: vectors, bytes, reads or time.")
    var planCost: CostName = .vectors

    @Option(help: "lira: share of the vectors that get a second record, 0 to 1, or auto: as many as pay.")
    var eta: Eta = .auto

    @Option(help: "gain, moves, lira: the k of the recall that is held while fetches are saved.")
    var planDepth: Int = 1

    @Option(help: "gain, moves, lira: the recall that is held.")
    var planRecall: Double = 0.9

    func validate() throws {
        guard planDepth >= 1 else { throw ValidationError("--plan-depth must be at least 1") }
        guard planRecall > 0 && planRecall < 1 else {
            throw ValidationError("--plan-recall must be between 0 and 1")
        }
        guard replicationMax >= 1 else { throw ValidationError("--replication-max must be at least 1") }
        guard rounds >= 1 else { throw ValidationError("--rounds must be at least 1") }
    }

    func retraining(
        _ duplicate: DuplicateName, training: RouterTraining, seed: UInt64, index: DiskIndex
    ) throws -> Retraining {
        retraining(duplicate, training: training, seed: seed, cost: try planCost.value(for: index))
    }

    /// The same for an index that is not there yet, whose device nothing is known of.
    func retraining(
        _ duplicate: DuplicateName, training: RouterTraining, seed: UInt64, cost: ReadCost
    ) -> Retraining {
        var retraining = Retraining(training: training)
        retraining.duplication = plan(duplicate, seed: seed)
        retraining.replicationMaximum = replicationMax
        retraining.rounds = rounds
        retraining.depth = planDepth
        retraining.recall = planRecall
        retraining.cost = cost
        return retraining
    }

    /// All that decides the copies, for the identity of a build.
    func described(_ duplicate: DuplicateName) -> String {
        let share = eta.share.map { "\($0)" } ?? "auto"
        return "\(duplicate.rawValue), replication-max \(replicationMax), rounds \(rounds), "
            + "cost \(planCost.rawValue), depth \(planDepth), recall \(planRecall), eta \(share)"
    }

    private func plan(_ duplicate: DuplicateName, seed: UInt64) -> DuplicationPlan {
        switch duplicate {
        case .none: .none
        case .closure: .closure(replicas: replicas, eps1: eps1)
        case .soar: .soar(lambda: lambda)
        case .random: .random(seed: seed)
        case .slots: .slots
        case .paper: .paper
        case .gain: .gain
        case .moves: .moves
        case .lira: .lira(eta: eta.share)
        }
    }
}

/// A value of `--eta`.
enum Eta: ExpressibleByArgument {
    case auto
    case value(Double)

    init?(argument: String) {
        if argument == "auto" {
            self = .auto
        } else if let value = Double(argument), (0...1).contains(value) {
            self = .value(value)
        } else {
            return nil
        }
    }

    /// nil: as much as pays.
    var share: Double? {
        if case .value(let value) = self { value } else { nil }
    }
}
