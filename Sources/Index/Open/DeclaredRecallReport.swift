// Which recalls an index can be asked for, on what they were calibrated, and what they found on other queries.

import Foundation

/// What `sonde inspect` says of declared recalls.
public struct DeclaredRecallReport: Codable, Sendable {
    /// The learn file; nil where queries were made from the base.
    public var learn: String?
    /// nil in indexes whose thresholds were stored before they were checked.
    public var source: CalibratedPolicies.Source?
    /// The k that were calibrated, by cost (and rounds, where they are more than one).
    public var depths: [String: [Int]]
    public var checks: [CalibratedPolicies.Check]

    init(_ policies: CalibratedPolicies) {
        let name = policies.provenance["learn"]
        learn = policies.source?.isMade != false || name == "none" ? nil : name
        source = policies.source
        checks = policies.checks ?? []
        depths = Dictionary(
            uniqueKeysWithValues: policies.names.map { ($0, policies.depths(of: $0)) })
    }

    /// Costs whose checks are told to people: the others are in the JSON.
    private static let told = ["vectors", CalibratedPolicies.laterRoundsName, CalibratedPolicies.sigmaName]

    /// What people read.
    public var text: String {
        func list(_ ks: [Int]) -> String { ks.map(String.init).joined(separator: ", ") }
        let calibrated = depths.sorted { $0.key < $1.key }.map { "\($0.key): k \(list($0.value))" }
            .joined(separator: "; ")
        guard let source else {
            return
                "recall can be declared for \(calibrated); never checked, by an earlier version: train again"
        }
        let origin =
            source.isMade
            ? "queries made from the base (and on the harder half of them alone)"
            : "queries of \(learn ?? "a learn file")"
        var lines = [
            "recall can be declared for \(calibrated)",
            "calibrated on \(source.calibrating) \(origin), exact neighbours; checked on \(source.checking) others:",
        ]
        for curve in Self.told {
            for k in depths[curve] ?? [] {
                let some = checks.filter { $0.curve == curve && $0.k == k }
                lines.append(
                    "  \(curve), k \(k): "
                        + (some.isEmpty
                            ? "none of \(CalibratedPolicies.checkedRecalls.map { "\($0)" }.joined(separator: ", ")) is sure"
                            : some.map { "\($0.declared) found \($0.text)\($0.fails ? " (FAILED)" : "")" }
                                .joined(separator: ", ")))
            }
        }
        return lines.joined(separator: "\n")
    }
}
