// A proximity graph in memory, for walks whose distances come from codes: of each vertex the candidates are its exact
// nearest neighbours and what an exact walk towards it expands; of those the ones are kept that no kept one is nearer to
// (Vamana's rule: Subramanya et al. 2019), edges are made to go both ways, and what the entry does not reach is tied in.

import Router
import Vectors

struct ProximityGraph {
    static let degree = 32
    static let slack: Float = 1.2
    static let neighbours = 64
    static let walkWidth = 64

    let base: VectorMatrix
    let entry: Int
    /// `degree` places a vertex, the first `counts` of which are filled.
    private(set) var edges: [UInt32]
    private(set) var counts: [Int]
    private let distance: Distance

    var edgeCount: Int { counts.reduce(0, +) }

    /// The neighbours of a vertex.
    func neighbours(of vertex: Int) -> ArraySlice<UInt32> {
        edges[vertex * Self.degree..<vertex * Self.degree + counts[vertex]]
    }

    init(_ base: VectorMatrix, threads: Int) {
        self.base = base
        distance = Distance(metric: .l2, elementType: base.elementType)
        let count = base.count
        let near = NearestCentroids(scanning: base).nearest(
            min(Self.neighbours + 1, count), base, threads: threads)
        let mean = VectorMatrix(count: 1, dimension: base.dimension, elementType: .f32)
        let floats = base.converted(to: .f32)
        for row in 0..<count {
            for column in 0..<base.dimension {
                mean.floats[column] += floats.floatRow(row)[column] / Float(count)
            }
        }
        entry = Int(NearestCentroids(scanning: floats).assign(mean, threads: 1).partitions[0])
        (edges, counts) = ([], [])
        // The first graph is of the nearest alone: an exact walk over it gives the longer edges.
        let first = Self.pruned(base, distance, threads: threads) { vertex in
            (0..<near.k).map { Int(near.partitions[vertex * near.k + $0]) }
        }
        (edges, counts) = Self.bothWays(base, distance, first, threads: threads)
        connect(near)
        let graph = self
        nonisolated(unsafe) var walked = [[UInt32]](repeating: [], count: count)
        walked.withUnsafeMutableBufferPointer { walked in
            nonisolated(unsafe) let walked = walked
            Workers.forEachBlock(count: count, blockSize: 64, threads: threads) { _, range in
                var walk = GraphWalk(graph, width: Self.walkWidth)
                for vertex in range {
                    walk.run(graph) { graph.distance(vertex, Int($0)) }
                    walked[vertex] = walk.expanded
                }
            }
        }
        let paths = walked
        let second = Self.pruned(base, distance, threads: threads) { vertex in
            Array(
                Set(
                    (0..<near.k).map { Int(near.partitions[vertex * near.k + $0]) }
                        + paths[vertex].map { Int($0) }))
        }
        (edges, counts) = Self.bothWays(base, distance, second, threads: threads)
        connect(near)
    }

    func distance(_ left: Int, _ right: Int) -> Float {
        distance.pair(base.row(left), base.row(right), dimension: base.dimension)
    }

    private static func pruned(
        _ base: VectorMatrix, _ distance: Distance, threads: Int, candidates: @Sendable (Int) -> [Int]
    ) -> [[UInt32]] {
        nonisolated(unsafe) var kept = [[UInt32]](repeating: [], count: base.count)
        kept.withUnsafeMutableBufferPointer { kept in
            nonisolated(unsafe) let kept = kept
            Workers.forEachBlock(count: base.count, blockSize: 64, threads: threads) { _, range in
                for vertex in range { kept[vertex] = prune(vertex, candidates(vertex), base, distance) }
            }
        }
        return kept
    }

    /// The candidates, nearest first, that lie nearer to the vertex than to any kept before them, with some slack.
    private static func prune(_ vertex: Int, _ candidates: [Int], _ base: VectorMatrix, _ distance: Distance)
        -> [UInt32]
    {
        func between(_ left: Int, _ right: Int) -> Float {
            distance.pair(base.row(left), base.row(right), dimension: base.dimension)
        }
        var kept: [UInt32] = []
        let ordered = candidates.filter { $0 != vertex && $0 < base.count }
            .map { (distance: between(vertex, $0), number: $0) }
            .sorted { ($0.distance, $0.number) < ($1.distance, $1.number) }
        // Distances are squared.
        let factor = slack * slack
        for candidate in ordered where kept.count < degree {
            if kept.allSatisfy({ factor * between(Int($0), candidate.number) > candidate.distance }) {
                kept.append(UInt32(candidate.number))
            }
        }
        return kept
    }

    private static func bothWays(
        _ base: VectorMatrix, _ distance: Distance, _ lists: [[UInt32]], threads: Int
    ) -> (edges: [UInt32], counts: [Int]) {
        var all = lists.map { Set($0) }
        for (vertex, list) in lists.enumerated() {
            for other in list { all[Int(other)].insert(UInt32(vertex)) }
        }
        let wanted = all
        let kept = pruned(base, distance, threads: threads) { vertex in wanted[vertex].map { Int($0) } }
        var edges = [UInt32](repeating: 0, count: base.count * degree)
        for (vertex, list) in kept.enumerated() {
            for (place, other) in list.enumerated() { edges[vertex * degree + place] = other }
        }
        return (edges, kept.map(\.count))
    }

    /// Ties in what the entry does not reach: an edge from the nearest vertex that is reached and has room, otherwise in
    /// place of that vertex's last edge.
    private mutating func connect(_ near: NearestLists) {
        var isReached = [Bool](repeating: false, count: base.count)
        func reach(_ from: Int) {
            var stack = [from]
            isReached[from] = true
            while let vertex = stack.popLast() {
                for other in neighbours(of: vertex) where !isReached[Int(other)] {
                    isReached[Int(other)] = true
                    stack.append(Int(other))
                }
            }
        }
        reach(entry)
        for vertex in 0..<base.count where !isReached[vertex] {
            let known = near.partitions[vertex * near.k..<(vertex + 1) * near.k].map { Int($0) }
                .filter { $0 < base.count && isReached[$0] }
            let host = known.first { counts[$0] < Self.degree } ?? known.first ?? entry
            let place = min(counts[host], Self.degree - 1)
            edges[host * Self.degree + place] = UInt32(vertex)
            counts[host] = place + 1
            reach(vertex)
        }
    }
}
