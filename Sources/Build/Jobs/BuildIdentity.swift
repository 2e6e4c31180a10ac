// What a build is: everything that decides its bytes, by name. An unfinished build is gone on with only by the same
// one, so that what comes out is what an undisturbed build makes.

import Foundation
import Index
import Learn
import Router
import Storage

extension IndexBuilder {
    /// Changes with what the temporary files and the segments hold, and with the order of records in these: pages of
    /// another order are those of another index.
    static let formatVersion = 4

    /// All that decides the bytes; threads do not, memory only by what it makes of the sample and the buckets.
    public func identity() throws -> JobIdentity {
        let rule: String =
            switch parameters.copyRule {
            case .closure(let replicas, let eps1): "closure, replicas \(replicas), eps1 \(eps1)"
            case .soar(let lambda): "soar, lambda \(lambda)"
            default: parameters.copyRule.name.rawValue
            }
        func text<Value>(_ value: Value?) -> String { value.map { "\($0)" } ?? "none" }
        return JobIdentity(
            try base.identity() + [
                ("version of the build", "\(Self.formatVersion)"), ("metric", parameters.metric.name),
                ("partitions", parameters.headShare == nil ? "\(partitionsWanted)" : "heads"),
                ("heads", text(parameters.headShare)), ("duplicate", rule),
                ("sub-segments", text(parameters.subSegments)),
                ("pages-max", text(parameters.pagesMaximum)), ("seed", "\(parameters.seed)"),
                ("iterations", "\(parameters.iterations)"),
                (
                    "sample (which its own size and the memory decide)",
                    parameters.plan != nil
                        ? "the plan's"
                        : parameters.headShare == nil
                            ? "\(memory.sampleCount(partitions: partitionsWanted))" : "all"
                ),
            ] + parameters.notes.sorted { $0.key < $1.key }.map { (name: $0.key, value: $0.value) }
                + (try sharingIdentity()) + (try parameters.router?.identity() ?? [("router", "distance")]))
    }

    /// Partitions that k-means is asked for.
    var partitionsWanted: Int {
        parameters.plan?.partitionsWanted ?? parameters.partitions
            ?? max(1, min(base.count, Int(4 * Double(wholeCount).squareRoot())))
    }
}

extension RouterTraining {
    /// All that decides what is learned, by name.
    public func identity() throws -> [(name: String, value: String)] {
        var described = description.filter { $0.key != "router" }
        described["candidates"] = String(predictor.candidates)
        described["pairs"] = pairs.learnCount.map { String($0) } ?? "all"
        described["synthetic"] = String(pairs.syntheticCount)
        described["neighbours"] = String(pairs.neighbourCount)
        described["labels"] = labels == nil ? "found" : "given"
        let learned = try learn.map { "\(Checksum.text(try $0.fingerprint())) (\($0.count))" }
        return [
            ("router", predictor.kind.rawValue), ("learn queries", learned ?? "none"),
            (
                "training",
                described.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
            ),
        ]
    }
}
