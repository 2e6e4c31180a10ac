// sonde build: a vector file becomes an index directory.

import ArgumentParser
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

    @Option(help: "l2, ip or cosine (default: l2, or what the plan says).")
    var metric: MetricName?

    @Option(help: "Number of partitions (default: chosen with codes and router for the resident bytes).")
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

    @Option(help: "Rounds of Lloyd's algorithm (default: 20).")
    var iterations: Int?

    @Option(help: "Seed (default: 1); the same seed gives the same index on any number of threads.")
    var seed: UInt64?

    @Option(
        help: "Cells of each partition that are read by themselves (a second level of clusters), e.g. 16.")
    var subSegments: Int?

    @Option(
        help: "A code of every vector of so many bytes, or none (default: as many as fit the resident bytes)."
    )
    var codes: CodesName?

    @Option(
        name: .customLong("router"),
        help: "Router: distance, subcentroids, prototypes (predictor), network or lira.")
    var namedRouter: RouterKind?

    private var router: RouterKind { namedRouter ?? .distance }

    @OptionGroup var input: InputOptions

    @OptionGroup var routerOptions: RouterOptions

    @OptionGroup var residentOptions: ResidentOptions

    @OptionGroup var work: WorkOptions

    @Option(help: "Index only the first N vectors.")
    var first: Int?

    @Option(help: "Leave out the first N vectors of the file; ids count from the one after them.")
    var skip: Int = 0

    @OptionGroup var idOptions: IdOptions

    @Option(help: "Partitions of this plan (sonde plan), which decides metric, partitions and seed.")
    var plan: String?

    @Option(help: "Build only share I (from 0) of N of the plan's base, for sonde merge.")
    var shard: ShardName?

    @Flag(help: "With --shard: the base file holds only the rows of this shard.")
    var ownRows = false

    @Flag(
        help:
            "Leave out vectors that are not finite, or zero under cosine, instead of failing; the others keep their ids."
    )
    var skipInvalid = false

    @OptionGroup var resumeOptions: ResumeOptions

    @Flag(help: "Print the plan (stages, bytes, disk space, memory, time) and build nothing.")
    var dryRun = false

    func validate() throws {
        if shard != nil && plan == nil {
            throw ValidationError("--shard needs --plan: shards share partitions")
        }
        if ownRows && shard == nil { throw ValidationError("--own-rows belongs to --shard") }
        if ownRows && idOptions.ids == nil && idOptions.firstId == nil {
            throw ValidationError(
                "--own-rows needs --first-id or --ids: where the rows stand is not told by the file")
        }
        if shard != nil && (duplicate.isPlanned || router != .distance || routerOptions.namesQueries) {
            throw ValidationError(
                "routers and planned copies need the whole base: merge first, then `sonde train`")
        }
        if skipInvalid && (shard != nil || heads != nil) {
            throw ValidationError(
                "--skip-invalid goes with neither --shard nor --heads, which count by position")
        }
        try validateResident()
        guard plan != nil else { return }
        if metric != nil || partitions != nil || heads != nil || pagesMax != nil || sample != nil
            || iterations != nil || seed != nil || subSegments != nil
        {
            throw ValidationError(
                "the plan decides --metric, --partitions, --heads, --pages-max, --sample, --iterations, --seed and "
                    + "--sub-segments")
        }
    }

    private func validateResident() throws {
        if codes != nil {
            if namedRouter != nil || routerOptions.prototypes != nil || routerOptions.prototypeCodes != nil {
                throw ValidationError("--codes chooses the router: leave --router and --prototypes out")
            }
            if duplicate != .none || heads != nil || subSegments != nil || pagesMax != nil || plan != nil {
                throw ValidationError(
                    "--codes builds whole partitions without copies: leave --duplicate, --heads, --sub-segments, "
                        + "--pages-max and --plan out")
            }
        }
        guard residentOptions.resident != nil else { return }
        if router != .distance || routerOptions.prototypes != nil || routerOptions.prototypeCodes != nil {
            throw ValidationError("--resident chooses the router: leave --router and --prototypes out")
        }
        if duplicate != .none || heads != nil || subSegments != nil || pagesMax != nil {
            throw ValidationError(
                "--resident plans indexes of whole partitions without copies: leave --duplicate, --heads, "
                    + "--sub-segments and --pages-max out")
        }
        if plan != nil {
            throw ValidationError(
                "--resident plans partitions: `sonde train --resident` plans a router for those of --plan")
        }
    }

    func run() throws {
        try requireOutputs(
            directories: [index],
            inputs: [base, plan, idOptions.ids, routerOptions.learn, routerOptions.learnTruth])
        var file = try input.openMain(base, first: first, skip: skip)
        var parameters = BuildParameters()
        parameters.metric = (metric ?? .l2).value
        parameters.partitions = partitions
        parameters.duplication = duplication
        parameters.headShare = heads
        parameters.pagesMaximum = pagesMax
        parameters.subSegments = subSegments
        parameters.sampleCount = sample
        parameters.iterations = iterations ?? parameters.iterations
        parameters.seed = seed ?? parameters.seed
        parameters.ids = try idOptions.ids(of: file, path: base)
        parameters.threads = work.threads
        parameters.memoryByteCount = work.memory.byteCount
        if let plan {
            let learned = try PartitionPlan.read(path: plan)
            try learned.apply(to: &parameters)
            if let shard {
                file = try learned.apply(
                    to: &parameters, shard: shard.value, base: file, holdsOwnRows: ownRows)
            }
        }
        let skipped = skipInvalid ? try leaveOutInvalid(of: &file, parameters: &parameters) : 0
        let seed = parameters.seed
        // Plain centroid distance needs no pairs; with queries its beta and thresholds are calibrated.
        let training =
            router != .distance || routerOptions.namesQueries
            ? try routerOptions.training(router, seed: seed, work: work, input: input, for: file.elementType)
            : nil
        if !duplicate.isPlanned { parameters.router = training }
        if let rule = try rule(for: file, parameters: parameters) {
            let choice = try rule.choose()
            print(choice.text)
            choice.apply(
                to: &parameters,
                training: try routerOptions.training(
                    .distance, seed: seed, work: work, input: input, for: file.elementType))
        } else if let goal = residentOptions.goal(baseByteCount: file.count * file.rowByteCount) {
            // Refused before a minute of planning, not after it.
            if resumeOptions.start == .fresh && !dryRun { try AtomicDirectory.create(path: index).discard() }
            try self.plan(goal, for: file, parameters: parameters).applied(
                to: &parameters, routerOptions, work: work, input: input, for: file.elementType)
        }
        let builder = IndexBuilder(
            base: file, directory: index, parameters: parameters,
            progress: work.progress(stages: Self.stages(of: parameters)))
        builder.unit = resumeOptions.workUnit
        builder.start = resumeOptions.start
        let copies =
            try !duplicate.isPlanned
            ? nil
            : replicaOptions.retraining(
                duplicate,
                training: training
                    ?? routerOptions.training(
                        .distance, copies: duplicate, seed: seed, work: work, input: input,
                        for: file.elementType),
                seed: seed, cost: .vectors)
        if dryRun {
            if residentOptions.resident != nil && !resumeOptions.resume {
                PlanTrials(besideIndex: index).discard()
            }
            print(try builder.plan(copies: copies).text(memory: work.memory))
            return
        }
        guard duplicate.isPlanned else {
            print(Self.text(try builder.build(), skipped: skipped))
            if residentOptions.resident != nil { PlanTrials(besideIndex: index).discard() }
            return
        }
        // Planned replicas need an index to plan on, which lies within the directory of the build.
        let after =
            try training
            ?? routerOptions.training(
                .distance, copies: duplicate, seed: seed, work: work, input: input, for: file.elementType)
        let plan = try after.identity().map { ("planned copies, " + $0.name, $0.value) }
        var planned = PlannedBuild(
            builder: builder, plan: [("planned copies", replicaOptions.described(duplicate))] + plan)
        planned.copies = copies
        let report = try planned.run { opened in
            try replicaOptions.retraining(duplicate, training: after, seed: seed, index: opened)
        }
        print(Self.text(report, skipped: skipped))
    }

    /// How many vectors the base has that mean nothing under the metric; they are no part of what is built.
    private func leaveOutInvalid(of file: inout VectorFile, parameters: inout BuildParameters) throws -> Int {
        let rows = try InvalidVectors.rows(
            of: file, metric: parameters.metric, memoryByteCount: work.memory.byteCount,
            progress: work.progress)
        if rows.count == file.count && !rows.isEmpty {
            throw CommandFailure("\(base): none of its \(file.count) vectors can be indexed")
        }
        file = file.leavingOut(rows)
        parameters.ids = parameters.ids.leavingOut(rows)
        parameters.notes["skipped-invalid"] = String(rows.count)
        return rows.count
    }

    private static func text(_ report: BuildReport, skipped: Int) -> String {
        report.summary + (skipped > 0 ? "; \(skipped) invalid vectors left out" : "")
            + (ProcessMemory.peakByteCount().map { ", peak memory \($0 >> 20) MiB" } ?? "")
    }

    /// The rule that chooses partitions and router; nil where a plan does, or where a setting for experts was given.
    private func rule(for file: VectorFile, parameters: BuildParameters) throws -> ResidentRule? {
        let isNamed =
            partitions != nil || namedRouter != nil || duplicate != .none || heads != nil
            || subSegments != nil
            || pagesMax != nil || plan != nil || routerOptions.prototypes != nil
            || routerOptions.prototypeCodes != nil
        guard codes != nil || !isNamed && residentOptions.resident == nil else { return nil }
        var rule = ResidentRule(base: file)
        rule.metric = parameters.metric
        rule.codes = codes?.value ?? .fitting
        rule.partitions = partitions
        rule.residentByteCount = residentOptions.resident?.byteCount(of: file.count * file.rowByteCount)
        rule.memoryByteCount = work.memory.byteCount
        rule.greatestId = try parameters.ids.validated(
            count: file.count, memoryByteCount: work.memory.byteCount
        ).greatest
        return rule
    }

    /// Weighs what the resident budget can buy, and prints it.
    private func plan(
        _ goal: ResidentGoal, for file: VectorFile, parameters: BuildParameters
    ) throws -> ResidentPlan {
        var planner = ResidentPlanner(base: file, goal: goal)
        planner.metric = parameters.metric
        planner.learn = try routerOptions.learn.map {
            try input.open($0, atMost: routerOptions.pairs, as: file.elementType)
        }
        planner.partitions = partitions
        planner.greatestId = try parameters.ids.validated(
            count: file.count, memoryByteCount: work.memory.byteCount
        ).greatest
        planner.seed = parameters.seed
        planner.threads = work.threads
        planner.memoryByteCount = work.memory.byteCount
        let trials = PlanTrials(besideIndex: index)
        if resumeOptions.start != .resume { trials.discard() }
        planner.trials = trials
        return try planner.plan(progress: work.progress)
    }

    /// The stages that a build tells of, in order.
    private static func stages(of parameters: BuildParameters) -> [String] {
        var stages: [String] = []
        if parameters.plan == nil {
            stages += ["sample", parameters.headShare == nil ? "partition" : "heads"]
            stages.append(parameters.subSegments == nil ? "order" : "cells")
            stages.append("index centroids")
        }
        stages += ["assign", "write"]
        if let kind = parameters.router?.predictor.kind, kind != .distance { stages.append("train") }
        return stages + ["publish"]
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
        to parameters: inout BuildParameters, _ options: RouterOptions, work: WorkOptions,
        input: InputOptions,
        for type: ElementType
    ) throws {
        print(text)
        apply(
            to: &parameters,
            training: try options.training(
                .distance, seed: parameters.seed, work: work, input: input, for: type))
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

    /// Whether they are planned by what queries want.
    var needsQueries: Bool {
        switch self {
        case .none, .closure, .soar, .random, .slots: false
        case .paper, .gain, .moves, .lira: true
        }
    }

    /// Whether replicas are planned on an index that stands, instead of while vectors are assigned.
    var isPlanned: Bool {
        switch self {
        case .none, .closure, .soar: false
        case .random, .slots, .paper, .gain, .moves, .lira: true
        }
    }
}
