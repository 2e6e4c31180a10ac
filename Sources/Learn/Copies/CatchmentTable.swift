// How much query mass a copy would win, without counting it vector by vector: there are fewer learn queries
// than it takes to see one vector's catchment, so that counts alone are noise (pilot: worth nothing on new
// queries). What is known of a vector x and a partition p is described by a few numbers: how far x's own
// home is over the threshold when x itself is the query, how far p is, how many pairs near x wanted a copy
// in p, how often x is a neighbour at all. Then all vectors alike in these vote on what a copy wins, counted
// on pairs that described none of them: a table of rates, each pulled towards its coarser parent.

import Glibc
import Index

/// What is known of a candidate copy, as bins.
struct CopyTraits {
    /// Log gain of the best home over lambda, when the vector itself is the query.
    var homeMargin: Float
    /// Log gain of the new partition over lambda.
    var copyMargin: Float
    /// Weight of the describing pairs whose neighbour the vector is, over the mean of all vectors.
    var mass: Float
    /// Weight of those that the copy would newly have covered, in the same unit.
    var hits: Float

    static let marginBins = 14
    static let massBins = 5
    static let hitBins = 6
    static let cellCount = marginBins * marginBins * massBins * hitBins

    private static func marginBin(_ margin: Float) -> Int {
        // From three nats below the threshold to four above, half a nat each.
        min(marginBins - 1, max(0, Int((margin + 3) * 2)))
    }

    private static func bin(_ value: Float, _ edges: [Float]) -> Int {
        edges.reduce(0) { $0 + (value > $1 ? 1 : 0) }
    }

    private static let massEdges: [Float] = [0.05, 0.5, 1.2, 2.5]
    private static let hitEdges: [Float] = [0, 0.1, 0.3, 0.7, 1.5]

    /// Bins from coarse to fine: margins, then mass, then hits.
    var levels: (margins: Int, masses: Int, cell: Int) {
        let margins = Self.marginBin(homeMargin) * Self.marginBins + Self.marginBin(copyMargin)
        let masses = margins * Self.massBins + Self.bin(mass, Self.massEdges)
        return (margins, masses, masses * Self.hitBins + Self.bin(hits, Self.hitEdges))
    }
}

/// Rates by traits.
struct CatchmentTable {
    private struct Sum {
        var candidates = 0.0
        var won = 0.0
        var kept = 0.0
        var covered = 0.0

        mutating func add(won: Float, kept: Float, covered: Float) {
            candidates += 1
            self.won += Double(won)
            self.kept += Double(kept)
            self.covered += Double(covered)
        }
    }
    private var all = Sum()
    private var margins = [Sum](repeating: Sum(), count: CopyTraits.marginBins * CopyTraits.marginBins)
    private var masses = [Sum](
        repeating: Sum(), count: CopyTraits.marginBins * CopyTraits.marginBins * CopyTraits.massBins)
    private var cells = [Sum](repeating: Sum(), count: CopyTraits.cellCount)
    /// Weight by which a parent's rate is believed, in counted events.
    private static let belief = 3.0

    /// Counts what a candidate would have won on pairs that its traits do not know: `won` weight of pairs
    /// missed now and met by the copy, `covered` weight of pairs met now, `kept` the part of them that the
    /// new partition alone would still meet.
    mutating func add(_ traits: CopyTraits, won: Float, kept: Float, covered: Float) {
        let (margin, mass, cell) = traits.levels
        all.add(won: won, kept: kept, covered: covered)
        margins[margin].add(won: won, kept: kept, covered: covered)
        masses[mass].add(won: won, kept: kept, covered: covered)
        cells[cell].add(won: won, kept: kept, covered: covered)
    }

    /// Expected weight that a copy wins.
    func won(_ traits: CopyTraits) -> Double { rate(traits) { $0.won } }

    /// Expected weight that a move wins: what the copy wins less what only the old home would have met.
    func wonByMove(_ traits: CopyTraits) -> Double {
        rate(traits) { $0.won } - rate(traits) { $0.covered - $0.kept }
    }

    private func rate(_ traits: CopyTraits, _ value: (Sum) -> Double) -> Double {
        let (margin, mass, cell) = traits.levels
        var rate = value(all) / max(all.candidates, 1)
        for sum in [margins[margin], masses[mass], cells[cell]] where sum.candidates > 0 {
            // `belief` events at the parent's rate stand for belief / rate candidates.
            rate =
                rate > 0
                ? (value(sum) + Self.belief) / (sum.candidates + Self.belief / rate)
                : value(sum) / sum.candidates
        }
        return rate
    }
}
