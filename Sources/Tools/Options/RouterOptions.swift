// The options of a learned router, shared by build and train.

import ArgumentParser
import Build
import Index
import Learn
import Storage
import Vectors

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
    @Option(help: "Router: distance, subcentroids, prototypes (predictor), network or lira.")
    var router: RouterKind?

    @Option(help: "Learn queries: drawn like those that will be asked, never those that will be measured.")
    var learn: String?

    @Option(help: "Use at most this many learn queries.")
    var pairs: Int?

    func validate() throws {
        if let pairs, pairs < 64 { throw ValidationError("--pairs must be at least 64") }
    }
}

/// The shape of a router and its training.
struct RouterResearchOptions: ParsableArguments {
    @Option(
        help:
            "Neighbours of the learn queries where they are known (see `sonde truth`); else the index finds them."
    )
    var learnTruth: String?

    @Option(
        help:
            "Training queries made from base vectors, beside the learn queries (default: 200000 without --learn)."
    )
    var synthetic: Int?

    @Option(
        help:
            "Mean number of prototypes a partition (default: 16); given with --router network, the network corrects prototypes."
    )
    var prototypes: Double?

    @Option(help: "Keep prototypes as product-quantised codes of this many bytes, beside two for the weight.")
    var prototypeCodes: Int?

    @Option(help: "network: widths of its hidden layers (default: 256,256).")
    var hidden: IntList?

    @Option(
        help: "network: residual on distances or prototypes, or plain: without them (default: residual).")
    var mode: NetworkMode?

    // Held-out learn rows chose two: 16 prototypes read 7,329 vectors there, 7,454 after one, 7,476 after four.
    @Option(help: "Passes over the training pairs (default: 2).")
    var epochs: Int?

    @Option(help: "Standard deviation of Gaussian noise on training queries (default: 0).")
    var noise: Float?

    @Option(
        help:
            "What a partition is wanted for: the nearest neighbour, or the k nearest (default: topk for lira)."
    )
    var labels: LabelName?

    @Option(help: "The k of --labels topk, up to 100 (default: 10).")
    var targets: Int?

    @Option(help: "lira: widths of each tower's layers (default: 128,64).")
    var tower: IntList?

    @Option(help: "Partitions that the router gives a probability (default: 256).")
    var candidates: Int?

    @Flag(
        help:
            "Refine probabilities by ranks and ratios of the candidates' distances: two bytes a partition, best where partitions are many."
    )
    var refine = false

    func validate() throws {
        if let targets, !(1...100).contains(targets) {
            throw ValidationError("--targets must be from 1 to 100")
        }
        if targets != nil && labels == .nearest {
            throw ValidationError("--targets belongs to --labels topk")
        }
        guard candidates ?? 1 >= 1 else { throw ValidationError("--candidates must be at least 1") }
        if let prototypeCodes, !(1...256).contains(prototypeCodes) {
            throw ValidationError("--prototype-codes must be from 1 to 256")
        }
        if let synthetic, synthetic < 0 { throw ValidationError("--synthetic must be 0 or more") }
    }
}

/// The router that is asked for, with all that decides it.
struct RouterChoice {
    var options: RouterOptions
    var research: RouterResearchOptions
    /// Settings of a published method, which options go before.
    var method: MethodName?

    /// Whether queries were named to learn from.
    var namesQueries: Bool { options.learn != nil || (research.synthetic ?? 0) > 0 }

    /// The training asked for.
    ///
    /// - Parameter copies: second copies that are planned with it, some of which need queries.
    func training(
        _ kind: RouterKind, copies: CopyRule.Name = .none, seed: UInt64, work: WorkOptions,
        input: InputOptions,
        for type: ElementType
    ) throws -> RouterTraining {
        var training = RouterTraining()
        training.predictor.kind = kind
        training.predictor.prototypes = research.prototypes ?? 16
        training.predictor.onPrototypes = kind == .network && research.prototypes != nil
        training.predictor.codeByteCount = research.prototypeCodes
        training.predictor.hidden = research.hidden?.values ?? [256, 256]
        training.predictor.plain = (research.mode ?? method?.mode) == .plain
        training.predictor.candidates = research.candidates ?? 256
        training.predictor.refines = research.refine
        training.predictor.training.epochs = research.epochs ?? method?.epochs ?? 2
        training.predictor.training.noise = research.noise ?? 0
        let targets = research.targets ?? method?.targets
        let isTopK = targets != nil || research.labels.map { $0 == .topk } ?? (kind == .lira)
        let depth = isTopK ? targets ?? 10 : 1
        training.predictor.training.targets = depth
        training.predictor.lira.depth = depth
        training.predictor.lira.tower = research.tower?.values ?? [128, 64]
        training.pairs.neighbourCount = max(10, depth)
        training.predictor.training.seed = seed
        training.predictor.training.threads = work.threads
        training.pairs.learnCount = options.pairs
        training.pairs.seed = seed
        training.pairs.threads = work.threads
        training.pairs.memoryByteCount = work.memory.byteCount
        training.learn = try options.learn.map { try input.open($0, atMost: options.pairs, as: type) }
        training.labels = try research.learnTruth.map { try TruthFile.read(path: $0) }
        // Without a learn set the base itself makes the queries; plain distance asks for none unless told to.
        training.pairs.syntheticCount =
            research.synthetic
            ?? (options.learn == nil && (kind != .distance || copies.needsQueries) ? 200_000 : 0)
        return training
    }
}
