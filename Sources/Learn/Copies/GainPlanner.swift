// Copies and moves by marginal gain: what a copy is expected to win (CatchmentTable) times the
// present price of recall, less what every later read of the partition pays for it. In rounds: each round
// starts from the homes that the one before left, at the threshold that they need, is judged on held-out
// pairs, and undone where it does not pay.

import Glibc
import Index
import Router
import Storage
import Vectors

/// What gain plans aim at.
public struct GainParameters: Sendable {
    /// What is to become cheap.
    public var cost = ReadCost.vectors
    /// The recall that is held: that of the `k` nearest.
    public var k = 1
    public var recall = 0.9
    public var rounds = 3
    /// Move vectors instead of copying them.
    public var moving = false
    /// Weight of the next neighbour against the one before, where pairs describe catchments: a query's
    /// second neighbour tells of the place where the nearest of other queries lie.
    public var rankDecay: Float = 0.6

    public init() {}
}

/// What a round did.
public struct GainRound: Sendable {
    public var plan: Placements
    /// Offers whose expected gain exceeded their price.
    public var offered: Int
    /// Cost at the wanted recall on held-out pairs, before and after.
    public var before: Double
    public var after: Double
    public var lambda: Float
    public var price: Double
    /// Query mass that the plan was expected to win, and what it won at the old threshold on held-out pairs.
    public var expectedMass: Double
    public var wonMass: Double
}

/// Plans copies or moves for one router of one index.
///
///     let routes = try CatchmentRoutes(planner: planner, router: router, pairs: pairs, selfNeighbours: near)
///     let plan = try GainPlanner(planner: planner, routes: routes, parameters: parameters).run()
public final class GainPlanner {
    public let planner: CopyPlanner
    public let parameters: GainParameters
    /// Homes that the rounds so far have made.
    public private(set) var homes: Homes
    private let routes: CatchmentRoutes
    private var own: LikelyPartitions { routes.own }
    private var plan = Placements()
    private var lambda: Float?
    /// Share of the queries that read each partition, at the present threshold.
    private var readShares: [Double] = []

    /// - Throws: `IndexError.invalid` where the pairs do not go as deep as the recall asked for.
    public init(
        planner: CopyPlanner, routes: CatchmentRoutes, parameters: GainParameters = GainParameters()
    ) throws(IndexError) {
        guard parameters.k >= 1, parameters.k <= routes.held.depth, !routes.held.routes.isEmpty else {
            throw .invalid(
                "recall@\(parameters.k) needs pairs of as many neighbours and some of them held out")
        }
        self.planner = planner
        self.routes = routes
        self.parameters = parameters
        homes = planner.homes
    }

    /// All rounds; the plan from the planner's homes to what they ended with.
    public func run(_ each: (GainRound) -> Void = { _ in }) throws -> Placements {
        for left in stride(from: parameters.rounds, to: 0, by: -1) {
            guard let result = try nextRound(share: 1 / Double(left)) else { break }
            each(result)
            if result.plan.isEmpty { break }
        }
        return plan
    }

    /// One round, with `share` of the records that may still be added. Its plan is empty where it did not
    /// pay; nil where the wanted recall is out of reach.
    public func nextRound(share: Double) throws -> GainRound? {
        let table = homes.expectedTable(for: planner.index)
        guard let point = operatingPoint(homes) else { return nil }
        lambda = point.lambda
        let offers = self.offers(point: point, table: table)
        var budgeted = planner
        budgeted.homes = homes
        let budget = parameters.moving ? planner.index.count : Int(Double(budgeted.budget) * share)
        let accepted = accept(offers, budget: budget, point: point, table: table)
        var best = (plan: Placements(), cost: point.cost, expected: 0.0)
        // Where everything together does not pay, the surest half may.
        for part in [1.0, 0.5, 0.2] where !accepted.isEmpty {
            let some = accepted.prefix(max(1, Int(Double(accepted.count) * part)))
            let placements = some.map(\.placement)
            let tried = parameters.moving ? Placements(moves: placements) : Placements(copies: placements)
            guard let after = operatingPoint(homes.applying(tried)) else { continue }
            if after.cost < best.cost { best = (tried, after.cost, some.reduce(0) { $0 + $1.mass }) }
        }
        let won =
            recall(homes.applying(best.plan), table: table, lambda: point.lambda)
            - recall(homes, table: table, lambda: point.lambda)
        homes = homes.applying(best.plan)
        plan = plan.followed(by: best.plan)
        return GainRound(
            plan: best.plan, offered: offers.count, before: point.cost, after: best.cost,
            lambda: point.lambda,
            price: point.price, expectedMass: best.expected, wonMass: won)
    }

    private func account(_ homes: Homes, table: SegmentTable) -> FetchAccount {
        FetchAccount(
            index: planner.index, routes: routes.held.routes, neighbours: routes.held.neighbours,
            depth: routes.held.depth, homes: homes, table: table, threads: planner.threads)
    }

    private func operatingPoint(_ homes: Homes) -> OperatingPoint? {
        account(homes, table: homes.expectedTable(for: planner.index)).operatingPoint(
            k: parameters.k, recall: parameters.recall, cost: parameters.cost, near: lambda)
    }

    /// Recall of held-out pairs at a threshold, with sizes as in `table`.
    private func recall(_ homes: Homes, table: SegmentTable, lambda: Float) -> Double {
        account(homes, table: table).points([.gain(lambda)], cost: parameters.cost, ks: [parameters.k])[0]
            .recall[String(parameters.k)] ?? 0
    }

    // Offers.

    /// A copy or move whose expected gain exceeds its price, or costs nothing.
    private struct Offer {
        var placement: Placement
        /// Share of all queries that it wins.
        var mass: Double
        /// `mass` at the price of recall, in the unit of the cost.
        var value: Double
    }

    /// Weights by candidate of `own`.
    private struct Weights {
        /// Pairs missed now that the copy would meet; pairs met now that the new partition alone would meet.
        var won: [Float]
        var kept: [Float]
        /// By vector: all pairs whose neighbour it is, and those of them that are met now.
        var mass: [Float]
        var covered: [Float]
        var queries = 0.0

        init(candidates: Int, vectors: Int) {
            won = [Float](repeating: 0, count: candidates)
            kept = won
            mass = [Float](repeating: 0, count: vectors)
            covered = mass
        }
    }

    private func offers(point: OperatingPoint, table: SegmentTable) -> [Offer] {
        let logCosts = parameters.cost.logarithms(table: table)
        let threshold = logf(point.lambda)
        let candidates = own.partitions.count
        var describing = Weights(candidates: candidates, vectors: planner.index.count)
        var evidence = Weights(candidates: candidates, vectors: planner.index.count)
        var reads = [Double](repeating: 0, count: table.count)
        var queries = 0.0
        var chosen = ChosenPartitions(count: table.count)
        for pairs in routes.catchments {
            for query in 0..<pairs.neighbours.count / pairs.depth {
                let row = pairs.rows.map { Int($0[query]) } ?? query
                choose(pairs.routes, row: row, logCosts: logCosts, threshold: threshold, into: &chosen)
                let neighbours = pairs.neighbours[query * pairs.depth..<(query + 1) * pairs.depth]
                // The same half describes in every round: once it has chosen copies, what is left of it is
                // poorer than the truth, and as evidence it would end the planning (measured).
                if pairs.describesOnly || query % 2 == 0 {
                    var weight: Float = 1
                    for id in neighbours {
                        add(id, chosen: chosen, weight: weight, to: &describing)
                        weight *= parameters.rankDecay
                    }
                } else {
                    for id in neighbours.prefix(parameters.k) {
                        add(id, chosen: chosen, weight: 1 / Float(parameters.k), to: &evidence)
                    }
                    evidence.queries += 1
                }
                if !pairs.describesOnly {
                    for partition in chosen.list { reads[Int(partition)] += 1 }
                    queries += 1
                }
            }
        }
        let readShares = reads.map { $0 / max(queries, 1) }
        return priced(
            describing: describing, evidence: evidence, point: point, logCosts: logCosts,
            readShares: readShares)
    }

    /// What the gain threshold reads.
    private func choose(
        _ routes: LikelyPartitions, row: Int, logCosts: [Float], threshold: Float,
        into chosen: inout ChosenPartitions
    ) {
        chosen.removeAll()
        var best: (partition: UInt32, gain: Float)?
        for position in routes.of(row) {
            let partition = routes.partitions[position]
            let gain = routes.logProbabilities[position] - logCosts[Int(partition)]
            if gain > threshold { chosen.append(partition) }
            if gain > best?.gain ?? -.infinity { best = (partition, gain) }
        }
        if chosen.list.isEmpty, let best { chosen.append(best.partition) }
    }

    private func add(_ id: UInt32, chosen: ChosenPartitions, weight: Float, to weights: inout Weights) {
        let vector = Int(id)
        guard vector < planner.index.count else { return }
        let home = homes[vector]
        let met = home.contains { chosen.contains($0) }
        weights.mass[vector] += weight
        if met { weights.covered[vector] += weight }
        for position in own.of(vector) where chosen.contains(own.partitions[position]) {
            if met { weights.kept[position] += weight } else { weights.won[position] += weight }
        }
    }

    private func priced(
        describing: Weights, evidence: Weights, point: OperatingPoint, logCosts: [Float], readShares: [Double]
    ) -> [Offer] {
        let mean = max(describing.mass.reduce(0) { $0 + Double($1) } / Double(planner.index.count), 1e-12)
        let threshold = logf(point.lambda)
        func forEachCandidate(_ body: (Int, Int, CopyTraits) -> Void) {
            for vector in 0..<planner.index.count {
                let home = homes[vector]
                guard !home.isEmpty, !parameters.moving || home.count == 1 else { continue }
                var traits = CopyTraits(
                    homeMargin: -.greatestFiniteMagnitude, copyMargin: 0,
                    mass: Float(Double(describing.mass[vector]) / mean), hits: 0)
                for position in own.of(vector) where home.contains(own.partitions[position]) {
                    traits.homeMargin = max(traits.homeMargin, margin(position))
                }
                traits.homeMargin = max(traits.homeMargin, -10)
                for position in own.of(vector) where !home.contains(own.partitions[position]) {
                    traits.copyMargin = min(10, max(-10, margin(position)))
                    traits.hits = Float(Double(describing.won[position]) / mean)
                    body(vector, position, traits)
                }
            }
        }
        func margin(_ position: Int) -> Float {
            min(10, own.logProbabilities[position] - logCosts[Int(own.partitions[position])] - threshold)
        }
        var catchments = CatchmentTable()
        forEachCandidate { vector, position, traits in
            catchments.add(
                traits, won: evidence.won[position], kept: evidence.kept[position],
                covered: evidence.covered[vector])
        }
        let addition = parameters.cost.additions(layout: planner.index.layout)
        var offers: [Offer] = []
        forEachCandidate { vector, position, traits in
            let won = parameters.moving ? catchments.wonByMove(traits) : catchments.won(traits)
            let mass = won / max(evidence.queries, 1)
            let partition = own.partitions[position]
            var paid = readShares[Int(partition)] * addition.record
            if parameters.moving {
                paid -= (homes[vector].first.map { readShares[Int($0)] } ?? 0) * addition.record
            }
            guard mass > 0, mass * point.price > paid else { return }
            offers.append(
                Offer(
                    placement: Placement(id: UInt32(vector), partition: partition), mass: mass,
                    value: mass * point.price - paid))
        }
        self.readShares = readShares
        return offers
    }

    // Acceptance.

    /// The offers taken: the best of each vector while the budget lasts; a segment's free slots first, then
    /// whole units whose records repay them together. By falling value.
    private func accept(_ offers: [Offer], budget: Int, point: OperatingPoint, table: SegmentTable) -> [Offer]
    {
        let layout = planner.index.layout
        let unit = parameters.cost.additions(layout: layout).unit
        var free = (0..<table.count).map { partition in
            Int(table[partition].unitCount) * layout.recordsPerUnit - Int(table[partition].recordCount)
        }
        var taken = [Bool](repeating: false, count: planner.index.count)
        let sorted = offers.sorted { a, b in
            a.value == b.value
                ? (a.placement.id, a.placement.partition) < (b.placement.id, b.placement.partition)
                : a.value > b.value
        }
        var left = budget
        var accepted: [Offer] = []
        var paid: [(net: Double, offer: Offer)] = []
        for offer in sorted {
            let (id, partition) = (Int(offer.placement.id), Int(offer.placement.partition))
            guard left > 0, !taken[id] else { continue }
            if unit == 0 || free[partition] > 0 {
                accepted.append(offer)
                free[partition] -= 1
                left -= 1
                taken[id] = true
            } else {
                let net = offer.value - readShares[partition] * unit / Double(layout.recordsPerUnit)
                if net > 0 { paid.append((net, offer)) }
            }
        }
        paid.sort { a, b in
            a.net == b.net
                ? (a.offer.placement.id, a.offer.placement.partition) < (
                    b.offer.placement.id, b.offer.placement.partition
                )
                : a.net > b.net
        }
        var units: [Int: [Offer]] = [:]
        for (_, offer) in paid {
            let (id, partition) = (Int(offer.placement.id), Int(offer.placement.partition))
            guard !taken[id], left > 0 else { continue }
            taken[id] = true
            units[partition, default: []].append(offer)
            if units[partition]!.count == layout.recordsPerUnit {
                let whole = units.removeValue(forKey: partition)!
                if whole.reduce(0, { $0 + $1.value }) > readShares[partition] * unit, left >= whole.count {
                    accepted.append(contentsOf: whole)
                    left -= whole.count
                }
            }
        }
        return accepted.sorted { a, b in
            a.value == b.value ? a.placement.id < b.placement.id : a.value > b.value
        }
    }
}

/// The partitions that one query reads; asking for one takes a look at one place.
private struct ChosenPartitions {
    private(set) var list: [UInt32] = []
    private var stamps: [UInt32]
    private var stamp: UInt32 = 1

    init(count: Int) { stamps = [UInt32](repeating: 0, count: count) }

    mutating func removeAll() {
        list.removeAll(keepingCapacity: true)
        stamp &+= 1
    }

    mutating func append(_ partition: UInt32) {
        list.append(partition)
        stamps[Int(partition)] = stamp
    }

    func contains(_ partition: UInt32) -> Bool { stamps[Int(partition)] == stamp }
}
