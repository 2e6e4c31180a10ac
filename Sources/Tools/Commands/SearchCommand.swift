// sonde search: answers for a file of queries, and what each of them cost.

import ArgumentParser
import Build
import Foundation
import Index
import Learn
import Storage
import Vectors

struct SearchCommand: ParsableCommand, ChoosesParts {
    static let configuration = CommandConfiguration(
        commandName: "search", abstract: "Find the k nearest vectors of each query.")

    @OptionGroup(title: HelpTitle.queries) var what: SearchOptions

    @OptionGroup(title: HelpTitle.queries) var input: InputOptions

    @OptionGroup(title: HelpTitle.queries) var badQueries: BadQueryOptions

    @OptionGroup(title: HelpTitle.stop) var policyOptions: PolicyOptions

    @OptionGroup(title: HelpTitle.results) var results: SearchResultOptions

    @OptionGroup(title: HelpTitle.work) var inFlight: InFlightOption

    @OptionGroup(title: HelpTitle.work) var threads: ThreadOption

    @OptionGroup(title: HelpTitle.work) var limit: ResidentLimit

    @OptionGroup(title: HelpTitle.work) var cache: CacheOptions

    @OptionGroup(title: HelpTitle.work) var quiet: QuietOption

    @OptionGroup(title: HelpTitle.research, visibility: .hidden) var published: PublishedPolicyOptions

    private var policy: PolicyChoice { PolicyChoice(options: policyOptions, published: published) }

    var parts: Parts {
        var parts = Parts()
        parts.weighsGain = policy.weighsGain
        return parts
    }

    func validate() throws {
        try policy.validate()
        if what.out == nil && results.counters == nil && results.truth == nil {
            throw ValidationError("give --out FILE for the answers, or --counters or --truth")
        }
        if results.json && results.probing {
            throw ValidationError("--probing prints tables: it does not go with --json")
        }
    }

    func run() throws {
        let k = what.k
        try requireOutputs(
            files: [what.out, results.counters],
            inputs: [what.index, what.queries, results.truth, cache.cacheLearn])
        var opened = try limit.open(what.index)
        if let out = what.out { try opened.requireRoomForIds(in: out) }
        let rows = try input.openQueries(what.queries, for: opened, first: what.first)
            .readAll(checkFinite: badQueries.onBadQuery == .fail)
        let given = try results.truth.map { try TruthFile.read(path: $0) }
        if let given { try opened.validate(truth: given, queryCount: rows.count, k: k) }
        var parameters = SearchParameters(
            k: k, policy: try policy.policy(for: opened, k: k), threads: threads.threads,
            inFlight: inFlight.inflight, cost: try policy.readCost(for: opened))
        parameters.rounds = policy.rounds
        parameters.answersInvalidEmpty = badQueries.onBadQuery == .empty
        opened = try cache.applied(
            to: opened, policy: parameters.policy, cost: parameters.cost, threads: threads.threads,
            input: input)
        policy.noteDrift(opened.drift(of: rows, threads: threads.threads))
        let result = try opened.search(rows, parameters: parameters)
        if let out = what.out { try result.answers.write(path: out) }
        if let counters = results.counters { try write(result.counters, path: counters) }
        // Before a figure is told: a recall of a wrong truth is none.
        let expected = try given.map {
            try opened.checked(
                truth: $0, path: results.truth ?? "", k: k, answers: result.answers,
                queries: { rows.gather($0.map { UInt32($0) }) })
        }
        var summary = SearchSummary(result, parameters: parameters, index: opened)
        summary.run.recall = expected.map {
            Recall.mean(of: result.answers, against: $0, k: k, metric: opened.metric)
        }
        if let expected, let declared = policy.declaredRecall {
            summary.shareBelow = Recall.shareBelow(
                declared, of: result.answers, against: expected, k: k, metric: opened.metric)
        }
        print(results.json ? try Report.json(summary) : summary.text)
        guard !results.json, let expected, let recall = summary.run.recall else { return }
        print(
            Report.recall(recall, k: k, truth: expected, queries: rows.count)
                + (summary.expectedRecall.map { String(format: ", expected by the codes %.4f", $0) } ?? ""))
        if let declared = policy.declaredRecall, let share = summary.shareBelow {
            print(
                String(
                    format: "%.1f %% of queries found less than %g, each for itself", 100 * share, declared))
        }
        if results.probing {
            print(
                Report.text(
                    try opened.probing(
                        queries: rows, truth: expected, k: k, policy: parameters.policy,
                        cost: parameters.cost, threads: threads.threads)))
        }
    }

    private func write(_ counters: [QueryCounters], path: String) throws {
        let lines = counters.enumerated().map { $1.csv(query: $0) }
        try writeText(
            ([QueryCounters.columns.joined(separator: ",")] + lines).joined(separator: "\n") + "\n",
            path: path)
    }
}

/// What is asked, and where the answers go.
struct SearchOptions: ParsableArguments {
    @Option(help: "Index directory.")
    var index: String

    @Option(help: "File of queries, of the index's element type and dimension.")
    var queries: String

    @Option(name: .short, help: "Neighbours wanted.")
    var k: Int = 10

    @Option(
        help:
            "Results: big-ann layout (n, k, ids, distances), .ids64 (ids of 64 bits), .csv, .jsonl; .ivecs or .npy: ids only."
    )
    var out: String?

    @Option(help: "Ask only the first N queries.")
    var first: Int?
}

/// What a search tells of itself.
struct SearchResultOptions: ParsableArguments {
    @Option(help: "Truth file: print the recall.")
    var truth: String?

    @Option(help: "Write the counters of each query as CSV.")
    var counters: String?

    @Flag(
        help: "With --truth: how many partitions were read, how many an oracle needs, how many held nothing.")
    var probing = false

    @Flag(help: "Print the summary as JSON.")
    var json = false

    func validate() throws {
        if probing && truth == nil { throw ValidationError("--probing needs --truth FILE") }
    }
}

/// How many queries are on their way at a time.
struct InFlightOption: ParsableArguments {
    @Option(help: "Queries that each thread keeps in flight; 1 answers one at a time (latency mode).")
    var inflight: Int = 8
}
