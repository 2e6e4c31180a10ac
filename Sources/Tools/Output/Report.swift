// Measurements as people want them: a table to paste, CSV and JSON.

import Build
import Foundation
import Index
import Learn
import Router
import Storage

/// Foundation has a type of this name too.
typealias Measurement = Index.Measurement

enum Report {
    /// The line that tells a recall; rows of the truth that hold fewer than k neighbours are said.
    static func recall(_ recall: Double, k: Int, truth: TruthFile, queries: Int) -> String {
        let short = Recall.shortRows(truth, count: queries, k: k)
        return "recall@\(k) " + String(format: "%.4f", recall)
            + (short == 0
                ? "" : " (\(short) queries have fewer than \(k) true neighbours: counted over those)")
    }

    /// The sweep as a Markdown table with aligned columns, below it what each wanted recall costs.
    static func table(_ measurement: Measurement, title: String) -> String {
        let data = measurement.data
        let index = measurement.index
        let replication = String(format: "%.2f", index.replication)
        let heading = """
            \(title): \(data.n) x \(data.d) \(data.dtype), \(data.metric), \(data.queries) queries; \
            \(index.partitions) partitions, duplicate \(index.duplicate), replication \(replication), \
            router \(index.router), index \(megabytes(index.indexByteCount)) MB, \
            device \(index.device ?? "unknown")
            """
        let ks = recallDepths(measurement)
        var titles = ["policy", "parameter"] + ks.map { "recall@\($0)" }
        // Beside the vectors fetched, never among them.
        let isCached = measurement.rows.contains { $0.cached > 0 }
        titles +=
            ["vectors"] + (isCached ? ["cached"] : []) + [
                "distinct", "segments", "pages", "KiB", "reads", "rounds", "QPS",
            ]
        titles += ["mean ms", "p50 ms", "p99 ms", "p99.9 ms", "bound", "resident MB"]
        let resident = megabytes(index.residentByteCount)
        let rows = measurement.rows.map { row -> [String] in
            var cells = [row.policy, number(row.parameter)]
            cells += ks.map { row.recall[String($0)].map { String(format: "%.4f", $0) } ?? "-" }
            cells +=
                ([row.vectors] + (isCached ? [row.cached] : []) + [
                    row.distinct, row.segments, row.pages, row.bytes / 1024, row.reads,
                ]).map(
                    short)
            cells += [String(format: "%.2f", row.rounds), short(row.qps)]
            cells += [row.latency.mean, row.latency.p50, row.latency.p99, row.latency.p999].map {
                String(format: "%.3f", $0)
            }
            return cells + [row.bound, resident]
        }
        let sweep = heading + "\n\n" + aligned(titles, rows, leftColumns: [0, titles.count - 2])
        let costs = costTable(measurement, ks: ks)
        return costs.isEmpty ? sweep : sweep + "\n" + costs
    }

    /// What each wanted recall costs, interpolated between rows; empty when none was reached.
    private static func costTable(_ measurement: Measurement, ks: [Int]) -> String {
        var rows: [[String]] = []
        for k in ks {
            let costs = measurement.at["recall@\(k)"] ?? [:]
            for wanted in costs.keys.sorted() {
                guard let cost = costs[wanted] else { continue }
                let figures = [cost.vectors, cost.pages, cost.bytes / 1024, cost.reads].map(short)
                rows.append(["recall@\(k) = \(wanted)"] + figures + [number(cost.parameter)])
            }
        }
        if rows.isEmpty { return "" }
        return aligned(["at", "vectors", "pages", "KiB", "reads", "parameter"], rows, leftColumns: [0])
    }

    /// One line a row, with a header line; every column of the JSON rows.
    static func csv(_ measurement: Measurement) -> String {
        let ks = recallDepths(measurement)
        var header = ["policy", "parameter"] + ks.map { "recall@\($0)" }
        header += ["vectors", "cached", "distinct", "segments", "pages", "bytes", "reads", "rounds", "qps"]
        header += ["mean_ms", "p50_ms", "p99_ms", "p999_ms", "route_us", "wait_us", "scan_us"]
        header += ["bound", "resident_bytes", "device"]
        let lines = measurement.rows.map { row -> String in
            var cells = [row.policy, "\(row.parameter)"]
            cells += ks.map { row.recall[String($0)].map { "\($0)" } ?? "" }
            let numbers = [
                row.vectors, row.cached, row.distinct, row.segments, row.pages, row.bytes, row.reads,
                row.rounds, row.qps,
                row.latency.mean, row.latency.p50, row.latency.p99, row.latency.p999, row.routeMicroseconds,
                row.waitMicroseconds, row.scanMicroseconds,
            ]
            cells += numbers.map { "\($0)" }
            return
                (cells + [
                    row.bound, "\(measurement.index.residentByteCount)",
                    measurement.index.device ?? "unknown",
                ]).joined(separator: ",")
        }
        return ([header.joined(separator: ",")] + lines).joined(separator: "\n") + "\n"
    }

    /// Any result as JSON with sorted keys, ready to print or to write.
    static func json(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(value), as: UTF8.self) + "\n"
    }

    /// A probing report: means, then both histograms by doubling widths.
    static func text(_ report: ProbingReport) -> String {
        var ends = [0, 1]
        while let last = ends.last, last + 1 < max(report.probed.count, report.needed.count) {
            ends.append(2 * last)
        }
        let rows = zip(ends, ends.dropFirst()).map { low, high -> [String] in
            func share(_ histogram: [Int]) -> String {
                let inside = histogram.indices.filter { $0 > low && $0 <= high }.reduce(0) {
                    $0 + histogram[$1]
                }
                return String(format: "%.3f", Double(inside) / Double(max(histogram.reduce(0, +), 1)))
            }
            return [
                high == low + 1 ? "\(high)" : "\(low + 1)-\(high)", share(report.probed),
                share(report.needed),
            ]
        }
        return String(
            format: "nprobe %.2f, optimal %.2f; %.1f %% of the partitions read held none of the %d nearest\n",
            report.meanProbed, report.meanNeeded, report.waste * 100, report.k)
            + aligned(["partitions", "share of queries that read", "that need"], rows, leftColumns: [0])
    }

    /// The k of every recall@k measured, rising.
    static func recallDepths(_ measurement: Measurement) -> [Int] {
        Set(measurement.rows.flatMap { $0.recall.keys }).compactMap { Int($0) }.sorted()
    }

    /// A Markdown table whose columns are aligned in plain text too: numbers to the right.
    static func aligned(_ titles: [String], _ rows: [[String]], leftColumns: Set<Int>) -> String {
        let widths = titles.indices.map { column in
            max(3, ([titles] + rows).map { $0[column].count }.max() ?? 0)
        }
        func line(_ cells: [String]) -> String {
            "| "
                + cells.enumerated().map { column, cell in
                    let space = String(repeating: " ", count: widths[column] - cell.count)
                    return leftColumns.contains(column) ? cell + space : space + cell
                }.joined(separator: " | ") + " |"
        }
        let rule = widths.enumerated().map { column, width in
            leftColumns.contains(column)
                ? String(repeating: "-", count: width + 2) : String(repeating: "-", count: width + 1) + ":"
        }
        return ([line(titles), "|" + rule.joined(separator: "|") + "|"] + rows.map(line)).joined(
            separator: "\n")
            + "\n"
    }

    /// Predicted against observed probabilities, ten bins.
    static func table(_ reliability: Reliability) -> String {
        let rows = reliability.bins.enumerated().map { bin, value in
            [
                String(format: "%.1f-%.1f", Double(bin) / 10, Double(bin + 1) / 10), String(value.count),
                String(format: "%.4f", value.predicted), String(format: "%.4f", value.observed),
            ]
        }
        return "reliability on held-out pairs, expected calibration error "
            + String(format: "%.4f", reliability.error) + "\n\n"
            + aligned(["probability", "candidates", "predicted", "observed"], rows, leftColumns: [0])
    }

    /// Digits that carry meaning in a mean: none after the point from 1000 on.
    private static func short(_ value: Double) -> String {
        String(format: value >= 1000 ? "%.0f" : value >= 10 ? "%.1f" : "%.2f", value)
    }

    private static func number(_ value: Double) -> String { String(format: "%.4g", value) }

    private static func megabytes(_ byteCount: Int) -> String {
        String(format: "%.2f", Double(byteCount) / 1e6)
    }

    /// 1000000 as "1,000,000".
    static func grouped(_ value: Int) -> String {
        var digits = String(value)
        var position = digits.count - 3
        while position > 0 {
            digits.insert(",", at: digits.index(digits.startIndex, offsetBy: position))
            position -= 3
        }
        return digits
    }
}
