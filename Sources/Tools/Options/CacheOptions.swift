// The options of the cache of hot segments, shared by search and measure.

import ArgumentParser
import Build
import Index
import Storage
import Vectors

struct CacheOptions: ParsableArguments {
    @Option(help: "Keep hot segments of so many bytes in memory, e.g. 64MiB; they count as resident.")
    var cache: ByteCount?

    @Option(
        help: "Queries that tell which segments are hot (10,000 at most): never those that are measured.")
    var cacheLearn: String?

    private static let queryMaximum = 10_000

    func validate() throws {
        if (cache == nil) != (cacheLearn == nil) {
            throw ValidationError("--cache SIZE and --cache-learn FILE go together")
        }
    }

    /// The index with its cache, or as it is where none was asked for.
    func applied(
        to index: DiskIndex, policy: Policy, cost: ReadCost, threads: Int, input: InputOptions
    ) throws -> DiskIndex {
        guard let cache, let cacheLearn else { return index }
        let learn = try input.open(cacheLearn, atMost: Self.queryMaximum, as: index.elementType).readAll()
        guard learn.count > 0 else { throw CommandFailure("\(cacheLearn): holds no queries") }
        return try index.caching(
            byteCount: cache.byteCount, learn: learn, policy: policy, cost: cost, threads: threads)
    }
}
