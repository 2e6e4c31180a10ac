// The simplest router: partitions in the order of their centroids' distances, with probabilities from one
// calibrated factor. Few centroids are scanned; many are searched through groups or through a graph.

import CKernels
import Glibc
import Vectors

/// From a query to the partitions with the nearest centroids.
public struct CentroidIndex: PartitionRouter {
    /// How centroids are found. `scan` is exact; `groups` looks at the centroids of near groups and costs
    /// four bytes a centroid; `graph` follows edges and costs about a hundred. For 160,000 of SIFT and the 64
    /// nearest, groups find 0.993 in 99 us of CPU, the graph 0.990 in 256 us: runs of rows that lie together
    /// beat jumps through memory.
    public enum Kind: UInt8, Sendable, CaseIterable {
        case scan = 0
        case groups = 1
        case graph = 2
    }

    enum Storage: Sendable {
        case scan(VectorMatrix)
        case groups(CentroidGroups)
        case graph(VectorMatrix, CentroidGraph)
    }

    /// More centroids than this are worth groups: a scan of as many takes some hundred microseconds.
    public static let scanLimit = 32_768

    let storage: Storage
    /// p = softmax(-beta * squared distance) over the candidates; calibrated later.
    public var beta: Float
    /// `RoutingSpace.longest` of the space that the centroids lie in.
    public var longest: Float?
    /// The graph search's pool is this much larger than the candidates wanted, and never less than
    /// `efMinimum`.
    public var efFactor: Float = 2
    public var efMinimum = 96
    /// While centroids are at most so many times those wanted, a scan sorts all of them by digits instead of looking
    /// for a limit first.
    private static let sortShare = 2
    /// Queries that a block compares with a tile of centroids at once.
    static let blockSize = 64
    /// A block keeps up to so many times the wanted keys before it sorts and drops the others: one sort at the
    /// end is cheaper than a heap.
    static let keptShare = 6
    /// Bytes of the next group that are asked for while one is looked at.
    private static let prefetchByteCount = 4096
    /// Groups that a search through groups looks at, at least.
    public var probes = 56

    /// A router over `centroids` in routing space. `kind` nil picks scan or groups by their number, `groupCount` nil
    /// the number of groups. `progress` is told how much is done of how much, where there is something to do.
    public init(
        centroids: VectorMatrix, beta: Float, kind: Kind? = nil, groupCount: Int? = nil, seed: UInt64 = 0,
        threads: Int = 1, progress: (@Sendable (_ done: Int, _ total: Int) -> Void)? = nil
    ) {
        precondition(centroids.count > 0)
        self.beta = beta
        switch kind ?? (centroids.count > Self.scanLimit ? .groups : .scan) {
        case .scan: storage = .scan(centroids)
        case .groups:
            storage = .groups(
                CentroidGroups(
                    grouping: centroids, groupCount: groupCount, seed: seed, threads: threads,
                    progress: progress))
        case .graph:
            storage = .graph(
                centroids, CentroidGraph(of: centroids, seed: seed, threads: threads, progress: progress))
        }
    }

    /// A router over a graph of these centroids built before.
    public init(centroids: VectorMatrix, graph: CentroidGraph, beta: Float) {
        precondition(graph.nodeCount == centroids.count)
        self.init(storage: .graph(centroids, graph), beta: beta)
    }

    init(storage: Storage, beta: Float) {
        self.storage = storage
        self.beta = beta
    }

    /// The factor before calibration: on SIFT the calibrated one is near seven over the mean squared
    /// distance of a vector to its centroid, at 256 and at 1000 partitions.
    public static func defaultBeta(meanDistance: Double) -> Float {
        // Distances so small that their factor is beyond the largest number are told apart by that number.
        meanDistance > 0 && meanDistance.isFinite
            ? min(Float(7 / meanDistance), Float.greatestFiniteMagnitude) : 1
    }

    public var kind: Kind {
        switch storage {
        case .scan: .scan
        case .groups: .groups
        case .graph: .graph
        }
    }

    private var rows: VectorMatrix {
        switch storage {
        case .scan(let rows), .graph(let rows, _): rows
        case .groups(let groups): groups.centroids
        }
    }

    public var partitionCount: Int { rows.count }
    public var ordersByCentroid: Bool { true }
    public var dimension: Int { rows.dimension }
    public var elementType: ElementType { rows.elementType }

    public var residentByteCount: Int {
        switch storage {
        case .scan(let rows): rows.byteCount
        case .groups(let groups):
            groups.centroids.byteCount + groups.centres.byteCount + groups.numbers.count * 4
                + groups.starts.count * 8
        case .graph(let rows, let graph): rows.byteCount + graph.residentByteCount
        }
    }

    /// Centroids by partition number.
    public func centroids() -> VectorMatrix {
        guard case .groups(let groups) = storage else { return rows }
        let result = VectorMatrix(count: rows.count, dimension: dimension, elementType: elementType)
        for (position, number) in groups.numbers.enumerated() {
            result.row(Int(number)).copyMemory(from: rows.row(position), byteCount: rows.rowByteCount)
        }
        return result
    }

    /// What rounding took from the distance of a query (of the routing space) to a centroid.
    public func residual(of distance: Float, query: UnsafeRawPointer, partition: UInt32) -> Int32 {
        guard abs(distance) >= Distance.wholeMaximum, !elementType.isFloatingPoint else { return 0 }
        let place: Int? =
            if case .groups(let groups) = storage {
                groups.numbers.firstIndex { $0 == partition }
            } else { Int(partition) }
        guard let place else { return 0 }
        return Distance(metric: .l2, elementType: elementType)
            .residual(of: distance, query, rows.row(place), dimension: dimension)
    }

    /// The graph, where there is one.
    public var graph: CentroidGraph? {
        if case .graph(_, let graph) = storage { graph } else { nil }
    }

    public func makeScratch() -> RouterScratch { Scratch(self) }

    public func routeBlock(
        _ queries: VectorMatrix, limit: Int, scratch: RouterScratch, into routes: inout [Route]
    ) {
        while routes.count < queries.count { routes.append(Route()) }
        for first in stride(from: 0, to: queries.count, by: Self.blockSize) {
            let count = min(Self.blockSize, queries.count - first)
            routeRows(
                queries.row(first), count: count, limit: limit, scratch: scratch, into: &routes, at: first)
        }
    }

    /// Routes up to `blockSize` rows without gaps into `routes[first...]`. A scan compares them by the block
    /// kernel, which gives the same bits as one query at a time.
    func routeRows(
        _ queries: UnsafeRawPointer, count: Int, limit: Int, scratch anyScratch: RouterScratch,
        into routes: inout [Route], at first: Int
    ) {
        guard let scratch = anyScratch as? Scratch else { preconditionFailure("scratch of another router") }
        let k = min(limit, partitionCount)
        guard case .scan(let rows) = storage, count > 1, k > 0 else {
            for query in 0..<count {
                route(
                    queries + query * dimension * elementType.byteCount, limit: limit, scratch: scratch,
                    into: &routes[first + query])
            }
            return
        }
        let size = gatherNearest(rows, queries, count: count, k: k, scratch: scratch)
        for query in 0..<count {
            take(nearestOf: query, size: size, k, scratch, into: &routes[first + query])
            fillProbabilities(&routes[first + query])
        }
    }

    /// Fills `scratch.keys` with the keys of rows that may be among the `k` nearest of each query, `scratch.found` of
    /// them from every multiple of the size that is returned.
    private func gatherNearest(
        _ rows: VectorMatrix, _ queries: UnsafeRawPointer, count: Int, k: Int, scratch: Scratch
    ) -> Int {
        // Where most are wanted all are sorted; else those near enough so far, and room for what a tile may add.
        let all = rows.count <= k * Self.sortShare
        let size = all ? rows.count : Self.keptShare * k + Scratch.tileCount
        scratch.reserveKeys(count * size)
        for query in 0..<count {
            scratch.found[query] = all ? rows.count : 0
            scratch.limits[query] = .infinity
        }
        let tile = count == 1 ? scratch.tile : scratch.blockTile
        for start in stride(from: 0, to: rows.count, by: Scratch.tileCount) {
            let part = min(Scratch.tileCount, rows.count - start)
            // Once every query has a limit, only what is under it leaves the kernel.
            if count > 1, !all, scratch.limits.prefix(count).allSatisfy({ $0 < .infinity }) {
                gatherWithin(rows, start..<start + part, queries, count: count, k: k, size: size, scratch)
                continue
            }
            if count == 1 {
                scratch.distance.rows(queries, rows.row(start), count: part, dimension: dimension, into: tile)
            } else {
                scratch.distance.block(
                    queries, queries: count, rows.row(start), count: part, dimension: dimension, into: tile,
                    outStride: Scratch.tileCount)
            }
            for query in 0..<count {
                let distances = tile + query * Scratch.tileCount
                let own = scratch.keys + query * size
                if all {
                    for index in 0..<part {
                        own[start + index] = PackedHeap.pack(distances[index], UInt32(start + index))
                    }
                } else {
                    scratch.found[query] = scratch.gather(
                        distances, count: part, firstNumber: start, k: k, limit: &scratch.limits[query],
                        after: scratch.found[query], into: own)
                }
            }
        }
        return size
    }

    /// One tile of `gatherNearest`.
    private func gatherWithin(
        _ rows: VectorMatrix, _ tile: Range<Int>, _ queries: UnsafeRawPointer, count: Int, k: Int, size: Int,
        _ scratch: Scratch
    ) {
        scratch.distance.blockWithin(
            scratch.limits, queries, queries: count, rows.row(tile.lowerBound), count: tile.count,
            dimension: dimension, into: scratch.blockTile, positions: scratch.blockPositions,
            found: &scratch.passed, outStride: Scratch.tileCount)
        for query in 0..<count {
            let first = query * Scratch.tileCount
            scratch.found[query] = scratch.gather(
                chosen: scratch.blockTile + first, scratch.blockPositions + first,
                passed: Int(scratch.passed[query]), firstNumber: tile.lowerBound, k: k,
                limit: &scratch.limits[query], after: scratch.found[query],
                into: scratch.keys + query * size)
        }
    }

    private func take(nearestOf query: Int, size: Int, _ k: Int, _ scratch: Scratch, into route: inout Route)
    {
        let (keys, found) = (scratch.keys + query * size, scratch.found[query])
        scratch.sort(keys, found, least: min(k, found))
        route.removeAll()
        take(sorted: keys, min(k, found), into: &route)
    }

    public func route(
        _ query: UnsafeRawPointer, limit: Int, scratch: RouterScratch, into route: inout Route
    ) {
        guard let scratch = scratch as? Scratch else { preconditionFailure("scratch of another router") }
        route.removeAll()
        let k = min(limit, partitionCount)
        if k <= 0 { return }
        switch storage {
        case .scan(let rows):
            let size = gatherNearest(rows, query, count: 1, k: k, scratch: scratch)
            take(nearestOf: 0, size: size, k, scratch, into: &route)
        case .groups(let groups):
            let found = routeThroughGroups(groups, query, k, scratch)
            take(sorted: scratch.keys, found, into: &route)
        case .graph(let rows, let graph):
            let ef = max(efMinimum, Int((Float(k) * efFactor).rounded(.up)))
            let found = graph.search(
                query, ef: min(ef, partitionCount), centroids: rows, distance: scratch.distance,
                scratch: scratch.graph!)
            for index in 0..<min(k, found) {
                let (number, distance) = scratch.graph!.found(index)
                route.partitions.append(number)
                route.distances.append(distance)
            }
        }
        fillProbabilities(&route)
    }

    /// Puts the keys of the `k` nearest of the near groups, in order, into `scratch.keys`, and returns how many there are.
    private func routeThroughGroups(
        _ groups: CentroidGroups, _ query: UnsafeRawPointer, _ k: Int, _ scratch: Scratch
    ) -> Int {
        // Enough groups to hold twice what is wanted.
        let mean = max(1, partitionCount / groups.groupCount)
        let wanted = min(groups.groupCount, max(probes, 2 * k / mean + 1))
        scratch.reserve(wanted)
        let nearGroups = scratch.groupHeap
        nearGroups.update(repeating: PackedHeap.worst, count: wanted)
        scratch.offer(
            query, groups.centres.bytes, count: groups.groupCount, dimension: dimension, to: nearGroups,
            k: wanted)
        PackedHeap.sort(nearGroups, wanted)
        let kept = max(2 * k, 256)
        scratch.reserveKeys(kept + Scratch.tileCount)
        var (found, limit) = (0, Float.infinity)
        groups.numbers.withUnsafeBufferPointer { numbers in
            for index in 0..<wanted {
                let group = Int(PackedHeap.number(nearGroups[index]))
                if index + 1 < wanted {
                    // The processor follows a run of rows once it is under way; this is for the first of the next.
                    let next = Int(PackedHeap.number(nearGroups[index + 1]))
                    let size = (groups.starts[next + 1] - groups.starts[next]) * groups.centroids.rowByteCount
                    sonde_prefetch(
                        groups.centroids.row(groups.starts[next]), min(size, Self.prefetchByteCount))
                }
                for start in stride(
                    from: groups.starts[group], to: groups.starts[group + 1], by: Scratch.tileCount)
                {
                    let count = min(Scratch.tileCount, groups.starts[group + 1] - start)
                    scratch.distance.rows(
                        query, groups.centroids.row(start), count: count, dimension: dimension,
                        into: scratch.tile)
                    if limit == .infinity {
                        limit = Distance.limitOfLeast(k, of: scratch.tile, count: count)
                    }
                    let passed = Distance.selectAtMost(
                        limit, of: scratch.tile, count: count, into: scratch.positions)
                    for place in 0..<passed {
                        let position = Int(scratch.positions[place])
                        scratch.keys[found + place] = PackedHeap.pack(
                            scratch.tile[position], numbers[start + position])
                    }
                    found += passed
                    if found > kept {
                        scratch.sortWhole(found)
                        found = k
                        limit = PackedHeap.distance(scratch.keys[k - 1])
                    }
                }
            }
        }
        scratch.sortWhole(found)
        return min(k, found)
    }

    private func take(sorted keys: UnsafeMutablePointer<UInt64>, _ k: Int, into route: inout Route) {
        for index in 0..<k {
            route.partitions.append(PackedHeap.number(keys[index]))
            route.distances.append(PackedHeap.distance(keys[index]))
        }
    }

    /// log softmax(-beta * distance) over the candidates.
    private func fillProbabilities(_ route: inout Route) {
        guard let nearest = route.distances.first else { return }
        route.beta = beta
        for distance in route.distances { route.logProbabilities.append(-beta * (distance - nearest)) }
        let logSum = sonde_log_sum_exp(route.logProbabilities, route.count)
        route.logNormaliser = logSum - beta * nearest
        for index in 0..<route.count { route.logProbabilities[index] -= logSum }
    }
}
