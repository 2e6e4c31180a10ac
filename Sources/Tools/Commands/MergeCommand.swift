// sonde merge: shards of one plan become one index.

import ArgumentParser
import Build
import Index

struct MergeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "merge", abstract: "Join the shards of a plan into one index, without building again.")

    @Argument(help: "All shards of the base, in any order.")
    var shards: [String]

    @OptionGroup(title: HelpTitle.index) var target: MergeOptions

    @OptionGroup(title: HelpTitle.work) var memory: MemoryOption

    @OptionGroup(title: HelpTitle.work) var quiet: QuietOption

    @OptionGroup(title: HelpTitle.work) var resumeOptions: ResumeOptions

    @OptionGroup(title: HelpTitle.research, visibility: .hidden) var unit: UnitOption

    func run() throws {
        try requireOutputs(directories: [target.out], inputs: shards)
        var merger = IndexMerger()
        merger.memoryByteCount = memory.memory.byteCount
        merger.progress = quiet.progress
        merger.start = resumeOptions.start
        merger.unit = unit.workUnit
        print(try merger.merge(shards, to: target.out).summary)
        print(
            "no recall can be declared yet: `sonde train --index \(target.out) --out DIR` finds its thresholds"
        )
    }
}

/// What is made.
struct MergeOptions: ParsableArguments {
    @Option(help: "Index directory to create.")
    var out: String
}
