// What a picture is drawn with: lines, words, and the marks and dashes that keep curves apart in grey print.

import Foundation

/// How one curve looks. Colour and mark tell what was measured; the dash too, or which k where there are several.
struct PlotStyle: Equatable {
    var colour: Int
    var dash: Int
}

/// Pieces of SVG.
enum PlotMarks {
    /// Okabe and Ito's colours, told apart by colour-blind readers too.
    private static let colours = [
        "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#333333",
    ]
    private static let dashes = ["", "8 4", "2 3.5", "10 3.5 2 3.5", "5 2.5", "14 4 2 4 2 4"]

    static func colour(_ style: PlotStyle) -> String { colours[style.colour % colours.count] }

    /// The line of a curve.
    static func polyline(_ points: [(x: Double, y: Double)], _ style: PlotStyle) -> String {
        let path = points.map { coordinate($0.x) + "," + coordinate($0.y) }.joined(separator: " ")
        let dash = dashes[style.dash % dashes.count]
        return
            "<polyline fill=\"none\" stroke=\"\(colour(style))\" stroke-width=\"2.2\" stroke-linejoin=\"round\" "
            + (dash.isEmpty ? "" : "stroke-dasharray=\"\(dash)\" ") + "points=\"\(path)\"/>"
    }

    /// The mark of a point: seven shapes, one a colour.
    static func mark(_ x: Double, _ y: Double, _ style: PlotStyle) -> String {
        let look = "fill=\"#fff\" stroke=\"\(colour(style))\" stroke-width=\"1.8\""
        func shape(_ corners: [(Double, Double)]) -> String {
            let points = corners.map { coordinate(x + $0.0) + "," + coordinate(y + $0.1) }
            return "<polygon points=\"\(points.joined(separator: " "))\" \(look)/>"
        }
        switch style.colour % colours.count {
        case 0: return "<circle cx=\"\(coordinate(x))\" cy=\"\(coordinate(y))\" r=\"3.5\" \(look)/>"
        case 1: return shape([(-3.4, -3.4), (3.4, -3.4), (3.4, 3.4), (-3.4, 3.4)])
        case 2: return shape([(0, -4.4), (4.2, 3.2), (-4.2, 3.2)])
        case 3: return shape([(0, -4.8), (4.8, 0), (0, 4.8), (-4.8, 0)])
        case 4: return shape([(0, 4.4), (4.2, -3.2), (-4.2, -3.2)])
        case 5: return shape([(-4.2, 0), (-2.1, -3.8), (2.1, -3.8), (4.2, 0), (2.1, 3.8), (-2.1, 3.8)])
        default:
            return shape(
                [(-1.5, -4), (1.5, -4), (1.5, -1.5), (4, -1.5), (4, 1.5), (1.5, 1.5), (1.5, 4)]
                    + [(-1.5, 4), (-1.5, 1.5), (-4, 1.5), (-4, -1.5), (-1.5, -1.5)])
        }
    }

    static func line(
        _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ colour: String, dash: String = ""
    ) -> String {
        let ends = zip(["x1", "y1", "x2", "y2"], [x1, y1, x2, y2]).map { "\($0)=\"\(coordinate($1))\"" }
        return "<line \(ends.joined(separator: " ")) stroke=\"\(colour)\""
            + (dash.isEmpty ? "" : " stroke-dasharray=\"\(dash)\"") + "/>"
    }

    static func text(
        _ text: String, _ x: Double, _ y: Double, anchor: String = "start", colour: String = "#222",
        more: String = ""
    ) -> String {
        "<text x=\"\(coordinate(x))\" y=\"\(coordinate(y))\" text-anchor=\"\(anchor)\" fill=\"\(colour)\"\(more)>"
            + escaped(text) + "</text>"
    }

    /// About how wide a text is; a bit more than in the usual fonts, so that nothing touches.
    static func width(_ text: String, size: Double = 13) -> Double { Double(text.count) * size * 0.56 }

    /// Words in lines that are no wider than `width`; a word that is wider itself is cut.
    static func wrapped(_ text: String, width limit: Double, size: Double = 13) -> [String] {
        var lines: [String] = []
        let most = max(Int(limit / (size * 0.56)), 2)
        for word in text.split(separator: " ").map(String.init) {
            let word = word.count <= most ? word : word.prefix(most - 1) + "…"
            if let last = lines.last, last.count + 1 + word.count <= most {
                lines[lines.count - 1] = last + " " + word
            } else {
                lines.append(word)
            }
        }
        return lines
    }

    static func coordinate(_ value: Double) -> String { String(format: "%.1f", value) }

    static func escaped(_ text: String) -> String {
        text.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "<", with: "&lt;")
            .replacingOccurrences(of: ">", with: "&gt;")
    }
}
