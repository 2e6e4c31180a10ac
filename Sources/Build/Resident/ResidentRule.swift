// What an index is made of where nobody chose: a fixed rule from the size of the base and the resident bytes that it may
// hold. It hangs neither on the machine nor on a sample, so that the same base always makes the same index.

import Index
import Learn
import Router
import Storage
import Vectors

/// The rule by which a build chooses partitions and router for a resident budget without trying any.
///
///     let choice = try ResidentRule(base: file).choose()
///     choice.apply(to: &parameters, training: RouterTraining())
public struct ResidentRule: Sendable {
    /// Which codes vectors get.
    public enum Codes: Sendable, Equatable {
        /// As many bytes as the budget leaves.
        case fitting
        /// None: centroids alone.
        case none
        /// A code of so many bytes for every vector.
        case bytes(Int)
    }

    /// What the rule chose.
    public struct Choice: Sendable {
        public let partitions: Int
        public let router: PlannedRouter
        /// Memory that the open index will hold, at most.
        public let residentByteCount: Int
        /// What the index promises to stay within; nil: nothing.
        public let limit: Int?
        /// Whether there are vectors enough to find thresholds of recall.
        public let isCalibrated: Bool
        /// Of the base.
        let count: Int
        /// Of routing space.
        let dimension: Int

        /// The code that every record gets.
        fileprivate var codes: RecordCodeParameters? {
            guard let (size, areInIndex) = router.recordCodes else { return nil }
            return .fitting(
                byteCount: size, areInIndex: areInIndex, count: count, dimension: dimension)
        }
    }

    public var metric = Metric.l2
    /// Memory that the open index may hold; nil: an eighth of the base's bytes.
    public var residentByteCount: Int?
    public var codes = Codes.fitting
    /// Whether codes lie in the index instead of in memory; nil: where memory has no room for them.
    public var codesAreInIndex: Bool?
    /// nil: as the rule has it.
    public var partitions: Int?
    /// Memory that the build may take: codes are made in it.
    public var memoryByteCount = 2 << 30
    /// The greatest id of a vector, which decides how many fit a page; nil: ids are positions.
    public var greatestId: UInt64?
    private let count: Int
    private let dimension: Int
    private let elementType: ElementType

    /// The base's bytes for each that is resident where nobody said.
    public static let share = 8
    /// What the smallest bases may hold: less saves nothing beside a process.
    static let leastByteCount = 1 << 20
    /// Smaller bases get centroids alone: a search reads a few dozen pages of them anyway.
    static let coded = 20_000
    /// Smaller ones no thresholds: what the queries that are kept back would say of them is chance.
    static let calibrated = 1000
    /// Partitions by the square root of the vectors: with a code of every vector, and of small bases.
    static let partitionsOfRoot = 4.0
    static let partitionsOfSmallRoot = 4.0
    /// No code has more bytes, nor fewer than this part of the dimensions.
    static let codeByteCountMaximum = 48
    private static let dimensionsACodeByte = 4
    private static let dimensionsAByteAtMost = 21
    private static let dimensionsACodeByteInIndex = 8

    public init(base: VectorFile) {
        self.init(count: base.count, dimension: base.dimension, elementType: base.elementType)
    }

    /// A rule for a base that is not there yet.
    public init(count: Int, dimension: Int, elementType: ElementType) {
        self.count = count
        self.dimension = dimension
        self.elementType = elementType
    }

    /// Whether an entry of a manifest tells of a budget and how it was spent.
    static func isRuleKey(_ key: String) -> Bool { key == "resident" || key.hasPrefix("plan-") }

    /// The budget: what was given, or an eighth of the base's bytes.
    public var budgetByteCount: Int {
        residentByteCount
            ?? max(Self.leastByteCount, count * dimension * elementType.byteCount / Self.share)
    }

    /// Partitions and router.
    ///
    /// - Throws: `invalid` for an empty base, `residentTooSmall` for a budget below the smallest index and for codes
    ///   that do not fit it, `outOfRange` for codes that do not fit the dimension.
    public func choose() throws(IndexError) -> Choice {
        try IndexError.door { try weigh() }
    }

    private func weigh() throws -> Choice {
        guard count > 0 else { throw IndexError.invalid("the base holds no vectors") }
        let space = RoutingSpace(metric: metric, baseType: elementType)
        // Where lengths may count, routing has one dimension more.
        let budget = ResidentBudget(
            count: count, dimension: dimension + (metric == .ip ? 1 : 0), elementType: space.elementType)
        let layout = try PageLayout(
            dimension: dimension, elementType: elementType,
            idByteCount: VectorIds.byteCount(greatest: greatestId ?? UInt64(count - 1)))
        switch codes {
        case .none: return try centroids(budget, layout)
        case .bytes(let size): return try coded(size, budget, layout)
        case .fitting:
            guard count >= Self.coded else { return try centroids(budget, layout) }
            let partitions = partitions ?? codedPartitions(layout)
            let fixed = budget.byteCount(
                partitions: partitions, router: .records(byteCount: 0))
            let left = (budgetByteCount - fixed) / count
            let size = min(left, Self.codeByteCountMaximum, max(1, dimension / Self.dimensionsACodeByte))
            // Codewords and rounding may take a byte more than was left.
            let fitting = [size, size - 1].first {
                $0 >= leastCodeByteCount
                    && budget.byteCount(
                        partitions: partitions, router: .records(byteCount: $0))
                        <= budgetByteCount
            }
            if codesAreInIndex != true, let fitting {
                return try choice(partitions, .records(byteCount: fitting), budget)
            }
            let router = PlannedRouter.recordsInIndex(byteCount: codeByteCountInIndex)
            guard codesAreInIndex != false,
                budget.byteCount(partitions: partitions, router: router) <= budgetByteCount
            else { return try centroids(budget, layout) }
            return try choice(partitions, router, budget)
        }
    }

    /// Codes that are read cost pages themselves: coarser ones find the same for fewer.
    private var codeByteCountInIndex: Int {
        max(leastCodeByteCount, min(Self.codeByteCountMaximum, dimension / Self.dimensionsACodeByteInIndex))
    }

    /// Codes of fewer bytes tell vectors apart no better than more centroids would.
    private var leastCodeByteCount: Int {
        max(1, dimension / Self.dimensionsAByteAtMost)
    }

    /// Partitions hold at least half a page: smaller ones would waste most of what is read.
    private func most(_ layout: PageLayout) -> Int { max(1, count / max(layout.recordsPerUnit / 2, 4)) }

    private func codedPartitions(_ layout: PageLayout) -> Int {
        max(1, min(most(layout), Int((Self.partitionsOfRoot * Double(count).squareRoot()).rounded())))
    }

    /// As many partitions as fit; of small bases no more than a search can tell apart.
    private func centroids(_ budget: ResidentBudget, _ layout: PageLayout) throws(IndexError) -> Choice {
        let fitting = budget.partitionsMaximum(within: budgetByteCount, router: .centroids)
        guard fitting >= (partitions ?? 1) else {
            let least = budget.byteCount(partitions: partitions ?? 1, router: .centroids)
            throw .residentTooSmall(
                "no index fits \(budgetByteCount) resident bytes: the smallest takes \(least)"
                    + (partitions.map { " with \($0) partitions" } ?? ""),
                given: budgetByteCount, least: least)
        }
        let few = Int(Self.partitionsOfSmallRoot * Double(count).squareRoot())
        let wanted = count < Self.coded ? min(max(1, few), count) : most(layout)
        return try choice(partitions ?? min(fitting, wanted), .centroids, budget)
    }

    /// Codes of a size that was asked for; without a budget they take what they take.
    private func coded(_ size: Int, _ budget: ResidentBudget, _ layout: PageLayout) throws(IndexError)
        -> Choice
    {
        let limit = min(budget.dimension, ProductQuantiser.codeByteLimit)
        guard size >= 1 && size <= limit else {
            throw .outOfRange(
                "codes", allowed: "from 1 to \(limit) bytes for \(dimension) dimensions", found: "\(size)")
        }
        let isInMemory = budget.byteCount(partitions: 1, router: .records(byteCount: size)) <= budgetByteCount
        let router: PlannedRouter =
            codesAreInIndex ?? (residentByteCount != nil && !isInMemory)
            ? .recordsInIndex(byteCount: size) : .records(byteCount: size)
        var wanted = partitions ?? codedPartitions(layout)
        if let residentByteCount {
            let fitting = budget.partitionsMaximum(within: residentByteCount, router: router)
            guard fitting >= (partitions ?? 1) else {
                let least = budget.byteCount(partitions: partitions ?? 1, router: router)
                throw .residentTooSmall(
                    "codes of \(size) bytes do not fit \(residentByteCount) resident bytes: with "
                        + "\(partitions ?? 1) partitions they take \(least)", given: residentByteCount,
                    least: least)
            }
            wanted = min(wanted, fitting)
        }
        return try choice(wanted, router, budget)
    }

    private func choice(
        _ partitions: Int, _ router: PlannedRouter, _ budget: ResidentBudget
    ) throws(IndexError) -> Choice {
        let needed = budget.trainingByteCount(router)
        if needed > memoryByteCount {
            throw .memoryTooSmall(
                "\(router.name), take \(needed >> 20) MiB to make, the memory is \(memoryByteCount >> 20) MiB: give "
                    + "as much, or build without codes", given: memoryByteCount, least: needed)
        }
        let held = budget.byteCount(partitions: partitions, router: router)
        return Choice(
            partitions: partitions, router: router, residentByteCount: held,
            // Codes that were asked for without a budget are the budget.
            limit: residentByteCount ?? max(budgetByteCount, held), isCalibrated: count >= Self.calibrated,
            count: count, dimension: budget.dimension)
    }
}

extension ResidentRule.Choice {
    /// Neighbours that a router without a goal of its own is to make likely.
    static let depth = 10

    /// Fills in the partitions and the router of a build.
    ///
    /// - Parameter training: pairs and seeds of the router; its form is the rule's.
    public func apply(to parameters: inout BuildParameters, training: RouterTraining) {
        parameters.partitions = partitions
        parameters.residentByteCount = limit
        if let limit { parameters.notes["resident"] = String(limit) }
        parameters.notes["plan-by"] = "rule"
        guard router != .centroids || isCalibrated || training.hasQueries else { return }
        var training = training
        training.predictor.training.targets = max(training.predictor.training.targets, Self.depth)
        training.take(router, partitions: partitions, of: count, codes: codes)
        parameters.router = training
    }

    /// Gives the router and the budget to a retraining, whose partitions stay as they are.
    public func apply(to retraining: inout Retraining) {
        retraining.training.predictor.training.targets = max(
            retraining.training.predictor.training.targets, Self.depth)
        retraining.training.take(router, partitions: partitions, of: count, codes: codes)
        retraining.residentByteCount = limit
        if let limit { retraining.notes["resident"] = String(limit) }
        retraining.notes["plan-by"] = "rule"
    }

    /// A line for people.
    public var text: String {
        "\(partitions) partitions, \(router.name): at most \(residentByteCount) resident bytes"
            + (limit.map { " of \($0)" } ?? "")
    }
}

extension RouterTraining {
    /// Queries made from the base for a router that has one number to learn.
    static let syntheticMaximum = 40_000

    /// Takes the form of a router that needs no training but for one factor, and queries for its thresholds.
    mutating func take(
        _ router: PlannedRouter, partitions: Int, of count: Int, codes: RecordCodeParameters? = nil
    ) {
        pairs.neighbourCount = max(10, predictor.training.targets)
        // One factor and its thresholds need few queries; none at all would leave the promise unchecked.
        if !hasQueries { pairs.syntheticCount = Self.syntheticMaximum }
        pairs.syntheticCount = min(pairs.syntheticCount, Self.syntheticMaximum)
        predictor.kind = .distance
        predictor.codeByteCount = nil
        if let (byteCount, areInIndex) = router.recordCodes {
            recordCodes = codes ?? RecordCodeParameters(byteCount: byteCount, areInIndex: areInIndex)
        }
    }
}
