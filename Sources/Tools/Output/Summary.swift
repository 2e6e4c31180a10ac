// What search and batch tell of a run: a few lines for people, JSON for programs. The names of the coded keys are the
// command line's promise (docs/reference/counters.md).

import Build
import Foundation
import Index
import Storage
import Vectors

/// What both tell: where it ran, how it stopped, what it found.
struct RunSummary: Encodable {
    var queries: Int
    var k: Int
    /// Queries answered empty because distances to them mean nothing.
    var invalidQueries: Int
    var policy: String
    var parameter: Double
    var seconds: Double
    var queriesPerSecond: Double
    /// How segments were read (see `BlockDevice.kind`).
    var device: String
    /// The tier of kernels.
    var kernels: String
    var threads: Int
    var residentByteCount: Int
    /// Recall@k; nil without a truth.
    var recall: Double?

    enum CodingKeys: String, CodingKey {
        case queries, k, policy, parameter, seconds, device, kernels, threads, recall
        case invalidQueries = "invalid_queries"
        case queriesPerSecond = "queries_per_second"
        case residentByteCount = "resident_bytes"
    }

    init(
        queries: Int, invalidQueries: Int, seconds: Double, parameters: SearchParameters, index: DiskIndex
    ) {
        self.queries = queries
        k = parameters.k
        self.invalidQueries = invalidQueries
        policy = parameters.policy.name
        parameter = parameters.policy.parameter
        self.seconds = seconds
        queriesPerSecond = Double(queries) / max(seconds, 1e-9)
        device = index.deviceKind
        kernels = KernelTier.name
        threads = parameters.threads
        residentByteCount = index.residentByteCount
    }

    /// The first line, which both begin with; `more` stands behind what was counted.
    fileprivate func heading(_ more: String = "") -> String {
        "\(queries) queries in " + String(format: "%.3f s, %.0f a second", seconds, queriesPerSecond)
            + " (\(device))\(more), kernels \(kernels)\(BadQueryOptions.text(invalidQueries))"
    }
}

/// A search: the run, and means of what a query cost.
struct SearchSummary: Encodable {
    /// Means over the queries; times in microseconds.
    struct Means: Encodable {
        var vectors: Double
        var cached: Double
        var distinct: Double
        var segments: Double
        var pages: Double
        var bytes: Double
        var reads: Double
        var rounds: Double
        var route: Double
        var wait: Double
        var scan: Double

        enum CodingKeys: String, CodingKey {
            case vectors, cached, distinct, segments, pages, bytes, reads, rounds
            case route = "route_us"
            case wait = "wait_us"
            case scan = "scan_us"
        }

        init(_ counters: [QueryCounters]) {
            func mean(_ value: (QueryCounters) -> UInt64) -> Double {
                counters.reduce(0.0) { $0 + Double(value($1)) } / Double(max(counters.count, 1))
            }
            (vectors, cached, distinct) = (mean(\.vectors), mean(\.cached), mean(\.distinct))
            (segments, pages, bytes) = (mean(\.segments), mean(\.pages), mean(\.bytes))
            (reads, rounds) = (mean(\.reads), mean(\.rounds))
            route = mean(\.routeNanoseconds) / 1000
            wait = mean(\.waitNanoseconds) / 1000
            scan = mean(\.scanNanoseconds) / 1000
        }
    }

    var run: RunSummary
    var inFlight: Int
    var means: Means
    var latency: Index.Measurement.Latency
    var bound: String
    /// By the codes' own account, where they chose pages.
    var expectedRecall: Double?
    /// With a truth: the share of queries that found less than the declared recall, each for itself.
    var shareBelow: Double?
    private let hasCache: Bool

    private enum CodingKeys: String, CodingKey {
        case means = "a_query"
        case latency = "latency_ms"
        case inFlight = "inflight"
        case bound
        case expectedRecall = "expected_recall"
        case shareBelow = "share_below"
    }

    init(_ result: SearchResult, parameters: SearchParameters, index: DiskIndex) {
        run = RunSummary(
            queries: result.counters.count, invalidQueries: result.invalidQueries.count,
            seconds: result.wallSeconds, parameters: parameters, index: index)
        inFlight = parameters.inFlight
        means = Means(result.counters)
        latency = result.latency
        bound = result.bound
        expectedRecall = result.expectedRecall
        hasCache = index.cache != nil
    }

    func encode(to encoder: any Encoder) throws {
        try run.encode(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(means, forKey: .means)
        try container.encode(latency, forKey: .latency)
        try container.encode(inFlight, forKey: .inFlight)
        try container.encode(bound, forKey: .bound)
        try container.encodeIfPresent(expectedRecall, forKey: .expectedRecall)
        try container.encodeIfPresent(shareBelow, forKey: .shareBelow)
    }

    var text: String {
        func short(_ value: Double) -> String { String(format: "%.1f", value) }
        let cached = hasCache ? " (cached \(short(means.cached)))" : ""
        return """
            \(run.heading())
            a query: vectors \(short(means.vectors))\(cached), distinct \(short(means.distinct)), segments \
            \(short(means.segments)), pages \(short(means.pages)), bytes \(short(means.bytes)), reads \
            \(short(means.reads)), rounds \(short(means.rounds))
            us of routing \(short(means.route)), waiting \(short(means.wait)), scanning \(short(means.scan)) \
            (bound: \(bound))
            latency ms mean \(String(format: "%.3f, p99 %.3f", latency.mean, latency.p99))
            resident \(run.residentByteCount) bytes
            """
    }
}

/// A batch: the run, and its work in all.
struct BatchReport: Encodable {
    var run: RunSummary
    private let summary: BatchSummary
    private let peakByteCount: UInt64?

    private enum CodingKeys: String, CodingKey {
        case continued, blocks, waves, reads, bytes, segments, vectors, comparisons
        case bytesPerSecond = "bytes_per_second"
        case fileSeconds = "file_seconds"
        case routeSeconds = "route_seconds"
        case waitSeconds = "wait_seconds"
        case scanSeconds = "scan_seconds"
        case peakByteCount = "peak_bytes"
    }

    init(_ summary: BatchSummary, parameters: SearchParameters, index: DiskIndex) {
        run = RunSummary(
            queries: summary.queries, invalidQueries: summary.invalidQueries, seconds: summary.wallSeconds,
            parameters: parameters, index: index)
        self.summary = summary
        peakByteCount = ProcessMemory.peakByteCount()
    }

    func encode(to encoder: any Encoder) throws {
        try run.encode(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(summary.continued, forKey: .continued)
        try container.encode(summary.blocks, forKey: .blocks)
        try container.encode(summary.waves, forKey: .waves)
        try container.encode(summary.sweep.reads, forKey: .reads)
        try container.encode(summary.sweep.bytes, forKey: .bytes)
        try container.encode(summary.sweep.segments, forKey: .segments)
        try container.encode(summary.sweep.vectors, forKey: .vectors)
        try container.encode(summary.sweep.comparisons, forKey: .comparisons)
        try container.encode(summary.bytesPerSecond, forKey: .bytesPerSecond)
        try container.encode(summary.fileSeconds, forKey: .fileSeconds)
        try container.encode(summary.routeSeconds, forKey: .routeSeconds)
        try container.encode(summary.waitSeconds, forKey: .waitSeconds)
        try container.encode(summary.scanSeconds, forKey: .scanSeconds)
        try container.encodeIfPresent(peakByteCount, forKey: .peakByteCount)
    }

    var text: String {
        func seconds(_ value: Double) -> String { String(format: "%.3f s", value) }
        let sweep = summary.sweep
        let before = summary.continued > 0 ? ", after \(summary.continued) of a run before" : ""
        let each = String(format: "%.1f", Double(sweep.comparisons) / Double(max(summary.queries, 1)))
        let peak = peakByteCount.map { ", peak memory \($0 >> 20) MiB" } ?? ""
        return """
            \(run.heading(before))
            blocks \(summary.blocks), waves \(summary.waves), reads \(sweep.reads), bytes \(sweep.bytes) at \
            \(String(format: "%.2f GB/s", summary.bytesPerSecond / 1e9)), segments \(sweep.segments), records read \
            \(sweep.vectors)
            comparisons \(sweep.comparisons) (\(each) a query)
            files \(seconds(summary.fileSeconds)), route \(seconds(summary.routeSeconds)), wait \
            \(seconds(summary.waitSeconds)), scan \(seconds(summary.scanSeconds))
            resident \(run.residentByteCount) bytes\(peak)
            """
    }
}
