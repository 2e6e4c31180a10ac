// `--resident`: the number of partitions and the form of the router that fetch least within the memory that the open
// index may hold. Forms that need no training are tried on samples, in partitions of the size that the whole index
// would have; what they fetch there is carried over to the whole by the power of n found between sample sizes.
// Nothing is timed: the same base, goal and seed give the same plan on any number of threads.

import Foundation
import Index
import Learn
import Router
import Storage
import Vectors

/// Plans an index for a resident budget.
///
///     let plan = try ResidentPlanner(base: file, goal: ResidentGoal(residentByteCount: 8 << 20)).plan()
///     plan.apply(to: &parameters, training: RouterTraining())
public struct ResidentPlanner: Sendable {
    public let goal: ResidentGoal
    public var metric = Metric.l2
    private let source: Source
    /// Records to plan for.
    private let count: Int
    private let dimension: Int
    private let elementType: ElementType
    /// Queries like those that will be asked; nil: base vectors that are left out of the samples.
    public var learn: VectorFile?
    /// The greatest id of a vector, which decides how many fit a page; nil: ids are positions.
    public var greatestId: UInt64?
    /// Only indexes of so many partitions; nil: any number.
    public var partitions: Int?
    public var seed: UInt64 = 1
    public var threads = 2
    public var memoryByteCount = 2 << 30
    /// Vectors that most options are tried on, and the most that options of large partitions are.
    public var sampleCount = 16_384
    public var sampleMaximum = 262_144
    /// Queries: a quarter fits factors, the others measure. A recall of 0.9 of 3,072 is off by half a hundredth, what is
    /// fetched there by four.
    public var queryCount = 4096

    /// Components of vectors that the plan may compare, about; nil: a tenth of what the build does, or what takes a
    /// minute. Samples and options shrink until they fit.
    public var workMaximum: Double?
    /// Keeps the result of every trial; nil: nowhere.
    public var trials: PlanTrials?

    /// How much more than the best an option may be expected to fetch whose own growth is measured.
    private static let followedShare = 1.4

    /// Where samples come from.
    private enum Source: Sendable {
        case file(VectorFile)
        case index(DiskIndex)

        var path: String {
            switch self {
            case .file(let file): file.path
            case .index(let index): index.path
            }
        }
    }

    /// Plans an index of a file of vectors.
    public init(base: VectorFile, goal: ResidentGoal) {
        self.goal = goal
        source = .file(base)
        (count, dimension, elementType) = (base.count, base.dimension, base.elementType)
    }

    /// Plans another router for an index that stands: its partitions are given.
    public init(index: DiskIndex, goal: ResidentGoal) {
        self.goal = goal
        source = .index(index)
        (count, dimension, elementType) = (index.manifest.records, index.dimension, index.elementType)
        metric = index.metric
        partitions = index.partitionCount
        greatestId = index.layout.idByteCount == 8 ? .max : nil
    }

    /// Weighs the options.
    ///
    /// - Throws: `residentTooSmall` where nothing fits the budget, `recallNotReached` where no option reaches the
    ///   recall, `memoryTooSmall` or `invalid` where there is too little to try them on, `storage` from reading.
    public func plan(progress: JobProgress = .none) throws(IndexError) -> ResidentPlan {
        try IndexError.door { try weigh(progress: progress) }
    }

    private func weigh(progress: JobProgress) throws -> ResidentPlan {
        try goal.validate()
        let start = monotonicNanoseconds()
        let space = RoutingSpace(metric: metric, baseType: elementType)
        let layout = try PageLayout(
            dimension: dimension, elementType: elementType,
            idByteCount: VectorIds.byteCount(greatest: greatestId ?? UInt64(max(count, 1) - 1)))
        // Where lengths may count, routing has one dimension more.
        let budget = ResidentBudget(
            count: count, dimension: dimension + (metric == .ip ? 1 : 0), elementType: space.elementType)
        var notes: [String] = []
        let (effort, first, work) = affordable(budget: budget, layout: layout, notes: &notes)
        guard !first.isEmpty else {
            let one = budget.byteCount(partitions: partitions ?? 1, router: .centroids)
            throw IndexError.residentTooSmall(
                "no index fits \(goal.residentByteCount) resident bytes: the smallest takes \(one)"
                    + (partitions.map { " with \($0) partitions" } ?? ""), given: goal.residentByteCount,
                least: one)
        }
        let bench = try ResidentBench(
            work: work.fresh, total: work.total, trials: trials,
            identity: trials == nil ? "" : try identity(effort), progress: progress
        ) { try self.sample(layout: layout, effort: effort) }
        // Every router with as many partitions as fit, then the best ones with fewer and at other sample sizes.
        func measure(_ some: [PlanCandidate]) throws -> [(PlanCandidate, SampledCost, Int)] {
            try some.compactMap { candidate in
                let size = work.rows(partitions: candidate.partitions)
                return try bench.cost(of: candidate, count: size).map { (candidate, $0, size) }
            }
        }
        func rank(_ some: [(PlanCandidate, SampledCost, Int)]) -> [(PlanCandidate, SampledCost, Int)] {
            some.sorted {
                let (a, b) = (value($0.1), value($1.1))
                return a == b ? $0.0.partitions < $1.0.partitions : a < b
            }
        }
        var measured = rank(try measure(first))
        if partitions == nil {
            let fewer = measured.prefix(effort.finalists).flatMap { best in
                [2, 4].compactMap { divisor -> PlanCandidate? in
                    let partitions = best.0.partitions / divisor
                    return partitions >= 1
                        ? PlanCandidate(partitions: partitions, router: best.0.router) : nil
                }
            }
            measured = rank(measured + (try measure(fewer)))
        }
        guard !measured.isEmpty else {
            throw IndexError.recallNotReached(
                "no option within \(goal.residentByteCount) resident bytes reached recall@\(goal.k) \(goal.recall) "
                    + "on the sample: ask for less recall or give more memory")
        }
        let growths = try follow(measured, followed: effort.followed, bench: bench)
        bench.finish()
        let options = measured.map { candidate, cost, size in
            func whole(_ value: (SampledCost) -> Double) -> Double {
                value(cost) * growths.factor(candidate, from: size, to: count, value)
            }
            return ResidentOption(
                partitions: candidate.partitions, router: candidate.router,
                candidates: candidateCount(whole(\.rank), partitions: candidate.partitions),
                residentByteCount: budget.byteCount(
                    partitions: candidate.partitions, router: candidate.router),
                vectors: whole(\.vectors), pages: whole(\.pages), reads: whole(\.reads), sampled: size)
        }.sorted {
            let (a, b) = ($0.cost(goal.saving), $1.cost(goal.saving))
            return a == b ? $0.residentByteCount < $1.residentByteCount : a < b
        }
        return ResidentPlan(
            goal: goal, options: options, notes: notes,
            growth: [PlannedRouter.Family.centroids, .someCodes, .allCodes].compactMap { family in
                growths.families[family].map { (family, $0.exponent(value)) }
            },
            count: count, seconds: Double(monotonicNanoseconds() - start) / 1e9)
    }

    /// How what options fetch grows: that of the best of each family, then of whatever may be the best of all. Growth is
    /// a matter of the option, not of its family alone: of a few codes a partition it is the larger the fewer they are.
    private func follow(
        _ measured: [(PlanCandidate, SampledCost, Int)], followed: Int, bench: ResidentBench
    ) throws -> Growths {
        var growths = Growths()
        func add(_ candidate: PlanCandidate, _ size: Int) throws {
            let growth = try bench.growth(of: candidate, from: size)
            growths.own[candidate] = growth
            growths.all.append(growth)
            if growths.families[candidate.router.family] == nil {
                growths.families[candidate.router.family] = growth
            }
        }
        for (candidate, _, size) in measured where growths.families[candidate.router.family] == nil {
            try add(candidate, size)
        }
        for _ in 0..<followed {
            let expected = measured.map { candidate, cost, size in
                value(cost) * growths.factor(candidate, from: size, to: count, value)
            }
            guard let least = expected.min(),
                let next = measured.indices.filter({
                    growths.own[measured[$0].0] == nil && expected[$0] < least * Self.followedShare
                }).min(by: { expected[$0] < expected[$1] })
            else { break }
            try add(measured[next].0, measured[next].2)
        }
        return growths
    }

    /// Growth by option, where it was measured, and by family.
    private struct Growths {
        var families: [PlannedRouter.Family: Growth] = [:]
        var own: [PlanCandidate: Growth] = [:]
        /// In the order in which they were measured: sums come out the same every time.
        var all: [Growth] = []

        /// What a value is multiplied by from one number of rows to another. Beyond the samples a power counts half for
        /// itself and half for the mean of all that were measured: they differ no more than chance makes of each.
        func factor(
            _ candidate: PlanCandidate, from: Int, to: Int, _ value: (SampledCost) -> Double
        ) -> Double {
            guard let growth = own[candidate] ?? families[candidate.router.family] else { return 1 }
            let mean = all.reduce(0) { $0 + $1.exponent(value) } / Double(max(all.count, 1))
            return growth.factor(
                from: from, to: to, exponent: (growth.exponent(value) + mean) / 2, value)
        }
    }

    private func value(_ cost: SampledCost) -> Double { goal.saving == .pages ? cost.pages : cost.vectors }

    /// A power of two that holds the rank, within what a search can use.
    private func candidateCount(_ rank: Double, partitions: Int) -> Int {
        var count = 256
        while Double(count) < rank && count < 4096 { count *= 2 }
        return min(count, max(partitions, 256))
    }

    /// The greatest effort whose work is a small part of the build's, with its candidates and all that it may take.
    private func affordable(
        budget: ResidentBudget, layout: PageLayout, notes: inout [String]
    ) -> (PlanEffort, [PlanCandidate], PlanWork) {
        let whole = PlanEffort(rows: sampleCount, rowsMaximum: sampleMaximum, queries: queryCount)
        var level = 0
        while true {
            let effort = whole.reduced(to: level)
            var some: [String] = []
            let found = candidates(effort: effort, budget: budget, layout: layout, notes: &some)
            var work = PlanWork(
                effort: effort, count: count, dimension: dimension, seed: seed,
                sampled: max(1, sampleSize(effort).rows), depth: goal.k)
            work.addPlan(found, triesFewer: partitions == nil)
            let most =
                workMaximum
                ?? max(
                    PlanWork.minute,
                    PlanWork.share
                        * PlanWork.build(
                            count: count, dimension: dimension,
                            partitions: found.map(\.partitions).min() ?? 1, seed: seed))
            if work.total <= most || level + 1 == PlanEffort.levels {
                if level > 0 {
                    some.append(
                        "tried on samples of \(effort.rows) to \(work.sampled) vectors and \(effort.queries) queries, "
                            + "for little of the build's time")
                }
                notes += some
                return (effort, found, work)
            }
            level += 1
        }
    }

    /// All that decides the trials.
    private func identity(_ effort: PlanEffort) throws -> String {
        var parts = [
            "version 1", "\(goal)", metric.name, "\(partitions ?? 0)", "\(seed)", "\(greatestId ?? 0)",
            "\(memoryByteCount)", "\(effort)",
        ]
        switch source {
        case .file(let file): parts += try file.identity().map { "\($0.name) \($0.value)" }
        case .index(let index): parts.append(index.segmentsIdentity ?? index.path)
        }
        if let learn { parts.append("\(Checksum.text(try learn.fingerprint())) (\(learn.count))") }
        return parts.joined(separator: "\n")
    }

    /// Every router with the most partitions that fit. Partitions hold at least half a page: smaller ones would
    /// waste most of what is read.
    private func candidates(
        effort: PlanEffort, budget: ResidentBudget, layout: PageLayout, notes: inout [String]
    ) -> [PlanCandidate] {
        let most = max(1, count / max(layout.recordsPerUnit / 2, 4))
        var routers: [PlannedRouter] = [.centroids]
        let sizes = effort.codeSizes.filter { $0 <= min(dimension / 2, ProductQuantiser.codeByteLimit) }
        routers += sizes.map { .codes(prototypes: nil, byteCount: $0) }
        for prototypes in effort.prototypeCounts {
            let some = sizes.filter { effort.someCodeSizes.contains($0) || $0 == sizes.last && $0 < 16 }
            routers += some.map { .codes(prototypes: prototypes, byteCount: $0) }
        }
        var found: [PlanCandidate] = []
        for router in routers {
            let fitting = budget.partitionsMaximum(within: goal.residentByteCount, router: router)
            guard fitting >= (partitions ?? 1) else { continue }
            let chosen = partitions ?? min(fitting, most)
            if case .codes(let prototypes?, _) = router,
                Double(prototypes) * 1.5 > Double(count) / Double(chosen) || chosen < 2
            {
                continue
            }
            let needed = budget.trainingByteCount(partitions: chosen, router: router)
            if needed > memoryByteCount {
                notes.append(
                    "left out: \(router.name), which take \(needed >> 20) MiB to make; the memory is "
                        + "\(memoryByteCount >> 20) MiB")
                continue
            }
            found.append(PlanCandidate(partitions: chosen, router: router))
        }
        return found
    }

    /// Queries, how many of them are taken from the base, and rows of a sample; and how many the memory holds.
    private func sampleSize(_ effort: PlanEffort) -> (queries: Int, extra: Int, affordable: Int, rows: Int) {
        let queries = min(effort.queries, max(count / 4, 8))
        let affordable = memoryByteCount / 8 / (dimension * (elementType.byteCount + 4 + 4))
        let extra = learn == nil ? queries : 0
        return (
            queries, extra, affordable, min(count - extra, max(1, min(effort.rowsMaximum, affordable)))
        )
    }

    /// Rows spread over the file in random order, and queries that are not among them.
    private func sample(layout: PageLayout, effort: PlanEffort) throws -> ResidentSample {
        let (queries, extra, affordable, rows) = sampleSize(effort)
        let needed = 4 * max(10, goal.k)
        guard count - extra >= needed else {
            throw IndexError.invalid(
                "\(source.path) is too small to plan for: of its \(count) vectors \(max(0, count - extra)) are left "
                    + "to try options on"
                    + (extra > 0 ? " once \(min(extra, count)) are taken as queries" : "")
                    + ", \(needed) are needed for k \(goal.k); build it without a plan")
        }
        guard affordable >= needed else {
            throw IndexError.memoryTooSmall(
                "a memory of \(memoryByteCount) bytes holds \(affordable) vectors to try options on, \(needed) are "
                    + "needed for k \(goal.k): give more memory", given: memoryByteCount,
                least: needed * 8 * dimension * (elementType.byteCount + 4 + 4))
        }
        var random = SeededRandom(seed: seed, stream: 91)
        let gathered: VectorMatrix
        switch source {
        case .file(let file): gathered = try Self.gather(rows + extra, of: file, random: &random)
        case .index(let index):
            gathered = try index.sampleRecords(count: rows + extra, random: &random).vectors
        }
        try refuseLengths(gathered, metric: metric) { _ in source.path }
        var order = Array(0..<UInt32(gathered.count))
        random.shuffle(&order)
        let shuffled = gathered.gather(Array(order[extra...]))
        let asked: VectorMatrix
        if let learn {
            var some = Array(0..<UInt32(min(queries, learn.count)))
            let read = try Self.gather(some.count, of: learn, random: &random)
            try refuseLengths(read, metric: metric) { _ in learn.path }
            random.shuffle(&some)
            asked = read.gather(some)
        } else {
            asked = gathered.gather(Array(order[..<extra]))
        }
        return ResidentSample(
            rows: shuffled, queries: asked, space: RoutingSpace(metric: metric, sampling: shuffled),
            layout: layout, goal: goal, seed: seed,
            threads: threads, residualCount: effort.residuals)
    }

    /// One row of each of `count` stretches of equal length.
    private static func gather(_ count: Int, of file: VectorFile, random: inout SeededRandom) throws
        -> VectorMatrix
    {
        let rows = (0..<count).map { position -> Int in
            let (low, high) = (position * file.count / count, (position + 1) * file.count / count)
            return low + random.below(max(high - low, 1))
        }
        return try file.gather(rows)
    }

    /// How what is fetched grows with n while partitions keep their size: straight lines between the logarithms of
    /// what was measured, beyond it the slope of the largest three samples.
    struct Growth {
        /// By rising number of rows.
        var points: [(count: Int, cost: SampledCost)] = []

        /// What a value is multiplied by from one number of rows to another.
        func factor(from: Int, to: Int, exponent: Double, _ value: (SampledCost) -> Double) -> Double {
            exp(
                logarithm(at: log(Double(to)), exponent: exponent, value)
                    - logarithm(at: log(Double(from)), exponent: exponent, value))
        }

        /// The power of n beyond the samples. At equal partition size a larger base asks for no less, but for what
        /// chance makes of it; and hardly for more than its square root.
        func exponent(_ value: (SampledCost) -> Double) -> Double {
            let last = points.suffix(3).map { (x: log(Double($0.count)), y: log(max(value($0.cost), 1e-9))) }
            guard last.count > 1 else { return 0 }
            let n = Double(last.count)
            let (x, y) = (last.reduce(0) { $0 + $1.x } / n, last.reduce(0) { $0 + $1.y } / n)
            let slope =
                last.reduce(0) { $0 + ($1.x - x) * ($1.y - y) }
                / last.reduce(0) { $0 + ($1.x - x) * ($1.x - x) }
            return min(max(slope, -0.05), 0.6)
        }

        private func logarithm(
            at x: Double, exponent: Double, _ value: (SampledCost) -> Double
        ) -> Double {
            guard let last = points.last else { return 0 }
            func place(_ point: (count: Int, cost: SampledCost)) -> (x: Double, y: Double) {
                (log(Double(point.count)), log(max(value(point.cost), 1e-9)))
            }
            if x >= place(last).x || points.count < 2 {
                return place(last).y + exponent * (x - place(last).x)
            }
            let above = max(1, points.firstIndex { place($0).x >= x } ?? points.count - 1)
            let (a, b) = (place(points[above - 1]), place(points[above]))
            return a.y + (b.y - a.y) / (b.x - a.x) * (x - a.x)
        }
    }
}
