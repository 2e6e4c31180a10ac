// LIRA's redundancy (arXiv 2503.23409): vectors that the probing model would look for in many
// partitions are the long tail, and get a second record where it looks first. The published rule exactly, and the
// share of vectors that pays for itself.

import Glibc
import Index
import Router
import Storage
import Vectors

extension CopyPlanner {
    /// Every copy that LIRA would make, in its order: by falling predicted nprobe (partitions above one half). A
    /// vector's copy goes to the likeliest partition that is not its home, the second likeliest where the likeliest
    /// is and two exceed one half; vectors that only their home is predicted for get none.
    public func liraRanking(router: any PartitionRouter) throws -> [Placement] {
        if index.cells != nil {
            throw IndexError.invalid(
                "\(index.path) has sub-segments: lira's copies are planned for whole partitions")
        }
        var offers: [(nprobe: Int32, placement: Placement)] = []
        let half = logf(0.5)
        try forEachBatch { ids, rows in
            let routes = index.routes(
                ofRoutingRows: rows, router: router, limit: router.partitionCount, threads: threads)
            for (row, id) in ids.enumerated() {
                let route = routes[row]
                let wanted = route.logProbabilities.prefix { $0 > half }.count
                guard wanted >= 1, !homes[Int(id)].isEmpty else { continue }
                let home = homes[Int(id)]
                let target =
                    !home.contains(route.partitions[0])
                    ? route.partitions[0]
                    : wanted >= 2 && !home.contains(route.partitions[1]) ? route.partitions[1] : nil
                if let target { offers.append((Int32(wanted), Placement(id: id, partition: target))) }
            }
        }
        offers.sort { a, b in a.nprobe == b.nprobe ? a.placement.id < b.placement.id : a.nprobe > b.nprobe }
        return offers.map(\.placement)
    }

    /// The first `eta` of the vectors, of those that LIRA would copy at all.
    ///
    /// - Parameter eta: share of the base, from 0 to 1.
    public func lira(router: any PartitionRouter, eta: Double) throws -> Placements {
        Placements(copies: Array(try liraRanking(router: router).prefix(Int(eta * Double(index.count)))))
    }

    /// The longest beginning of LIRA's ranking that pays: held-out queries are charged at each of a few shares of
    /// the base, and copying stops where the vectors saved by a further step, as a share, no longer exceed
    /// `bytePrice` times the share of records that it adds.
    ///
    /// - Parameters:
    ///   - depth: recall@depth is held at `recall` while vectors are saved.
    public func liraAdaptive(
        router: any PartitionRouter, pairs: TrainingPairs, depth: Int, recall: Double, bytePrice: Double = 0.2
    ) throws -> Placements {
        let ranking = try liraRanking(router: router)
        let held = pairs.heldOut
        let routes = index.routes(
            ofRoutingRows: pairs.queries.gather(held), router: router, limit: router.partitionCount,
            threads: threads)
        let neighbours = Array(pairs.neighbours[(held.lowerBound * pairs.neighbourCount)...])
        func cost(_ homes: Homes) -> Double? {
            let account = FetchAccount(
                index: index, routes: routes, neighbours: neighbours, depth: pairs.neighbourCount,
                homes: homes,
                table: homes.expectedTable(for: index), threads: threads)
            return FetchAccount.cost(
                of: account.points(Policy.sigmaLadder, ks: [depth]), k: depth, recall: recall
            ) {
                $0.vectors
            }
        }
        var best = (count: 0, cost: cost(homes) ?? .infinity)
        for share in [0.03, 0.1, 0.2, 0.3, 0.5, 0.75, 1] {
            let count = min(ranking.count, Int(share * Double(index.count)))
            guard count > best.count else { break }
            let homes = homes.applying(Placements(copies: Array(ranking.prefix(count))))
            guard let found = cost(homes) else { break }
            let saved = (best.cost - found) / best.cost
            let added = Double(count - best.count) / Double(index.count)
            guard saved > bytePrice * added else { break }
            best = (count, found)
        }
        return Placements(copies: Array(ranking.prefix(best.count)))
    }
}
