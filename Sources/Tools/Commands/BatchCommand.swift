// sonde batch: answers for a file of queries of any size, offline: many queries share each read.

import ArgumentParser
import Foundation
import Index
import Storage
import Vectors

struct BatchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "batch",
        abstract: "Answer a large file of queries, reading each segment once for all of them.",
        discussion: """
            Answers are those of `sonde search`. A run that was killed is continued by the same command. A job \
            array gives each job --shard I/N, and joins the parts: `sonde batch --merge PART... --out F`.
            """)

    @Option(help: "Index directory.")
    var index: String?

    @Option(help: "File of queries, of the index's element type and dimension.")
    var queries: String?

    @Option(name: .short, help: "Neighbours wanted.")
    var k: Int = 10

    @OptionGroup var policy: PolicyOptions

    @Option(help: "Waves of reads at most; later ones use the distances found (gain policy, trained router).")
    var rounds: Int = 1

    @Option(
        help: "Results: big-ann layout (n, k, ids, distances), .ivecs or .ids64; with --shard a part.")
    var out: String

    @Option(help: "Answer only share I (from 0) of N of the queries, into a part for --merge.")
    var shard: ShardName?

    @Option(parsing: .upToNextOption, help: "Join these parts of one job into --out.")
    var merge: [String] = []

    @Flag(help: "Begin anew, whatever a run that was killed has left.")
    var restart = false

    @Option(help: "Queries of a block at most: what a kill may cost. Otherwise as many as --memory holds.")
    var block: Int?

    @Option(help: "Truth file: print the recall (reads all answers into memory).")
    var truth: String?

    @Option(help: "Ask only the first N queries.")
    var first: Int?

    @Option(help: "Leave out the first N queries.")
    var skip: Int = 0

    @OptionGroup var limit: ResidentLimit

    @OptionGroup var input: InputOptions

    @OptionGroup var badQueries: BadQueryOptions

    @OptionGroup var work: WorkOptions

    func validate() throws {
        if !merge.isEmpty {
            if index != nil || queries != nil || shard != nil || policy.isGiven || truth != nil {
                throw ValidationError("--merge joins parts that are there: give it only --out")
            }
            return
        }
        guard index != nil, queries != nil else {
            throw ValidationError("give --index DIR and --queries F, or --merge PART...")
        }
        try policy.requireOne()
        if truth != nil && shard != nil {
            throw ValidationError("--truth is of all queries: merge the shards first")
        }
    }

    func run() throws {
        try requireOutputs(files: [out], inputs: [index, queries, truth] + merge)
        guard merge.isEmpty, let index, let queries else {
            let parts = try wholeParts()
            let (count, k) = try PartialResult.merge(parts, out: out)
            print("\(parts.count) parts joined: \(count) queries, \(k) neighbours each")
            return
        }
        let opened = try limit.open(index)
        let file = try input.openQueries(queries, for: opened, first: first, skip: skip)
        let expected = try truth.map { try TruthFile.read(path: $0) }
        if let expected { try opened.validate(truth: expected, queryCount: file.count, k: k) }
        if policy.cost == .time && opened.policies == nil {
            throw CommandFailure(
                "\(index): --cost time needs the model of the device that training measures: two runs of a batch "
                    + "have to agree on it (see sonde train)")
        }
        var search = SearchParameters(
            k: k, policy: try policy.policy(for: opened, k: k, rounds: rounds), threads: work.threads,
            cost: try policy.readCost(for: opened))
        try policy.noteDrift(try opened.drift(of: file, threads: work.threads))
        search.rounds = rounds
        search.answersInvalidEmpty = badQueries.onBadQuery == .empty
        var parameters = BatchParameters(search: search, memoryByteCount: work.memory.byteCount)
        parameters.shard = shard?.value
        parameters.queriesAtOnceMaximum = block
        parameters.restarts = restart
        let summary = try opened.batch(file, out: out, parameters: parameters, progress: work.progress)
        print(text(summary, opened: opened))
        if let expected {
            let answers = try TruthFile.read(path: out)
            let checked = try opened.checked(truth: expected, path: truth ?? "", k: k, answers: answers) {
                wanted in
                let rows = VectorMatrix(
                    count: wanted.count, dimension: file.dimension, elementType: file.elementType)
                for (place, row) in wanted.enumerated() {
                    try file.read(rows: row..<row + 1, into: rows, at: place)
                }
                return rows
            }
            let recall = Recall.mean(of: answers, against: checked, k: k, metric: opened.metric)
            print(Report.recall(recall, k: k, truth: checked, queries: file.count))
        }
    }

    /// The parts without what killed runs of the same names have left: `part-*` meets those, too.
    private func wholeParts() throws -> [String] {
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

    private func text(_ summary: BatchSummary, opened: DiskIndex) -> String {
        func seconds(_ value: Double) -> String { String(format: "%.3f s", value) }
        let sweep = summary.sweep
        let peak = ProcessMemory.peakByteCount().map { ", peak memory \($0 >> 20) MiB" } ?? ""
        let each = String(format: "%.1f", Double(sweep.comparisons) / Double(max(summary.queries, 1)))
        return "\(summary.queries) queries in \(seconds(summary.wallSeconds)), "
            + String(format: "%.0f", summary.queriesPerSecond) + " a second (\(opened.deviceKind))"
            + (summary.continued > 0 ? ", after \(summary.continued) of a run before" : "")
            + "; blocks \(summary.blocks), waves \(summary.waves), reads \(sweep.reads), bytes \(sweep.bytes) at "
            + String(format: "%.2f GB/s", summary.bytesPerSecond / 1e9)
            + ", segments \(sweep.segments), records read \(sweep.vectors), comparisons \(sweep.comparisons) "
            + "(\(each) a query); files \(seconds(summary.fileSeconds)), route \(seconds(summary.routeSeconds)), wait "
            + "\(seconds(summary.waitSeconds)), scan \(seconds(summary.scanSeconds))\(peak); "
            + "resident \(opened.residentByteCount) bytes"
            + BadQueryOptions.text(summary.invalidQueries)
    }
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
