// sonde build: a vector file becomes an index directory.

import ArgumentParser
import Foundation
import Index
import Storage
import Vectors

struct BuildCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "build", abstract: "Build an index on the SSD from a file of vectors.")

    @Option(help: "Vectors to index: fbin, f16bin, u8bin, i8bin, fvecs, bvecs or npy.")
    var base: String

    @Option(help: "Directory to create.")
    var index: String

    @Option(help: "l2, ip or cosine.")
    var metric: MetricName = .l2

    @Option(help: "Number of partitions (default: about 4 sqrt n).")
    var partitions: Int?

    @Option(
        help: "Second copies of vectors: none, closure (SPANN), soar, random, slots, paper, gain or moves.")
    var duplicate: DuplicateName = .none

    @Option(help: "Share of the base that become resident heads, as SPANN does it (0.10-0.16).")
    var heads: Double?

    @OptionGroup var replicaOptions: ReplicaOptions

    @Option(help: "Partitions hold at most what fits into this many 4 KiB pages.")
    var pagesMax: Int?

    @Option(
        help:
            "Vectors that partitions are learned from (default: all that fit, up to four million or 256 a partition)."
    )
    var sample: Int?

    @Option(help: "Rounds of Lloyd's algorithm.")
    var iterations: Int = 20

    @Option(help: "Seed; the same seed gives the same index on any number of threads.")
    var seed: UInt64 = 1

    @Option(
        help: "Cells of each partition that are read by themselves (a second level of clusters), e.g. 16.")
    var subSegments: Int?

    @Option(help: "Router: distance, subcentroids, prototypes (predictor), network or lira.")
    var router: RouterKind = .distance

    @OptionGroup var routerOptions: RouterOptions

    @OptionGroup var residentOptions: ResidentOptions

    @OptionGroup var work: WorkOptions

    @Option(help: "Index only the first N vectors.")
    var first: Int?

    @Option(help: "Leave out the first N vectors of the file; ids count from the one after them.")
    var skip: Int = 0

    func validate() throws {
        guard residentOptions.resident != nil else { return }
        if router != .distance || routerOptions.prototypes != nil || routerOptions.prototypeCodes != nil {
            throw ValidationError("--resident chooses the router: leave --router and --prototypes out")
        }
        if duplicate != .none || heads != nil || subSegments != nil || pagesMax != nil {
            throw ValidationError(
                "--resident plans indexes of whole partitions without copies: leave --duplicate, --heads, "
                    + "--sub-segments and --pages-max out")
        }
    }

    func run() throws {
        let file = try VectorFile.open(path: base, first: first, skip: skip)
        var parameters = BuildParameters()
        parameters.metric = metric.value
        parameters.partitions = partitions
        parameters.duplication = duplication
        parameters.headShare = heads
        parameters.pagesMaximum = pagesMax
        parameters.subSegments = subSegments
        parameters.sampleCount = sample
        parameters.iterations = iterations
        parameters.seed = seed
        parameters.threads = work.threads
        parameters.memoryByteCount = work.memory.byteCount
        // Plain centroid distance needs no pairs; with a learn set its beta is calibrated.
        let training =
            router != .distance || routerOptions.learn != nil
            ? try routerOptions.training(router, seed: seed, work: work) : nil
        guard duplicate.isPlanned else {
            parameters.router = training
            if let goal = residentOptions.goal {
                // Refused before a minute of planning, not after it.
                try AtomicDirectory.create(path: index).discard()
                try plan(goal, for: file).applied(to: &parameters, routerOptions, work: work)
            }
            let report = try IndexBuilder(
                base: file, directory: index, parameters: parameters, progress: work.progress
            ).build()
            print(report.summary)
            return
        }
        // Planned replicas need an index to plan on: it is built beside the target and gone afterwards.
        let target = URL(fileURLWithPath: index)
        let between =
            target.deletingLastPathComponent().path + "/.\(target.lastPathComponent).partitioned-\(getpid())"
        try AtomicDirectory.create(path: index).discard()
        defer { try? FileManager.default.removeItem(atPath: between) }
        let partitioned = try IndexBuilder(
            base: file, directory: between, parameters: parameters, progress: work.progress
        ).build()
        let opened = try DiskIndex(path: between)
        var report = try replicaOptions.retraining(
            duplicate, training: training ?? routerOptions.training(.distance, seed: seed, work: work),
            seed: seed,
            index: opened
        ).run(opened, to: index, progress: work.progress)
        report.stages = partitioned.stages + report.stages
        print(report.summary)
    }

    /// Weighs what the resident budget can buy, and prints it.
    private func plan(_ goal: ResidentGoal, for file: VectorFile) throws -> ResidentPlan {
        var planner = ResidentPlanner(base: file, goal: goal)
        planner.metric = metric.value
        planner.learn = try routerOptions.learn.map {
            let learn = try VectorFile.open(path: $0)
            return learn.range(0..<min(learn.count, routerOptions.pairs ?? learn.count))
        }
        planner.partitions = partitions
        planner.seed = seed
        planner.threads = work.threads
        planner.memoryByteCount = work.memory.byteCount
        return try planner.plan(progress: work.progress)
    }

    private var duplication: Duplication {
        switch duplicate {
        case .closure: .closure(replicas: replicaOptions.replicas, eps1: replicaOptions.eps1)
        case .soar: .soar(lambda: replicaOptions.lambda)
        case .none, .random, .slots, .paper, .gain, .moves, .lira: .none
        }
    }
}

extension ResidentPlan {
    /// Prints the plan and gives its router to a build.
    fileprivate func applied(
        to parameters: inout BuildParameters, _ options: RouterOptions, work: WorkOptions
    ) throws {
        print(text)
        apply(to: &parameters, training: try options.training(.distance, seed: parameters.seed, work: work))
    }
}

/// Values of `--metric`.
enum MetricName: String, ExpressibleByArgument, CaseIterable {
    case l2, ip, cosine

    var value: Metric {
        switch self {
        case .l2: .l2
        case .ip: .ip
        case .cosine: .cosine
        }
    }
}

/// Values of `--duplicate`.
enum DuplicateName: String, ExpressibleByArgument, CaseIterable {
    case none, closure, soar, random, slots, paper, gain, moves, lira

    /// Whether replicas are planned on an index that stands, instead of while vectors are assigned.
    var isPlanned: Bool {
        switch self {
        case .none, .closure, .soar: false
        case .random, .slots, .paper, .gain, .moves, .lira: true
        }
    }
}
