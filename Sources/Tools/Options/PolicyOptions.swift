// How a search stops, as options of the commands that search.

import ArgumentParser
import Build
import Foundation
import Index
import Learn
import Storage

/// How to stop: one policy, or none where the index was planned for a recall.
struct PolicyOptions: ParsableArguments {
    @Option(help: "Mean recall@k wanted: the threshold that reached it on held-out pairs.")
    var recall: Double?

    @Option(
        help:
            "What holds of that recall: its mean over queries, or per-query: at least so much for 95 of 100 queries, each for itself (an index with codes; search and measure)."
    )
    var guarantee: Guarantee?

    @Option(help: "Read the N nearest partitions (with --eps2: at most N).")
    var nprobe: Int?

    @Option(help: "Read every partition whose probability over its cost exceeds LAMBDA.")
    var gain: Float?

    @Option(
        help:
            "Read every page whose records are worth more than LAMBDA expected neighbours, by their codes."
    )
    var pageGain: Float?

    @Option(help: "Read by gain until the probabilities read sum to T.")
    var mass: Float?

    @Option(help: "Read partitions in order while their records sum to at most N.")
    var budgetVectors: Int?

    @Option(help: "What a gain is measured against: vectors, bytes, reads or time (default: vectors).")
    var cost: CostName?

    @Option(
        help: "Rounds of reads at most; later ones use the distances found (gain policy, trained router).")
    var rounds: Int = 1
}

/// Values of `--guarantee`.
enum Guarantee: String, ExpressibleByArgument, CaseIterable {
    case mean
    case perQuery = "per-query"
}

/// The policies of published methods.
struct PublishedPolicyOptions: ParsableArguments {
    @Option(help: "SPANN: read partitions within (1 + E) times the nearest one's squared distance.")
    var eps2: Float?

    @Option(
        help:
            "LIRA: read every partition whose own probability exceeds S (a lira router); auto: the S that reaches --recall."
    )
    var sigma: Sigma?
}

/// The policy that is asked for: one, or none: then the recall that the index was planned for is declared, or 0.95.
struct PolicyChoice {
    /// The recall that is declared where no policy was given.
    static let defaultRecall = 0.95

    var options: PolicyOptions
    var published: PublishedPolicyOptions
    /// What one read is at least.
    var reads = Reads.pages

    /// A search of single queries may read pages; a batch reads segments, which many queries share.
    enum Reads { case pages, segments }

    private var nprobe: Int? { options.nprobe }
    private var gain: Float? { options.gain }
    private var pageGain: Float? { options.pageGain }
    private var mass: Float? { options.mass }
    private var budgetVectors: Int? { options.budgetVectors }
    private var recall: Double? { options.recall }
    private var eps2: Float? { published.eps2 }
    private var sigma: Sigma? { published.sigma }
    var cost: CostName { options.cost ?? .vectors }
    var rounds: Int { options.rounds }

    /// Whether a recall is declared, rather than a policy's own parameter.
    var declaresRecall: Bool { recall != nil || givenCount == 0 }

    /// The recall that is declared; nil where a policy's own parameter is given.
    var declaredRecall: Double? { declaresRecall ? recall ?? Self.defaultRecall : nil }

    /// Whether reads are chosen by what they are likely to find.
    var weighsGain: Bool {
        eps2 == nil && nprobe == nil && budgetVectors == nil && sigma == nil
    }

    private var givenCount: Int {
        [eps2, mass, gain, pageGain].filter { $0 != nil }.count + (budgetVectors == nil ? 0 : 1)
            + (recall == nil ? 0 : 1)
            + (sigma == nil || sigma == .auto ? 0 : 1) + (nprobe != nil && eps2 == nil ? 1 : 0)
    }

    /// Whether any policy was asked for.
    var isGiven: Bool { givenCount > 0 }

    private static let choices =
        "give at most one of --nprobe N, --eps2 E [--nprobe N], --budget-vectors N, --mass T, --gain LAMBDA, --page-gain LAMBDA, "
        + "--recall R, "
        + "--sigma S, --sigma auto --recall R"

    /// Refuses more than one policy; none is a declared recall.
    func validate() throws {
        guard givenCount <= 1 else { throw ValidationError(Self.choices) }
        if sigma == .auto && recall == nil { throw ValidationError("--sigma auto needs --recall R") }
        if options.guarantee != nil && !declaresRecall {
            throw ValidationError("--guarantee is of a declared recall (--recall, or no policy at all)")
        }
        if options.guarantee == .perQuery && reads == .segments {
            throw ValidationError(
                "--guarantee per-query is kept by choosing pages for each query, as search does: batch reads whole segments"
            )
        }
        if let recall, !(recall > 0 && recall < 1) {
            throw ValidationError("--recall must be between 0 and 1")
        }
    }

    func readCost(for index: DiskIndex) throws -> ReadCost { try cost.value(for: index) }

    /// The policy asked for; thresholds for a wanted recall@k are the index's own.
    func policy(for index: DiskIndex, k: Int) throws -> Policy {
        if case .value(let sigma) = sigma { return .sigma(sigma) }
        if let mass { return .mass(mass) }
        if let gain { return .gain(gain) }
        if let pageGain { return .pages(pageGain) }
        if let recall { return try declared(recall, for: index, k: k) }
        if givenCount == 0 {
            let policy = try declared(Self.defaultRecall, for: index, k: k)
            say("no policy given: recall \(Self.defaultRecall)")
            return policy
        }
        if let eps2 { return .eps2(eps2, nprobe: nprobe ?? 64) }
        if let budgetVectors { return .vectorBudget(budgetVectors) }
        return .nprobe(nprobe ?? 1)
    }
}

extension PolicyChoice {
    /// The threshold for a recall, with whatever has to be known of it on stderr.
    private func declared(_ recall: Double, for index: DiskIndex, k: Int) throws -> Policy {
        do {
            guard let policies = index.policies else {
                throw DeclaredRecallError.uncalibrated(path: index.path)
            }
            let found: DeclaredRecall
            if options.guarantee == .perQuery {
                guard choosesPages(of: index) else { throw DeclaredRecallError.noPages }
                found = try policies.declaredPagesPerQuery(recall: recall, k: k)
                for note in found.notes { say(note) }
                return .pages(found.threshold)
            } else if sigma == .auto {
                found = try policies.declaredSigma(recall: recall, k: k)
            } else if choosesPages(of: index) {
                let chosen = try policies.declaredPagesOrPartitions(recall: recall, k: k)
                for note in chosen.found.notes { say(note) }
                if case .gain = chosen.policy {
                    say("recall@\(k) \(recall) is more than codes can tell apart: whole partitions are read")
                }
                return chosen.policy
            } else {
                found = try policies.declared(
                    recall: recall, k: k, rounds: rounds, cost: try readCost(for: index))
            }
            for note in found.notes { say(note) }
            return sigma == .auto ? .sigma(found.threshold) : .gain(found.threshold)
        } catch let error as DeclaredRecallError {
            throw CommandFailure("\(error); \(Self.advice(error, index: index.path))")
        }
    }

    /// Whether a declared recall is kept by choosing pages: where records have codes, and no cost of partitions nor a
    /// second round of them was asked for.
    private func choosesPages(of index: DiskIndex) -> Bool {
        reads == .pages && index.recordCodes != nil && options.cost == nil && rounds == 1
    }

    /// Says so where a recall was declared and the queries are not like those that were calibrated.
    func noteDrift(_ drift: @autoclosure () throws -> QueryDrift?) rethrows {
        if declaresRecall, let note = try drift()?.note { say(note) }
    }

    private func say(_ note: String) {
        FileHandle.standardError.write(Data("sonde: note: \(note)\n".utf8))
    }

    /// What to do, in flags.
    private static func advice(_ error: DeclaredRecallError, index: String) -> String {
        switch error {
        case .uncalibrated:
            "calibrate them with `sonde train --index \(index) --out DIR --learn FILE`, or give --nprobe N"
        case .depth:
            "ask for a -k among them, or give --nprobe N, --mass T or --gain LAMBDA"
        case .rounds:
            "leave --rounds out, or train with --learn FILE, which calibrates --rounds 2 for --cost vectors; or give "
                + "--gain LAMBDA"
        case .notReached:
            "ask for less, train with more queries (`sonde train --learn FILE`), or give --nprobe N or --gain LAMBDA"
        case .noSigma:
            "leave --sigma auto out"
        case .noPages:
            "build with --codes BYTES, or give --gain LAMBDA"
        }
    }
}

/// Values of `--cost`.
enum CostName: String, ExpressibleByArgument, CaseIterable {
    case vectors, bytes, reads, time

    /// The cost, time by the model that was calibrated with the router, or else now.
    func value(for index: DiskIndex) throws -> ReadCost {
        switch self {
        case .vectors: .vectors
        case .bytes: .bytes
        case .reads: .reads
        case .time: .time(try index.policies?.model ?? DeviceModel.calibrate(on: index))
        }
    }
}

/// A value of `--sigma`.
enum Sigma: ExpressibleByArgument, Equatable {
    case auto
    case value(Float)

    init?(argument: String) {
        if argument == "auto" {
            self = .auto
        } else if let value = Float(argument) {
            self = .value(value)
        } else {
            return nil
        }
    }
}
