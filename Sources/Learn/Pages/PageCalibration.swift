// What codes are worth, measured on queries that were kept back: how many partitions to look at, how far estimates lie
// from the truth, and which threshold of a page's gain finds which recall at which k. Nothing is read for it but the places
// of the true neighbours: a neighbour is found where the gain of its page exceeds the threshold.

import Glibc
import Index
import Router
import Storage
import Vectors

extension DiskIndex {
    /// The same codes with a fitted model; thresholds are added to `policies`.
    ///
    /// - Parameter areInIndex: whether a search will have to read the codes; `router` tells it then which.
    func calibratePages(
        _ codes: RecordCodes, areInIndex: Bool, router: any PartitionRouter, set: CalibrationSet,
        threads: Int,
        into policies: inout CalibratedPolicies
    ) throws -> RecordCodes {
        let calibration = try PageCalibration(
            index: self, router: areInIndex ? router : centroids, set: set, threads: threads)
        let limits = calibration.partitionLimits()
        let looking = codes.with(
            model: RecordModel(
                depths: zip(set.ks, limits).map { .init(k: $0, spread: 1, partitionLimit: $1) }))
        var model = looking.model
        for (place, spread) in calibration.spreads(looking).enumerated() {
            model.depths[place].spread = spread
        }
        if areInIndex { model.lookShare = calibration.lookShare(codes.with(model: model)) }
        let fitted = codes.with(model: model)
        let gains = calibration.neighbourGains(fitted)
        policies.add(
            CalibratedPolicies.pagesName, thresholds: Policy.pagesLadder.map { Float($0.parameter) },
            ks: set.ks,
            calibrating: { gains.leastRecalls(above: $0, groups: set.groups(of: set.calibrating)) },
            checking: { gains.leastRecalls(above: $0, groups: set.groups(of: set.checking)) })
        for (place, k) in set.ks.enumerated() {
            policies.curves[CalibratedPolicies.curveName(CalibratedPolicies.pagesPerQueryName, k: k)] =
                CalibratedPolicies.guaranteedRecalls.compactMap { recall in
                    gains.thresholdPerQuery(
                        recall: recall, place: place, groups: set.groups(of: 0..<set.count)
                    )
                    .map { .init(lambda: Double($0), recall: recall) }
                }
        }
        return fitted
    }
}

/// The kept queries with the places of their neighbours.
private struct PageCalibration {
    /// Where a record lies.
    typealias Place = (partition: Int, slot: Int)

    let index: DiskIndex
    let set: CalibrationSet
    let rows: VectorMatrix
    let routes: [Route]
    let places: [UInt32: Place]
    let threads: Int

    /// Partitions that are looked at, at most.
    private static let partitionLadder = [
        8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512,
    ]
    /// The share of true neighbours that shall lie in them.
    private static let coverage = 0.997
    /// No more than so many are looked at for so few neighbours: what they miss is cheaper to do without.
    private static let fewLimit = (k: 20, partitions: 256)
    /// Queries that spreads are fitted on, at most.
    private static let fittedMaximum = 500
    /// Beyond this k one query in so many has a part in it.
    private static let manyCandidates = (k: 100, part: 5)
    /// Spreads that are tried, as shares of the root of a distance.
    private static let spreadLadder = (0..<20).map { 0.01 * expf(Float($0) * 0.25) }

    init(index: DiskIndex, router: any PartitionRouter, set: CalibrationSet, threads: Int) throws {
        self.index = index
        self.set = set
        self.threads = threads
        rows = index.space.queries(from: set.queries)
        routes = index.routes(
            ofRoutingRows: rows, router: router, limit: Self.partitionLadder.reduce(1, max),
            threads: threads)
        places = try index.places(of: Set(set.neighbours).union(set.sources))
    }

    private func neighbour(_ query: Int, _ rank: Int) -> Place? {
        places[set.neighbours[query * set.depth + rank]]
    }

    private func source(_ query: Int) -> Place? { set.sources.isEmpty ? nil : places[set.sources[query]] }

    /// By k, the fewest partitions in which nearly all of the k nearest lie; of few neighbours those of the ten nearest.
    func partitionLimits() -> [Int] {
        let depths = set.ks.map { min(max($0, 10), set.depth) }
        // By k and step of the ladder, the neighbours that lie within it and not within the one before.
        var held = depths.map { _ in [Int](repeating: 0, count: Self.partitionLadder.count) }
        for query in set.calibrating {
            var positions: [UInt32: Int] = [:]
            for (position, partition) in routes[query].partitions.enumerated() {
                positions[partition] = position
            }
            for rank in 0..<set.depth {
                guard let home = neighbour(query, rank), let position = positions[UInt32(home.partition)],
                    let step = Self.partitionLadder.firstIndex(where: { position < $0 })
                else { continue }
                for (place, depth) in depths.enumerated() where rank < depth { held[place][step] += 1 }
            }
        }
        return set.ks.indices.map { place in
            let most = min(
                index.partitionCount,
                set.ks[place] <= Self.fewLimit.k
                    ? Self.fewLimit.partitions : Self.partitionLadder.reduce(1, max))
            let wanted = Self.coverage * Double(depths[place] * set.calibrating.count)
            var within = 0
            for (step, limit) in Self.partitionLadder.enumerated() where limit < most {
                within += held[place][step]
                if Double(within) >= wanted { return limit }
            }
            return most
        }
    }

    /// Calls `body` with a chooser for each query of a range, on all threads, and returns what it made of them in order.
    private func forEachQuery<Result: Sendable>(
        of range: Range<Int>, _ codes: RecordCodes, _ body: @Sendable (Int, PageChooser) -> Result
    ) -> [Result] {
        let slots = ResultSlots<Result>(count: range.count)
        Workers.forEachBlock(count: range.count, blockSize: 64, threads: threads) { _, block in
            let chooser = PageChooser(index: index, codes: codes)
            for place in block {
                let query = range.lowerBound + place
                slots.set(place, body(query, chooser))
            }
        }
        return range.indices.compactMap { slots.take($0 - range.lowerBound) }
    }

    /// The spread for each k under which what was found is likeliest.
    func spreads(_ codes: RecordCodes) -> [Float] {
        let range = set.calibrating.prefix(Self.fittedMaximum)
        let few = set.ks.filter { $0 <= Self.manyCandidates.k }
        let many = set.ks.filter { $0 > Self.manyCandidates.k }
        let roots = forEachQuery(of: range, codes) { query, chooser -> Float in
            chooser.estimate(rows.row(query), route: routes[query], k: 1, stops: false)
            return chooser.nearestEstimate.squareRoot()
        }.filter { $0 > 0 && $0.isFinite }.sorted()
        let root = roots.isEmpty ? 1 : roots[roots.count / 2]
        let ladder = Self.spreadLadder.map { $0 * root }
        // Losses by k and spread.
        let losses = forEachQuery(of: range, codes) { query, chooser -> [Double] in
            var nearest: [UInt64: Int] = [:]
            for rank in 0..<set.depth {
                if let place = neighbour(query, rank) {
                    nearest[UInt64(place.partition) << 32 | UInt64(place.slot)] = rank
                }
            }
            var losses: [Double] = []
            for ks in [few, many] {
                // Many candidates take long to weigh, and tell as much of fewer queries.
                guard let deepest = ks.last, deepest == few.last || query % Self.manyCandidates.part == 0
                else {
                    losses += [Double](repeating: 0, count: ks.count * ladder.count)
                    continue
                }
                chooser.estimate(rows.row(query), route: routes[query], k: deepest, stops: false)
                for k in ks {
                    for spread in ladder {
                        chooser.weigh(route: routes[query], k: k, spread: spread, excluded: source(query))
                        var loss = 0.0
                        chooser.forEachRecord(of: routes[query]) { partition, slot, probability in
                            let p = min(max(Double(probability), 1e-6), 1 - 1e-6)
                            let isNear = (nearest[UInt64(partition) << 32 | UInt64(slot)] ?? .max) < k
                            loss -= log(isNear ? p : 1 - p)
                        }
                        losses.append(loss)
                    }
                }
            }
            return losses
        }
        return set.ks.indices.map { place in
            let sums = ladder.indices.map { step in
                losses.reduce(0.0) { $0 + $1[place * ladder.count + step] }
            }
            let best = sums.indices.min { sums[$0] < sums[$1] } ?? 0
            return ladder[best]
        }
    }

    /// What a search of k at a query weighs: each unit with its worth, what is worth most infinitely.
    private func weighUnits(_ query: Int, k: Int, _ chooser: PageChooser) -> [UnitAddress: Float] {
        // The vector that a query was made from is found before its neighbours, and is none.
        chooser.estimate(rows.row(query), route: routes[query], k: k + (set.sources.isEmpty ? 0 : 1))
        chooser.weigh(route: routes[query], k: k, excluded: source(query))
        var worth: [UnitAddress: Float] = [:]
        for (place, unit) in chooser.units.enumerated() { worth[unit] = chooser.gains[place] }
        // What is worth most is read whatever the threshold.
        if let best = chooser.gains.indices.max(by: { chooser.gains[$0] < chooser.gains[$1] }) {
            worth[chooser.units[best]] = .infinity
        }
        return worth
    }

    /// The threshold of pages up to which the codes of each partition of a route are looked at; infinite for the nearest,
    /// and for all where no code has to be read.
    private func lookThresholds(_ query: Int, share: Float) -> [Int: Float] {
        var thresholds: [Int: Float] = [:]
        for (position, partition) in routes[query].partitions.enumerated() {
            let probability = expf(routes[query].logProbabilities[position])
            thresholds[Int(partition)] = position == 0 || share == 0 ? .infinity : probability / share
        }
        return thresholds
    }

    private static let lookShares = (0..<14).map { 0.02 * powf(1.6, Float($0)) }
    /// The recall at which codes and pages are balanced, and of how many neighbours.
    private static let balanced = (recall: 0.95, k: 10)

    /// The share with which fewest pages, of codes and of records, find the balanced recall.
    func lookShare(_ codes: RecordCodes) -> Float {
        let range = set.calibrating.prefix(Self.fittedMaximum)
        let k = min(Self.balanced.k, set.depth)
        let size = index.layout.recordsPerUnit
        let weighed = forEachQuery(of: range, codes) { query, chooser in weighUnits(query, k: k, chooser) }
        var best = (pages: Double.infinity, share: Self.lookShares[0])
        for share in Self.lookShares {
            var found: [Float] = []
            var thresholds: [[Int: Float]] = []
            for (place, query) in range.enumerated() {
                let looked = lookThresholds(query, share: share)
                for rank in 0..<k {
                    found.append(
                        neighbour(query, rank).flatMap { home in
                            looked[home.partition].flatMap { limit in
                                weighed[place][UnitAddress(partition: home.partition, unit: home.slot / size)]
                                    .map { min($0, limit) }
                            }
                        } ?? 0)
                }
                thresholds.append(looked)
            }
            found.sort(by: >)
            let lambda = found[min(Int(Self.balanced.recall * Double(found.count)), found.count - 1)]
            guard lambda > 0 else { continue }
            var pages = 0
            var look = CodeLook()
            for (place, query) in range.enumerated() {
                let count = routes[query].partitions.prefix { thresholds[place][Int($0)] ?? 0 >= lambda }
                    .count
                look.plan(
                    routes[query], count: max(1, min(count, codes.model.partitionLimit(k: k))), codes: codes)
                pages += look.reads.reduce(0) { $0 + $1.byteCount } / CodePages.byteCount
                pages += weighed[place].reduce(0) {
                    $0
                        + ($1.value >= lambda && thresholds[place][$1.key.partition] ?? 0 >= lambda
                            ? index.layout.pagesPerUnit : 0)
                }
            }
            if Double(pages) < best.pages { best = (Double(pages), share) }
        }
        return best.share
    }

    /// What the page of each true neighbour is worth to a search of each k.
    func neighbourGains(_ codes: RecordCodes) -> NeighbourGains {
        let size = index.layout.recordsPerUnit
        let gains = forEachQuery(of: 0..<set.count, codes) { query, chooser -> [[Float]] in
            let looked = lookThresholds(query, share: codes.model.lookShare)
            return set.ks.map { k in
                let worth = weighUnits(query, k: k, chooser)
                return (0..<k).map { rank in
                    neighbour(query, rank).flatMap { home in
                        worth[UnitAddress(partition: home.partition, unit: home.slot / size)].map {
                            min($0, looked[home.partition] ?? 0)
                        }
                    } ?? 0
                }
            }
        }
        return NeighbourGains(byQuery: gains)
    }
}

/// The gains of the pages of true neighbours: by query, by k, by rank.
private struct NeighbourGains {
    let byQuery: [[[Float]]]

    /// The threshold at which all but a twentieth of queries find a recall, by split conformal prediction (Vovk et al.
    /// 2005): with n queries at hand the next one is let down with at most that probability where the threshold is the
    /// floor(alpha (n + 1))-th least of those that each needs. nil where that reads everything.
    ///
    /// - Parameter groups: queries by row; the threshold has to do for each group.
    func thresholdPerQuery(recall: Double, place: Int, groups: [[Int]]) -> Float? {
        var least = Float.infinity
        for rows in groups {
            let needed = rows.map { row in
                // The threshold below the gain of so many pages finds so many neighbours.
                let gains = byQuery[row][place].sorted(by: >)
                return gains[max(0, min(gains.count, Int((recall * Double(gains.count)).rounded(.up))) - 1)]
            }.sorted()
            let allowed = Int(CalibratedPolicies.failingShare * Double(needed.count + 1))
            guard allowed >= 1 else { return nil }
            least = min(least, needed[allowed - 1].nextDown)
        }
        return least > 0 && least < .infinity ? least : nil
    }

    /// Recalls by threshold and k, of the group of queries that each finds least for.
    func leastRecalls(above thresholds: [Float], groups: [[Int]]) -> [[MeanRecall]] {
        thresholds.map { threshold in
            (byQuery.first ?? []).indices.map { place in
                let recalls = groups.map { rows in
                    var recall = MeanRecall()
                    for query in rows {
                        let gains = byQuery[query][place]
                        let found = gains.reduce(0) { $0 + ($1 > threshold ? 1 : 0) }
                        recall.add(Double(found) / Double(max(gains.count, 1)))
                    }
                    return recall
                }
                return recalls.min { $0.sure < $1.sure } ?? MeanRecall()
            }
        }
    }
}

extension DiskIndex {
    /// Where the records of some vectors lie, by their numbers.
    fileprivate func places(of wanted: Set<UInt32>) throws -> [UInt32: PageCalibration.Place] {
        let numbers = try numbers()
        var places: [UInt32: PageCalibration.Place] = [:]
        try forEachSegment { partition, segment in
            var slot = 0
            try forEachRecord(of: partition, in: segment) { id, _ in
                let number = UInt32(try numbers.require(id))
                if wanted.contains(number) { places[number] = (partition, slot) }
                slot += 1
            }
        }
        return places
    }
}
