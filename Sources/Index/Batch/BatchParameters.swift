// What a batch is asked for, and what it cost.

import Storage

/// A contiguous share of a batch's queries: number `index` (from 0) of `count`.
public struct Shard: Sendable, Equatable {
    public var index: Int
    public var count: Int

    public init(index: Int, count: Int) {
        self.index = index
        self.count = count
    }

    /// The queries of this shard, of `total`; shards differ by one query at most.
    public func range(of total: Int) -> Range<Int> {
        // Wide products: total times count may leave 64 bits only where neither is real.
        total / count * index + min(index, total % count)..<total / count * (index + 1)
            + min(index + 1, total % count)
    }
}

/// What a batch is asked for.
public struct BatchParameters: Sendable {
    /// k, policy, cost, rounds (here: waves) and threads, as for a search.
    public var search: SearchParameters
    /// Bound on all that grows with queries, threads and reads; an open index is not counted.
    public var memoryByteCount: Int
    /// Only this share of the queries, into a part that `PartialResult.merge` joins with the others.
    public var shard: Shard?
    /// Queries of a block at most, whatever the memory: what a kill may cost.
    public var queriesAtOnceMaximum: Int?
    /// What becomes of a run that was killed: refused by name, taken up, or begun anew.
    public var start = AtomicDirectory.Start.resume
    /// Called with the number of queries finished after each block but the last. What it throws ends the job,
    /// which another run with the same parameters continues.
    public var afterBlock: (@Sendable (Int) throws -> Void)?

    public init(search: SearchParameters, memoryByteCount: Int = 2 << 30) {
        self.search = search
        self.memoryByteCount = memoryByteCount
    }
}

/// What a batch cost, in all.
public struct BatchSummary: Sendable {
    /// Queries answered by this run, and before it by one that it continued.
    public var queries = 0
    public var continued = 0
    /// Queries of this run that were answered empty because distances to them mean nothing.
    public var invalidQueries = 0
    /// Blocks of queries, and sweeps over the segments for them.
    public var blocks = 0
    public var waves = 0
    public var sweep = SweepCounters()
    /// By the clock: all of it, and of it reading queries and writing answers, and routing and planning.
    public var wallSeconds = 0.0
    public var fileSeconds = 0.0
    public var routeSeconds = 0.0
    public var threads = 1

    /// Threads' mean time in waiting for reads with nothing to scan.
    public var waitSeconds: Double { Double(sweep.waitNanoseconds) / 1e9 / Double(threads) }
    /// Threads' mean time in scanning.
    public var scanSeconds: Double { Double(sweep.scanNanoseconds) / 1e9 / Double(threads) }
    public var queriesPerSecond: Double { Double(queries) / max(wallSeconds, 1e-9) }
    /// Bytes of the device a second, over all that was not waiting for anything else.
    public var bytesPerSecond: Double {
        Double(sweep.bytes) / max(wallSeconds - routeSeconds - fileSeconds, 1e-9)
    }
}
