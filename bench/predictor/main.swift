// The table of docs/predictor.md: every router, policy and duplication through one harness.
//
//     swift run -c release --package-path bench predictor DATA OUT [--only TEXT] [--seeds N] [--report]
//
// DATA holds the data sets of ../shared/data/make. Finished rows are kept in OUT/rows; a run goes on where one
// was stopped. `--only` runs the rows whose name contains TEXT; `--report` only prints the table again.

import Foundation
import Index
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
let seeds = UInt64(take("--seeds", from: &arguments) ?? "1") ?? 1
let reportOnly = arguments.contains("--report")
arguments.removeAll { $0.hasPrefix("--") }
guard arguments.count == 2 else {
    FileHandle.standardError.write(Data("usage: predictor DATA OUT [--only TEXT] [--seeds N] [--report]\n".utf8))
    exit(2)
}
let out = arguments[1]
do {
    let cache = try RowCache(directory: out + "/rows")
    if !reportOnly {
        for seed in 1...max(seeds, 1) {
            for data in DataSet.known(in: arguments[0]) where FileManager.default.fileExists(atPath: data.base) {
                for partitions in data.partitions where only.map({ "\(data.name)-\(partitions)".contains($0) }) ?? true {
                    try runMethods(
                        Experiment(
                            data: data, partitions: partitions, seed: seed, out: out, cache: cache,
                            threads: Workers.processorCount))
                }
            }
        }
    }
    try Table(rows: cache.all()).write(to: out)
} catch {
    FileHandle.standardError.write(Data("predictor: \(error)\n".utf8))
    exit(1)
}
