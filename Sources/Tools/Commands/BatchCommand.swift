// sonde batch: answers for a file of queries of any size, offline: many queries share each read.

import ArgumentParser
import Build
import Foundation
import Index
import Learn
import Storage
import Vectors

struct BatchCommand: ParsableCommand, ChoosesParts {
    static let configuration = CommandConfiguration(
        commandName: "batch",
        abstract: "Answer a large file of queries, reading each segment once for all of them.",
        discussion: """
            Answers are those of `sonde search`. A run that was killed goes on with --resume. A job \
            array gives each job --shard I/N, and joins the parts: `sonde batch --merge PART... --out F`.
            """)

    @OptionGroup(title: HelpTitle.queries) var what: BatchOptions

    @OptionGroup(title: HelpTitle.queries) var input: InputOptions

    @OptionGroup(title: HelpTitle.queries) var badQueries: BadQueryOptions

    @OptionGroup(title: HelpTitle.stop) var policyOptions: PolicyOptions

    @OptionGroup(title: HelpTitle.shards) var shards: BatchShardOptions

    @OptionGroup(title: HelpTitle.results) var results: BatchResultOptions

    @OptionGroup(title: HelpTitle.work) var work: WorkOptions

    @OptionGroup(title: HelpTitle.work) var limit: ResidentLimit

    @OptionGroup(title: HelpTitle.work) var block: BlockOption

    @OptionGroup(title: HelpTitle.work) var resumeOptions: ResumeOptions

    @OptionGroup(title: HelpTitle.research, visibility: .hidden) var published: PublishedPolicyOptions

    private var policy: PolicyChoice {
        PolicyChoice(options: policyOptions, published: published, reads: .segments)
    }

    var parts: Parts {
        var parts = Parts()
        parts.weighsGain = policy.weighsGain
        parts.joins = !shards.merge.isEmpty
        return parts
    }

    func validate() throws {
        guard shards.merge.isEmpty else { return }
        guard what.index != nil, what.queries != nil else {
            throw ValidationError("give --index DIR and --queries F, or --merge PART...")
        }
        try policy.validate()
        if results.truth != nil && shards.shard != nil {
            throw ValidationError("--truth is of all queries: merge the shards first")
        }
    }

    func run() throws {
        let (k, truth) = (what.k, results.truth)
        try requireOutputs(files: [what.out], inputs: [what.index, what.queries, truth] + shards.merge)
        guard shards.merge.isEmpty, let index = what.index, let queries = what.queries else {
            let parts = try wholeParts(shards.merge)
            let (count, k) = try PartialResult.merge(parts, out: what.out)
            print("\(parts.count) parts joined: \(count) queries, \(k) neighbours each")
            return
        }
        let opened = try limit.open(index)
        let file = try input.openQueries(queries, for: opened, first: what.first, skip: what.skip)
        let expected = try truth.map { try TruthFile.read(path: $0) }
        if let expected { try opened.validate(truth: expected, queryCount: file.count, k: k) }
        if policy.cost == .time && opened.policies == nil {
            throw CommandFailure(
                "\(index): --cost time needs the model of the device that training measures: two runs of a batch "
                    + "have to agree on it (see sonde train)")
        }
        var search = SearchParameters(
            k: k, policy: try policy.policy(for: opened, k: k), threads: work.threads,
            cost: try policy.readCost(for: opened))
        try policy.noteDrift(try opened.drift(of: file, threads: work.threads))
        search.rounds = policy.rounds
        search.answersInvalidEmpty = badQueries.onBadQuery == .empty
        var parameters = BatchParameters(search: search, memoryByteCount: work.memory.byteCount)
        parameters.shard = shards.shard?.value
        parameters.queriesAtOnceMaximum = block.block
        parameters.start = resumeOptions.start
        let summary = try opened.batch(file, out: what.out, parameters: parameters, progress: work.progress)
        var report = BatchReport(summary, parameters: search, index: opened)
        guard let expected else {
            print(results.json ? try Report.json(report) : report.text)
            return
        }
        let answers = try TruthFile.read(path: what.out)
        let checked = try opened.checked(truth: expected, path: truth ?? "", k: k, answers: answers) {
            try file.rows(Array($0))
        }
        let recall = Recall.mean(of: answers, against: checked, k: k, metric: opened.metric)
        report.run.recall = recall
        print(results.json ? try Report.json(report) : report.text)
        if !results.json { print(Report.recall(recall, k: k, truth: checked, queries: file.count)) }
    }

    /// The parts without what killed runs of the same names have left: `part-*` meets those, too.
    private func wholeParts(_ merge: [String]) throws -> [String] {
        let parts = merge.filter { !$0.hasSuffix(".part") && !$0.hasSuffix(".journal") }
        for left in merge where left.hasSuffix(".part") {
            let whole = String(left.dropLast(".part".count))
            guard parts.contains(whole) else {
                throw CommandFailure(
                    "\(left): is what a run that did not finish has left of \(whole): run its command again, then merge"
                )
            }
        }
        return parts
    }
}

extension VectorFile {
    /// Some rows, wherever they lie.
    fileprivate func rows(_ wanted: [Int]) throws -> VectorMatrix {
        let rows = VectorMatrix(count: wanted.count, dimension: dimension, elementType: elementType)
        for (place, row) in wanted.enumerated() { try read(rows: row..<row + 1, into: rows, at: place) }
        return rows
    }
}

/// What is asked, and where the answers go.
struct BatchOptions: ParsableArguments {
    @Option(help: "Index directory.")
    var index: String?

    @Option(help: "File of queries, of the index's element type and dimension.")
    var queries: String?

    @Option(name: .short, help: "Neighbours wanted.")
    var k: Int = 10

    @Option(
        help: "Results: big-ann layout (n, k, ids, distances), .ivecs or .ids64; with --shard a part.")
    var out: String

    @Option(help: "Ask only the first N queries.")
    var first: Int?

    @Option(help: "Leave out the first N queries.")
    var skip: Int = 0
}

/// One job of an array, and what joins them.
struct BatchShardOptions: ParsableArguments {
    @Option(help: "Answer only share I (from 0) of N of the queries, into a part for --merge.")
    var shard: ShardName?

    @Option(parsing: .upToNextOption, help: "Join these parts of one job into --out.")
    var merge: [String] = []
}

/// What a batch tells of itself.
struct BatchResultOptions: ParsableArguments {
    @Option(help: "Truth file: print the recall (reads all answers into memory).")
    var truth: String?

    @Flag(help: "Print the summary as JSON.")
    var json = false
}

/// What a kill may cost.
struct BlockOption: ParsableArguments {
    @Option(help: "Queries of a block at most: what a kill may cost. Otherwise as many as --memory holds.")
    var block: Int?
}

/// "I/N": share I, from 0, of N.
struct ShardName: ExpressibleByArgument {
    var value: Shard

    init?(argument: String) {
        let parts = argument.split(separator: "/", omittingEmptySubsequences: false).map { Int($0) }
        guard parts.count == 2, let index = parts[0], let count = parts[1], count >= 1,
            (0..<count).contains(index)
        else { return nil }
        value = Shard(index: index, count: count)
    }
}
