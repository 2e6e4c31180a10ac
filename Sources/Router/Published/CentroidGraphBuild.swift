// How the graph is made: candidates are each node's nearest nodes, found for all of them at once by the
// block kernels through groups, then pruned; edges are turned round, joined and pruned again; what no
// entry reaches is hung on. Every step takes nodes on their own, so threads do not change the result.
// Inserting nodes one batch after another (as Vamana does) gives the same edges for ten times the work:
// long edges are not needed where the entries are spread over the whole set.

import Vectors

extension CentroidGraph {
    /// Builds the graph of `centroids`.
    ///
    /// - Parameters:
    ///   - degree: edges of a node at most (a few nodes get one more so that all can be reached).
    ///   - candidates: near nodes from which a node's edges are chosen.
    ///   - alpha: above 1 keeps edges that a nearer edge nearly covers. On SIFT 1.2 fills all edges with the
    ///     nearest nodes and finds less than 1.05.
    ///   - progress: told of nodes whose edges are chosen.
    public init(
        of centroids: VectorMatrix, degree: Int = 32, candidates: Int = 192, alpha: Float = 1.05,
        seed: UInt64,
        threads: Int, progress: (@Sendable (_ done: Int, _ total: Int) -> Void)? = nil
    ) {
        let count = centroids.count
        precondition(count > 0 && count < 1 << 31 && degree > 1)
        let groups = CentroidGroups(grouping: centroids, seed: seed, threads: threads)
        let pruner = Pruner(centroids: centroids, degree: degree, alpha: alpha)
        let search = NearestCentroids(centroids, groups: groups, probes: 16)
        let forwardSlots = Slots(count: count, width: degree)
        for start in stride(from: 0, to: count, by: 1 << 16) {
            let range = start..<min(count, start + 1 << 16)
            let lists = search.nearest(
                min(candidates + 1, count), centroids.gather(range), threads: threads)
            Workers.forEachBlock(count: range.count, blockSize: 256, threads: threads) { _, block in
                for row in block {
                    let node = UInt32(start + row)
                    var keys: [UInt64] = []
                    keys.reserveCapacity(lists.k)
                    for index in row * lists.k..<(row + 1) * lists.k
                    where lists.partitions[index] != NearestLists.none && lists.partitions[index] != node {
                        keys.append(PackedHeap.pack(lists.distances[index], lists.partitions[index]))
                    }
                    forwardSlots.set(Int(node), pruner.prune(keys))
                }
            }
            progress?(range.upperBound, count)
        }
        let joined = Self.joinReverse(forwardSlots, pruner: pruner, threads: threads)
        let entries = Self.entries(groups, distance: pruner.distance)
        let extra = Self.missing(joined, entries: entries, centroids: centroids, distance: pruner.distance)
        self = Self.flatten(joined, extra: extra, entries: entries, centroids: centroids)
    }

    /// A fixed number of edges for each node.
    final class Slots: @unchecked Sendable {
        let count: Int
        let width: Int
        let edges: UnsafeMutablePointer<UInt32>
        let lengths: UnsafeMutablePointer<UInt32>

        init(count: Int, width: Int) {
            self.count = count
            self.width = width
            edges = .allocate(capacity: count * width)
            lengths = .allocate(capacity: count)
            lengths.initialize(repeating: 0, count: count)
        }

        deinit {
            edges.deallocate()
            lengths.deallocate()
        }

        func set(_ node: Int, _ values: [UInt32]) {
            for (index, value) in values.enumerated() { edges[node * width + index] = value }
            lengths[node] = UInt32(values.count)
        }

        func of(_ node: Int) -> UnsafeBufferPointer<UInt32> {
            UnsafeBufferPointer(start: edges + node * width, count: Int(lengths[node]))
        }
    }

    struct Pruner: Sendable {
        let centroids: VectorMatrix
        let degree: Int
        /// Squared, as distances are.
        let slack: Float
        let distance: Distance

        init(centroids: VectorMatrix, degree: Int, alpha: Float) {
            self.centroids = centroids
            self.degree = degree
            slack = alpha * alpha
            distance = Distance(metric: .l2, elementType: centroids.elementType)
        }

        /// Of candidates in rising order those that no kept one covers: c goes where a kept a has
        /// slack * d(a, c) <= d(node, c).
        func prune(_ candidates: [UInt64]) -> [UInt32] {
            var kept: [UInt32] = []
            kept.reserveCapacity(degree)
            let dimension = centroids.dimension
            candidate: for key in candidates {
                let number = PackedHeap.number(key)
                let row = centroids.row(Int(number))
                for other in kept {
                    let between = distance.pair(row, centroids.row(Int(other)), dimension: dimension)
                    if slack * between <= PackedHeap.distance(key) { continue candidate }
                }
                kept.append(number)
                if kept.count == degree { break }
            }
            return kept
        }
    }

    /// Every edge also the other way round, pruned again.
    private static func joinReverse(_ forward: Slots, pruner: Pruner, threads: Int) -> Slots {
        var heads: [UInt32] = []
        var tails: [UInt32] = []
        for node in 0..<forward.count {
            for neighbour in forward.of(node) {
                heads.append(neighbour)
                tails.append(UInt32(node))
            }
        }
        let order = CountingOrder(heads, partitionCount: forward.count)
        let from = tails
        let joined = Slots(count: forward.count, width: forward.width)
        let centroids = pruner.centroids
        Workers.forEachBlock(count: forward.count, blockSize: 256, threads: threads) { _, block in
            for node in block {
                var numbers = Array(forward.of(node))
                for position in order.starts[node]..<order.starts[node + 1] {
                    numbers.append(from[Int(order.rows[position])])
                }
                let row = centroids.row(node)
                var keys = numbers.map {
                    PackedHeap.pack(
                        pruner.distance.pair(row, centroids.row(Int($0)), dimension: centroids.dimension), $0)
                }
                keys.sort()
                var distinct: [UInt64] = []
                for key in keys where distinct.last != key { distinct.append(key) }
                joined.set(node, pruner.prune(distinct))
            }
        }
        return joined
    }

    /// The member nearest to each group's centre.
    private static func entries(_ groups: CentroidGroups, distance: Distance) -> [UInt32] {
        var entries: [UInt32] = []
        for group in 0..<groups.groupCount {
            var best = UInt64.max
            for position in groups.starts[group]..<groups.starts[group + 1] {
                let value = distance.pair(
                    groups.centres.row(group), groups.centroids.row(position),
                    dimension: groups.centres.dimension)
                best = min(best, PackedHeap.pack(value, groups.numbers[position]))
            }
            if best != UInt64.max { entries.append(PackedHeap.number(best)) }
        }
        return entries.sorted()
    }

    /// Edges (from, to) that make every node reachable from the entries: an unreached node is hung on the
    /// nearest of the nodes that a search for it finds.
    private static func missing(
        _ edges: Slots, entries: [UInt32], centroids: VectorMatrix, distance: Distance
    ) -> [(UInt32, UInt32)] {
        var reached = [Bool](repeating: false, count: edges.count)
        var stack: [UInt32] = []
        func spread(_ first: [UInt32]) {
            for node in first where !reached[Int(node)] {
                reached[Int(node)] = true
                stack.append(node)
            }
            while let node = stack.popLast() {
                for neighbour in edges.of(Int(node)) where !reached[Int(neighbour)] {
                    reached[Int(neighbour)] = true
                    stack.append(neighbour)
                }
            }
        }
        spread(entries)
        guard reached.contains(false) else { return [] }
        let graph = flatten(edges, extra: [], entries: entries, centroids: centroids)
        let scratch = Scratch(graph: graph)
        var extra: [(UInt32, UInt32)] = []
        for node in 0..<edges.count where !reached[node] {
            _ = graph.search(
                centroids.row(node), ef: 32, centroids: centroids, distance: distance, scratch: scratch)
            extra.append((scratch.found(0).number, UInt32(node)))
            spread([UInt32(node)])
        }
        return extra
    }

    private static func flatten(
        _ edges: Slots, extra: [(UInt32, UInt32)], entries: [UInt32], centroids: VectorMatrix
    ) -> CentroidGraph {
        var additions: [UInt32: [UInt32]] = [:]
        for (from, to) in extra { additions[from, default: []].append(to) }
        var starts: [UInt32] = [0]
        starts.reserveCapacity(edges.count + 1)
        var neighbours: [UInt32] = []
        for node in 0..<edges.count {
            neighbours.append(contentsOf: edges.of(node))
            if let added = additions[UInt32(node)] { neighbours.append(contentsOf: added) }
            starts.append(UInt32(neighbours.count))
        }
        return CentroidGraph(starts: starts, neighbours: neighbours, entries: entries, centroids: centroids)
    }
}
