// Making probabilities mean what they say: factors fitted by held-out likelihood, and the table that shows
// how well they do.

import Glibc

/// Minimisation of a smooth function of one number.
package enum GoldenSection {
    /// The place of the least of `value` between `low` and `high`, by golden section; `value` should have
    /// one valley there.
    package static func minimise(
        from low: Double, to high: Double, steps: Int, _ value: (Double) -> Double
    ) -> Double {
        let ratio = (5.0.squareRoot() - 1) / 2
        var (a, b) = (low, high)
        var (c, d) = (b - ratio * (b - a), a + ratio * (b - a))
        var (atC, atD) = (value(c), value(d))
        for _ in 0..<steps {
            if atC < atD {
                (b, d, atD) = (d, c, atC)
                c = b - ratio * (b - a)
                atC = value(c)
            } else {
                (a, c, atC) = (c, d, atD)
                d = a + ratio * (b - a)
                atD = value(d)
            }
        }
        return (a + b) / 2
    }
}

/// Predicted against observed probabilities in ten bins.
public struct Reliability: Sendable, Codable {
    public struct Bin: Sendable, Codable {
        /// Predictions that fell into the bin.
        public var count = 0
        /// Mean of the predictions.
        public var predicted = 0.0
        /// Share of them that came true.
        public var observed = 0.0
    }
    /// Bin b holds predictions from b/10 up to (b+1)/10.
    public private(set) var bins = [Bin](repeating: Bin(), count: 10)

    public init() {}

    /// Adds one prediction and what happened.
    public mutating func add(probability: Float, happened: Bool) {
        let bin = min(9, max(0, Int(probability * 10)))
        let count = Double(bins[bin].count)
        bins[bin].predicted = (bins[bin].predicted * count + Double(probability)) / (count + 1)
        bins[bin].observed = (bins[bin].observed * count + (happened ? 1 : 0)) / (count + 1)
        bins[bin].count += 1
    }

    /// Expected calibration error: mean distance of predicted and observed, weighted by bin.
    public var error: Double {
        let total = bins.reduce(0) { $0 + $1.count }
        return bins.reduce(0.0) { $0 + Double($1.count) * abs($1.predicted - $1.observed) }
            / Double(max(total, 1))
    }
}
