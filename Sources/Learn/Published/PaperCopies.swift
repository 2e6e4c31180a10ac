// The paper's duplication (Storage-NN, arXiv 2501.16375): a trained router misses, and what it missed is
// put where it looked. Rounds are the trainer's affair: it trains, asks for a round, and trains on.

import Index
import Router

extension CopyPlanner {
    /// One round: of the pairs whose nearest neighbour does not live in the partition predicted first, the
    /// `share` that costs the likelihood most gets a copy of the neighbour there. Within the replication
    /// allowed; a copy that several pairs want counts once, and the most wanted come first.
    ///
    /// - Parameters:
    ///   - routes: the router's candidates for every query.
    ///   - nearest: the id of each query's nearest vector.
    public func paperRound(routes: [Route], nearest: [UInt32], share: Double = 0.2) -> Placements {
        precondition(routes.count == nearest.count)
        var missed: [(loss: Float, placement: Placement)] = []
        for (query, route) in routes.enumerated() {
            let home = homes[Int(nearest[query])]
            guard let predicted = route.partitions.first, !home.isEmpty, !home.contains(predicted) else {
                continue
            }
            var covered: Float = -.infinity
            for position in 0..<route.count where home.contains(route.partitions[position]) {
                covered = max(covered, route.logProbabilities[position])
            }
            missed.append((-covered, Placement(id: nearest[query], partition: predicted)))
        }
        missed.sort { a, b in
            a.loss == b.loss
                ? (a.placement.id, a.placement.partition) < (b.placement.id, b.placement.partition)
                : a.loss > b.loss
        }
        var wanted: [Placement: Int] = [:]
        var order: [Placement] = []
        for pair in missed.prefix(Int((Double(missed.count) * share).rounded())) {
            if wanted[pair.placement, default: 0] == 0 { order.append(pair.placement) }
            wanted[pair.placement, default: 0] += 1
        }
        let ranked = order.enumerated().sorted { a, b in
            let (x, y) = (wanted[a.element, default: 0], wanted[b.element, default: 0])
            return x == y ? a.offset < b.offset : x > y
        }
        return Placements(copies: ranked.prefix(budget).map(\.element))
    }
}
