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

    @OptionGroup(title: HelpTitle.codes) var goalOptions: GoalOptions

    @OptionGroup(title: HelpTitle.router) var routerOptions: RouterOptions

    @OptionGroup(title: HelpTitle.copies) var copyOptions: CopyOptions

    @OptionGroup(title: HelpTitle.work) var work: WorkOptions

    @OptionGroup(title: HelpTitle.work) var resumeOptions: ResumeOptions

    @OptionGroup(title: HelpTitle.research, visibility: .hidden) var research: TrainResearchOptions

    private var router: RouterKind {
        routerOptions.router ?? (residentOptions.resident == nil ? .prototypes : .distance)
    }

    private var duplicate: CopyRule.Name { copyOptions.duplicate ?? .none }

    private var routerChoice: RouterChoice {
        RouterChoice(options: routerOptions, research: research.router)
    }

    var parts: Parts {
        var parts = Parts(router: router, duplicate: duplicate)
        parts.isResident = residentOptions.resident != nil
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
        guard residentOptions.resident != nil else { return }
        if routerOptions.router != nil || research.router.prototypes != nil
            || research.router.prototypeCodes != nil
        {
            throw ValidationError("--resident chooses the router: leave --router and --prototypes out")
        }
        if duplicate != .none { throw ValidationError("--resident plans no copies: leave --duplicate out") }
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
        let goal = residentOptions.resident.map {
            goalOptions.goal(
                $0, baseByteCount: opened.count * opened.dimension * opened.elementType.byteCount)
        }
        let request = JobIdentity(
            [
                ("index", opened.manifest.checksum), ("seed", "\(research.seed)"),
                ("copies", copies.described),
            ]
                + (try training.identity()) + (goal?.identity ?? []))
        if resumeOptions.resume, let report = try FinishedJob.report(at: what.out, of: request) {
            print(report.summary)
            return
        }
        retraining.request = request
        if let goal {
            // Refused before a minute of planning, not after it.
            if resumeOptions.start == .fresh { try AtomicDirectory.create(path: what.out).discard() }
            var planner = ResidentPlanner(index: opened, goal: goal)
            planner.learn = training.learn.map {
                $0.range(0..<min($0.count, training.pairs.learnCount ?? $0.count))
            }
            planner.seed = research.seed
            planner.threads = work.threads
            planner.memoryByteCount = work.memory.byteCount
            let plan = try planner.plan(progress: work.progress)
            print(plan.text)
            plan.apply(to: &retraining)
        }
        print(
            try retraining.run(opened, to: what.out, start: resumeOptions.start, progress: work.progress)
                .summary)
        training.predictor.checkpoints?.discard()
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
