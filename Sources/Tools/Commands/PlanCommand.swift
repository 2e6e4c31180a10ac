// sonde plan: learns the partitions that all shards of a base share.

import ArgumentParser
import Foundation
import Index
import Storage
import Vectors

struct PlanCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan", abstract: "Learn partitions once, for builds of many shards.",
        discussion: """
            A job array gives each job `sonde build --plan P --shard I/N --base F --index SHARD-I`, and \
            `sonde merge SHARD... --out DIR` joins them into one index.
            """)

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

    @Option(help: "Partitions hold at most what fits into this many 4 KiB pages, as far as the sample tells.")
    var pagesMax: Int?

    @Option(
        help:
            "Vectors that partitions are learned from (default: all that fit, up to four million or 256 a partition)."
    )
    var sample: Int?

    @Option(help: "Rounds of Lloyd's algorithm.")
    var iterations: Int = 20

    @Option(help: "Seed; the same seed gives the same plan on any number of threads.")
    var seed: UInt64 = 1

    @Option(help: "Cells of each partition that are read by themselves, as in build.")
    var subSegments: Int?

    @OptionGroup var input: InputOptions

    @OptionGroup var work: WorkOptions

    @OptionGroup var resumeOptions: ResumeOptions

    @Option(help: "Learn from the first N vectors only.")
    var first: Int?

    @Option(help: "Leave out the first N vectors of the file.")
    var skip: Int = 0

    func run() throws {
        try requireOutputs(directories: [out], inputs: [base])
        let file = try input.openMain(base, first: first, skip: skip)
        var parameters = BuildParameters()
        parameters.metric = metric.value
        parameters.partitions = partitions
        parameters.pagesMaximum = pagesMax
        parameters.subSegments = subSegments
        parameters.sampleCount = sample
        parameters.iterations = iterations
        parameters.seed = seed
        parameters.wholeCount = count
        parameters.threads = work.threads
        parameters.memoryByteCount = work.memory.byteCount
        let report = try PartitionPlan.learn(
            base: file, parameters: parameters, directory: out, progress: work.progress,
            start: resumeOptions.start, unit: resumeOptions.workUnit)
        print(report.summary)
    }
}
