// sonde plan: learns the partitions that all shards of a base share.

import ArgumentParser
import Build
import Foundation
import Index
import Learn
import Storage
import Vectors

struct PlanCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan", abstract: "Learn partitions once, for builds of many shards.",
        discussion: """
            A job array gives each job `sonde build --plan P --shard I/N --base F --index SHARD-I`, and \
            `sonde merge SHARD... --out DIR` joins them into one index.
            """)

    @OptionGroup(title: HelpTitle.index) var what: PlanOptions

    @OptionGroup(title: HelpTitle.index) var input: InputOptions

    @OptionGroup(title: HelpTitle.index) var rows: RowOptions

    @OptionGroup(title: HelpTitle.work) var work: WorkOptions

    @OptionGroup(title: HelpTitle.work) var resumeOptions: ResumeOptions

    @OptionGroup(title: HelpTitle.research, visibility: .hidden) var research: PartitionResearchOptions

    @OptionGroup(title: HelpTitle.research, visibility: .hidden) var unit: UnitOption

    func run() throws {
        try requireOutputs(directories: [what.out], inputs: [what.base])
        let file = try input.openMain(what.base, first: rows.first, skip: rows.skip)
        var parameters = BuildParameters()
        parameters.metric = what.metric.value
        parameters.partitions = what.partitions
        parameters.pagesMaximum = research.pagesMax
        parameters.subSegments = research.subSegments
        parameters.sampleCount = research.sample
        parameters.iterations = research.iterations ?? parameters.iterations
        parameters.seed = research.seed ?? parameters.seed
        parameters.wholeCount = what.count
        parameters.threads = work.threads
        parameters.memoryByteCount = work.memory.byteCount
        let report = try SharedPartitions.learn(
            base: file, parameters: parameters, directory: what.out, progress: work.progress,
            start: resumeOptions.start, unit: unit.workUnit)
        print(report.summary)
    }
}

/// What is planned, and from what.
struct PlanOptions: ParsableArguments {
    @Option(help: "Vectors to learn from: the whole base, or some of it with --count.")
    var base: String

    @Option(help: "Plan directory to create.")
    var out: String

    @Option(help: "Vectors of the whole base, where --base holds some of them.")
    var count: Int?

    @Option(help: "l2, ip or cosine.")
    var metric: MetricName = .l2

    @Option(help: "Number of partitions (default: about 4 sqrt n).")
    var partitions: Int?
}
