// Routes beyond what a router was asked for or names: shared by interactive search, batches and accounts of them.

import Router
import Storage

/// Continues routes by the distance of centroids; owned by one worker.
struct RouteCompletion {
    private let index: DiskIndex
    private var scratch: RouterScratch?
    private var byDistance = Route()

    init(index: DiskIndex) { self.index = index }

    /// Makes a route long enough for a policy that counts partitions: beyond the candidates that a learned router names,
    /// and beyond those that hold nothing. `route` is what `index.router` says of `query` within `limit`.
    mutating func fill(
        _ route: inout Route, query: UnsafeRawPointer, limit: Int, policy: Policy, scratch: RouterScratch
    ) {
        guard policy.countsPartitions else { return }
        complete(&route, query: query, limit: limit)
        var limit = limit
        while limit < index.partitionCount, policy.wantsMore(than: route, table: index.table) {
            limit = min(index.partitionCount, 2 * max(limit, 1))
            index.router.route(query, limit: limit, scratch: scratch, into: &route)
            complete(&route, query: query, limit: limit)
        }
    }

    /// A learned router names the candidates that it has probabilities for. A policy that counts may go on:
    /// through the other partitions by the distance of their centroids. `query` is a row in routing space.
    private mutating func complete(_ route: inout Route, query: UnsafeRawPointer, limit: Int) {
        guard !(index.router is CentroidIndex), route.count < limit else { return }
        let scratch = self.scratch ?? index.centroids.makeScratch()
        self.scratch = scratch
        index.centroids.route(query, limit: limit, scratch: scratch, into: &byDistance)
        let named = Set(route.partitions)
        for position in 0..<byDistance.count
        where route.count < limit && !named.contains(byDistance.partitions[position]) {
            route.partitions.append(byDistance.partitions[position])
            route.distances.append(byDistance.distances[position])
            route.logProbabilities.append(-.infinity)
        }
    }
}
