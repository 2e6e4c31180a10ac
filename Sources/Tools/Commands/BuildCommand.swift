// sonde build: a vector file becomes an index directory.

import ArgumentParser
import Build
import Index
import Learn
import Storage
import Vectors

struct BuildCommand: ParsableCommand, ChoosesParts {
    static let configuration = CommandConfiguration(
        commandName: "build", abstract: "Build an index on the SSD from a file of vectors.")

    @OptionGroup(title: HelpTitle.index) var what: BuildOptions

    @OptionGroup(title: HelpTitle.index) var residentOptions: ResidentOptions

    @OptionGroup(title: HelpTitle.index) var input: InputOptions

    @OptionGroup(title: HelpTitle.index) var rows: RowOptions

    @OptionGroup(title: HelpTitle.index) var idOptions: IdOptions

    @OptionGroup(title: HelpTitle.codes) var codesOption: CodesOption

    @OptionGroup(title: HelpTitle.copies) var goalOptions: GoalOptions

    @OptionGroup(title: HelpTitle.router) var routerOptions: RouterOptions

    @OptionGroup(title: HelpTitle.copies) var copyOptions: CopyOptions

    @OptionGroup(title: HelpTitle.shards) var shards: ShardOptions

    @OptionGroup(title: HelpTitle.work) var work: WorkOptions

    @OptionGroup(title: HelpTitle.work) var resumeOptions: ResumeOptions

    @OptionGroup(title: HelpTitle.work) var dryRunOption: DryRunOption

    @OptionGroup(title: HelpTitle.research, visibility: .hidden) var research: BuildResearchOptions

    private var method: MethodName? { research.method }
    private var router: RouterKind { routerOptions.router ?? method?.router ?? .distance }
    private var duplicate: CopyRule.Name { copyOptions.duplicate ?? method?.duplicate ?? .none }
    private var heads: Double? { research.heads ?? method?.heads }

    private var routerChoice: RouterChoice {
        RouterChoice(options: routerOptions, research: research.router, method: method)
    }

    private var copies: Copies {
        Copies(kind: duplicate, options: research.copies, goal: goalOptions, method: method)
    }

    var parts: Parts {
        var parts = Parts(router: router, duplicate: duplicate, method: method)
        parts.hasHeads = heads != nil
        parts.hasPlan = shards.plan != nil
        parts.isResident = residentOptions.resident != nil
        parts.isPlain = research.router.mode == .plain
        parts.hasPrototypes = research.router.prototypes != nil
        parts.hasLearn = routerOptions.learn != nil
        parts.trains =
            router != .distance || routerChoice.namesQueries || parts.isResident || choosesByRule
            || duplicate.needsQueries
        return parts
    }

    func validate() throws {
        let shard = shards.shard
        if shards.ownRows && idOptions.ids == nil && idOptions.firstId == nil {
            throw ValidationError(
                "--own-rows needs --first-id or --ids: where the rows stand is not told by the file")
        }
        if shard != nil && (duplicate.isPlanned || router != .distance || routerChoice.namesQueries) {
            throw ValidationError(
                "routers and planned copies need the whole base: merge first, then `sonde train`")
        }
        if what.skipInvalid && (shard != nil || heads != nil) {
            throw ValidationError(
                "--skip-invalid goes with neither --shard nor --heads, which count by position")
        }
        if research.router.learnTruth != nil
            && (routerOptions.learn == nil || (research.router.synthetic ?? 0) > 0)
        {
            throw ValidationError("--learn-truth belongs to --learn, without --synthetic")
        }
        try validateResident()
        let partitions = research.partitions
        guard shards.plan != nil else { return }
        if what.metric != nil || what.partitions != nil || heads != nil || partitions.pagesMax != nil
            || partitions.sample != nil || partitions.iterations != nil || partitions.seed != nil
            || partitions.subSegments != nil
        {
            throw ValidationError(
                "the plan decides --metric, --partitions, --heads, --pages-max, --sample, --iterations, --seed and "
                    + "--sub-segments")
        }
    }

    private func validateResident() throws {
        try codesOption.validatePlace()
        if !codesOption.isDefault {
            if routerOptions.router != nil || research.router.prototypes != nil
                || research.router.prototypeCodes != nil
            {
                throw ValidationError("--codes chooses the router: leave --router and --prototypes out")
            }
            if duplicate != .none || heads != nil || research.partitions.subSegments != nil
                || research.partitions.pagesMax != nil || shards.plan != nil
            {
                throw ValidationError(
                    "--codes builds whole partitions without copies: leave --duplicate, --heads, --sub-segments, "
                        + "--pages-max and --plan out")
            }
        }
        guard residentOptions.resident != nil else { return }
        if router != .distance || research.router.prototypes != nil || research.router.prototypeCodes != nil {
            throw ValidationError("--resident chooses the router: leave --router and --prototypes out")
        }
        if duplicate != .none || heads != nil || research.partitions.subSegments != nil
            || research.partitions.pagesMax != nil
        {
            throw ValidationError(
                "--resident plans indexes of whole partitions without copies: leave --duplicate, --heads, "
                    + "--sub-segments and --pages-max out")
        }
        if shards.plan != nil {
            throw ValidationError(
                "--resident plans partitions: `sonde train --resident` plans a router for those of --plan")
        }
    }

    func run() throws {
        try requireOutputs(
            directories: [what.index],
            inputs: [what.base, shards.plan, idOptions.ids, routerOptions.learn, research.router.learnTruth])
        var file = try input.openMain(what.base, first: rows.first, skip: rows.skip)
        var parameters = try parameters(for: file)
        if let plan = shards.plan {
            let learned = try SharedPartitions.read(path: plan)
            try learned.apply(to: &parameters)
            if let shard = shards.shard {
                file = try learned.apply(
                    to: &parameters, shard: shard.value, base: file, holdsOwnRows: shards.ownRows)
            }
        }
        let skipped = what.skipInvalid ? try leaveOutInvalid(of: &file, parameters: &parameters) : 0
        let seed = parameters.seed
        // Plain centroid distance needs no pairs; with queries its beta and thresholds are calibrated.
        let training =
            router != .distance || routerChoice.namesQueries
            ? try routerChoice.training(router, seed: seed, work: work, input: input, for: file.elementType)
            : nil
        if !duplicate.isPlanned { parameters.router = training }
        // Told with the report: what is refused says nothing else.
        var chosen: [String] = []
        if let choice = try rule(for: file, parameters: parameters)?.choose() {
            chosen = [choice.text]
            choice.apply(
                to: &parameters,
                training: try routerChoice.training(
                    .distance, seed: seed, work: work, input: input, for: file.elementType))
        }
        let builder = IndexBuilder(
            base: file, directory: what.index, parameters: parameters,
            progress: work.progress(stages: Self.stages(of: parameters)))
        builder.unit = research.unit.workUnit
        builder.start = resumeOptions.start
        let copies = copies
        // Planned replicas need an index to plan on, and what its router learns.
        let after =
            !duplicate.isPlanned
            ? nil
            : try training
                ?? routerChoice.training(
                    .distance, copies: duplicate, seed: seed, work: work, input: input, for: file.elementType)
        let expected = after.map { copies.retraining($0, seed: seed, cost: .vectors) }
        if dryRunOption.dryRun {
            chosen.append(try builder.plan(copies: expected).text(memory: work.memory))
            print(chosen.joined(separator: "\n"))
            return
        }
        guard let after else {
            chosen.append(Self.text(try builder.build(), skipped: skipped))
            print(chosen.joined(separator: "\n"))
            return
        }
        let plan = try after.identity().map { ("planned copies, " + $0.name, $0.value) }
        // That index lies within the directory of the build.
        var planned = BuildWithCopies(builder: builder, plan: [("planned copies", copies.described)] + plan)
        planned.copies = expected
        let report = try planned.run { try copies.retraining(after, seed: seed, index: $0) }
        print(Self.text(report, skipped: skipped))
    }

    private func parameters(for file: VectorFile) throws -> BuildParameters {
        var parameters = BuildParameters()
        parameters.metric = (what.metric ?? .l2).value
        parameters.partitions = what.partitions
        parameters.copyRule = copies.assignmentRule
        parameters.headShare = heads
        parameters.pagesMaximum =
            research.partitions.pagesMax ?? method?.pagesMax(file.elementType, dimension: file.dimension)
        parameters.subSegments = research.partitions.subSegments
        parameters.sampleCount = research.partitions.sample
        parameters.iterations = research.partitions.iterations ?? parameters.iterations
        parameters.seed = research.partitions.seed ?? parameters.seed
        parameters.ids = try idOptions.ids(of: file, path: what.base)
        parameters.threads = work.threads
        parameters.memoryByteCount = work.memory.byteCount
        if let method { parameters.notes["method"] = method.rawValue }
        return parameters
    }

    /// How many vectors the base has that mean nothing under the metric; they are no part of what is built.
    private func leaveOutInvalid(of file: inout VectorFile, parameters: inout BuildParameters) throws -> Int {
        let rows = try InvalidVectors.rows(
            of: file, metric: parameters.metric, memoryByteCount: work.memory.byteCount,
            progress: work.progress)
        if rows.count == file.count && !rows.isEmpty {
            throw CommandFailure("\(what.base): none of its \(file.count) vectors can be indexed")
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

    /// Whether partitions and router are chosen by rule: neither by a plan, nor by a setting for experts.
    private var choosesByRule: Bool {
        let isNamed =
            what.partitions != nil && residentOptions.resident == nil || routerOptions.router != nil
            || duplicate != .none || heads != nil
            || research.partitions.subSegments != nil || research.partitions.pagesMax != nil
            || shards.plan != nil || research.router.prototypes != nil
            || research.router.prototypeCodes != nil || method != nil
        return !codesOption.isDefault || !isNamed
    }

    /// The rule that chooses them; nil where it is not asked.
    private func rule(for file: VectorFile, parameters: BuildParameters) throws -> ResidentRule? {
        guard choosesByRule else { return nil }
        var rule = ResidentRule(base: file)
        rule.metric = parameters.metric
        rule.codes = codesOption.codes?.value ?? .fitting
        rule.codesAreInIndex = codesOption.codesIn.map { $0 == .index }
        rule.partitions = what.partitions
        rule.residentByteCount = residentOptions.resident?.byteCount(of: file.count * file.rowByteCount)
        rule.memoryByteCount = work.memory.byteCount
        rule.greatestId = try parameters.ids.validated(
            count: file.count, memoryByteCount: work.memory.byteCount
        ).greatest
        return rule
    }

    /// The stages that a build tells of, in order.
    private static func stages(of parameters: BuildParameters) -> [String] {
        var stages: [String] = []
        if parameters.plan == nil {
            stages += ["sample", parameters.headShare == nil ? "partition" : "heads"]
            stages.append(parameters.subSegments == nil ? "order" : "cells")
            stages.append("index centroids")
        }
        stages += ["assign", "group", "write"]
        if let kind = parameters.router?.predictor.kind, kind != .distance { stages.append("train") }
        return stages + ["publish"]
    }
}

/// What is indexed, and as what.
struct BuildOptions: ParsableArguments {
    @Option(help: "Vectors to index: fbin, f16bin, u8bin, i8bin, fvecs, bvecs or npy.")
    var base: String

    @Option(help: "Directory to create.")
    var index: String

    @Option(help: "l2, ip or cosine (default: l2, or what the plan says).")
    var metric: MetricName?

    @Option(help: "Number of partitions (default: chosen with codes and router for the resident bytes).")
    var partitions: Int?

    @Flag(
        help:
            "Leave out vectors that are not finite, or zero under cosine, instead of failing; the others keep their ids."
    )
    var skipInvalid = false
}

/// What one machine builds of a base that many build together.
struct ShardOptions: ParsableArguments {
    @Option(help: "Partitions of this plan (sonde plan), which decides metric, partitions and seed.")
    var plan: String?

    @Option(help: "Build only share I (from 0) of N of the plan's base, for sonde merge.")
    var shard: ShardName?

    @Flag(help: "With --shard: the base file holds only the rows of this shard.")
    var ownRows = false

    func validate() throws {
        if shard != nil && plan == nil {
            throw ValidationError("--shard needs --plan: shards share partitions")
        }
        if ownRows && shard == nil { throw ValidationError("--own-rows belongs to --shard") }
    }
}

struct DryRunOption: ParsableArguments {
    @Flag(help: "Print the plan (stages, bytes, disk space, memory, time) and build nothing.")
    var dryRun = false
}

/// What the authors of a method turn.
struct BuildResearchOptions: ParsableArguments {
    @Option(
        help:
            "A published system with its published settings: kmeans, spann, soar, storage-nn or lira; it decides router and copies."
    )
    var method: MethodName?

    @Option(help: "Share of the base that become resident heads, as SPANN does it (0.10-0.16).")
    var heads: Double?

    @OptionGroup var partitions: PartitionResearchOptions

    @OptionGroup var router: RouterResearchOptions

    @OptionGroup var copies: CopyResearchOptions

    @OptionGroup var unit: UnitOption
}
