// The options of a learned router, shared by build and train.

import ArgumentParser
import Index
import Storage

/// Values of `--router`; "predictor" is the form that is trained for the nearest by default.
extension RouterKind: ExpressibleByArgument {
    public init?(argument: String) {
        guard
            let kind = RouterKind(
                rawValue: argument == "predictor" ? RouterKind.prototypes.rawValue : argument)
        else {
            return nil
        }
        self = kind
    }
}

/// Values of `--labels`.
enum LabelName: String, ExpressibleByArgument, CaseIterable {
    case nearest, topk
}

/// Values of `--mode`.
enum NetworkMode: String, ExpressibleByArgument, CaseIterable {
    case residual, plain
}

struct RouterOptions: ParsableArguments {
    @Option(help: "Learn queries: drawn like those that will be asked, never those that will be measured.")
    var learn: String?

    @Option(
        help:
            "Neighbours of the learn queries where they are known (see `sonde truth`); else the index finds them."
    )
    var learnTruth: String?

    @Option(help: "Use at most this many learn queries.")
    var pairs: Int?

    @Option(help: "Training queries made from base vectors, beside the learn queries.")
    var synthetic: Int?

    @Option(
        help:
            "Mean number of prototypes a partition; given with --router network, the network corrects prototypes."
    )
    var prototypes: Double?

    @Option(help: "Keep prototypes as product-quantised codes of this many bytes, beside two for the weight.")
    var prototypeCodes: Int?

    @Option(help: "Widths of the network's hidden layers.")
    var hidden: IntList = IntList([256, 256])

    @Option(help: "Network as residual on distances or prototypes, or plain.")
    var mode: NetworkMode = .residual

    // Held-out learn rows chose two: 16 prototypes read 7,329 vectors there, 7,454 after one, 7,476 after four.
    @Option(help: "Passes over the training pairs.")
    var epochs: Int = 2

    @Option(help: "Standard deviation of Gaussian noise on training queries.")
    var noise: Float = 0

    @Option(
        help:
            "What a partition is wanted for: the nearest neighbour, or the k nearest (default: topk for lira)."
    )
    var labels: LabelName?

    @Option(help: "The k of --labels topk, up to 100.")
    var targets: Int?

    @Option(help: "lira: widths of each tower's layers.")
    var tower: IntList = IntList([128, 64])

    @Option(help: "Partitions that the router gives a probability.")
    var candidates: Int = 256

    @Flag(
        help:
            "Refine probabilities by ranks and ratios of the candidates' distances: two bytes a partition, best where partitions are many."
    )
    var refine = false

    /// The training asked for.
    ///
    /// - Parameter copies: second copies that are planned with it, some of which need queries.
    func training(
        _ kind: RouterKind, copies: DuplicateName = .none, seed: UInt64, work: WorkOptions
    ) throws -> RouterTraining {
        var training = RouterTraining()
        training.predictor.kind = kind
        training.predictor.prototypes = prototypes ?? 16
        training.predictor.onPrototypes = kind == .network && prototypes != nil
        training.predictor.codeByteCount = prototypeCodes
        training.predictor.hidden = hidden.values
        training.predictor.plain = mode == .plain
        training.predictor.candidates = candidates
        training.predictor.refines = refine
        training.predictor.training.epochs = epochs
        training.predictor.training.noise = noise
        let isTopK = targets != nil || labels.map { $0 == .topk } ?? (kind == .lira)
        let depth = isTopK ? targets ?? 10 : 1
        training.predictor.training.targets = depth
        training.predictor.lira.depth = depth
        training.predictor.lira.tower = tower.values
        training.pairs.neighbourCount = max(10, depth)
        training.predictor.training.seed = seed
        training.predictor.training.threads = work.threads
        training.pairs.learnCount = pairs
        training.pairs.seed = seed
        training.pairs.threads = work.threads
        training.pairs.memoryByteCount = work.memory.byteCount
        training.learn = try learn.map { try VectorFile.open(path: $0) }
        training.labels = try learnTruth.map { try TruthFile.read(path: $0) }
        // Without a learn set the base itself makes the queries; plain distance asks for none unless told to.
        training.pairs.syntheticCount =
            synthetic ?? (learn == nil && (kind != .distance || copies.needsQueries) ? 200_000 : 0)
        return training
    }

    /// Whether queries were named to learn from.
    var namesQueries: Bool { learn != nil || (synthetic ?? 0) > 0 }

    func validate() throws {
        if let targets, !(1...100).contains(targets) {
            throw ValidationError("--targets must be from 1 to 100")
        }
        if targets != nil && labels == .nearest {
            throw ValidationError("--targets belongs to --labels topk")
        }
        guard candidates >= 1 else { throw ValidationError("--candidates must be at least 1") }
        if let prototypeCodes, !(1...256).contains(prototypeCodes) {
            throw ValidationError("--prototype-codes must be from 1 to 256")
        }
        if learnTruth != nil && (learn == nil || (synthetic ?? 0) > 0) {
            throw ValidationError("--learn-truth belongs to --learn, without --synthetic")
        }
        if let pairs, pairs < 64 { throw ValidationError("--pairs must be at least 64") }
        if let synthetic, synthetic < 0 { throw ValidationError("--synthetic must be 0 or more") }
    }
}
