// How many queries a batch takes at a time: what a query costs while its block is under way, and what the
// threads hold besides, fitted into the memory that was granted.

import Router
import Storage

/// The sizes of a batch's blocks, bounded by its memory.
struct BatchMemory {
    /// Queries of a block at most, and of them those routed by one thread at a time.
    let queriesMaximum: Int
    let routedAtOnce: Int
    /// Entries of the plan (query and partition pairs) after which a block takes no more queries; what is
    /// being routed then still fits.
    let planMaximum: Int
    /// What the reads of a thread land in.
    let arenaByteCount: Int
    /// Queries whose answers are written at a time.
    let writtenAtOnce: Int

    /// A pair lies in the list of its query and in that of its partition; lists grow by doubling.
    private static let pairByteCount = 12
    /// Partitions a query assumed of policies that do not count them.
    private static let pairsGuess = 64
    private static let answerByteCount = 4 << 20
    /// Blocks of routing that each thread takes before the plan is looked at.
    static let routingTasks = 4

    /// - Parameters:
    ///   - routeLimit: candidates that a route names at most.
    ///   - fixedPairs: partitions of each query, where the policy says how many.
    /// - Throws: `IndexError.invalid` where the memory is too little for any block.
    init(
        index: DiskIndex, parameters: BatchParameters, heapCapacity: Int, routeLimit: Int, fixedPairs: Int?
    ) throws(IndexError) {
        let memory = parameters.memoryByteCount
        let (threads, limit) = (parameters.search.threads, routeLimit)
        let rowByteCount = index.layout.rowByteCount
        let smallestArena = 2 * max(index.table.largestSegmentByteCount, 4096)
        routedAtOnce = max(16, min(256, (2 << 20) / (limit * 24)))
        let pairs = fixedPairs.map { min($0, limit) } ?? min(limit, Self.pairsGuess)
        var perQuery =
            rowByteCount
            + NearestHeaps.byteCount(
                capacity: heapCapacity, hasWideKeys: NearestHeaps.needsWideKeys(index))
            + pairs * Self.pairByteCount + 8
        if parameters.search.rounds > 1 { perQuery += KeptRoutes.byteCount(limit: limit) }
        let perThread =
            smallestArena + SweepScanner.byteCount(rowByteCount: rowByteCount)
            // A block of routes, and its queries in the router's own numbers.
            + routedAtOnce * (limit * 24 + rowByteCount + index.dimension * 4) + index.partitionCount * 8
            // The router's keys and their spare, of the queries that it takes at once.
            + 64 * min(index.partitionCount, 32 * limit) * 16
        // What may still be routed when the plan is full.
        let overhang =
            fixedPairs != nil ? 0 : Self.routingTasks * threads * routedAtOnce * limit * Self.pairByteCount
        // Ids are narrowed on their way into the file.
        let answerByteCount = parameters.search.k * 16
        let least =
            threads * perThread + overhang + answerByteCount + index.partitionCount * 32
            + max(64, routedAtOnce) * perQuery
        guard memory >= least else {
            throw .memoryTooSmall(
                "a memory of \(memory) bytes is too little: \(least) are the least for this index, policy and "
                    + "\(threads) threads", given: memory, least: least)
        }
        // Three eighths of the rest at most make reads and writes larger, all that is left goes to queries.
        let rest = memory - least
        arenaByteCount = max(
            smallestArena, min(BatchSweep.arenaByteCountDefault, smallestArena + rest / (4 * threads)))
        writtenAtOnce = 1 + min(Self.answerByteCount, rest / 8) / answerByteCount
        let spent = threads * (arenaByteCount - smallestArena) + (writtenAtOnce - 1) * answerByteCount
        let room = max(64, routedAtOnce) + (rest - spent) / perQuery
        queriesMaximum = min(room, parameters.queriesAtOnceMaximum ?? .max, 1 << 30)
        planMaximum = queriesMaximum.multipliedReportingOverflow(by: pairs).partialValue
    }
}
