// Options that something else in the same command makes meaningless are refused by name: a number that decides nothing
// is a question that was understood wrongly. One table; it is looked at once the command is parsed.

import ArgumentParser
import Build
import Index
import Learn

/// The parts of an index that options belong to, as build and train choose them.
struct Parts {
    var router = RouterKind.distance
    var duplicate = CopyRule.Name.none
    var method: MethodName?
    var hasHeads = false
    var hasPlan = false
    var isResident = false
    var isPlain = false
    var hasPrototypes = false
    var hasLearn = false
    /// Whether a router is trained or calibrated at all.
    var trains = false
    var sweep: SweepName?
    /// Whether parts are joined and nothing is asked.
    var joins = false
    /// Whether reads are chosen by what they are likely to find.
    var weighsGain = false
}

/// A command whose options depend on one another.
protocol ChoosesParts {
    var parts: Parts { get }
}

struct IgnoredOptions {
    /// One line of the table: options, and when they decide something.
    private struct Rule {
        var commands: Set<String> = ["build", "train"]
        var names: Set<String>
        /// What they belong to, in words.
        var of: String
        var isHeeded: (Parts) -> Bool
    }

    private static let asked: Set<String> = [
        "--index", "--queries", "-k", "--recall", "--nprobe", "--gain", "--mass", "--budget-vectors",
        "--cost",
        "--rounds", "--eps2", "--sigma", "--first", "--skip", "--format", "--on-bad-query", "--shard",
        "--truth",
        "--json", "--threads", "--memory", "--resident", "--block", "--resume", "--restart",
    ]

    private static var rules: [Rule] {
        [
            Rule(names: MethodName.decided, of: "what --method decides") { $0.method == nil },
            Rule(names: ["--hidden", "--mode"], of: "of --router network") { $0.router == .network },
            Rule(names: ["--tower"], of: "of --router lira") { $0.router == .lira },
            Rule(names: ["--prototypes"], of: "of --router subcentroids, prototypes, or network unless plain")
            {
                [.subcentroids, .prototypes].contains($0.router) || ($0.router == .network && !$0.isPlain)
            },
            Rule(
                names: ["--prototype-codes"],
                of: "of --router subcentroids, prototypes, or network with --prototypes"
            ) {
                [.subcentroids, .prototypes].contains($0.router)
                    || ($0.router == .network && $0.hasPrototypes && !$0.isPlain)
            },
            Rule(names: ["--epochs", "--noise"], of: "of --router prototypes, network or lira") {
                [.prototypes, .network, .lira].contains($0.router)
            },
            Rule(names: ["--candidates", "--refine"], of: "of routers that are learned, except lira") {
                $0.trains && $0.router != .lira
            },
            Rule(names: ["--labels", "--targets"], of: "of routers that are learned (--router, --learn)") {
                $0.trains
            },
            Rule(names: ["--pairs", "--learn-truth"], of: "of --learn FILE") { $0.hasLearn },
            Rule(names: ["--replicas", "--eps1"], of: "of --duplicate closure") { $0.duplicate == .closure },
            Rule(names: ["--lambda"], of: "of --duplicate soar") { $0.duplicate == .soar },
            Rule(names: ["--replication-max"], of: "of --duplicate random, slots, paper, gain or moves") {
                [.random, .slots, .paper, .gain, .moves].contains($0.duplicate)
            },
            Rule(names: ["--plan-rounds"], of: "of --duplicate paper, gain or moves") {
                [.paper, .gain, .moves].contains($0.duplicate)
            },
            Rule(names: ["--plan-cost"], of: "of --duplicate gain or moves") {
                [.gain, .moves].contains($0.duplicate)
            },
            Rule(names: ["--eta"], of: "of --duplicate lira") { $0.duplicate == .lira },
            Rule(names: ["--plan-recall", "--plan-k"], of: "of --duplicate gain, moves or lira") {
                [.gain, .moves, .lira].contains($0.duplicate)
            },
            Rule(
                commands: ["build"], names: ["--partitions", "--sample", "--iterations"],
                of: "of partitions by k-means, not of heads"
            ) { !$0.hasHeads },
            Rule(
                commands: ["search", "batch"], names: ["--cost"],
                of: "of --gain, --mass and --recall, which weigh what a read costs"
            ) { $0.weighsGain },
            Rule(
                commands: ["batch"], names: asked,
                of: "of queries that are asked, and --merge joins parts that are there: it takes only --out"
            ) { !$0.joins },
            Rule(commands: ["measure"], names: ["--cost"], of: "of --sweep gain or mass") { $0.weighsGain },
            Rule(commands: ["measure"], names: ["--nprobe"], of: "of --sweep eps2") { $0.sweep == .eps2 },
            Rule(commands: ["measure"], names: ["--sweep"], of: "what --method decides") { $0.method == nil },
        ]
    }

    /// Refuses the first option given that decides nothing.
    static func check(_ arguments: [String], of command: any ParsableCommand) throws {
        guard let chooser = command as? any ChoosesParts, let name = arguments.first else { return }
        let parts = chooser.parts
        let given = names(in: arguments)
        for rule in rules where rule.commands.contains(name) && !rule.isHeeded(parts) {
            guard let option = given.first(where: { rule.names.contains($0) }) else { continue }
            throw ValidationError("\(option) is \(rule.of): it would decide nothing here, leave it out")
        }
    }

    /// The options given, by name, in order.
    static func names(in arguments: [String]) -> [String] {
        arguments.prefix { $0 != "--" }.filter { $0.hasPrefix("-") }.map { String($0.prefix { $0 != "=" }) }
    }
}
