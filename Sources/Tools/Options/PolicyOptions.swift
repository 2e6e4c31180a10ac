// How a search stops, as options of the commands that search.

import ArgumentParser
import Index
import Storage

/// How to stop: exactly one policy.
struct PolicyOptions: ParsableArguments {
    @Option(help: "Read the N nearest partitions (with --eps2: at most N).")
    var nprobe: Int?

    @Option(help: "Read partitions within (1 + E) times the nearest one's squared distance.")
    var eps2: Float?

    @Option(help: "Read partitions in order while their records sum to at most N.")
    var budgetVectors: Int?

    @Option(help: "Read by gain until the probabilities read sum to T.")
    var mass: Float?

    @Option(help: "Read every partition whose probability over its cost exceeds LAMBDA.")
    var gain: Float?

    @Option(
        help:
            "Read every partition whose own probability exceeds S (a lira router); auto: the S that reaches --recall."
    )
    var sigma: Sigma?

    @Option(help: "Mean recall@k wanted: the threshold that reached it on held-out pairs.")
    var recall: Double?

    @Option(help: "What a gain is measured against: vectors, bytes, reads or time.")
    var cost: CostName = .vectors

    private var givenCount: Int {
        [eps2, mass, gain].filter { $0 != nil }.count + (budgetVectors == nil ? 0 : 1)
            + (recall == nil ? 0 : 1)
            + (sigma == nil || sigma == .auto ? 0 : 1) + (nprobe != nil && eps2 == nil ? 1 : 0)
    }

    /// Whether any policy was asked for.
    var isGiven: Bool { givenCount > 0 }

    /// Refuses anything but exactly one policy.
    func requireOne() throws {
        guard givenCount == 1 else {
            throw ValidationError(
                "give one of --nprobe N, --eps2 E [--nprobe N], --budget-vectors N, --mass T, --gain LAMBDA, --recall R, "
                    + "--sigma S, --sigma auto --recall R")
        }
    }

    func validate() throws {
        if sigma == .auto && recall == nil { throw ValidationError("--sigma auto needs --recall R") }
        if let recall, !(recall > 0 && recall < 1) {
            throw ValidationError("--recall must be between 0 and 1")
        }
    }

    func readCost(for index: DiskIndex) throws -> ReadCost { try cost.value(for: index) }

    /// The policy asked for; thresholds for a wanted recall@k are the index's own.
    func policy(for index: DiskIndex, k: Int, rounds: Int = 1) throws -> Policy {
        if case .value(let sigma) = sigma { return .sigma(sigma) }
        if let mass { return .mass(mass) }
        if let gain { return .gain(gain) }
        if let recall {
            let cost = try readCost(for: index)
            guard let policies = index.policies else {
                throw IndexError.invalid(
                    "--recall needs thresholds calibrated on learn queries: build with --learn FILE, or train"
                )
            }
            if sigma == .auto {
                guard let sigma = policies.sigma(recall: recall, k: k) else {
                    throw IndexError.invalid(
                        "no sigma reached recall \(recall) on the held-out pairs, or the router is not lira; give --gain"
                    )
                }
                return .sigma(sigma)
            }
            guard rounds == 1 || (rounds == 2 && cost == .vectors) else {
                throw IndexError.invalid(
                    "--recall with --rounds is calibrated for two rounds and the cost of vectors")
            }
            guard let lambda = policies.lambda(recall: recall, cost: cost, rounds: rounds, k: k) else {
                throw IndexError.invalid(
                    "no threshold reached recall \(recall) on the held-out pairs; give --gain or --nprobe")
            }
            return .gain(lambda)
        }
        if let eps2 { return .eps2(eps2, nprobe: nprobe ?? 64) }
        if let budgetVectors { return .vectorBudget(budgetVectors) }
        return .nprobe(nprobe ?? 1)
    }
}

/// Values of `--cost`.
enum CostName: String, ExpressibleByArgument, CaseIterable {
    case vectors, bytes, reads, time

    /// The cost, time by the model that was calibrated with the router, or else now.
    func value(for index: DiskIndex) throws -> ReadCost {
        switch self {
        case .vectors: .vectors
        case .bytes: .bytes
        case .reads: .reads
        case .time: .time(try index.policies?.model ?? DeviceModel.calibrate(on: index))
        }
    }
}

/// A value of `--sigma`.
enum Sigma: ExpressibleByArgument, Equatable {
    case auto
    case value(Float)

    init?(argument: String) {
        if argument == "auto" {
            self = .auto
        } else if let value = Float(argument) {
            self = .value(value)
        } else {
            return nil
        }
    }
}
