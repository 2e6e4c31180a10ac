// The neighbours that queries are labelled with: complete, by number, and without the vector that a query was made
// from. Whatever stands for "none" never reaches an array.

import Index
import Router
import Storage
import Vectors

/// Neighbours of queries by number.
struct Labels: Sendable {
    /// `k` a query, nearest first.
    var numbers: [UInt32]
    let k: Int
    /// Of the nearest.
    var nearestDistances: [Float]
}

extension DiskIndex {
    /// The `k` nearest of each query among the `nprobe` nearest partitions, its source left out; a query that finds fewer
    /// there looks through all partitions.
    ///
    /// - Parameter sources: vectors to leave out, one a query; empty: none.
    /// - Throws: `IndexError.invalid` where the index has fewer neighbours for a query than are wanted.
    func labels(
        of queries: VectorMatrix, sources: [UInt32], k: Int, nprobe: Int, parameters: LearnParameters,
        checkpoints: TrainingCheckpoints? = nil, stage: String, progress: JobProgress
    ) throws -> Labels {
        let found = try nearest(
            of: queries, k: k + (sources.isEmpty ? 0 : 1), nprobe: nprobe, threads: parameters.threads,
            memoryByteCount: parameters.memoryByteCount, checkpoints: checkpoints, stage: stage,
            progress: progress)
        var labels = Labels(numbers: [], k: k, nearestDistances: [])
        labels.numbers.reserveCapacity(queries.count * k)
        var short: [UInt32] = []
        for query in 0..<queries.count
        where !labels.append(found, query: query, source: sources.isEmpty ? nil : sources[query]) {
            short.append(UInt32(query))
        }
        guard !short.isEmpty else { return labels }
        let whole = try exactNeighbours(
            of: queries.gather(short), sources: sources.isEmpty ? [] : short.map { sources[Int($0)] }, k: k,
            threads: parameters.threads, stage: stage, progress: progress)
        for (place, query) in short.enumerated() {
            labels.numbers.replaceSubrange(
                Int(query) * k..<(Int(query) + 1) * k, with: whole.numbers[place * k..<(place + 1) * k])
            labels.nearestDistances[Int(query)] = whole.nearestDistances[place]
        }
        return labels
    }

    /// The `k` nearest of each query, exactly: the index is read once, whatever the number of queries.
    ///
    /// - Throws: as `labels`.
    func exactNeighbours(
        of queries: VectorMatrix, sources: [UInt32], k: Int, threads: Int, stage: String,
        progress: JobProgress
    ) throws -> Labels {
        let numbers = try numbers()
        let depth = k + (sources.isEmpty ? 0 : 1)
        let sweep = BatchSweep(index: self, queries: queries, k: depth, threads: threads)
        let plan = SweepLists(everyQueryOf: queries.count, partitionCount: partitionCount)
        _ = try sweep.sweep(plan) { done, groups in progress(stage: stage, done: done, total: groups) }
        var found = sweep.takeAnswers(k: depth)
        for query in 0..<queries.count {
            for rank in 0..<depth {
                let id = found.id(query: query, rank: rank)
                guard id != TruthFile.noId else { break }
                found.set(
                    query: query, rank: rank, id: UInt64(try numbers.require(id)),
                    distance: found.distance(query: query, rank: rank))
            }
        }
        var labels = Labels(numbers: [], k: k, nearestDistances: [])
        labels.numbers.reserveCapacity(queries.count * k)
        for query in 0..<queries.count
        where !labels.append(found, query: query, source: sources.isEmpty ? nil : sources[query]) {
            throw IndexError.invalid(
                "a training query has fewer than \(k) neighbours at finite distances among the \(count) vectors of "
                    + "\(path): ask for fewer neighbours")
        }
        return labels
    }
}

extension Labels {
    /// Takes the answers to the next query without its source.
    ///
    /// - Returns: whether there were enough; else zeros stand in for them, to be replaced.
    fileprivate mutating func append(_ found: TruthFile, query: Int, source: UInt32?) -> Bool {
        var taken = 0
        for rank in 0..<found.k where taken < k {
            let id = found.id(query: query, rank: rank)
            if id == TruthFile.noId { break }
            if let source, id == UInt64(source) { continue }
            if taken == 0 { nearestDistances.append(found.distance(query: query, rank: rank)) }
            numbers.append(UInt32(truncatingIfNeeded: id))
            taken += 1
        }
        if taken == k { return true }
        if taken == 0 { nearestDistances.append(.infinity) }
        numbers.append(contentsOf: repeatElement(0, count: k - taken))
        return false
    }
}
