// sonde truth: exact nearest neighbours, what recall is measured against.

import ArgumentParser
import Build
import Foundation
import Index
import Learn
import Storage
import Vectors

struct TruthCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "truth", abstract: "Find exact nearest neighbours by reading the whole base.")

    @Option(help: "Vectors to search in.")
    var base: String

    @Option(help: "File of queries.")
    var queries: String

    @Option(name: .short, help: "Neighbours a query.")
    var k: Int = 100

    @Option(
        help:
            "Result: big-ann layout (n, k, ids, distances), .ids64 (ids of 64 bits), .csv, .jsonl; .ivecs or .npy: ids only."
    )
    var out: String

    @Option(help: "l2, ip or cosine.")
    var metric: MetricName = .l2

    @Option(help: "Search only the first N vectors of the base.")
    var first: Int?

    @Option(help: "Leave out the first N vectors of the base; ids count from the one after them.")
    var skip: Int = 0

    @Option(help: "Answer only the first N queries.")
    var firstQueries: Int?

    @OptionGroup var idOptions: IdOptions

    @OptionGroup var input: InputOptions

    @OptionGroup var work: WorkOptions

    func run() throws {
        try requireOutputs(files: [out], inputs: [base, queries, idOptions.ids])
        let baseFile = try input.openMain(base, first: first, skip: skip)
        let ids = try idOptions.ids(of: baseFile, path: base)
        let queryFile = try input.open(queries, first: firstQueries, as: baseFile.elementType)
        let start = ContinuousClock.now
        let named = try ids.validated(count: baseFile.count, memoryByteCount: work.memory.byteCount)
        let search = ExactSearch(
            k: k, metric: metric.value, threads: work.threads, memoryByteCount: work.memory.byteCount)
        try search.validate(base: baseFile, queries: queryFile)
        let file = try NeighbourWriter(
            path: out, count: queryFile.count, k: k, greatestId: named.greatest)
        try search.run(base: baseFile, queries: queryFile, ids: ids, progress: work.progress) { _, answers in
            try file.append(answers)
        }
        try file.finish()
        let elapsed = start.duration(to: .now) / .seconds(1)
        let pairs = Double(baseFile.count) * Double(queryFile.count)
        let compared = pairs * Double(baseFile.dimension * baseFile.elementType.byteCount)
        print(
            "\(queryFile.count) queries against \(baseFile.count) vectors in \(String(format: "%.2f", elapsed)) s: "
                + String(format: "%.2f", pairs / elapsed / 1e9) + " G distances/s, "
                + String(format: "%.0f", compared / elapsed / 1e9)
                + " GB/s of vectors compared; the base is read through the page cache")
    }
}
