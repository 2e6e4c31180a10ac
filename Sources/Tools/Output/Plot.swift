// A picture of a few curves over a logarithmic x axis, written as SVG by hand: no library, no fonts shipped,
// readable on light and dark pages because it brings its own background.

import Foundation

/// Curves of y (a share, 0...1) against x > 0 on a logarithmic axis.
struct Plot {
    typealias Point = (x: Double, y: Double)

    var title: String
    var xLabel: String
    var yLabel: String
    var curves: [(name: String, points: [Point])]

    init(title: String, xLabel: String, yLabel: String, curves: [(name: String, points: [Point])]) {
        self.title = title
        self.xLabel = xLabel
        self.yLabel = yLabel
        self.curves = curves.map { name, points in
            (name, points.filter { $0.x > 0 && $0.x.isFinite && $0.y.isFinite }.sorted { $0.x < $1.x })
        }
    }

    /// Okabe and Ito's colours, told apart by colour-blind readers too.
    private static let colours = [
        "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333",
    ]

    private static let width = 760.0
    private static let height = 480.0
    private static let left = 68.0
    private static let right = 736.0
    private static let top = 56.0
    private static let bottom = 416.0

    /// The whole picture.
    var svg: String {
        let points = curves.flatMap(\.points)
        let low = points.map(\.x).min() ?? 1
        let high = max(points.map(\.x).max() ?? 10, low * 2)
        // Half a step of air on both sides.
        let air = pow(high / low, 0.03)
        let axis = Axis(
            xLow: log10(low / air), xHigh: log10(high * air),
            yLow: Self.lowestTick(points.map(\.y).min() ?? 0), yHigh: max(1, points.map(\.y).max() ?? 1))
        var body = [background]
        body += horizontalGrid(axis) + verticalGrid(axis, from: low / air, to: high * air)
        body.append(
            "<rect x=\"\(Self.left)\" y=\"\(Self.top)\" width=\"\(Self.right - Self.left)\" "
                + "height=\"\(Self.bottom - Self.top)\" fill=\"none\" stroke=\"#888\"/>")
        for (number, curve) in curves.enumerated() { body += drawn(curve.points, colour(number), axis) }
        body += legend + labels
        return """
            <svg xmlns="http://www.w3.org/2000/svg" width="\(Int(Self.width))" height="\(Int(Self.height))" \
            viewBox="0 0 \(Int(Self.width)) \(Int(Self.height))" \
            font-family="Helvetica, Arial, DejaVu Sans, sans-serif" font-size="13" fill="#222">
            \(body.joined(separator: "\n"))
            </svg>

            """
    }

    private struct Axis {
        var xLow: Double
        var xHigh: Double
        var yLow: Double
        var yHigh: Double

        func x(_ value: Double) -> Double {
            Plot.left + (log10(value) - xLow) / (xHigh - xLow) * (Plot.right - Plot.left)
        }

        func y(_ value: Double) -> Double {
            Plot.bottom - (value - yLow) / (yHigh - yLow) * (Plot.bottom - Plot.top - 8)
        }
    }

    /// The tenth below the smallest share, so that the upper end, where curves differ, gets the room.
    private static func lowestTick(_ smallest: Double) -> Double {
        min(max(((smallest - 0.01) * 10).rounded(.down) / 10, 0), 0.9)
    }

    private var background: String {
        "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
    }

    private func horizontalGrid(_ axis: Axis) -> [String] {
        let step = axis.yHigh - axis.yLow > 0.55 ? 0.1 : axis.yHigh - axis.yLow > 0.25 ? 0.05 : 0.02
        let count = Int(((axis.yHigh - axis.yLow) / step + 0.001).rounded(.down))
        return (0...count).flatMap { index -> [String] in
            let value = axis.yLow + Double(index) * step
            let y = axis.y(value)
            return [
                line(Self.left, y, Self.right, y, "#e4e4e4"),
                text(String(format: "%.2f", value), Self.left - 8, y + 4.5, anchor: "end", colour: "#444"),
            ]
        }
    }

    private func verticalGrid(_ axis: Axis, from low: Double, to high: Double) -> [String] {
        var marks: [String] = []
        let decades = axis.xHigh - axis.xLow
        for decade in Int(axis.xLow.rounded(.down))...Int(axis.xHigh.rounded(.up)) {
            for digit in 1...9 {
                let value = Double(digit) * pow(10, Double(decade))
                if value < low || value > high { continue }
                let x = axis.x(value)
                marks.append(line(x, Self.top, x, Self.bottom, digit == 1 ? "#cfcfcf" : "#eeeeee"))
                // Labels where there is room for them: over few decades 2 and 5 as well.
                let named = digit == 1 || (decades < 3.5 && (digit == 2 || digit == 5))
                if named {
                    marks.append(
                        text(Self.tick(value), x, Self.bottom + 18, anchor: "middle", colour: "#444"))
                }
            }
        }
        return marks
    }

    private static func tick(_ value: Double) -> String {
        if value >= 1e6 { return String(format: "%gM", value / 1e6) }
        if value >= 1e3 { return String(format: "%gk", value / 1e3) }
        return String(format: "%g", value)
    }

    private func drawn(_ points: [Point], _ colour: String, _ axis: Axis) -> [String] {
        let path = points.map { point in
            Self.coordinate(axis.x(point.x)) + "," + Self.coordinate(axis.y(point.y))
        }
        let dots = points.map { point in
            "<circle cx=\"\(Self.coordinate(axis.x(point.x)))\" cy=\"\(Self.coordinate(axis.y(point.y)))\" r=\"3.2\" "
                + "fill=\"#fff\" stroke=\"\(colour)\" stroke-width=\"1.8\"/>"
        }
        return [
            "<polyline fill=\"none\" stroke=\"\(colour)\" stroke-width=\"2.2\" stroke-linejoin=\"round\" points=\""
                + path.joined(separator: " ") + "\"/>"
        ] + dots
    }

    /// Lower right: curves of recall leave it free.
    private var legend: [String] {
        let longest = curves.map(\.name.count).max() ?? 0
        let boxWidth = min(Double(longest) * 7.2 + 52, Self.right - Self.left - 20)
        let boxHeight = Double(curves.count) * 21 + 12
        let x = Self.right - boxWidth - 12
        let y = Self.bottom - boxHeight - 12
        var marks = [
            "<rect x=\"\(Self.coordinate(x))\" y=\"\(Self.coordinate(y))\" width=\"\(Self.coordinate(boxWidth))\" "
                + "height=\"\(boxHeight)\" rx=\"4\" fill=\"#fff\" fill-opacity=\"0.92\" stroke=\"#ccc\"/>"
        ]
        for (number, curve) in curves.enumerated() {
            let middle = y + 16.5 + Double(number) * 21
            marks.append(line(x + 12, middle, x + 34, middle, colour(number), width: 2.2))
            marks.append(
                "<circle cx=\"\(Self.coordinate(x + 23))\" cy=\"\(Self.coordinate(middle))\" r=\"3.2\" fill=\"#fff\" "
                    + "stroke=\"\(colour(number))\" stroke-width=\"1.8\"/>")
            marks.append(text(curve.name, x + 42, middle + 4.5, anchor: "start", colour: "#222"))
        }
        return marks
    }

    private var labels: [String] {
        let middleX = (Self.left + Self.right) / 2
        let middleY = (Self.top + Self.bottom) / 2
        return [
            "<text x=\"\(Self.left)\" y=\"34\" font-size=\"16\" font-weight=\"600\">\(Self.escaped(title))</text>",
            text(xLabel, middleX, Self.bottom + 44, anchor: "middle", colour: "#222"),
            "<text transform=\"translate(20 \(middleY)) rotate(-90)\" text-anchor=\"middle\">"
                + Self.escaped(yLabel) + "</text>",
        ]
    }

    private func colour(_ number: Int) -> String { Self.colours[number % Self.colours.count] }

    private func line(
        _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ colour: String, width: Double = 1
    ) -> String {
        let ends = zip(["x1", "y1", "x2", "y2"], [x1, y1, x2, y2]).map { "\($0)=\"\(Self.coordinate($1))\"" }
        return "<line \(ends.joined(separator: " ")) stroke=\"\(colour)\" stroke-width=\"\(width)\"/>"
    }

    private func text(_ text: String, _ x: Double, _ y: Double, anchor: String, colour: String) -> String {
        "<text x=\"\(Self.coordinate(x))\" y=\"\(Self.coordinate(y))\" text-anchor=\"\(anchor)\" fill=\"\(colour)\">"
            + Self.escaped(text) + "</text>"
    }

    private static func coordinate(_ value: Double) -> String { String(format: "%.1f", value) }

    private static func escaped(_ text: String) -> String {
        text.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "<", with: "&lt;")
            .replacingOccurrences(of: ">", with: "&gt;")
    }
}
