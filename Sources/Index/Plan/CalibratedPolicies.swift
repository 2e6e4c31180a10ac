// The thresholds that an index was given for a wanted recall: what they were measured on, how sure that is, and what
// they found on queries that had no part in it. A recall that was not calibrated is refused, never guessed.

import Glibc
import Router
import Storage

/// Where each threshold leads, measured on queries kept back from training; stored in the index, so that a wanted
/// recall can be asked for.
public struct CalibratedPolicies: Sendable, Codable {
    public struct Point: Sendable, Codable {
        public var lambda: Double
        public var recall: Double
        /// Standard error of that recall; nil where none was kept (indexes of before).
        public var error: Double?

        public init(lambda: Double, recall: Double, error: Double? = nil) {
            self.lambda = lambda
            self.recall = recall
            self.error = error
        }
    }

    /// A declared recall asked of queries that neither trained the router nor set the threshold.
    public struct Check: Sendable, Codable {
        /// The name of the cost, with the rounds where they are more than one; "sigma".
        public var curve: String
        public var k: Int
        public var declared: Double
        public var found: Double
        /// Standard error of `found`.
        public var error: Double

        public init(curve: String, k: Int, declared: Double, found: Double, error: Double) {
            self.curve = curve
            self.k = k
            self.declared = declared
            self.found = found
            self.error = error
        }

        /// Whether what was found speaks against the promise, beyond what chance explains: the queries that set the
        /// threshold err about as much as those that check it.
        public var fails: Bool { found + 2 * 2.0.squareRoot() * error < declared }
    }

    /// What the curves were measured on.
    public struct Source: Sendable, Codable {
        /// Whether queries were made from the base, for want of a learn file.
        public var isMade: Bool
        /// Queries that set thresholds, and others that checked them.
        public var calibrating: Int
        public var checking: Int

        public init(isMade: Bool, calibrating: Int, checking: Int) {
            self.isMade = isMade
            self.calibrating = calibrating
            self.checking = checking
        }
    }

    public var model: DeviceModel
    /// By the name of the cost, of the rounds where they are more than one, and of k.
    public var curves: [String: [Point]]
    /// Predicted against observed probabilities of candidates.
    public var reliability: Reliability
    /// Where the pairs came from and how training went.
    public var provenance: [String: String]
    /// nil in indexes whose thresholds were stored before they were checked.
    public var source: Source?
    public var checks: [Check]?
    /// The distance to the nearest centroid beyond which one in ten of the calibrated queries lies (`QueryDrift`); nil
    /// in indexes of before.
    public var reach: Double?

    public init(
        model: DeviceModel, curves: [String: [Point]], reliability: Reliability, provenance: [String: String],
        source: Source?, checks: [Check]?, reach: Double? = nil
    ) {
        self.model = model
        self.curves = curves
        self.reliability = reliability
        self.provenance = provenance
        self.source = source
        self.checks = checks
        self.reach = reach
    }

    package static let section = "policies"
    /// The k of recall@k that thresholds are kept for.
    package static let depths = [1, 2, 5, 10, 20, 50, 100, 300, 1000]
    /// The recalls that are checked before thresholds are stored.
    package static let checkedRecalls = [0.8, 0.9, 0.95, 0.98, 0.99]

    package static let laterRoundsName = "vectors, 2 rounds"
    package static let sigmaName = "sigma"
    package static let pagesName = "pages"
    /// Thresholds of pages that keep a recall for single queries instead of in the mean.
    package static let pagesPerQueryName = "pages, each query"
    /// The recalls that are kept so, and the share of queries that may find less.
    package static let guaranteedRecalls = [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 1]
    package static let failingShare = 0.05

    package static func curveName(_ name: String, k: Int) -> String { k == 1 ? name : "\(name), recall@\(k)" }

    /// The name of the curves of a cost and a number of rounds; nil where none are made.
    package static func curveName(cost: ReadCost, rounds: Int) -> String? {
        rounds == 1 ? cost.name : cost == .vectors && rounds == 2 ? laterRoundsName : nil
    }
}

/// A threshold for a wanted recall, and what is known of it.
public struct DeclaredRecall: Sendable {
    public let recall: Double
    public let k: Int
    /// The threshold: a gain's lambda, or a sigma.
    public let threshold: Float
    /// The calibrated depths that it was taken from: k itself, or those around it.
    public let depths: [Int]
    public let source: CalibratedPolicies.Source?
    /// The check nearest to what is asked, of those kept in the index.
    public let check: CalibratedPolicies.Check?

    /// What whoever asks has to know: that another depth stands in, that queries were made from the base, that a check
    /// failed. Empty where all is as it should be.
    public var notes: [String] {
        var notes: [String] = []
        if depths != [k] {
            notes.append(
                "k \(k) uses the calibration of k \(depths.map(String.init).joined(separator: " and "))")
        }
        guard let source else {
            notes.append(
                "recall \(recall) was calibrated before declared recalls were checked: it may not hold; train the "
                    + "router again")
            return notes
        }
        if source.isMade {
            notes.append(
                "recall \(recall) was calibrated on \(source.calibrating) queries made from the base, so that it "
                    + "holds for the harder half of them; what is really asked may find less: give a learn file to be sure"
            )
        }
        if let check, check.fails {
            notes.append(
                "recall@\(check.k) \(check.declared) did not hold on \(source.checking) other queries: found "
                    + check.text)
        }
        return notes
    }
}

extension CalibratedPolicies.Check {
    /// What was found, with its standard error.
    public var text: String { formatted(found) + " +- " + formatted(error) }
}

/// Why a declared recall is refused.
public enum DeclaredRecallError: Error, Sendable, CustomStringConvertible {
    /// The index has no thresholds at all.
    case uncalibrated(path: String)
    /// k lies beyond the depths that were calibrated.
    case depth(k: Int, calibrated: [Int])
    /// No thresholds for so many rounds of reads with this cost.
    case rounds(rounds: Int, cost: String, calibrated: [String])
    /// No threshold reached the recall.
    case notReached(recall: Double, k: Int, highest: Double, calibrating: Int?)
    /// The router has no sigma.
    case noSigma
    /// The index has no codes of records.
    case noPages

    public var description: String {
        switch self {
        case .uncalibrated(let path):
            "\(path) has no thresholds for a recall: they are calibrated when a router is trained"
        case .depth(let k, let calibrated):
            "no recall was calibrated for k \(k): calibrated are k "
                + calibrated.map(String.init).joined(separator: ", ") + " and what lies between them"
        case .rounds(let rounds, let cost, let calibrated):
            "no recall was calibrated for \(rounds) \(rounds == 1 ? "round" : "rounds") of reads and the cost of "
                + "\(cost): calibrated are \(calibrated.joined(separator: "; "))"
        case .notReached(let recall, let k, let highest, let calibrating):
            "no threshold is sure of recall@\(k) \(recall): the highest that can be declared is "
                + formatted(highest) + (calibrating.map { ", calibrated on \($0) queries" } ?? "")
        case .noSigma:
            "the router has no sigma that was calibrated: only probing models (lira) have"
        case .noPages:
            "the index has no code of every record, by which pages are chosen"
        }
    }
}

extension CalibratedPolicies {
    /// The lambda that reaches a recall; nil where `declared` refuses.
    public func lambda(recall: Double, cost: ReadCost, rounds: Int = 1, k: Int = 1) -> Float? {
        try? declared(recall: recall, k: k, rounds: rounds, cost: cost).threshold
    }

    /// The sigma that reaches a recall; nil where `declared` refuses.
    public func sigma(recall: Double, k: Int) -> Float? {
        try? declaredSigma(recall: recall, k: k).threshold
    }

    /// The gain threshold for a mean recall@k.
    ///
    /// - Throws: where k, rounds and cost were not calibrated, or no threshold is sure to reach the recall.
    public func declared(
        recall: Double, k: Int, rounds: Int, cost: ReadCost
    ) throws(DeclaredRecallError) -> DeclaredRecall {
        guard let name = Self.curveName(cost: cost, rounds: rounds), curves[name] != nil else {
            throw .rounds(rounds: rounds, cost: cost.name, calibrated: names)
        }
        return try declared(recall: recall, k: k, curve: name)
    }

    /// The sigma for a mean recall@k.
    public func declaredSigma(recall: Double, k: Int) throws(DeclaredRecallError) -> DeclaredRecall {
        guard curves[Self.sigmaName] != nil else { throw .noSigma }
        return try declared(recall: recall, k: k, curve: Self.sigmaName)
    }

    /// The threshold of a page's gain for a mean recall@k, where records have codes.
    public func declaredPages(recall: Double, k: Int) throws(DeclaredRecallError) -> DeclaredRecall {
        guard curves[Self.pagesName] != nil else { throw .noPages }
        return try declared(recall: recall, k: k, curve: Self.pagesName)
    }

    /// The policy of one round for a mean recall@k where records have codes: by pages, and beyond what their codes can tell
    /// apart by whole partitions.
    ///
    /// - Throws: where neither is sure to reach the recall.
    public func declaredPagesOrPartitions(
        recall: Double, k: Int
    ) throws(DeclaredRecallError) -> (policy: Policy, found: DeclaredRecall) {
        do {
            let found = try declaredPages(recall: recall, k: k)
            return (.pages(found.threshold), found)
        } catch {
            guard case .notReached = error,
                let found = try? declared(recall: recall, k: k, rounds: 1, cost: .vectors)
            else { throw error }
            return (.gain(found.threshold), found)
        }
    }

    /// The threshold of a page's gain at which 95 of 100 queries find at least a recall@k each.
    ///
    /// Calibrated are some recalls at some k: the next higher recall stands for one between two, and of the k around the
    /// one that reads more.
    public func declaredPagesPerQuery(recall: Double, k: Int) throws(DeclaredRecallError) -> DeclaredRecall {
        let name = Self.pagesPerQueryName
        let calibrated = depths(of: name)
        guard !calibrated.isEmpty else { throw .noPages }
        guard k >= 1, let deep = calibrated.first(where: { $0 >= k }) else {
            throw .depth(k: k, calibrated: calibrated)
        }
        let around = deep == k ? [k] : [calibrated.last { $0 < k }, deep].compactMap { $0 }
        var threshold = Float.infinity
        for depth in around {
            let points = curves[Self.curveName(name, k: depth)] ?? []
            guard let point = points.filter({ $0.recall >= recall - 1e-9 }).min(by: { $0.recall < $1.recall })
            else {
                throw .notReached(
                    recall: recall, k: depth, highest: points.reduce(0) { max($0, $1.recall) },
                    calibrating: source.map { $0.calibrating + $0.checking })
            }
            threshold = min(threshold, Float(point.lambda))
        }
        return DeclaredRecall(
            recall: recall, k: k, threshold: threshold, depths: around, source: source, check: nil)
    }

    /// What is said of a recall when its thresholds are stored: what it found on queries that had no part in them.
    public var promises: [String] {
        var lines: [String] = []
        let wanted = 0.9
        for depth in [1, 10] where depths(of: ReadCost.vectors.name).contains(depth) {
            do {
                let declared =
                    depths(of: Self.pagesName).contains(depth)
                    ? try declaredPages(recall: wanted, k: depth)
                    : try declared(recall: wanted, k: depth, rounds: 1, cost: .vectors)
                if let check = declared.check, let source {
                    lines.append(
                        "recall@\(check.k) \(check.declared) found \(check.text) on \(source.checking) queries kept back "
                            + (source.isMade ? "(made from the base)" : "(of the learn file)"))
                }
                lines += declared.notes
            } catch {
                lines.append("recall@\(depth) \(wanted) cannot be declared: \(error)")
            }
        }
        var seen: Set<String> = []
        return lines.filter { seen.insert($0).inserted }
    }

    /// Costs and rounds that have curves.
    var names: [String] {
        curves.keys.filter { !$0.contains("recall@") }.sorted()
    }

    /// The depths that a curve was measured at, rising.
    package func depths(of name: String) -> [Int] {
        let prefix = name + ", recall@"
        return curves.keys.compactMap { key in
            key == name ? 1 : key.hasPrefix(prefix) ? Int(key.dropFirst(prefix.count)) : nil
        }.sorted()
    }

    /// The same of a curve by name.
    package func declared(
        recall: Double, k: Int, curve name: String
    ) throws(DeclaredRecallError) -> DeclaredRecall {
        let calibrated = depths(of: name)
        guard k >= 1, let deep = calibrated.first(where: { $0 >= k }) else {
            throw .depth(k: k, calibrated: calibrated)
        }
        // What is found falls slowly and steadily with the rank of a neighbour: between two depths the logarithms of
        // their thresholds are met in proportion to the logarithm of k.
        let shallow = calibrated.last { $0 < k }
        let around = deep == k ? [k] : [shallow, deep].compactMap { $0 }
        var threshold = try self.threshold(recall: recall, curve: name, k: deep)
        if deep != k, let shallow {
            let other = try self.threshold(recall: recall, curve: name, k: shallow)
            let share = log(Float(k) / Float(shallow)) / log(Float(deep) / Float(shallow))
            threshold = exp(log(other) + share * (log(threshold) - log(other)))
        }
        let near = checks?.filter { $0.curve == name && $0.k == deep }
            .min { abs($0.declared - recall) < abs($1.declared - recall) }
        return DeclaredRecall(
            recall: recall, k: k, threshold: threshold, depths: around, source: source, check: near)
    }

    /// The threshold at which the recall, less its standard error, is nearest above what is wanted.
    private func threshold(
        recall: Double, curve name: String, k: Int
    ) throws(DeclaredRecallError) -> Float {
        let points = (curves[Self.curveName(name, k: k)] ?? [])
            .map { (lambda: $0.lambda, sure: $0.recall - ($0.error ?? 0)) }.sorted { $0.lambda > $1.lambda }
        // Falling thresholds read more and more: from the first that is sure on, the others are.
        guard let above = points.firstIndex(where: { $0.sure >= recall }) else {
            let highest = points.reduce(0) { max($0, $1.sure) }
            throw .notReached(
                recall: recall, k: k, highest: max(0, highest), calibrating: source?.calibrating)
        }
        if above == 0 { return Float(points[0].lambda) }
        let (low, high) = (points[above - 1], points[above])
        let share = (recall - low.sure) / max(high.sure - low.sure, 1e-12)
        // Lambdas lie on a logarithmic ladder.
        return Float(exp(log(low.lambda) + share * (log(high.lambda) - log(low.lambda))))
    }
}

/// A recall as people read it.
private func formatted(_ recall: Double) -> String {
    let digits = String(Int((recall * 10_000).rounded()))
    let padded = String(repeating: "0", count: max(0, 5 - digits.count)) + digits
    return padded.prefix(padded.count - 4) + "." + padded.suffix(4)
}
