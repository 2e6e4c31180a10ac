// The table of codes alone (docs/results/codes.md): how many of a query's true ten lie among the R best by estimate, for
// every family of codes and size.
//
//     swift run -c release --package-path bench codes DATA CSV [--set sift|text] [--families pq,opq,...]
//         [--bytes 8,16,...] [--rows N] [--lists N] [--seed N] [--epochs N] [--rates WORDS,TURN]
//         [--examples N] [--no-noise] [--final]
//
//     swift run -c release --package-path bench codes graph DATA CSV ... (GraphMode.swift)
//
// DATA holds the data sets (docs/guide/measuring.md). Queries are the last rows of the learn file, which nothing is
// trained on; with --final those of the query files, whose neighbours are in their truth files. Lines are added to CSV
// where they are not there yet.

import Foundation
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
if arguments.first == "graph" {
    do {
        try GraphMode.run(Array(arguments.dropFirst()))
        exit(0)
    } catch {
        FileHandle.standardError.write(Data("codes: \(error)\n".utf8))
        exit(1)
    }
}
let set = take("--set", from: &arguments) ?? "sift"
let families =
    (take("--families", from: &arguments)?.split(separator: ",").map(String.init)
    ?? CodeFamily.allCases.map(\.rawValue)).compactMap { CodeFamily(rawValue: $0) }
let sizes = take("--bytes", from: &arguments)?.split(separator: ",").compactMap { Int($0) }
let rowLimit = take("--rows", from: &arguments).flatMap { Int($0) }
let lists = take("--lists", from: &arguments).flatMap { Int($0) }
let seed = take("--seed", from: &arguments).flatMap { UInt64($0) } ?? 1
let epochs = take("--epochs", from: &arguments).flatMap { Int($0) }
let rates = take("--rates", from: &arguments)?.split(separator: ",").compactMap { Float($0) }
let examples = take("--examples", from: &arguments).flatMap { Int($0) } ?? CodeData.exampleQueries
let isQuiet = arguments.contains("--no-noise")
arguments.removeAll { $0 == "--no-noise" }
let isFinal = arguments.contains("--final")
arguments.removeAll { $0 == "--final" }
guard arguments.count == 2, !families.isEmpty, let source = CodeData.known[set] else {
    FileHandle.standardError.write(
        Data("usage: codes DATA CSV [--set sift|text] [--families ...] [--bytes ...] [--rows N]\n".utf8))
    exit(2)
}

do {
    var data = try CodeData(
        source, directory: arguments[0], rowLimit: rowLimit, lists: lists ?? source.lists, isFinal: isFinal,
        exampleQueries: families.contains(.rpq) ? examples : 0)
    if let epochs { data.options.training.epochs = epochs }
    if let rates, rates.count == 2 { (data.options.wordRate, data.options.turnRate) = (rates[0], rates[1]) }
    data.options.isNoisy = !isQuiet
    var table = try CodeTable(path: arguments[1])
    for size in sizes ?? source.sizes {
        for family in families {
            let key = "\(data.name),\(data.base.count),\(data.lists.count),\(family.rawValue),\(size),\(seed)"
            if data.queries.allSatisfy({ table.has("\(key),\($0.name)") }) { continue }
            try table.add(key, CodeMeasure(data, family, codeByteCount: size, seed: seed).lines())
        }
    }
} catch {
    FileHandle.standardError.write(Data("codes: \(error)\n".utf8))
    exit(1)
}
