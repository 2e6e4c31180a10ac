// sonde merge: shards of one plan become one index.

import ArgumentParser
import Index

struct MergeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "merge", abstract: "Join the shards of a plan into one index, without building again.")

    @Argument(help: "All shards of the base, in any order.")
    var shards: [String]

    @Option(help: "Index directory to create.")
    var out: String

    @OptionGroup var work: WorkOptions

    @OptionGroup var resumeOptions: ResumeOptions

    func run() throws {
        try requireOutputs(directories: [out], inputs: shards)
        var merger = IndexMerger()
        merger.memoryByteCount = work.memory.byteCount
        merger.progress = work.progress
        merger.start = resumeOptions.start
        merger.unit = resumeOptions.workUnit
        print(try merger.merge(shards, to: out).summary)
        print("no recall can be declared yet: `sonde train --index \(out) --out DIR` finds its thresholds")
    }
}
