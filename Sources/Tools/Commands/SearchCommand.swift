// sonde search: answers for a file of queries, and what each of them cost.

import ArgumentParser
import Foundation
import Index
import Storage
import Vectors

struct SearchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "search", abstract: "Find the k nearest vectors of each query.")

    @Option(help: "Index directory.")
    var index: String

    @Option(help: "File of queries, of the index's element type and dimension.")
    var queries: String

    @Option(name: .short, help: "Neighbours wanted.")
    var k: Int = 10

    @OptionGroup var policy: PolicyOptions

    @Option(
        help: "Rounds of reads at most; later ones use the distances found (gain policy, trained router).")
    var rounds: Int = 1

    @Option(
        help:
            "Results: big-ann layout (n, k, ids, distances), .ids64 (ids of 64 bits), .csv, .jsonl; .ivecs or .npy: ids only."
    )
    var out: String?

    @Option(help: "Write the counters of each query as CSV.")
    var counters: String?

    @Option(help: "Truth file: print the recall.")
    var truth: String?

    @Flag(
        help: "With --truth: how many partitions were read, how many an oracle needs, how many held nothing.")
    var probing = false

    @Option(help: "Queries that each thread keeps in flight; 1 answers one at a time (latency mode).")
    var inflight: Int = 8

    @Option(help: "Ask only the first N queries.")
    var first: Int?

    @OptionGroup var cache: CacheOptions

    @OptionGroup var limit: ResidentLimit

    @OptionGroup var input: InputOptions

    @OptionGroup var badQueries: BadQueryOptions

    @OptionGroup var work: WorkOptions

    func validate() throws {
        try policy.requireOne()
        if out == nil && counters == nil && truth == nil {
            throw ValidationError("give --out FILE for the answers, or --counters or --truth")
        }
        if probing && truth == nil { throw ValidationError("--probing needs --truth FILE") }
    }

    func run() throws {
        try requireOutputs(files: [out, counters], inputs: [index, queries, truth, cache.cacheLearn])
        var opened = try limit.open(index)
        if let out { try opened.requireRoomForIds(in: out) }
        let rows = try input.openQueries(queries, for: opened, first: first)
            .readAll(checkFinite: badQueries.onBadQuery == .fail)
        let given = try truth.map { try TruthFile.read(path: $0) }
        if let given { try opened.validate(truth: given, queryCount: rows.count, k: k) }
        var parameters = SearchParameters(
            k: k, policy: try policy.policy(for: opened, k: k, rounds: rounds), threads: work.threads,
            inFlight: inflight,
            cost: try policy.readCost(for: opened))
        parameters.rounds = rounds
        parameters.answersInvalidEmpty = badQueries.onBadQuery == .empty
        policy.noteDrift(opened.drift(of: rows, threads: work.threads))
        opened = try cache.applied(
            to: opened, policy: parameters.policy, cost: parameters.cost, threads: work.threads,
            input: input)
        let result = try opened.search(rows, parameters: parameters)
        if let out { try result.answers.write(path: out) }
        if let counters {
            try writeText(
                ([QueryCounters.columns.joined(separator: ",")]
                    + result.counters.enumerated().map { $1.csv(query: $0) }).joined(separator: "\n") + "\n",
                path: counters)
        }
        // Before a figure is told: a recall of a wrong truth is none.
        let expected = try given.map {
            try opened.checked(
                truth: $0, path: truth ?? "", k: k, answers: result.answers,
                queries: { rows.gather($0.map { UInt32($0) }) })
        }
        print(summary(result, opened: opened))
        if let expected {
            let recall = Recall.mean(of: result.answers, against: expected, k: k, metric: opened.metric)
            print(Report.recall(recall, k: k, truth: expected, queries: rows.count))
            if probing {
                print(
                    Report.text(
                        try opened.probing(
                            queries: rows, truth: expected, k: k, policy: parameters.policy,
                            cost: parameters.cost,
                            threads: work.threads)))
            }
        }
    }

    private func summary(_ result: SearchResult, opened: DiskIndex) -> String {
        let n = Double(max(result.counters.count, 1))
        func mean(_ value: (QueryCounters) -> UInt64) -> String {
            String(format: "%.1f", result.counters.reduce(0.0) { $0 + Double(value($1)) } / n)
        }
        func micro(_ value: (QueryCounters) -> UInt64) -> String {
            String(format: "%.1f", result.counters.reduce(0.0) { $0 + Double(value($1)) } / n / 1000)
        }
        return "\(result.counters.count) queries in \(String(format: "%.3f", result.wallSeconds)) s, "
            + "\(String(format: "%.0f", n / result.wallSeconds)) a second (\(opened.deviceKind)); a query: "
            + "vectors \(mean(\.vectors))\(opened.cache == nil ? "" : " (cached \(mean(\.cached)))"), distinct \(mean(\.distinct)), segments \(mean(\.segments)), "
            + "pages \(mean(\.pages)), bytes \(mean(\.bytes)), reads \(mean(\.reads)), rounds \(mean(\.rounds)); "
            + "us of routing \(micro(\.routeNanoseconds)), waiting \(micro(\.waitNanoseconds)), "
            + "scanning \(micro(\.scanNanoseconds)) (bound: \(result.bound)); latency ms mean "
            + String(format: "%.3f, p99 %.3f; ", result.latency.mean, result.latency.p99)
            + "resident \(opened.residentByteCount) bytes"
            + BadQueryOptions.text(result.invalidQueries.count)
    }
}
