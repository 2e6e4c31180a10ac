// SPANN's heads: base vectors that stand for partitions, chosen from a balanced tree so that each stands for
// few (SPTAG's dynamic selection: a node whose subtree still has enough unrepresented rows is chosen, and of
// a large one its largest children too; the thresholds are searched until the wanted share comes out).

import Vectors

/// Chooses heads.
public enum SpannHeads {
    /// The thresholds' upper limits; SPTAG's documentation gives these for a million SIFT vectors.
    static let selectLimit = 50
    static let splitFactor = 6
    static let splitLimit = 100

    /// Row numbers of about `share` of the rows, in rising order. `rows` are in routing space.
    public static func select(_ rows: VectorMatrix, share: Double, seed: UInt64, threads: Int) -> [UInt32] {
        select(rows, share: share, seed: seed, threads: threads, milestones: Milestones<Never>.none)
    }

    /// The same, from what `milestones` has kept on.
    ///
    /// - Parameter progress: told how much is done of how much, an estimate until the end. Called from any thread.
    public static func select<Failure: Error>(
        _ rows: VectorMatrix, share: Double, seed: UInt64, threads: Int, milestones: Milestones<Failure>,
        progress: (@Sendable (_ done: Int, _ total: Int) -> Void)? = nil
    ) throws(Failure) -> [UInt32] {
        precondition(rows.count > 0 && share > 0)
        let wanted = Int((share * Double(rows.count)).rounded())
        if wanted >= rows.count { return (0..<UInt32(rows.count)).map { $0 } }
        // A level of the tree, and the search for thresholds, look at every row.
        let growing = rows.count * BalancedTree.expectedLevels(rows: rows.count)
        let meter = Meter(total: growing + rows.count, report: progress)
        let tree = try BalancedTree(rows, seed: seed, threads: threads, milestones: milestones) {
            meter.add($0, until: growing)
        }
        meter.reach(growing)
        // One search a select threshold; the best by distance to the share, the least threshold on ties.
        var found = [(miss: Int, split: Int)](repeating: (Int.max, splitLimit), count: selectLimit - 1)
        found.withUnsafeMutableBufferPointer { buffer in
            nonisolated(unsafe) let results = buffer
            Workers.forEach(count: selectLimit - 1, threads: threads) { index in
                results[index] = bestSplit(tree, select: index + 2, wanted: wanted)
                meter.add(rows.count / selectLimit)
            }
        }
        meter.reach(meter.total)
        var best = 0
        for index in found.indices where found[index].miss < found[best].miss { best = index }
        let chosen = choose(tree, select: best + 2, split: found[best].split)
        // Of eight rows or fewer, or of few values, the tree has no inner node that could stand for others.
        return chosen.isEmpty ? nearestToMeans(rows, wanted: wanted, seed: seed, threads: threads) : chosen
    }

    /// The row nearest to each of `wanted` means, fewer where rows repeat; at least one.
    private static func nearestToMeans(
        _ rows: VectorMatrix, wanted: Int, seed: UInt64, threads: Int
    ) -> [UInt32] {
        let means = KMeans(partitions: max(1, wanted), seed: seed, threads: threads).train(rows).centroids
        let homes = NearestCentroids(scanning: means).assign(rows, threads: threads)
        var nearest = [UInt64](repeating: .max, count: means.count)
        for (row, mean) in homes.partitions.enumerated() {
            nearest[Int(mean)] = min(nearest[Int(mean)], PackedHeap.pack(homes.distances[row], UInt32(row)))
        }
        return nearest.filter { $0 != .max }.map { PackedHeap.number($0) }.sorted()
    }

    private static func bestSplit(_ tree: BalancedTree, select: Int, wanted: Int) -> (miss: Int, split: Int) {
        var low = splitFactor
        var high = splitLimit
        var best = (miss: Int.max, split: splitLimit)
        while low < high - 1 {
            let split = (low + high) / 2
            let count = choose(tree, select: select, split: split).count
            if abs(count - wanted) < best.miss { best = (abs(count - wanted), split) }
            if count > wanted { low = split } else { high = split }
        }
        return best
    }

    /// From the leaves up: rows of a subtree that nothing represents yet are counted; a node where they are
    /// `select` or more represents them.
    static func choose(_ tree: BalancedTree, select: Int, split: Int) -> [UInt32] {
        var open = [Int32](repeating: 1, count: tree.rows.count)
        var chosen = [Bool](repeating: false, count: tree.rows.count)
        var children: [(open: Int32, node: Int)] = []
        for node in stride(from: tree.rows.count - 1, through: 0, by: -1) {
            let range = Int(tree.childStarts[node])..<Int(tree.childEnds[node])
            if range.isEmpty && select > 1 { continue }
            var size: Int32 = 1
            for child in range { size += open[child] }
            guard size >= select else {
                open[node] = size
                continue
            }
            open[node] = 0
            if tree.rows[node] != NearestLists.none { chosen[node] = true }
            guard size > split else { continue }
            children.removeAll(keepingCapacity: true)
            for child in range where open[child] > 0 { children.append((open[child], child)) }
            children.sort { ($0.open, $1.node) > ($1.open, $0.node) }
            let count = (Int(size) + splitFactor - 1) / splitFactor
            for child in children.prefix(count) { chosen[child.node] = true }
        }
        var rows: [UInt32] = []
        for node in tree.rows.indices where chosen[node] { rows.append(tree.rows[node]) }
        rows.sort()
        var distinct: [UInt32] = []
        distinct.reserveCapacity(rows.count)
        for row in rows where distinct.last != row { distinct.append(row) }
        return distinct
    }
}
