// What answering cost, a query. Counted where it happens: reads and bytes where they are submitted, vectors
// where they are scanned.

import Storage

/// The exact cost of one query.
public struct QueryCounters: Sendable, Equatable {
    /// Records of all segments read, replicas included.
    public var vectors: UInt64 = 0
    /// Records of segments that lay in the cache of hot segments: scored, not fetched.
    public var cached: UInt64 = 0
    /// Different ids among all that were scored.
    public var distinct: UInt64 = 0
    /// Segments read.
    public var segments: UInt64 = 0
    /// 4096-byte pages asked of the device.
    public var pages: UInt64 = 0
    /// Bytes asked of the device.
    public var bytes: UInt64 = 0
    /// Read operations submitted; segments that lie side by side are joined into one.
    public var reads: UInt64 = 0
    /// Groups of reads that had to wait for one another.
    public var rounds: UInt64 = 0
    /// Time spent in choosing what to read, in waiting with nothing to scan, and in scanning.
    public var routeNanoseconds: UInt64 = 0
    public var waitNanoseconds: UInt64 = 0
    public var scanNanoseconds: UInt64 = 0
    /// From the query's start to its answer.
    public var latencyNanoseconds: UInt64 = 0

    /// Neighbours that the pages read were expected to hold, where codes chose them; else 0.
    public var expectedNeighbours: Float = 0

    public init() {}

    /// Counts a read that is asked of the device.
    mutating func add(readOf byteCount: Int) {
        reads += 1
        bytes += UInt64(byteCount)
        pages += UInt64(byteCount / PageLayout.pageByteCount)
    }

    /// The columns of `search --counters`, in order.
    public static let columns = [
        "query", "vectors", "cached", "distinct", "segments", "pages", "bytes", "reads", "rounds", "route_us",
        "wait_us",
        "scan_us", "latency_us",
    ]

    /// One line of `search --counters`.
    public func csv(query: Int) -> String {
        func micro(_ nanoseconds: UInt64) -> String {
            "\(nanoseconds / 1000).\((nanoseconds % 1000) / 100)"
        }
        return "\(query),\(vectors),\(cached),\(distinct),\(segments),\(pages),\(bytes),\(reads),\(rounds),"
            + "\(micro(routeNanoseconds)),\(micro(waitNanoseconds)),\(micro(scanNanoseconds)),"
            + micro(latencyNanoseconds)
    }
}
