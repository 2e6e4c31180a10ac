// sonde measure: what each recall costs, as a table, CSV, JSON and a picture.

import ArgumentParser
import Build
import Foundation
import Index
import Learn
import Storage
import Vectors

struct MeasureCommand: ParsableCommand, ChoosesParts {
    static let configuration = CommandConfiguration(
        commandName: "measure", abstract: "Sweep a policy and tabulate recall against cost.")

    @OptionGroup(title: HelpTitle.queries) var what: MeasureOptions

    @OptionGroup(title: HelpTitle.queries) var input: InputOptions

    @OptionGroup(title: HelpTitle.stop) var stop: SweepOptions

    @OptionGroup(title: HelpTitle.results) var results: MeasureResultOptions

    @OptionGroup(title: HelpTitle.work) var inFlight: InFlightOption

    @OptionGroup(title: HelpTitle.work) var threads: ThreadOption

    @OptionGroup(title: HelpTitle.work) var cache: CacheOptions

    @OptionGroup(title: HelpTitle.work) var quiet: QuietOption

    @OptionGroup(title: HelpTitle.research, visibility: .hidden) var research: MeasureResearchOptions

    /// What was asked for; nil: the best that an index has.
    private var sweep: SweepName? { stop.sweep ?? research.method?.sweep }

    private var values: [Double]? { stop.values?.values ?? research.method?.values }

    private var nprobe: Int { stop.nprobe ?? research.method?.nprobe ?? 128 }

    @OptionGroup(title: HelpTitle.results) var picture: PlotOptions

    var parts: Parts {
        var parts = Parts(method: research.method)
        parts.sweep = sweep
        parts.weighsGain = sweep == .gain || sweep == .mass
        return parts
    }

    func validate() throws {
        if sweep == .nprobe || sweep == .budgetVectors,
            let odd = stop.values?.values.first(where: { Int(exactly: $0) == nil })
        {
            throw ValidationError("--values of \(sweep?.rawValue ?? "") are whole numbers, found \(odd)")
        }
    }

    func run() throws {
        let truth = what.truth
        try requireOutputs(
            files: [results.csv, results.json, results.plot],
            inputs: what.index + [what.queries, truth, cache.cacheLearn])
        if let plot = results.plot { try Picture.requireFormat(plot) }
        let expected = try TruthFile.read(path: truth)
        var measured: [(name: String, measurement: Measurement)] = []
        for path in what.index {
            var opened = try DiskIndex(path: path)
            let rows = try input.openQueries(what.queries, for: opened, first: what.first).readAll()
            let cost = try (stop.cost ?? .vectors).value(for: opened)
            let policies = try policies(for: opened, cost: cost)
            // One cache for the whole sweep, chosen for its middle.
            opened = try cache.applied(
                to: opened, policy: policies[policies.count / 2], cost: cost, threads: threads.threads,
                input: input)
            var parameters = SearchParameters(
                k: 1, policy: .nprobe(1), threads: threads.threads, inFlight: inFlight.inflight, cost: cost)
            parameters.rounds = stop.rounds
            let measurement = try opened.measure(
                queries: rows, truth: expected, truthPath: truth, ks: what.k.values, policies: policies,
                parameters: parameters,
                progress: quiet.progress)
            measured.append((URL(fileURLWithPath: path).lastPathComponent, measurement))
            print(Report.table(measurement, title: path))
            if let reliability = opened.policies?.reliability { print(Report.table(reliability)) }
        }
        if let csv = results.csv {
            try writeText(measured.map { Report.csv($0.measurement) }.joined(separator: "\n"), path: csv)
        }
        if let json = results.json {
            try writeText(
                measured.count == 1
                    ? Report.json(measured[0].measurement) : Report.json(measured.map(\.measurement)),
                path: json)
        }
        if let plot = results.plot {
            try Picture.write(svg: picture.curves(ks: what.k.values).svg(measured), path: plot)
        }
    }

    private func policies(for opened: DiskIndex, cost: ReadCost) throws -> [Policy] {
        let given = values
        switch sweep ?? (opened.recordCodes == nil ? .nprobe : .pages) {
        case .pages:
            return given.map { $0.map { .pages(Float($0)) } }
                ?? Policy.pagesLadder.enumerated().filter { $0.offset % 3 == 0 }.map(\.element)
        case .nprobe:
            if let odd = given?.first(where: { Int(exactly: $0) == nil }) {
                throw ValidationError("--values of nprobe are whole numbers, found \(odd)")
            }
            let ladder = [1.0, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128].filter {
                Int($0) <= opened.partitionCount
            }
            return (given ?? ladder).map { .nprobe(Int($0)) }
        case .eps2:
            let ladder = [0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0]
            return (given ?? ladder).map { .eps2(Float($0), nprobe: nprobe) }
        case .budgetVectors:
            let ladder = [500.0, 1000, 2000, 4000, 8000, 16000, 32000, 64000].filter {
                Int($0) <= opened.count
            }
            return (given ?? ladder).map { .vectorBudget(Int($0)) }
        case .mass:
            return (given ?? [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99]).map { .mass(Float($0)) }
        case .sigma:
            return given.map { $0.map { .sigma(Float($0)) } }
                ?? Policy.sigmaLadder.enumerated().filter { $0.offset % 3 == 0 }.map(\.element)
        case .gain:
            return given.map { $0.map { .gain(Float($0)) } }
                ?? Policy.gainLadder(for: opened.table, cost: cost, count: 16)
        }
    }
}

/// What is measured, and against what.
struct MeasureOptions: ParsableArguments {
    @Option(help: "Index directory; several give several curves in the picture.")
    var index: [String]

    @Option(help: "File of queries.")
    var queries: String

    @Option(help: "Exact neighbours of the queries (sonde truth).")
    var truth: String

    @Option(name: .short, help: "Recalls to report.")
    var k: IntList = IntList([1, 10, 100])

    @Option(help: "Ask only the first N queries.")
    var first: Int?

    func validate() throws {
        if index.isEmpty { throw ValidationError("give --index DIR") }
    }
}

/// What varies.
struct SweepOptions: ParsableArguments {
    @Option(
        help:
            "What to vary: nprobe, eps2, budget-vectors, mass, gain, sigma or pages (default: pages where records have codes, else nprobe)."
    )
    var sweep: SweepName?

    @Option(help: "Values of the swept parameter (default: a ladder that suits it).")
    var values: NumberList?

    @Option(
        help: "gain, mass: what a gain is measured against: vectors, bytes, reads or time (default: vectors)."
    )
    var cost: CostName?

    @Option(help: "gain: rounds of reads at most; later ones use the distances found.")
    var rounds: Int = 1

    @Option(help: "eps2: partitions read at most (default: 128).")
    var nprobe: Int?
}

/// What is written besides the table.
struct MeasureResultOptions: ParsableArguments {
    @Option(help: "Write the rows as CSV.")
    var csv: String?

    @Option(help: "Write everything as JSON; an array where there are several indexes.")
    var json: String?

    @Option(help: "Draw vectors fetched against each recall, as .svg (.png and .pdf by rsvg-convert).")
    var plot: String?
}

struct MeasureResearchOptions: ParsableArguments {
    @Option(
        help:
            "The policy that a system is published with: kmeans, soar (nprobe), spann (eps2), storage-nn (budget-vectors) or lira (sigma)."
    )
    var method: MethodName?
}

/// Values of `--sweep`.
enum SweepName: String, ExpressibleByArgument, CaseIterable {
    case nprobe, eps2
    case budgetVectors = "budget-vectors"
    case mass, gain, sigma, pages
}
