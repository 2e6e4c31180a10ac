// The plan of a build as people read it.

import Build
import Foundation
import Index
import Learn

extension BuildForecast {
    /// A table of the stages and what they add up to.
    func text(memory: ByteCount) -> String {
        let heads = ["stage", "read", "written", "memory", "seconds"]
        let rows = stages.map { stage in
            [
                stage.name, Self.size(stage.bytesRead), Self.size(stage.bytesWritten),
                Self.size(stage.memoryByteCount), stage.seconds.map { String(format: "%.0f", $0) } ?? "",
            ]
        }
        let widths = heads.indices.map { column in
            ([heads] + rows).map { $0[column].count }.max() ?? 0
        }
        func line(_ cells: [String]) -> String {
            let padded = cells.indices.map { column in
                let gap = String(repeating: " ", count: widths[column] - cells[column].count)
                return column == 0 ? cells[column] + gap : gap + cells[column]
            }
            return "| " + padded.joined(separator: " | ") + " |"
        }
        let rule =
            "|"
            + widths.indices.map {
                String(repeating: "-", count: widths[$0] + ($0 == 0 ? 2 : 1)) + ($0 == 0 ? "" : ":")
            }.joined(separator: "|") + "|"
        var lines = [line(heads), rule] + rows.map(line)
        lines.append("")
        lines.append(
            "\(partitions) partitions, at most \(records) records, \(buckets) bucket\(buckets == 1 ? "" : "s")"
        )
        lines.append(
            "disk: index \(Self.size(finalByteCount)), temporary \(Self.size(temporaryByteCount)), at the worst "
                + "moment \(Self.size(peakByteCount)); free \(Self.size(freeByteCount))"
                + (freeByteCount < peakByteCount ? ": TOO LITTLE" : ""))
        lines.append(
            "memory of the process: at most \(Self.size(memoryByteCount))"
                + (memoryByteCount > memory.byteCount
                    ? ": MORE THAN --memory \(memory), which holds what grows with the base; the rest is the router, "
                        + "the process and what training needs" : ""))
        if let calibration {
            let seconds = stages.reduce(0) { $0 + ($1.seconds ?? 0) }
            lines.append(
                "time: about \(ProgressDisplay.duration(seconds)), by "
                    + String(format: "%.2g", calibration.distances) + " distances, "
                    + String(format: "%.2g", calibration.ordered) + " records ordered, "
                    + Self.size(Int(calibration.bytesRead)) + " read and "
                    + Self.size(Int(calibration.bytesWritten)) + " written a second on this machine now")
        }
        let untold = stages.filter { $0.seconds == nil }.map(\.name)
        if calibration != nil && !untold.isEmpty {
            lines.append("time without: \(untold.joined(separator: ", ")), which nothing here measures")
        }
        return lines.joined(separator: "\n")
    }

    /// "1.4 GiB".
    private static func size(_ byteCount: Int) -> String {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")]
        where byteCount >= 1 << shift {
            return String(format: "%.1f ", Double(byteCount) / Double(1 << shift)) + unit
        }
        return "\(byteCount) B"
    }
}
