// Routes beyond what a learned router names: shared by interactive search and batches.

import Router
import Storage

/// Continues routes by the distance of centroids; owned by one worker.
struct RouteCompletion {
    private let index: DiskIndex
    private var scratch: RouterScratch?
    private var byDistance = Route()

    init(index: DiskIndex) { self.index = index }

    /// A learned router names the candidates that it has probabilities for. A policy that counts may go on:
    /// through the other partitions by the distance of their centroids. `query` is a row in routing space.
    mutating func complete(_ route: inout Route, query: UnsafeRawPointer, limit: Int) {
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
