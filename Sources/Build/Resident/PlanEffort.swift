// How much a resident plan may try: its work is counted before it begins, in components of vectors that are compared, and
// its samples and options shrink until that is a small part of the build. Nothing is timed, so that the same base, goal
// and seed give the same plan on any machine.

import Index
import Learn
import Router
import Storage
import Vectors

/// Sizes of a plan's trials.
struct PlanEffort: Sendable, Equatable {
    /// Vectors that most options are tried on, and the most that options of large partitions are.
    var rows: Int
    var rowsMaximum: Int
    var queries: Int
    /// Residuals that codewords are trained on: a third of what a build takes costs a few per cent of resolution.
    var residuals = 16_384
    /// Partitions that a sample should have, so that it is no matter of a few.
    var partitionsWanted = 96
    var codeSizes = [8, 16, 32, 48]
    /// Of fewer codes than vectors only two sizes are tried: what tells partitions apart is their number.
    var someCodeSizes: Set<Int> = [16, 48]
    var prototypeCounts = [8, 16, 32, 64, 256]
    /// Options of which smaller numbers of partitions are looked at.
    var finalists = 4
    /// Options whose own growth is measured, beside one of each family.
    var followed = 3

    static let levels = 6

    /// A fraction of this effort: each level costs about a third of the one before.
    func reduced(to level: Int) -> PlanEffort {
        guard level > 0 else { return self }
        var effort = self
        func part(_ value: Int, _ shift: Int, _ least: Int) -> Int { max(min(value, least), value >> shift) }
        effort.rows = part(rows, level, 1024)
        effort.rowsMaximum = max(effort.rows, part(rowsMaximum, 2 * level, 2048))
        effort.queries = part(queries, (level + 1) / 2, 1024)
        effort.residuals = part(residuals, level, 4096)
        effort.partitionsWanted = part(partitionsWanted, level, 24)
        if level >= 2 {
            (effort.codeSizes, effort.prototypeCounts) = ([8, 16, 48], [16, 64])
            effort.finalists = 2
        }
        if level >= 3 { effort.followed = 1 }
        return effort
    }
}

/// The work of a plan, in components of vectors compared.
struct PlanWork {
    let effort: PlanEffort
    let count: Int
    let dimension: Int
    let seed: UInt64
    /// Rows of the sample.
    let sampled: Int
    let depth: Int
    /// What has been counted already: neighbours and partitionings are made once for all routers.
    private var known: Set<[Int]> = []
    private(set) var total = 0.0

    /// About what a slow pair of cores compares in a minute: the least that a plan may take.
    static let minute = 60 * 1e10
    /// The part of a build that its plan may take.
    static let share = 0.1
    // Estimates, not fitted to any machine: what codewords and codes cost beside distances of whole vectors, a route
    // beside its distances, and a candidate that an account of reads weighs, a code that is looked up.
    private static let codewordRounds = 12.0
    private static let partsFactor = 5.0
    private static let routedFactor = 2.0
    private static let accountedFactor = 40.0
    private static let thresholds = 49.0
    private static let steps = 11.0

    /// - Parameters:
    ///   - sampled: rows of the sample.
    ///   - depth: neighbours wanted.
    init(effort: PlanEffort, count: Int, dimension: Int, seed: UInt64, sampled: Int, depth: Int) {
        (self.sampled, self.depth) = (sampled, depth)
        self.effort = effort
        self.count = count
        self.dimension = dimension
        self.seed = seed
    }

    /// Nothing counted yet.
    var fresh: PlanWork {
        PlanWork(
            effort: effort, count: count, dimension: dimension, seed: seed, sampled: sampled, depth: depth)
    }

    /// Rows on which partitions of a size are tried.
    func rows(partitions: Int) -> Int {
        let size = Double(count) / Double(partitions)
        return min(max(effort.rows, Int(Double(effort.partitionsWanted) * size)), sampled)
    }

    /// Partitions of so many rows that are as large as a candidate's.
    func partitions(of candidate: PlanCandidate, rows: Int) -> Int {
        let size = Double(count) / Double(candidate.partitions)
        return max(1, min(rows, Int((Double(rows) / size).rounded())))
    }

    /// Rows on which growth is measured, from `first` to all that are there.
    func growthRows(from first: Int) -> [Int] {
        let least = max(64, depth)
        var counts = [sampled]
        while counts[0] / 2 >= max(first, least) && counts.count < 3 { counts.insert(counts[0] / 2, at: 0) }
        if counts[0] > first { counts.insert(first, at: 0) }
        // Where options are tried on all that is there, its parts have to tell.
        while counts.count < 3, counts[0] / 2 >= least { counts.insert(counts[0] / 2, at: 0) }
        return counts
    }

    /// Counts all that a plan of these candidates may try, at most: the costliest of what is looked at in the end.
    mutating func addPlan(_ candidates: [PlanCandidate], triesFewer: Bool) {
        for candidate in candidates {
            add(
                candidate.router, partitions: candidate.partitions,
                rows: rows(partitions: candidate.partitions))
        }
        func costliest(_ number: Int, _ each: (PlanCandidate, inout PlanWork) -> Double) -> Double {
            let costs = candidates.map { candidate in
                var trial = self
                return each(candidate, &trial)
            }
            return costs.sorted(by: >).prefix(number).reduce(0, +)
        }
        if triesFewer {
            total += costliest(effort.finalists) { candidate, trial in
                [2, 4].reduce(0) { sum, divisor in
                    let partitions = max(1, candidate.partitions / divisor)
                    return sum
                        + trial.add(
                            candidate.router, partitions: partitions, rows: trial.rows(partitions: partitions)
                        )
                }
            }
        }
        let families = Set(candidates.map(\.router.family)).count
        total += costliest(families + effort.followed) { candidate, trial in
            trial.growthRows(from: trial.rows(partitions: candidate.partitions)).reduce(0) {
                $0 + trial.add(candidate.router, partitions: candidate.partitions, rows: $1)
            }
        }
    }

    /// Counts a trial, and tells what it takes.
    @discardableResult
    mutating func add(_ router: PlannedRouter, partitions whole: Int, rows: Int) -> Double {
        let partitions = partitions(of: PlanCandidate(partitions: whole, router: router), rows: rows)
        let (n, p, d) = (Double(rows), Double(partitions), Double(dimension))
        let q = Double(effort.queries)
        var work = 0.0
        if known.insert([rows]).inserted { work += q * n * d }
        if known.insert([rows, whole]).inserted {
            var means = KMeans(partitions: partitions, seed: seed, threads: 1)
            means.refinements = 10
            work += (means.distanceCount(rows: rows) + n * p + q * p * Self.routedFactor) * d
        }
        let routes = q / 4 * Self.steps + q * 3 / 4
        work += routes * p * d * Self.routedFactor
        work += Self.thresholds * q * min(p, 512) * Self.accountedFactor
        if case .codes(let prototypes, let size) = router {
            let each = min(prototypes.map(Double.init) ?? n / p, n / p)
            let words = Double(ProductQuantiser.wordCount) * d * Self.partsFactor
            work += (min(Double(effort.residuals), each * p) * Self.codewordRounds + each * p) * words
            if prototypes != nil { work += n * each * d * 10 }
            work += routes * min(p, max(256, p / 8)) * each * Double(size)
        }
        total += work
        return work
    }

    /// What a build of so many partitions compares, before it learns anything.
    static func build(count: Int, dimension: Int, partitions: Int, seed: UInt64) -> Double {
        let sample = min(count, max(256 * partitions, 4 << 20))
        let means = KMeans(partitions: partitions, seed: seed, threads: 1)
        let assigned =
            NearestCentroids.looksAtAll(rows: count, centroids: partitions)
            ? Double(partitions)
            : NearestCentroids.distancesThroughGroups(
                centroids: partitions, probes: AssignStage.likelyProbes)
        return (means.distanceCount(rows: sample) + Double(count) * assigned) * Double(dimension)
    }
}
