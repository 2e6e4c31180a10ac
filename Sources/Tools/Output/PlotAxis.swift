// The scales of a picture: where a value lies between two ends, and which ticks can be named without their names
// touching.

import Foundation

/// One scale, linear or logarithmic, from a range of values to a range of pixels.
struct PlotAxis {
    /// A line of the grid; `name` is empty where it would touch its neighbour's.
    struct Tick: Equatable {
        var value: Double
        var name: String
    }

    let isLogarithmic: Bool
    private let low: Double
    private let high: Double
    private let start: Double
    private let end: Double

    /// - Parameters:
    ///   - values: what has to be seen.
    ///   - start: the pixel of the least value; `end` that of the greatest.
    ///   - air: the share of the range that is left free at both ends.
    init(
        logarithmic values: [Double], from start: Double, to end: Double, air: Double = 0.03,
        most: Double = .infinity
    ) {
        let least = values.min() ?? 1
        let greatest = max(values.max() ?? 10, least * 1.5)
        let span = log10(greatest / least)
        isLogarithmic = true
        low = log10(least) - air * span
        high = min(log10(greatest) + air * span, log10(most))
        (self.start, self.end) = (start, end)
    }

    /// Shares from the tenth below the least up to 1: the upper end, where curves differ, gets the room.
    init(shares values: [Double], from start: Double, to end: Double) {
        isLogarithmic = false
        low = min(max((((values.min() ?? 0) - 0.01) * 10).rounded(.down) / 10, 0), 0.9)
        high = max(1, values.max() ?? 1)
        (self.start, self.end) = (start, end)
    }

    /// The pixel of a value.
    func place(_ value: Double) -> Double {
        let position = isLogarithmic ? log10(value) : value
        return start + (position - low) / (high - low) * (end - start)
    }

    /// Ticks whose names are at least `room` pixels apart.
    func ticks(room: Double) -> [Tick] { isLogarithmic ? logarithmicTicks(room: room) : shareTicks() }

    private func shareTicks() -> [Tick] {
        let span = high - low
        let step = span > 0.55 ? 0.1 : span > 0.25 ? 0.05 : 0.02
        return (0...Int((span / step + 0.001).rounded(.down))).map { index in
            let value = low + Double(index) * step
            return Tick(value: value, name: String(format: "%.2f", value))
        }
    }

    private func logarithmicTicks(room: Double) -> [Tick] {
        let steps = Array(Int(low.rounded(.down))...Int(high.rounded(.up)))
        func values(_ digits: [Double]) -> [Double] {
            steps.flatMap { step in digits.map { $0 * pow(10, Double(step)) } }
                .filter { log10($0) >= low - 1e-9 && log10($0) <= high + 1e-9 }
        }
        func isRoomy(_ values: [Double]) -> Bool {
            zip(values, values.dropFirst()).allSatisfy { abs(place($0) - place($1)) >= room }
        }
        let fine = Array(stride(from: 10.0, to: 100, by: 1)).map { $0 / 10 }
        let whole = Array(stride(from: 1.0, to: 10, by: 1))
        // The finest set of names that has room; tenths of a digit only where less than two names are left.
        let named = [whole, [1, 2, 5], [1, 3], [1]].map(values).first { isRoomy($0) } ?? values([1])
        let chosen = named.count >= 2 ? named : thinned(values(fine), room: room)
        let names = Set(chosen)
        return Set(values(whole)).union(chosen).sorted().map {
            Tick(value: $0, name: names.contains($0) ? Self.name($0) : "")
        }
    }

    private func thinned(_ values: [Double], room: Double) -> [Double] {
        var kept: [Double] = []
        for value in values where kept.last.map({ abs(place(value) - place($0)) >= room }) ?? true {
            kept.append(value)
        }
        return kept
    }

    private static func name(_ value: Double) -> String {
        if value >= 1e6 { return String(format: "%gM", value / 1e6) }
        if value >= 1e3 { return String(format: "%gk", value / 1e3) }
        return String(format: "%g", value)
    }
}
