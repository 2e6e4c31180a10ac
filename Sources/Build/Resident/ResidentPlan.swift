// What a resident budget buys: the options weighed, the one chosen, and what the manifest keeps of them.

import Foundation
import Index
import Learn
import Router
import Storage
import Vectors

/// What a plan has to promise, and what it is to save.
public struct ResidentGoal: Sendable {
    /// Memory that the open index may hold.
    public var residentByteCount: Int
    /// recall@k wanted of one round of reads.
    public var recall = 0.9
    public var k = 1
    public var saving = Saving.pages

    /// What is to be fetched least.
    public enum Saving: String, Sendable, CaseIterable { case pages, vectors }

    public init(residentByteCount: Int) { self.residentByteCount = residentByteCount }

    /// Refuses values that mean nothing.
    func validate() throws(IndexError) {
        if residentByteCount < 1 {
            throw .outOfRange("resident", allowed: "at least 1 byte", found: "\(residentByteCount)")
        }
        if !(recall > 0 && recall < 1) {
            throw .outOfRange("recall", allowed: "between 0 and 1", found: "\(recall)")
        }
        if k < 1 || k > 100 { throw .outOfRange("k", allowed: "from 1 to 100", found: "\(k)") }
    }
}

/// One way to spend the budget, with what a query is expected to fetch at the wanted recall.
public struct ResidentOption: Sendable {
    public var partitions: Int
    public var router: PlannedRouter
    /// Partitions that need a probability.
    public var candidates: Int
    /// Memory that the open index will hold, at most.
    public var residentByteCount: Int
    public var vectors: Double
    public var pages: Double
    public var reads: Double
    /// Vectors that it was measured on.
    public var sampled: Int

    func cost(_ saving: ResidentGoal.Saving) -> Double {
        switch saving {
        case .pages: pages
        case .vectors: vectors
        }
    }
}

/// The options of a budget, the best first.
public struct ResidentPlan: Sendable {
    public let goal: ResidentGoal
    public let options: [ResidentOption]
    /// What was left out, and why.
    public let notes: [String]
    /// By family of routers: the power of n that what is fetched grows with while partitions keep their size.
    let growth: [(family: PlannedRouter.Family, exponent: Double)]
    let count: Int
    public let seconds: Double

    public var choice: ResidentOption { options[0] }

    /// A table of all options for people.
    public var text: String {
        var lines = [
            "resident budget \(goal.residentByteCount) bytes, fewest \(goal.saving.rawValue) at recall@\(goal.k) "
                + "\(goal.recall); predicted from samples in " + String(format: "%.1f s", seconds),
            "| partitions | router | resident MB | vectors | pages | reads | measured on |",
            "|--:|---|--:|--:|--:|--:|--:|",
        ]
        for (place, option) in options.enumerated() {
            lines.append(
                "| \(option.partitions) | \(option.router.name)\(place == 0 ? " (chosen)" : "") | "
                    + String(
                        format: "%.2f | %.0f | %.1f | %.1f | ", Double(option.residentByteCount) / 1e6,
                        option.vectors, option.pages, option.reads)
                    + "\(option.sampled) |")
        }
        let powers = growth.map { "\($0.family.rawValue) n^" + String(format: "%.2f", $0.exponent) }.joined(
            separator: ", ")
        if !powers.isEmpty { lines.append("growth at equal partition size: \(powers)") }
        return (lines + notes).joined(separator: "\n")
    }

    /// Whether an entry of a manifest is a plan's.
    static func isPlanKey(_ key: String) -> Bool { key == "resident" || key.hasPrefix("plan-") }

    /// The recall and the k that a manifest says its index was planned for.
    static func recall(in build: [String: String]) -> Double? { build["plan-recall"].flatMap(Double.init) }
    static func k(in build: [String: String]) -> Int? { build["plan-k"].flatMap { Int($0) } }

    /// What the manifest keeps.
    public var description: [String: String] {
        [
            "resident": String(goal.residentByteCount), "plan-recall": String(goal.recall),
            "plan-k": String(goal.k),
            "plan-minimise": goal.saving.rawValue, "plan-options": String(options.count),
            "plan-resident": String(choice.residentByteCount),
            "plan-vectors": String(format: "%.1f", choice.vectors),
            "plan-pages": String(format: "%.2f", choice.pages),
            "plan-reads": String(format: "%.2f", choice.reads),
        ]
    }

    /// Fills in the partitions and the router of a build.
    ///
    /// - Parameter training: pairs and seeds of the router; its form is the plan's.
    public func apply(to parameters: inout BuildParameters, training: RouterTraining) {
        parameters.partitions = choice.partitions
        parameters.router = self.training(from: training)
        parameters.residentByteCount = goal.residentByteCount
        parameters.notes.merge(description) { $1 }
    }

    /// Gives the planned router to a retraining. Centroids learn nothing but one factor, from base vectors where there
    /// is no learn file.
    public func apply(to retraining: inout Retraining) {
        retraining.training = training(from: retraining.training)
        retraining.residentByteCount = goal.residentByteCount
        retraining.notes.merge(description) { $1 }
    }

    /// The training of the planned router.
    public func training(from training: RouterTraining) -> RouterTraining {
        var training = training
        training.predictor.candidates = max(training.predictor.candidates, choice.candidates)
        training.predictor.training.targets = max(training.predictor.training.targets, min(goal.k, 10))
        training.take(choice.router, partitions: choice.partitions, of: count)
        return training
    }
}

extension DiskIndex {
    /// The recall that the index was planned for, and its k; nil where it was built without a plan.
    public var plannedRecall: (recall: Double, k: Int)? {
        ResidentPlan.recall(in: manifest.build).map { ($0, ResidentPlan.k(in: manifest.build) ?? 1) }
    }
}
