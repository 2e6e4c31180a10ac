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

    /// Levels of the tree of so many rows, where its nodes are of like size.
    static func expectedLevels(rows: Int) -> Int {
        var (levels, size) = (1, rows)
        while size > leafSize {
            size /= branching
            levels += 1
        }
        return levels
    }

    /// Members of the nodes that are divided between two milestones, at least.
    private static let pieceSize = 1 << 17

    /// The tree of the rows of `matrix`, from what `milestones` has kept on. `divided` is told of members whose node was
    /// divided.
    init<Failure: Error>(
        _ matrix: VectorMatrix, seed: UInt64, threads: Int, milestones: Milestones<Failure>,
        divided: (Int) -> Void
    ) throws(Failure) {
        let clusters = BalancedClusters(matrix)
        var growth: Growth
        if let kept = try milestones.last(.tree).flatMap({ Growth($0.reader, rows: matrix.count) }) {
            growth = kept
            divided(growth.divided)
        } else {
            let all = (0..<UInt32(matrix.count)).map { $0 }
            var random = SeededRandom(seed: seed, stream: 11)
            growth = Growth(
                balance: clusters.bestBalance(all, random: &random, threads: threads),
                level: [Task(node: 0, members: all)])
        }
        var part = growth.divided
        while !growth.level.isEmpty {
            // Few large nodes are divided by all threads together, many small ones side by side.
            let large = growth.level.count < 4 * threads
            var tasks = growth.level[...]
            if milestones.isKept {
                var members = 0
                let count =
                    tasks.firstIndex {
                        members += $0.members.count
                        return members >= Self.pieceSize
                    } ?? tasks.count
                tasks = tasks.prefix(large ? 1 : max(count + 1, 4 * threads))
            }
            let (some, balance, firstStream) = (Array(tasks), growth.balance, growth.stream)
            var divisions = [Division](repeating: Division(), count: some.count)
            divisions.withUnsafeMutableBufferPointer { buffer in
                nonisolated(unsafe) let results = buffer
                Workers.forEach(count: some.count, threads: large ? 1 : threads) { index in
                    results[index] = Self.divide(
                        some[index], clusters, balance: balance, seed: seed,
                        stream: firstStream + UInt64(index), threads: large ? threads : 1)
                }
            }
            growth.add(divisions, of: some)
            let members = some.reduce(0) { $0 + $1.members.count }
            divided(members)
            part += 1
            let state = growth
            try milestones.keepWhole(.tree, part: part) { state.state }
        }
        self = growth.tree
    }

    private init() {}

    /// A tree that grows: the nodes of a level that are still to be divided, and those of the next.
    private struct Growth {
        var tree = BalancedTree()
        let balance: Float
        var level: [Task]
        private var next: [Task] = []
        private(set) var stream: UInt64 = 1 << 32
        /// Members of all nodes that were divided.
        private(set) var divided = 0

        init(balance: Float, level: [Task]) {
            self.balance = balance
            self.level = level
        }

        /// Adds the children of the first nodes of the level.
        mutating func add(_ divisions: [Division], of tasks: [Task]) {
            for (task, division) in zip(tasks, divisions) {
                if let alike = division.alike { tree.rows[task.node] = alike }
                tree.childStarts[task.node] = Int32(tree.rows.count)
                for child in division.children {
                    if !child.members.isEmpty {
                        next.append(Task(node: tree.rows.count, members: child.members))
                    }
                    tree.rows.append(child.row)
                    tree.childStarts.append(0)
                    tree.childEnds.append(0)
                }
                tree.childEnds[task.node] = Int32(tree.rows.count)
                divided += task.members.count
            }
            stream += UInt64(tasks.count)
            level.removeFirst(tasks.count)
            if level.isEmpty { swap(&level, &next) }
        }

        var state: [UInt8] {
            var writer = SectionWriter()
            writer.append(balance)
            writer.append(stream)
            writer.append(UInt64(divided))
            writer.append(UInt64(tree.rows.count))
            for numbers in [tree.rows, tree.childStarts.map { UInt32(bitPattern: $0) }]
                + [tree.childEnds.map { UInt32(bitPattern: $0) }]
            {
                writer.append(numbers)
            }
            for tasks in [level, next] {
                writer.append(UInt64(tasks.count))
                for task in tasks {
                    writer.append([UInt32(task.node), UInt32(task.members.count)])
                    writer.append(task.members)
                }
            }
            return writer.bytes
        }

        /// What `state` wrote; nil where it is of other rows.
        init?(_ reader: SectionReader, rows: Int) {
            do {
                var reader = reader
                balance = try reader.float()
                stream = try reader.integer(UInt64.self)
                divided = Int(clamping: try reader.integer(UInt64.self))
                let nodes = try reader.count(bytesEach: 12)
                tree.rows = try reader.numbers(nodes)
                tree.childStarts = try reader.numbers(nodes).map { Int32(bitPattern: $0) }
                tree.childEnds = try reader.numbers(nodes).map { Int32(bitPattern: $0) }
                func tasks() throws -> [Task] {
                    try (0..<reader.count(bytesEach: 8)).map { _ in
                        let (node, count) = (try reader.integer(UInt32.self), try reader.integer(UInt32.self))
                        let members = try reader.numbers(Int(count))
                        guard node < nodes, members.allSatisfy({ $0 < rows }) else {
                            throw reader.failure("is of other rows")
                        }
                        return Task(node: Int(node), members: members)
                    }
                }
                (level, next) = (try tasks(), try tasks())
                try reader.finish()
            } catch {
                return nil
            }
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
