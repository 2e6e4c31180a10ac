// The result of measuring an index: plain values that Tools prints as a table, CSV, JSON or a picture.
// The names of the coded keys are the command line's promise (`measure --json`).

import Foundation

/// What was measured, on what, and what each recall cost.
public struct Measurement: Codable, Sendable {
    public struct DataSummary: Codable, Sendable {
        public var n: Int
        public var d: Int
        public var dtype: String
        public var metric: String
        public var queries: Int

        public init(n: Int, d: Int, dtype: String, metric: String, queries: Int) {
            self.n = n
            self.d = d
            self.dtype = dtype
            self.metric = metric
            self.queries = queries
        }
    }

    public struct IndexSummary: Codable, Sendable {
        public var partitions: Int
        public var replication: Double
        public var residentByteCount: Int
        public var indexByteCount: Int
        public var duplicate: String
        public var router: String
        /// How segments were read (see `BlockDevice.kind`); nil in results of older versions.
        public var device: String?
        /// The tier of kernels (see `KernelTier`); nil in results of older versions.
        public var kernels: String?

        enum CodingKeys: String, CodingKey {
            case partitions, replication, duplicate, router, device, kernels
            case residentByteCount = "resident_bytes"
            case indexByteCount = "index_bytes"
        }

        public init(
            partitions: Int, replication: Double, residentByteCount: Int, indexByteCount: Int,
            duplicate: String, router: String, device: String? = nil, kernels: String? = nil
        ) {
            self.partitions = partitions
            self.replication = replication
            self.residentByteCount = residentByteCount
            self.indexByteCount = indexByteCount
            self.duplicate = duplicate
            self.router = router
            self.device = device
            self.kernels = kernels
        }
    }

    /// Latency of single queries in milliseconds.
    public struct Latency: Codable, Sendable {
        public var mean: Double
        public var p50: Double
        public var p99: Double
        public var p999: Double

        public init(mean: Double, p50: Double, p99: Double, p999: Double) {
            self.mean = mean
            self.p50 = p50
            self.p99 = p99
            self.p999 = p999
        }
    }

    /// One setting of the swept parameter: recall, and means a query of what it cost.
    public struct Row: Codable, Sendable {
        public var policy: String
        public var parameter: Double
        /// Recall by k: "1", "10", "100".
        public var recall: [String: Double]
        public var vectors: Double
        /// Records scored from the cache of hot segments, which are in no other count.
        public var cached: Double
        public var distinct: Double
        public var segments: Double
        public var pages: Double
        public var bytes: Double
        public var reads: Double
        public var rounds: Double
        public var qps: Double
        public var latency: Latency
        /// Mean microseconds a query of routing, of waiting for reads, of scanning.
        public var routeMicroseconds: Double
        public var waitMicroseconds: Double
        public var scanMicroseconds: Double
        /// What limits throughput: "disk", "routing" or "scan".
        public var bound: String

        enum CodingKeys: String, CodingKey {
            case policy, parameter, recall, vectors, cached, distinct, segments, pages, bytes, reads, rounds,
                qps, bound
            case latency = "latency_ms"
            case routeMicroseconds = "route_us"
            case waitMicroseconds = "wait_us"
            case scanMicroseconds = "scan_us"
        }

        public init(
            policy: String, parameter: Double, recall: [String: Double], vectors: Double, cached: Double,
            distinct: Double,
            segments: Double, pages: Double, bytes: Double, reads: Double, rounds: Double, qps: Double,
            latency: Latency, routeMicroseconds: Double, waitMicroseconds: Double, scanMicroseconds: Double,
            bound: String
        ) {
            self.policy = policy
            self.parameter = parameter
            self.recall = recall
            self.vectors = vectors
            self.cached = cached
            self.distinct = distinct
            self.segments = segments
            self.pages = pages
            self.bytes = bytes
            self.reads = reads
            self.rounds = rounds
            self.qps = qps
            self.latency = latency
            self.routeMicroseconds = routeMicroseconds
            self.waitMicroseconds = waitMicroseconds
            self.scanMicroseconds = scanMicroseconds
            self.bound = bound
        }
    }

    /// The cost of a recall, interpolated between the two rows around it.
    public struct Cost: Codable, Sendable {
        public var vectors: Double
        public var pages: Double
        public var bytes: Double
        public var reads: Double
        public var parameter: Double

        public init(vectors: Double, pages: Double, bytes: Double, reads: Double, parameter: Double) {
            self.vectors = vectors
            self.pages = pages
            self.bytes = bytes
            self.reads = reads
            self.parameter = parameter
        }
    }

    public var data: DataSummary
    public var index: IndexSummary
    public var rows: [Row]
    /// "recall@1" -> "0.90" -> cost; a recall that no row reached is absent.
    public var at: [String: [String: Cost]]

    public init(data: DataSummary, index: IndexSummary, rows: [Row], at: [String: [String: Cost]]) {
        self.data = data
        self.index = index
        self.rows = rows
        self.at = at
    }

    /// The recalls at which costs are interpolated.
    public static let wantedRecalls = [0.80, 0.90, 0.95, 0.99]

    /// Costs at the wanted recalls by linear interpolation over rows ordered by recall.
    public static func interpolate(_ rows: [Row], ks: [Int]) -> [String: [String: Cost]] {
        var result: [String: [String: Cost]] = [:]
        for k in ks {
            let key = String(k)
            let points = rows.filter { $0.recall[key] != nil }.sorted { $0.recall[key]! < $1.recall[key]! }
            var costs: [String: Cost] = [:]
            for wanted in wantedRecalls {
                guard let above = points.firstIndex(where: { $0.recall[key]! >= wanted }) else { continue }
                let high = points[above]
                let low = points[max(above - 1, 0)]
                // Below the first row nothing was measured: that row's cost would be a guess from above.
                if above == 0 && high.recall[key]! > wanted { continue }
                let span = high.recall[key]! - low.recall[key]!
                let share = span > 0 ? (wanted - low.recall[key]!) / span : 1
                func mix(_ value: (Row) -> Double) -> Double {
                    value(low) + share * (value(high) - value(low))
                }
                costs[String(format: "%.2f", wanted)] = Cost(
                    vectors: mix(\.vectors), pages: mix(\.pages), bytes: mix(\.bytes), reads: mix(\.reads),
                    parameter: mix(\.parameter))
            }
            if !costs.isEmpty { result["recall@\(k)"] = costs }
        }
        return result
    }
}
