// A tree of balanced k-means over all rows, as SPTAG builds it to choose SPANN's heads (its defaults: 32
// children, leaves of 8, clusters trained on 1000 rows). The inner nodes are rows: the ones nearest to
// their clusters' means. Nodes are divided level by level, each by a generator of its own.

import Vectors

/// The tree, in breadth-first order: a child comes after its parent.
struct BalancedTree: Sendable {
    /// The row at each node; the root has none (`NearestLists.none`).
    private(set) var rows: [UInt32] = [NearestLists.none]
    private(set) var childStarts: [Int32] = [0]
    private(set) var childEnds: [Int32] = [0]

    private static let branching = 32
    private static let leafSize = 8

    private struct Task {
        let node: Int
        let members: [UInt32]
    }

    /// What dividing a task gives: children with their members, or a node of rows that are all alike.
    private struct Division: Sendable {
        var children: [(row: UInt32, members: [UInt32])] = []
        var alike: UInt32?
    }

    init(_ matrix: VectorMatrix, seed: UInt64, threads: Int) {
        let all = (0..<UInt32(matrix.count)).map { $0 }
        let clusters = BalancedClusters(matrix)
        var random = SeededRandom(seed: seed, stream: 11)
        let balance = clusters.bestBalance(all, random: &random, threads: threads)
        var level = [Task(node: 0, members: all)]
        var stream: UInt64 = 1 << 32
        while !level.isEmpty {
            var divisions = [Division](repeating: Division(), count: level.count)
            // Few large nodes are divided by all threads together, many small ones side by side.
            let large = level.count < 4 * threads
            let tasks = level
            let firstStream = stream
            divisions.withUnsafeMutableBufferPointer { buffer in
                nonisolated(unsafe) let results = buffer
                Workers.forEach(count: tasks.count, threads: large ? 1 : threads) { index in
                    results[index] = Self.divide(
                        tasks[index], clusters, balance: balance, seed: seed,
                        stream: firstStream + UInt64(index), threads: large ? threads : 1)
                }
            }
            stream += UInt64(level.count)
            var next: [Task] = []
            for (task, division) in zip(level, divisions) {
                if let alike = division.alike { rows[task.node] = alike }
                childStarts[task.node] = Int32(rows.count)
                for child in division.children {
                    if !child.members.isEmpty { next.append(Task(node: rows.count, members: child.members)) }
                    rows.append(child.row)
                    childStarts.append(0)
                    childEnds.append(0)
                }
                childEnds[task.node] = Int32(rows.count)
            }
            level = next
        }
    }

    private static func divide(
        _ task: Task, _ clusters: BalancedClusters, balance: Float, seed: UInt64, stream: UInt64, threads: Int
    ) -> Division {
        var division = Division()
        if task.members.count <= leafSize {
            division.children = task.members.map { ($0, []) }
            return division
        }
        var random = SeededRandom(seed: seed, stream: stream)
        let count = max(2, min(task.members.count / leafSize + 1, branching))
        let parts = clusters.divide(
            task.members, into: count, balance: balance, random: &random, threads: threads)
        if parts.sizes.count(where: { $0 > 0 }) <= 1 {
            // Nothing parts them: one of them stands for all, the others are in no list of candidates.
            division.alike = task.members.min()
            return division
        }
        var members = [[UInt32]](repeating: [], count: count)
        for (index, row) in task.members.enumerated() where parts.centres[Int(parts.labels[index])] != row {
            members[Int(parts.labels[index])].append(row)
        }
        for cluster in 0..<count where parts.sizes[cluster] > 0 {
            division.children.append((parts.centres[cluster], members[cluster]))
        }
        return division
    }
}
