// `--resident`: the number of partitions and the form of the router that fetch least within the memory that the open
// index may hold. Forms that need no training are tried on samples, in partitions of the size that the whole index
// would have; what they fetch there is carried over to the whole by the power of n found between sample sizes.
// Nothing is timed: the same base, goal and seed give the same plan on any number of threads.

import Foundation
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

    private static let codeSizes = [8, 16, 32, 48]
    /// Of fewer codes than vectors only two sizes are tried: what tells partitions apart is their number.
    private static let someCodeSizes: Set<Int> = [16, 48]
    private static let prototypeCounts = [8, 16, 32, 64, 256]
    /// Partitions that a sample should have, so that it is no matter of a few.
    private static let partitionsWanted = 96
    /// Options of which smaller numbers of partitions are looked at.
    private static let finalists = 4
    /// Options whose own growth is measured, beside one of each family; and how much more than the best they may be
    /// expected to fetch.
    private static let followed = 3
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

    /// A router with a number of partitions.
    private struct Candidate: Hashable {
        var partitions: Int
        var router: PlannedRouter
    }

    /// Weighs the options.
    ///
    /// - Throws: `IndexError.invalid` where nothing fits the budget or no option reaches the recall, `StorageError`
    ///   from reading.
    public func plan(progress: Progress = .none) throws -> ResidentPlan {
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
        let first = candidates(budget: budget, layout: layout, notes: &notes)
        guard !first.isEmpty else {
            let one = budget.byteCount(partitions: partitions ?? 1, router: .centroids)
            throw IndexError.invalid(
                "no index fits \(goal.residentByteCount) resident bytes: the smallest takes \(one)"
                    + (partitions.map { " with \($0) partitions" } ?? ""))
        }
        let bench = SampleBench(
            planner: self, sample: try sample(layout: layout))
        // Every router with as many partitions as fit, then the best ones with fewer and at other sample sizes.
        var done = 0
        func measure(_ some: [Candidate]) -> [(Candidate, SampledCost, Int)] {
            some.compactMap { candidate in
                let size = bench.size(forPartitionSize: Double(count) / Double(candidate.partitions))
                defer {
                    done += 1
                    progress(
                        stage: "plan", done: done,
                        total: first.count + (partitions == nil ? 2 * Self.finalists : 0))
                }
                return bench.cost(
                    of: candidate.router, partitionSize: Double(count) / Double(candidate.partitions),
                    count: size
                ).map { (candidate, $0, size) }
            }
        }
        func rank(_ some: [(Candidate, SampledCost, Int)]) -> [(Candidate, SampledCost, Int)] {
            some.sorted {
                let (a, b) = (value($0.1), value($1.1))
                return a == b ? $0.0.partitions < $1.0.partitions : a < b
            }
        }
        var measured = rank(measure(first))
        if partitions == nil {
            let fewer = measured.prefix(Self.finalists).flatMap { best in
                [2, 4].compactMap { divisor -> Candidate? in
                    let partitions = best.0.partitions / divisor
                    return partitions >= 1 ? Candidate(partitions: partitions, router: best.0.router) : nil
                }
            }
            measured = rank(measured + measure(fewer))
        }
        guard !measured.isEmpty else {
            throw IndexError.invalid(
                "no option within \(goal.residentByteCount) resident bytes reached recall@\(goal.k) \(goal.recall) "
                    + "on the sample: ask for less recall or give more memory")
        }
        let growths = follow(measured, bench: bench)
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
    private func follow(_ measured: [(Candidate, SampledCost, Int)], bench: SampleBench) -> Growths {
        var growths = Growths()
        func add(_ candidate: Candidate, _ size: Int) {
            let growth = bench.growth(
                of: candidate.router, partitionSize: Double(count) / Double(candidate.partitions), from: size)
            growths.own[candidate] = growth
            growths.all.append(growth)
            if growths.families[candidate.router.family] == nil {
                growths.families[candidate.router.family] = growth
            }
        }
        for (candidate, _, size) in measured where growths.families[candidate.router.family] == nil {
            add(candidate, size)
        }
        for _ in 0..<Self.followed {
            let expected = measured.map { candidate, cost, size in
                value(cost) * growths.factor(candidate, from: size, to: count, value)
            }
            guard let least = expected.min(),
                let next = measured.indices.filter({
                    growths.own[measured[$0].0] == nil && expected[$0] < least * Self.followedShare
                }).min(by: { expected[$0] < expected[$1] })
            else { break }
            add(measured[next].0, measured[next].2)
        }
        return growths
    }

    /// Growth by option, where it was measured, and by family.
    private struct Growths {
        var families: [PlannedRouter.Family: Growth] = [:]
        var own: [Candidate: Growth] = [:]
        /// In the order in which they were measured: sums come out the same every time.
        var all: [Growth] = []

        /// What a value is multiplied by from one number of rows to another. Beyond the samples a power counts half for
        /// itself and half for the mean of all that were measured: they differ no more than chance makes of each.
        func factor(
            _ candidate: Candidate, from: Int, to: Int, _ value: (SampledCost) -> Double
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

    /// Every router with the most partitions that fit. Partitions hold at least half a page: smaller ones would
    /// waste most of what is read.
    private func candidates(budget: ResidentBudget, layout: PageLayout, notes: inout [String]) -> [Candidate]
    {
        let most = max(1, count / max(layout.recordsPerUnit / 2, 4))
        var routers: [PlannedRouter] = [.centroids]
        let sizes = Self.codeSizes.filter { $0 <= min(dimension / 2, ProductQuantiser.codeByteLimit) }
        routers += sizes.map { .codes(prototypes: nil, byteCount: $0) }
        for prototypes in Self.prototypeCounts {
            let some = sizes.filter { Self.someCodeSizes.contains($0) || $0 == sizes.last && $0 < 16 }
            routers += some.map { .codes(prototypes: prototypes, byteCount: $0) }
        }
        var found: [Candidate] = []
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
                    "left out: \(router.name), which take \(needed >> 20) MiB to make; --memory is "
                        + "\(memoryByteCount >> 20) MiB")
                continue
            }
            found.append(Candidate(partitions: chosen, router: router))
        }
        return found
    }

    /// Rows spread over the file in random order, and queries that are not among them.
    private func sample(layout: PageLayout) throws -> ResidentSample {
        let queries = min(queryCount, max(count / 4, 8))
        let rowByteCount = dimension * (elementType.byteCount + 4 + 4)
        let affordable = memoryByteCount / 8 / rowByteCount
        let extra = learn == nil ? queries : 0
        let rows = min(count - extra, max(1, min(sampleMaximum, affordable)))
        let needed = 4 * max(10, goal.k)
        guard count - extra >= needed else {
            throw IndexError.invalid(
                "\(source.path) is too small to plan for: of its \(count) vectors \(max(0, count - extra)) are left "
                    + "to try options on"
                    + (extra > 0 ? " once \(min(extra, count)) are taken as queries" : "")
                    + ", \(needed) are needed for k \(goal.k); build it without a plan")
        }
        guard affordable >= needed else {
            throw IndexError.invalid(
                "a memory of \(memoryByteCount) bytes holds \(affordable) vectors to try options on, \(needed) are "
                    + "needed for k \(goal.k): give more memory")
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
            threads: threads)
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

    /// Measurements on prefixes of the sample; partitionings are shared by routers.
    private final class SampleBench {
        private let planner: ResidentPlanner
        private let sample: ResidentSample
        private var neighbours: [Int: [UInt32]] = [:]
        private var partitionings: [[Int]: ResidentSample.Partitioned] = [:]

        init(planner: ResidentPlanner, sample: ResidentSample) {
            self.planner = planner
            self.sample = sample
        }

        /// The rows on which partitions of a size are tried.
        func size(forPartitionSize size: Double) -> Int {
            let wanted = max(planner.sampleCount, Int(Double(ResidentPlanner.partitionsWanted) * size))
            return min(wanted, sample.rows.count)
        }

        func cost(of router: PlannedRouter, partitionSize: Double, count: Int) -> SampledCost? {
            let partitions = max(1, min(count, Int((Double(count) / partitionSize).rounded())))
            let key = [count, partitions]
            if partitionings[key] == nil {
                let known = neighbours[count] ?? sample.neighbours(count: count)
                neighbours[count] = known
                let whole = max(1, Int((Double(planner.count) / partitionSize).rounded()))
                partitionings[key] = sample.partitioned(
                    count: count, partitions: partitions,
                    whole: (min(planner.count, max(256 * whole, 4 << 20)), whole), neighbours: known)
            }
            return partitionings[key].flatMap { sample.cost(of: router, in: $0) }
        }

        /// What a router fetches in samples of growing size, from `first` rows to all that are there.
        func growth(of router: PlannedRouter, partitionSize: Double, from first: Int) -> Growth {
            let all = sample.rows.count
            var counts = [all]
            while counts[0] / 2 >= max(first, 64, planner.goal.k) && counts.count < 3 {
                counts.insert(counts[0] / 2, at: 0)
            }
            if counts[0] > first { counts.insert(first, at: 0) }
            // Where options are tried on all that is there, its parts have to tell.
            while counts.count < 3, counts[0] / 2 >= max(64, planner.goal.k) {
                counts.insert(counts[0] / 2, at: 0)
            }
            return Growth(
                points: counts.compactMap { count in
                    cost(of: router, partitionSize: partitionSize, count: count).map { (count, $0) }
                })
        }
    }
}
