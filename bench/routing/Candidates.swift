// What naming candidates costs at many partitions, and what it finds: microseconds a query, the share of the exactly
// nearest centroids that the search through groups finds, and the share of queries whose nearest vector lies in one
// of the candidates.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import Vectors

/// The median of three runs in seconds of the processors, which others on the machine disturb less than a clock.
private func processorSeconds(_ body: () -> Void) -> Double {
    func now() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }
    return (0..<3).map { _ in
        let start = now()
        body()
        return now() - start
    }.sorted()[1]
}

/// Routers are asked for so many candidates.
private let candidateCounts = [64, 256, 512, 1024, 2048, 4096]

/// A table of `centroids` with a row a number of candidates.
///
/// - Parameters:
///   - homes: where the nearest vector of each query lives; nil where no vectors are known.
///   - threads: for blocks and for the exact order; queries alone take one.
func printCandidates(
    _ centroids: CentroidIndex, _ rows: VectorMatrix, homes: [ArraySlice<UInt32>]?, threads: Int
) {
    let counts = candidateCounts.filter { $0 <= centroids.partitionCount }
    // The exact order of a thousand queries tells the share to a thousandth.
    let asked = min(rows.count, 1000)
    let deepest = min(1024, centroids.partitionCount)
    let exact = NearestCentroids(scanning: centroids.centroids())
        .nearest(deepest, rows.gather(0..<asked), threads: threads)
    print(
        "| candidates | us alone | us in blocks | nearest centroid | 64 nearest | all | nearest vector |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for count in counts {
        var routes: [Route] = []
        centroids.routeBlock(rows, limit: count, scratch: centroids.makeScratch(), into: &routes)
        let alone = processorSeconds {
            let scratch = centroids.makeScratch()
            var route = Route()
            for query in 0..<rows.count {
                centroids.route(rows.row(query), limit: count, scratch: scratch, into: &route)
            }
        }
        let blocks = processorSeconds {
            Workers.forEachBlock(count: rows.count, blockSize: 512, threads: threads) { _, range in
                var routes: [Route] = []
                centroids.routeBlock(
                    rows.gather(range), limit: count, scratch: centroids.makeScratch(), into: &routes)
            }
        }
        /// Share of the `depth` exactly nearest centroids that the candidates hold.
        func share(_ depth: Int) -> Double {
            var found = 0
            for query in 0..<asked {
                let named = Set(routes[query].partitions)
                found += exact.partitions[query * deepest..<query * deepest + depth].count {
                    named.contains($0)
                }
            }
            return Double(found) / Double(asked * depth)
        }
        let held = homes.map { homes in
            Double(
                zip(routes, homes).count { route, home in route.partitions.contains { home.contains($0) } })
                / Double(routes.count)
        }
        print(
            String(
                format: "| %d | %.1f | %.1f | %.4f | %.4f | %.4f | %@ |", count,
                alone / Double(rows.count) * 1e6,
                blocks / Double(rows.count) * 1e6, share(1), share(min(64, count)),
                share(min(count, deepest)), held.map { String(format: "%.4f", $0) } ?? "-"))
    }
}
