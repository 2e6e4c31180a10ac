// Second copies of vectors, shared by build and train.

import ArgumentParser
import Build
import Index
import Learn

/// Values of `--duplicate`.
extension CopyRule.Name: ExpressibleByArgument {}

struct CopyOptions: ParsableArguments {
    @Option(
        help:
            "Second copies of vectors: closure (SPANN) and soar while vectors are assigned; random, slots, paper, gain, moves, lira planned afterwards."
    )
    var duplicate: CopyRule.Name?
}

/// What decides the copies besides their kind.
struct CopyResearchOptions: ParsableArguments {
    @Option(help: "closure: records of one vector at most (default: 8).")
    var replicas: Int?

    @Option(help: "closure: centroids within (1 + eps1) times the nearest's squared distance (default: 10).")
    var eps1: Float?

    @Option(help: "soar: weight of the residual's direction (default: 1).")
    var lambda: Float?

    @Option(help: "random, slots, paper, gain, moves: records over vectors at most (default: 1.3).")
    var replicationMax: Double?

    @Option(help: "paper, gain, moves: rounds of planning (default: 3).")
    var planRounds: Int?

    @Option(help: "gain, moves: what is economised: vectors, bytes, reads or time (default: vectors).")
    var planCost: CostName?

    @Option(
        help: "lira: share of the vectors that get a second record, or auto: as many as pay (default: auto).")
    var eta: Eta?

    func validate() throws {
        guard replicationMax ?? 1 >= 1 else { throw ValidationError("--replication-max must be at least 1") }
        guard planRounds ?? 1 >= 1 else { throw ValidationError("--plan-rounds must be at least 1") }
    }
}

/// The copies that are asked for, with all that decides them.
struct Copies {
    var kind: CopyRule.Name
    var options: CopyResearchOptions
    var goal: GoalOptions
    /// Settings of a published method, which options go before.
    var method: MethodName?

    private var replicas: Int { options.replicas ?? 8 }
    private var eps1: Float { options.eps1 ?? 10 }
    private var lambda: Float { options.lambda ?? method?.lambda ?? 1 }
    private var replicationMax: Double { options.replicationMax ?? 1.3 }
    private var rounds: Int { options.planRounds ?? 3 }
    private var cost: CostName { options.planCost ?? .vectors }
    private var eta: Eta { options.eta ?? method?.eta ?? .auto }

    func retraining(_ training: RouterTraining, seed: UInt64, index: DiskIndex) throws -> Retraining {
        retraining(training, seed: seed, cost: try cost.value(for: index))
    }

    /// The same for an index that is not there yet, whose device nothing is known of.
    func retraining(_ training: RouterTraining, seed: UInt64, cost: ReadCost) -> Retraining {
        var retraining = Retraining(training: training)
        retraining.copyRule = plan(seed: seed)
        retraining.replicationMaximum = replicationMax
        retraining.rounds = rounds
        retraining.depth = goal.planK
        retraining.recall = goal.planRecall
        retraining.cost = cost
        return retraining
    }

    /// All that decides the copies, for the identity of a build.
    var described: String {
        let share = eta.share.map { "\($0)" } ?? "auto"
        return "\(kind.rawValue), replication-max \(replicationMax), rounds \(rounds), "
            + "cost \(cost.rawValue), depth \(goal.planK), recall \(goal.planRecall), eta \(share)"
    }

    /// Copies that are made while vectors are assigned.
    var assignmentRule: CopyRule {
        switch kind {
        case .closure: .closure(replicas: replicas, eps1: eps1)
        case .soar: .soar(lambda: lambda)
        case .none, .random, .slots, .paper, .gain, .moves, .lira: .none
        }
    }

    private func plan(seed: UInt64) -> CopyRule {
        switch kind {
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
