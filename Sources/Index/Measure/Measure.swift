// Sweeps a policy's parameter over an index and accounts for what each recall cost, all through the same
// search that users call.

import Foundation
import Router
import Storage
import Vectors

extension DiskIndex {
    /// Measures every policy against `truth`: recall at each of `ks`, mean costs, throughput with
    /// `parameters.threads` and latencies with one query at a time.
    ///
    /// - Parameter latencyQueries: how many queries are asked one at a time for the latency columns.
    public func measure(
        queries: VectorMatrix, truth given: TruthFile, truthPath: String = "truth", ks: [Int],
        policies: [Policy], parameters: SearchParameters, latencyQueries: Int = 1000,
        progress: JobProgress = .none
    ) throws(IndexError) -> Measurement {
        try IndexError.door {
            try sweep(
                queries: queries, truth: given, truthPath: truthPath, ks: ks, policies: policies,
                parameters: parameters, latencyQueries: latencyQueries, progress: progress)
        }
    }

    private func sweep(
        queries: VectorMatrix, truth given: TruthFile, truthPath: String, ks: [Int], policies: [Policy],
        parameters: SearchParameters, latencyQueries: Int, progress: JobProgress
    ) throws -> Measurement {
        let deepest = ks.max() ?? 1
        try validate(truth: given, queryCount: queries.count, k: deepest)
        var truth = given
        var rows: [Measurement.Row] = []
        for (position, policy) in policies.enumerated() {
            var sweep = parameters
            sweep.k = deepest
            sweep.policy = policy
            let result = try search(queries, parameters: sweep)
            // The first answers fill in distances, the last ones are the deepest.
            if position == 0 || position == policies.count - 1 {
                truth = try checked(
                    truth: given, path: truthPath, k: deepest, answers: result.answers,
                    queries: { queries.gather($0.map { UInt32($0) }) })
            }
            var single = sweep
            single.threads = 1
            single.inFlight = 1
            let few = queries.gather(0..<min(latencyQueries, queries.count))
            let alone = try search(few, parameters: single)
            rows.append(
                row(policy: policy, result: result, alone: alone, truth: truth, ks: ks))
            progress(stage: "measure", done: position + 1, total: policies.count)
        }
        return Measurement(
            data: .init(
                n: count, d: dimension, dtype: elementType.name, metric: metric.name, queries: queries.count),
            index: .init(
                partitions: partitionCount, replication: replication, residentByteCount: residentByteCount,
                indexByteCount: Int(manifest.totalByteCount),
                duplicate: manifest.build["duplicate"] ?? "none",
                router: manifest.build["router"] ?? "distance", device: deviceKind, kernels: KernelTier.name),
            rows: rows, at: Measurement.interpolate(rows, ks: ks))
    }

    /// Refuses a truth that cannot be that of `queryCount` queries against this base to depth `k`.
    public func validate(truth: TruthFile, queryCount: Int, k: Int) throws(IndexError) {
        guard queryCount > 0 else { throw .invalid("there are no queries, and so no recall of them") }
        guard truth.count >= queryCount, truth.k >= k else {
            throw .otherTruth(
                "the truth holds \(truth.k) neighbours of \(truth.count) queries; \(k) of \(queryCount) are needed"
            )
        }
        let asked = truth.ids.prefix(queryCount * truth.k)
        if let stray = asked.first(where: { $0 != TruthFile.noId && !ids.contains($0) }) {
            throw .otherTruth(
                "the truth names vector \(stray), but \(path) holds \(count)"
                    + (manifest.ids == nil ? "" : " with ids from \(ids.least) to \(ids.greatest)")
                    + ": it is the truth of another base"
            )
        }
    }

    private func row(
        policy: Policy, result: SearchResult, alone: SearchResult, truth: TruthFile, ks: [Int]
    ) -> Measurement.Row {
        let count = Double(max(result.counters.count, 1))
        func mean(_ value: (QueryCounters) -> UInt64) -> Double {
            result.counters.reduce(0.0) { $0 + Double(value($1)) } / count
        }
        let route = mean(\.routeNanoseconds) / 1000
        let wait = mean(\.waitNanoseconds) / 1000
        let scan = mean(\.scanNanoseconds) / 1000
        var recall: [String: Double] = [:]
        for k in ks {
            recall[String(k)] = Recall.mean(of: result.answers, against: truth, k: k, metric: metric)
        }
        return Measurement.Row(
            policy: policy.name, parameter: policy.parameter, recall: recall, vectors: mean(\.vectors),
            cached: mean(\.cached), distinct: mean(\.distinct), segments: mean(\.segments),
            pages: mean(\.pages), bytes: mean(\.bytes),
            reads: mean(\.reads), rounds: mean(\.rounds), qps: count / result.wallSeconds,
            latency: Self.latency(alone.counters), routeMicroseconds: route, waitMicroseconds: wait,
            scanMicroseconds: scan,
            bound: result.bound)
    }

    static func latency(_ counters: [QueryCounters]) -> Measurement.Latency {
        let sorted = counters.map { Double($0.latencyNanoseconds) / 1e6 }.sorted()
        guard !sorted.isEmpty else { return .init(mean: 0, p50: 0, p99: 0, p999: 0) }
        func quantile(_ share: Double) -> Double {
            sorted[min(sorted.count - 1, Int((Double(sorted.count) * share).rounded(.down)))]
        }
        return .init(
            mean: sorted.reduce(0, +) / Double(sorted.count), p50: quantile(0.5), p99: quantile(0.99),
            p999: quantile(0.999))
    }
}

/// Recall as docs/reference/counters.md defines it.
public enum Recall {
    /// Mean over queries of |answer ∩ truth| / k over the first k of both. An answer at exactly the
    /// distance of the true k-th counts as right; distances of floating-point vectors are compared with the
    /// rounding of their sums. Rows with fewer than k true neighbours are counted over those.
    ///
    /// Believes the truth: see `DiskIndex.checked`.
    public static func mean(of answers: TruthFile, against truth: TruthFile, k: Int, metric: Metric) -> Double
    {
        let found = (0..<answers.count).map { self.found(answers, $0, truth: truth, k: k, metric: metric) }
        let all = found.reduce(0) { $0 + $1.of }
        return Double(found.reduce(0) { $0 + $1.right }) / Double(max(all, 1))
    }

    /// The share of queries whose own recall@k is below what is wanted; counted as `mean` counts.
    public static func shareBelow(
        _ wanted: Double, of answers: TruthFile, against truth: TruthFile, k: Int, metric: Metric
    ) -> Double {
        let below = (0..<answers.count).count {
            let found = found(answers, $0, truth: truth, k: k, metric: metric)
            // Shares of whole neighbours: 9.5 of 10 are 10.
            return Double(found.right) < wanted * Double(found.of) - 1e-9
        }
        return Double(below) / Double(max(answers.count, 1))
    }

    /// How many of a query's true neighbours were found, and how many there are.
    private static func found(
        _ answers: TruthFile, _ query: Int, truth: TruthFile, k: Int, metric: Metric
    ) -> (right: Int, of: Int) {
        let count = existing(truth, query: query, k: k)
        let wanted = Set((0..<count).map { truth.id(query: query, rank: $0) })
        let limit = limit(truth, query: query, count: count, metric: metric)
        var found = 0
        for rank in 0..<min(k, answers.k) {
            let id = answers.id(query: query, rank: rank)
            guard id != TruthFile.noId else { continue }
            if wanted.contains(id) || answers.distance(query: query, rank: rank) <= limit { found += 1 }
        }
        return (min(found, count), count)
    }

    /// True neighbours of a query among the first k: places that are filled.
    static func existing(_ truth: TruthFile, query: Int, k: Int) -> Int {
        (0..<k).first { truth.id(query: query, rank: $0) == TruthFile.noId } ?? k
    }

    /// Queries of the first `count` with fewer than k true neighbours.
    public static func shortRows(_ truth: TruthFile, count: Int, k: Int) -> Int {
        (0..<count).count { existing(truth, query: $0, k: k) < k }
    }

    /// The distance up to which an answer is as near as the last true neighbour whose distance is known.
    private static func limit(_ truth: TruthFile, query: Int, count: Int, metric: Metric) -> Float {
        var last = -Float.infinity
        for rank in 0..<count {
            let distance = truth.distance(query: query, rank: rank)
            if !distance.isNaN { last = max(last, distance) }
        }
        guard last.isFinite else { return last }
        // A sum of products rounded in another order differs in its last bits; of near copies the kernels
        // keep all digits, of other directions seven behind the one.
        return last + abs(last) * 2e-6 + (metric == .cosine && last >= 0x1p-5 ? 2e-7 : 0)
    }
}

extension SearchResult {
    /// What limits throughput: "disk" where workers wait longer than they route or scan, else the longer of the two.
    public var bound: String {
        func sum(_ value: (QueryCounters) -> UInt64) -> UInt64 { counters.reduce(0) { $0 + value($1) } }
        let (route, wait, scan) = (sum(\.routeNanoseconds), sum(\.waitNanoseconds), sum(\.scanNanoseconds))
        return wait >= max(route, scan) ? "disk" : (route >= scan ? "routing" : "scan")
    }

    /// Latencies of the queries, in milliseconds: those of single queries where one was in flight at a time.
    public var latency: Measurement.Latency { DiskIndex.latency(counters) }
}
