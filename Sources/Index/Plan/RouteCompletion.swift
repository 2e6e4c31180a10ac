// Which router a policy asks, and routes beyond what it names: shared by interactive search, batches and accounts of them.

import Router
import Storage

extension DiskIndex {
    /// The router that a search by `policy` asks. Where only the order of partitions counts, and that is the order of their
    /// centroids, no probability is worked out.
    func router(for policy: Policy) -> any PartitionRouter {
        // Codes that have to be read are asked for where partitions probably hold something near.
        if case .pages = policy { return codesDevice == nil ? centroids : router }
        return policy.countsPartitions && router.ordersByCentroid ? centroids : router
    }
}

/// Continues routes by the distance of centroids; owned by one worker, allocates nothing after warm-up.
struct RouteCompletion {
    private let index: DiskIndex
    private let router: any PartitionRouter
    private let policy: Policy
    private var scratch: RouterScratch?
    private var byDistance = Route()
    /// By partition: the route that named it last.
    private var stamps: [UInt32] = []
    private var stamp: UInt32 = 0

    init(index: DiskIndex, policy: Policy) {
        self.index = index
        self.policy = policy
        router = index.router(for: policy)
    }

    /// Makes a route long enough for a policy that counts partitions: beyond the candidates that a learned router names,
    /// and beyond those that hold nothing. `route` is what the policy's router says of `query`, a row in routing space,
    /// within `limit`.
    mutating func fill(
        _ route: inout Route, query: UnsafeRawPointer, limit: Int, scratch: RouterScratch
    ) {
        guard policy.countsPartitions else { return }
        complete(&route, query: query, limit: limit)
        var limit = limit
        while limit < index.partitionCount, policy.wantsMore(than: route, table: index.table) {
            limit = min(index.partitionCount, 2 * max(limit, 1))
            router.route(query, limit: limit, scratch: scratch, into: &route)
            complete(&route, query: query, limit: limit)
        }
    }

    /// A learned router names the candidates that it has probabilities for. A policy that counts may go on: through the
    /// other partitions by the distance of their centroids.
    private mutating func complete(_ route: inout Route, query: UnsafeRawPointer, limit: Int) {
        guard !router.ordersByCentroid, route.count < limit else { return }
        let scratch = self.scratch ?? index.centroids.makeScratch()
        self.scratch = scratch
        index.centroids.route(query, limit: limit, scratch: scratch, into: &byDistance)
        startStamps()
        for partition in route.partitions { stamps[Int(partition)] = stamp }
        for position in 0..<byDistance.count
        where route.count < limit && stamps[Int(byDistance.partitions[position])] != stamp {
            route.partitions.append(byDistance.partitions[position])
            route.distances.append(byDistance.distances[position])
            route.logProbabilities.append(-.infinity)
        }
    }

    private mutating func startStamps() {
        if stamps.isEmpty || stamp == .max {
            stamps = [UInt32](repeating: 0, count: index.partitionCount)
            stamp = 0
        }
        stamp += 1
    }
}
