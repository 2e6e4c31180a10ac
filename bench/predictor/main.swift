// The tables of docs/results: every router, policy and copy rule through one harness.
//
//     swift run -c release --package-path bench predictor DATA OUT [--only TEXT] [--methods TEXT]
//         [--part routers|copies|fine|many|studies|topk] [--seeds N] [--report]
//
// DATA holds the data sets (docs/guide/measuring.md). Finished rows are kept in OUT/rows; a run goes on where one
// was stopped. `--only sift-1000` takes one data set and number of partitions, `--methods` the rows whose name
// contains one of TEXT,TEXT (and none of -TEXT); `--report` only prints the table again. `python3 bench/predictor/plot.py OUT` draws the pictures.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import Vectors

/// Takes an option and its value out of the arguments.
func take(_ name: String, from arguments: inout [String]) -> String? {
    guard let place = arguments.firstIndex(of: name), place + 1 < arguments.count else { return nil }
    let value = arguments[place + 1]
    arguments.removeSubrange(place...place + 1)
    return value
}
var arguments = Array(CommandLine.arguments.dropFirst())
let only = take("--only", from: &arguments)
let methods = take("--methods", from: &arguments)
let part = take("--part", from: &arguments)
let seeds = UInt64(take("--seeds", from: &arguments) ?? "1") ?? 1
let reportOnly = arguments.contains("--report")
arguments.removeAll { $0.hasPrefix("--") }
guard arguments.count == 2 else {
    FileHandle.standardError.write(
        Data("usage: predictor DATA OUT [--only TEXT] [--seeds N] [--report]\n".utf8))
    exit(2)
}
let out = arguments[1]

/// Whether a row's name contains one of the texts, and none of those that follow a minus.
func isWanted(_ method: String, _ texts: [Substring]) -> Bool {
    let (wanted, unwanted) = (texts.filter { !$0.hasPrefix("-") }, texts.filter { $0.hasPrefix("-") })
    return (wanted.isEmpty || wanted.contains { method.contains($0) })
        && !unwanted.contains { method.contains($0.dropFirst()) }
}

/// The parts of the table at one number of partitions, in the order of what they cost.
func run(_ data: DataSet, _ partitions: Int, seed: UInt64, cache: RowCache) throws {
    guard only.map({ "\(data.name)-\(partitions)" == $0 || data.name == $0 }) ?? true else { return }
    // The paper's setting is shown once, at the middle number of partitions.
    let held = partitions == data.partitions[0] || part == "many" ? try data.withHeldRows(in: out) : data
    let rows = Methods(
        experiment: Experiment(
            data: held, partitions: partitions, seed: seed, out: out, cache: cache,
            threads: Workers.processorCount,
            only: { method in
                methods.map { isWanted(method, $0.split(separator: ",")) } ?? true
            }))
    func wants(_ name: String) -> Bool { part.map { $0 == name } ?? true }
    if data.fine.contains(partitions) {
        if wants("fine") { try rows.fine() }
        // Asked for by name: what was trained is chosen on rows of the learn file first.
        if part == "many" { try rows.many() }
        return
    }
    if wants("routers"), data.partitions.contains(partitions) { try rows.routers() }
    if wants("topk"), seed == 1, data.topK.contains(partitions) {
        try rows.topKRouters()
        try rows.topKCopies()
        if partitions <= 100 { try rows.topKCells() }
    }
    guard partitions == data.partitions[0], seed == 1 else { return }
    if wants("copies") { try rows.copies() }
    if wants("studies") { try rows.studies() }
}

do {
    let cache = try RowCache(directory: out + "/rows")
    if !reportOnly {
        for seed in 1...max(seeds, 1) {
            for data in DataSet.known(in: arguments[0])
            where FileManager.default.fileExists(atPath: data.base) {
                for partitions in data.partitions + data.fine
                    + data.topK.filter({ !data.partitions.contains($0) })
                { try run(data, partitions, seed: seed, cache: cache) }
            }
        }
    }
    try Table(rows: cache.all()).write(to: out)
} catch {
    FileHandle.standardError.write(Data("predictor: \(error)\n".utf8))
    exit(1)
}
