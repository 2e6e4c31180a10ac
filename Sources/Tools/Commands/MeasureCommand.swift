// sonde measure: what each recall costs, as a table, CSV, JSON and a picture.

import ArgumentParser
import Foundation
import Index
import Storage
import Vectors

struct MeasureCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "measure", abstract: "Sweep a policy and tabulate recall against cost.")

    @Option(help: "Index directory; several give several curves in the picture.")
    var index: [String]

    @Option(help: "File of queries.")
    var queries: String

    @Option(help: "Exact neighbours of the queries (sonde truth).")
    var truth: String

    @Option(name: .short, help: "Recalls to report.")
    var k: IntList = IntList([1, 10, 100])

    @Option(help: "What to vary: nprobe, eps2, budget-vectors, mass, gain or sigma.")
    var sweep: SweepName = .nprobe

    @Option(help: "Values of the swept parameter (default: a ladder that suits it).")
    var values: NumberList?

    @Option(help: "gain and mass: what a gain is measured against: vectors, bytes, reads or time.")
    var cost: CostName = .vectors

    @Option(help: "gain: rounds of reads at most; later ones use the distances found.")
    var rounds: Int = 1

    @Option(help: "eps2: partitions read at most.")
    var nprobe: Int = 128

    @Option(help: "Queries that each thread keeps in flight in the throughput runs.")
    var inflight: Int = 8

    @Option(help: "Ask only the first N queries.")
    var first: Int?

    @Option(help: "Write the rows as CSV.")
    var csv: String?

    @Option(help: "Write everything as JSON; an array where there are several indexes.")
    var json: String?

    @Option(help: "Draw what each recall costs, as .svg (.png and .pdf by rsvg-convert).")
    var plot: String?

    @OptionGroup var picture: PlotOptions

    @OptionGroup var cache: CacheOptions

    @OptionGroup var input: InputOptions

    @OptionGroup var work: WorkOptions

    func validate() throws {
        if index.isEmpty { throw ValidationError("give --index DIR") }
        if sweep == .nprobe || sweep == .budgetVectors,
            let odd = values?.values.first(where: { Int(exactly: $0) == nil })
        {
            throw ValidationError("--values of \(sweep.rawValue) are whole numbers, found \(odd)")
        }
    }

    func run() throws {
        try requireOutputs(files: [csv, json, plot], inputs: index + [queries, truth, cache.cacheLearn])
        if let plot { try Picture.requireFormat(plot) }
        let expected = try TruthFile.read(path: truth)
        var measured: [(name: String, measurement: Measurement)] = []
        for path in index {
            var opened = try DiskIndex(path: path)
            let rows = try input.openQueries(queries, for: opened, first: first).readAll()
            let cost = try self.cost.value(for: opened)
            let policies = policies(for: opened, cost: cost)
            // One cache for the whole sweep, chosen for its middle.
            opened = try cache.applied(
                to: opened, policy: policies[policies.count / 2], cost: cost, threads: work.threads,
                input: input)
            var parameters = SearchParameters(
                k: 1, policy: .nprobe(1), threads: work.threads, inFlight: inflight, cost: cost)
            parameters.rounds = rounds
            let measurement = try opened.measure(
                queries: rows, truth: expected, truthPath: truth, ks: k.values, policies: policies,
                parameters: parameters,
                progress: work.progress)
            measured.append((URL(fileURLWithPath: path).lastPathComponent, measurement))
            print(Report.table(measurement, title: path))
            if let reliability = opened.policies?.reliability { print(Report.table(reliability)) }
        }
        if let csv {
            try writeText(measured.map { Report.csv($0.measurement) }.joined(separator: "\n"), path: csv)
        }
        if let json {
            try writeText(
                measured.count == 1
                    ? Report.json(measured[0].measurement) : Report.json(measured.map(\.measurement)),
                path: json)
        }
        if let plot { try Picture.write(svg: picture.curves(ks: k.values).svg(measured), path: plot) }
    }

    private func policies(for opened: DiskIndex, cost: ReadCost) -> [Policy] {
        let given = values?.values
        switch sweep {
        case .nprobe:
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

/// Values of `--sweep`.
enum SweepName: String, ExpressibleByArgument, CaseIterable {
    case nprobe, eps2
    case budgetVectors = "budget-vectors"
    case mass, gain, sigma
}
