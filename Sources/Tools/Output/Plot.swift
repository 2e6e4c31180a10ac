// A picture of a few curves, a panel an x axis, written as SVG by hand: no library, no fonts shipped, readable on
// light and dark pages because it brings its own background.

import Foundation

/// Curves of one y against several x > 0, each on a logarithmic axis in a panel of its own.
struct Plot {
    typealias Point = (x: Double, y: Double)

    struct Curve {
        var name: String
        var style: PlotStyle
        /// A list of points a panel.
        var points: [[Point]]
    }

    var title: String
    /// One a panel.
    var xLabels: [String]
    var yLabel: String
    /// Shares from 0 to 1 on a linear axis, or on a logarithmic one.
    var isLogarithmicInY: Bool
    /// A level of y that is marked across all panels, with its name.
    var mark: (value: Double, name: String)?
    var curves: [Curve]

    init(
        title: String, xLabels: [String], yLabel: String, isLogarithmicInY: Bool = false,
        mark: (value: Double, name: String)? = nil, curves: [Curve]
    ) {
        self.title = title
        self.xLabels = xLabels
        self.yLabel = yLabel
        self.isLogarithmicInY = isLogarithmicInY
        self.mark = mark
        self.curves = curves.map { curve in
            var kept = curve
            // A logarithmic axis has no place for nothing.
            kept.points = curve.points.map { points in
                points.filter {
                    $0.x > 0 && $0.x.isFinite && $0.y.isFinite && (!isLogarithmicInY || $0.y > 0)
                }.sorted { $0.x < $1.x }
            }
            return kept
        }
    }

    private static let left = 68.0
    private static let margin = 24.0
    private static let panelHeight = 360.0
    private static let gap = 28.0
    private static let titleSize = 16.0
    private static let rowHeight = 22.0

    private var panelWidth: Double { xLabels.count == 1 ? 668 : 450 }

    private var width: Double {
        Self.left + Double(xLabels.count) * (panelWidth + Self.gap) - Self.gap + Self.margin
    }

    /// The whole picture.
    var svg: String {
        let titles = PlotMarks.wrapped(title, width: width - Self.left - Self.margin, size: Self.titleSize)
        let rows = legendRows
        let titleEnd = 14 + Double(titles.count) * 21
        let top = titleEnd + 14 + Double(rows.count) * Self.rowHeight
        let bottom = top + Self.panelHeight
        let height = bottom + 62
        var body = ["<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"]
        body += titles.enumerated().map { number, line in
            PlotMarks.text(
                line, Self.left, 32 + Double(number) * 21,
                more: " font-size=\"\(Int(Self.titleSize))\" font-weight=\"600\"")
        }
        body += legend(rows, from: titleEnd + 8)
        let yAxis = yAxis(top: top, bottom: bottom)
        for panel in xLabels.indices { body += drawn(panel, yAxis, top: top, bottom: bottom) }
        body.append(
            "<text transform=\"translate(20 \(PlotMarks.coordinate((top + bottom) / 2))) rotate(-90)\" "
                + "text-anchor=\"middle\">" + PlotMarks.escaped(yLabel) + "</text>")
        return """
            <svg xmlns="http://www.w3.org/2000/svg" width="\(Int(width))" height="\(Int(height))" \
            viewBox="0 0 \(Int(width)) \(Int(height))" \
            font-family="Helvetica, Arial, DejaVu Sans, sans-serif" font-size="13" fill="#222">
            \(body.joined(separator: "\n"))
            </svg>

            """
    }

    private func yAxis(top: Double, bottom: Double) -> PlotAxis {
        let values = curves.flatMap { $0.points.joined().map(\.y) } + (mark.map { [$0.value] } ?? [])
        return isLogarithmicInY
            ? PlotAxis(logarithmic: values, from: bottom, to: top, air: 0.05, most: 1)
            : PlotAxis(shares: values, from: bottom, to: top + 8)
    }

    /// One panel: grid, ticks, frame, the marked level, curves.
    private func drawn(_ panel: Int, _ yAxis: PlotAxis, top: Double, bottom: Double) -> [String] {
        let left = Self.left + Double(panel) * (panelWidth + Self.gap)
        let right = left + panelWidth
        let axis = PlotAxis(
            logarithmic: curves.flatMap { $0.points[panel].map(\.x) }, from: left, to: right)
        var body: [String] = []
        for tick in yAxis.ticks(room: 20) {
            let y = yAxis.place(tick.value)
            body.append(PlotMarks.line(left, y, right, y, tick.name.isEmpty ? "#f0f0f0" : "#e0e0e0"))
            if panel == 0 && !tick.name.isEmpty {
                body.append(PlotMarks.text(tick.name, left - 8, y + 4.5, anchor: "end", colour: "#444"))
            }
        }
        for tick in axis.ticks(room: 38) {
            let x = axis.place(tick.value)
            body.append(PlotMarks.line(x, top, x, bottom, tick.name.isEmpty ? "#f0f0f0" : "#e0e0e0"))
            if !tick.name.isEmpty {
                body.append(PlotMarks.text(tick.name, x, bottom + 18, anchor: "middle", colour: "#444"))
            }
        }
        if let mark {
            let y = yAxis.place(mark.value)
            body.append(PlotMarks.line(left, y, right, y, "#555", dash: "1 3"))
            body.append(
                PlotMarks.text(
                    mark.name, left + 6, y - 5, colour: "#555",
                    more: " font-size=\"12\" paint-order=\"stroke\" stroke=\"#fff\" stroke-width=\"3\""))
        }
        body.append(
            "<rect x=\"\(PlotMarks.coordinate(left))\" y=\"\(PlotMarks.coordinate(top))\" "
                + "width=\"\(PlotMarks.coordinate(panelWidth))\" height=\"\(Self.panelHeight)\" "
                + "fill=\"none\" stroke=\"#888\"/>")
        for curve in curves {
            let points = curve.points[panel].map { (x: axis.place($0.x), y: yAxis.place($0.y)) }
            if points.isEmpty { continue }
            body.append(PlotMarks.polyline(points, curve.style))
            body += points.map { PlotMarks.mark($0.x, $0.y, curve.style) }
        }
        body.append(
            PlotMarks.text(xLabels[panel], (left + right) / 2, bottom + 44, anchor: "middle"))
        return body
    }

    /// Which curves stand side by side above the panels, where no curve runs through their names.
    private var legendRows: [[(curve: Int, name: String, x: Double)]] {
        var rows: [[(curve: Int, name: String, x: Double)]] = []
        var x = Self.left
        let end = width - Self.margin
        for (number, curve) in curves.enumerated() {
            let name = Self.shortened(curve.name, width: end - Self.left - 46)
            let wide = 46 + PlotMarks.width(name)
            if rows.isEmpty || x + wide > end {
                rows.append([])
                x = Self.left
            }
            rows[rows.count - 1].append((number, name, x))
            x += wide + 20
        }
        return rows
    }

    private static func shortened(_ name: String, width: Double) -> String {
        let most = Int(width / PlotMarks.width(" "))
        return name.count <= most ? name : name.prefix(most - 1) + "…"
    }

    private func legend(_ rows: [[(curve: Int, name: String, x: Double)]], from top: Double) -> [String] {
        rows.enumerated().flatMap { row, entries in
            let middle = top + (Double(row) + 0.5) * Self.rowHeight
            return entries.flatMap { entry -> [String] in
                let style = curves[entry.curve].style
                return [
                    PlotMarks.polyline([(entry.x, middle), (entry.x + 38, middle)], style)
                        .replacingOccurrences(of: "<polyline", with: "<polyline class=\"legend\""),
                    PlotMarks.mark(entry.x + 19, middle, style),
                    PlotMarks.text(entry.name, entry.x + 46, middle + 4.5),
                ]
            }
        }
    }
}
