// From measurements to the curves of a picture: what stands on which axis, and under which name.

import Build
import Foundation
import Index

/// What a picture shows of measurements.
struct Curves {
    /// A panel each.
    var x: [PlotCost] = [.vectors]
    var y: PlotQuality = .recall
    /// The title, or nil for one that says what is drawn.
    var title: String?
    /// A recall that is marked with a line.
    var mark: Double?
    /// A curve a measurement and k.
    var ks: [Int]

    func svg(_ measured: [(name: String, measurement: Measurement)]) -> String {
        let data = measured.map { entry in
            let data = entry.measurement.data
            return "\(Report.grouped(data.n)) × \(data.d) \(data.dtype), \(data.metric)"
        }
        // Curves of several data sets stand in one picture, but none under another's name.
        let isOne = Set(data).count == 1
        let depth = ks.count == 1 ? "\(ks[0])" : "k"
        let costs = x.map(\.label).formatted(.list(type: .and).locale(Locale(identifier: "en_GB")))
        let told = "\(y == .recall ? "Recall" : "Misses, 1 - recall")@\(depth) against \(costs)"
        return Plot(
            title: title ?? told + (isOne ? " · " + data[0] : ""),
            xLabels: x.map(\.axisLabel),
            yLabel: y == .recall ? "recall@\(depth)" : "1 - recall@\(depth)",
            isLogarithmicInY: y == .miss,
            mark: mark.map { (y == .recall ? $0 : 1 - $0, String(format: "recall %g", $0)) },
            curves: measured.indices.flatMap { number in
                ks.enumerated().map { depth, k in
                    let entry = measured[number]
                    return Plot.Curve(
                        name: entry.name + (ks.count == 1 ? "" : ", k = \(k)")
                            + (isOne ? "" : " (\(data[number]))"),
                        // The mark tells the measurement; the dash tells the k where there are several.
                        style: PlotStyle(colour: number, dash: ks.count == 1 ? number : depth),
                        points: x.map { cost in points(entry.measurement, cost, k) })
                }
            }
        ).svg
    }

    private func points(_ measurement: Measurement, _ cost: PlotCost, _ k: Int) -> [Plot.Point] {
        measurement.rows.compactMap { row in
            row.recall[String(k)].map { recall in (cost.value(row), y == .recall ? recall : 1 - recall) }
        }
    }
}

/// What can stand on the x axis.
enum PlotCost: String, CaseIterable {
    case vectors, pages, reads, kib, qps, latency, p99

    var label: String {
        switch self {
        case .vectors: "vectors fetched"
        case .pages: "pages read"
        case .reads: "reads"
        case .kib: "KiB read"
        case .qps: "queries a second"
        case .latency: "mean latency"
        case .p99: "p99 latency"
        }
    }

    var axisLabel: String {
        switch self {
        case .qps: "queries a second"
        case .latency, .p99: label + ", ms"
        default: label + " a query"
        }
    }

    func value(_ row: Measurement.Row) -> Double {
        switch self {
        case .vectors: row.vectors
        case .pages: row.pages
        case .reads: row.reads
        case .kib: row.bytes / 1024
        case .qps: row.qps
        case .latency: row.latency.mean
        case .p99: row.latency.p99
        }
    }
}

/// What can stand on the y axis.
enum PlotQuality: String, CaseIterable {
    case recall, miss
}
