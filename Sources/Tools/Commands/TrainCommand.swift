// sonde train: another router for an index that stands, and other replicas where asked.

import ArgumentParser
import Build
import Foundation
import Index
import Learn
import Storage
import Vectors

struct TrainCommand: ParsableCommand, ChoosesParts {
    static let configuration = CommandConfiguration(
        commandName: "train",
        abstract: "Retrain the router of an index, or replan its replicas, into a new directory.")

    @OptionGroup(title: HelpTitle.index) var what: TrainOptions

    @OptionGroup(title: HelpTitle.index) var residentOptions: ResidentOptions

    @OptionGroup(title: HelpTitle.index) var input: InputOptions

    @OptionGroup(title: HelpTitle.codes) var codesOption: CodesOption

    @OptionGroup(title: HelpTitle.router) var routerOptions: RouterOptions

    @OptionGroup(title: HelpTitle.copies) var copyOptions: CopyOptions

    @OptionGroup(title: HelpTitle.copies) var goalOptions: GoalOptions

    @OptionGroup(title: HelpTitle.work) var work: WorkOptions

    @OptionGroup(title: HelpTitle.work) var resumeOptions: ResumeOptions

    @OptionGroup(title: HelpTitle.research, visibility: .hidden) var research: TrainResearchOptions

    private var router: RouterKind {
        routerOptions.router ?? (asksRule ? .distance : .prototypes)
    }

    /// Whether codes and router are chosen by rule for a budget, as a build chooses them.
    private var asksRule: Bool { residentOptions.resident != nil || !codesOption.isDefault }

    private var duplicate: CopyRule.Name { copyOptions.duplicate ?? .none }

    private var routerChoice: RouterChoice {
        RouterChoice(options: routerOptions, research: research.router)
    }

    var parts: Parts {
        var parts = Parts(router: router, duplicate: duplicate)
        parts.isResident = asksRule
        parts.isPlain = research.router.mode == .plain
        parts.hasPrototypes = research.router.prototypes != nil
        parts.hasLearn = routerOptions.learn != nil
        parts.trains =
            router != .distance || routerChoice.namesQueries || parts.isResident || duplicate.needsQueries
        return parts
    }

    func validate() throws {
        if research.router.learnTruth != nil
            && (routerOptions.learn == nil || (research.router.synthetic ?? 0) > 0)
        {
            throw ValidationError("--learn-truth belongs to --learn, without --synthetic")
        }
        try codesOption.validatePlace()
        guard asksRule else { return }
        if routerOptions.router != nil || research.router.prototypes != nil
            || research.router.prototypeCodes != nil
        {
            throw ValidationError(
                "--resident and --codes choose the router: leave --router and --prototypes out")
        }
        if duplicate != .none {
            throw ValidationError("--resident and --codes go without copies: leave --duplicate out")
        }
    }

    func run() throws {
        try requireOutputs(
            directories: [what.out], shared: [research.checkpoint],
            inputs: [what.index, routerOptions.learn, research.router.learnTruth])
        let opened = try DiskIndex(path: what.index)
        var training = try routerChoice.training(
            router, copies: duplicate, seed: research.seed, work: work, input: input, for: opened.elementType)
        training.predictor.checkpoints = research.checkpoint.map { TrainingCheckpoints(directory: $0) }
        let copies = Copies(kind: duplicate, options: research.copies, goal: goalOptions)
        var retraining = try copies.retraining(training, seed: research.seed, index: opened)
        var chosen: [String] = []
        if let choice = try rule(for: opened)?.choose() {
            chosen = [choice.text]
            choice.apply(to: &retraining)
        }
        let request = JobIdentity(
            [
                ("index", opened.manifest.checksum), ("seed", "\(research.seed)"),
                ("copies", copies.described),
            ]
                + (try retraining.training.identity())
                + [("resident", retraining.residentByteCount.map { "\($0)" } ?? "any")])
        if resumeOptions.resume, let report = try FinishedJob.report(at: what.out, of: request) {
            print(report.summary)
            return
        }
        retraining.request = request
        chosen.append(
            try retraining.run(opened, to: what.out, start: resumeOptions.start, progress: work.progress)
                .summary)
        print(chosen.joined(separator: "\n"))
        training.predictor.checkpoints?.discard()
    }
}

extension TrainCommand {
    /// The rule that chooses codes and router for the partitions that the index has.
    private func rule(for index: DiskIndex) throws -> ResidentRule? {
        guard asksRule else { return nil }
        var rule = ResidentRule(
            count: index.count, dimension: index.dimension, elementType: index.elementType)
        rule.metric = index.metric
        rule.partitions = index.partitionCount
        rule.codes = codesOption.codes?.value ?? (index.mayHoldCodes ? .fitting : .none)
        rule.codesAreInIndex = codesOption.codesIn.map { $0 == .index }
        rule.residentByteCount = residentOptions.resident?.byteCount(
            of: index.count * index.dimension * index.elementType.byteCount)
        rule.memoryByteCount = work.memory.byteCount
        rule.greatestId = index.ids.greatest
        return rule
    }
}

/// Which index is read and which is made.
struct TrainOptions: ParsableArguments {
    @Option(help: "Index directory; it is only read.")
    var index: String

    @Option(help: "Directory to create; unchanged segments are linked, not copied.")
    var out: String
}

/// What the authors of a method turn.
struct TrainResearchOptions: ParsableArguments {
    @Option(help: "Seed of training and planning.")
    var seed: UInt64 = 1

    @OptionGroup var router: RouterResearchOptions

    @OptionGroup var copies: CopyResearchOptions

    @Option(
        help:
            "Directory for the state of training: the same command goes on there after a kill. (--resume keeps it beside --out by itself.)"
    )
    var checkpoint: String?
}
