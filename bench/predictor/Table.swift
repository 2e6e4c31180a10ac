// The finished rows as a table for docs/results, and the pictures.

import Build
import Foundation
import Index
import Learn

/// All rows, medians over seeds.
struct Table {
    let rows: [Row]

    private static let targets: [(k: Int, recall: Double)] = [
        (1, 0.80), (1, 0.90), (1, 0.95), (1, 0.99), (10, 0.90), (10, 0.95),
    ]

    /// Writes OUT/predictor.md and prints it.
    func write(to out: String) throws {
        var text = ""
        let groups = Dictionary(grouping: rows) {
            "\($0.dataSet), \($0.queries), \($0.partitions) partitions"
        }
        for (group, members) in groups.sorted(by: { $0.key < $1.key }) {
            text += "## \(group)\n\n"
            text +=
                "| method | seeds | replication | resident MB | index MB | vectors at recall@1 .80 / .90 / .95 / .99 "
            text +=
                "| recall@10 .90 / .95 | pages @1 .90 | reads @1 .90 | modelled us @1 .90 | against k-means @1 .90 |\n"
            text += "|---|--:|--:|--:|--:|---|---|--:|--:|--:|--:|\n"
            let methods = Dictionary(grouping: members) { $0.method }
            let baseline = methods["kmeans nprobe"].flatMap {
                median($0) { $0.cost(k: 1, recall: 0.9) { $0.vectors } }
            }
            let order = methods.keys.sorted {
                (median(methods[$0]!) { $0.cost(k: 1, recall: 0.9) { $0.vectors } } ?? .infinity)
                    > (median(methods[$1]!) { $0.cost(k: 1, recall: 0.9) { $0.vectors } } ?? .infinity)
            }
            for method in order {
                let found = methods[method]!
                let vectors = Self.targets.map { target in
                    number(median(found) { $0.cost(k: target.k, recall: target.recall) { $0.vectors } })
                }
                let at = median(found) { $0.cost(k: 1, recall: 0.9) { $0.vectors } }
                let against =
                    at.flatMap { at in baseline.map { String(format: "%+.0f %%", (at / $0 - 1) * 100) } }
                    ?? "-"
                let cells = [
                    method, String(found.count),
                    String(format: "%.2f", found[0].replication),
                    String(format: "%.2f", Double(found[0].residentByteCount) / 1e6),
                    String(format: "%.0f", Double(found[0].indexByteCount) / 1e6),
                    vectors.prefix(4).joined(separator: " / "), vectors.suffix(2).joined(separator: " / "),
                    number(median(found) { $0.cost(k: 1, recall: 0.9) { $0.pages } }),
                    decimal(median(found) { $0.cost(k: 1, recall: 0.9) { $0.reads } }),
                    number(median(found) { $0.cost(k: 1, recall: 0.9) { $0.microseconds } }), against,
                ]
                text += "| " + cells.joined(separator: " | ") + " |\n"
            }
            text += "\n"
        }
        print(text)
        try Data(text.utf8).write(to: URL(fileURLWithPath: out + "/predictor.md"), options: .atomic)
        try writeTopK(to: out)
    }

    /// Rows of routers for the k nearest, with the columns that they are compared by: OUT/topk.md.
    private func writeTopK(to out: String) throws {
        var text = ""
        let groups = Dictionary(grouping: rows) {
            "\($0.dataSet), \($0.queries), \($0.partitions) partitions"
        }
        for (group, members) in groups.sorted(by: { $0.key < $1.key })
        where members.contains(where: { $0.method.hasPrefix("lira") }) {
            text += "## \(group)\n\n| method | replication | resident MB | index MB "
            text += "| vectors at recall@10 .90 / .95 / .98 | vectors at recall@100 .90 / .95 / .98 "
            text +=
                "| nprobe at recall@100 .95 / .9655 | against k-means @100 .95 |\n|---|--:|--:|--:|---|---|---|--:|\n"
            func vectors(_ row: Row, _ k: Int, _ recall: Double) -> Double? {
                row.cost(k: k, recall: recall) { $0.vectors }
            }
            let baseline = members.first { $0.method == "kmeans nprobe" }.flatMap { vectors($0, 100, 0.95) }
            let wanted = members.filter { row in
                ["kmeans", "lira", "topk"].contains { row.method.hasPrefix($0) }
            }
            for row in wanted.sorted(by: {
                (vectors($0, 100, 0.95) ?? .infinity) > (vectors($1, 100, 0.95) ?? .infinity)
            })
            where row.seed == 1 {
                let against = vectors(row, 100, 0.95).flatMap { at in
                    baseline.map { String(format: "%+.0f %%", (at / $0 - 1) * 100) }
                }
                let cells = [
                    row.method, String(format: "%.2f", row.replication),
                    String(format: "%.2f", Double(row.residentByteCount) / 1e6),
                    String(format: "%.0f", Double(row.indexByteCount) / 1e6),
                    [0.9, 0.95, 0.98].map { number(vectors(row, 10, $0)) }.joined(separator: " / "),
                    [0.9, 0.95, 0.98].map { number(vectors(row, 100, $0)) }.joined(separator: " / "),
                    [0.95, 0.9655].map { decimal(row.cost(k: 100, recall: $0) { $0.segments }) }.joined(
                        separator: " / "),
                    against ?? "-",
                ]
                text += "| " + cells.joined(separator: " | ") + " |\n"
            }
            text += "\n"
        }
        print(text)
        try Data(text.utf8).write(to: URL(fileURLWithPath: out + "/topk.md"), options: .atomic)
    }

    private func median(_ rows: [Row], _ value: (Row) -> Double?) -> Double? {
        let values = rows.compactMap(value).sorted()
        guard !values.isEmpty else { return nil }
        return values.count % 2 == 1
            ? values[values.count / 2] : (values[values.count / 2 - 1] + values[values.count / 2]) / 2
    }

    private func number(_ value: Double?) -> String { value.map { String(format: "%.0f", $0) } ?? "-" }
    private func decimal(_ value: Double?) -> String { value.map { String(format: "%.1f", $0) } ?? "-" }
}
