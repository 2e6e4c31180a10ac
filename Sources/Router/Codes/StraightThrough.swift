// How a loss reaches an assignment that it cannot be differentiated through: the word is drawn by the Gumbel-max trick
// from the softmax of negative squared distances over a temperature, and the slope taken as if the word were the softmax's
// mean (straight-through Gumbel-softmax: Jang, Gu, Poole 2017; Yue et al. 2023). Words further than `reach` temperatures
// beyond the nearest have no share worth a logarithm.

import Glibc
import Vectors

/// The drawn words of one sub-space, record by record, with what their slopes need.
package struct StraightThrough {
    private static let reach: Float = 7
    /// Quantiles of the Gumbel distribution: one drawn is as good as a logarithm of a logarithm.
    private static let gumbels = (0..<4096).map { Float(-log(-log((Double($0) + 0.5) / 4096))) }

    /// A word of some share.
    package struct Share {
        package var word: Int
        package var share: Float
        package var distance: Float
    }

    private let width: Int
    private let distance = Distance(metric: .l2, elementType: .f32)
    private var distances = [Float](repeating: 0, count: ProductQuantiser.wordCount)
    private var positions = [UInt32](repeating: 0, count: ProductQuantiser.wordCount)
    /// Of all draws in order; draw i has `starts[i] ..< starts[i + 1]`.
    package private(set) var shares: [Share] = []
    private var starts = [0]

    package init(width: Int) { self.width = width }

    /// Forgets all draws.
    package mutating func clear() {
        shares.removeAll(keepingCapacity: true)
        starts.removeAll(keepingCapacity: true)
        starts.append(0)
    }

    /// The nearest word.
    mutating func nearest(to y: UnsafePointer<Float>, words: UnsafePointer<Float>) -> Int {
        let (distance, width) = (distance, width)
        let least = distances.withUnsafeMutableBufferPointer { distances in
            distance.rows(
                y, words, count: distances.count, dimension: width, into: distances.baseAddress!)
            // Eight at a time: this is asked for every word of every record, and again by each step.
            var least = SIMD8<Float>(repeating: .infinity)
            for lanes in stride(from: 0, to: ProductQuantiser.wordCount, by: 8) {
                least = pointwiseMin(
                    least,
                    UnsafeRawPointer(distances.baseAddress! + lanes).loadUnaligned(as: SIMD8<Float>.self))
            }
            return least.min()
        }
        return select(atMost: least) > 0 ? Int(positions[0]) : 0
    }

    /// Puts the words that are no farther into `positions`, in order; how many.
    private mutating func select(atMost limit: Float) -> Int {
        Distance.selectAtMost(limit, of: distances, count: distances.count, into: &positions)
    }

    /// A word drawn with noise; without a generator the nearest. Shares are of the softmax, with the same noise.
    package mutating func draw(
        _ y: UnsafePointer<Float>, words: UnsafePointer<Float>, temperature: Float,
        random: inout SeededRandom?
    ) -> Int {
        let nearest = nearest(to: y, words: words)
        let least = distances[nearest]
        let (limit, inverse) = (least + Self.reach * temperature, 1 / temperature)
        let first = shares.count
        var (chosen, most, bits, held) = (nearest, -Float.infinity, UInt64(0), 0)
        for place in 0..<select(atMost: limit) {
            let word = Int(positions[place])
            var logit = (least - distances[word]) * inverse
            if random != nil {
                if held == 0 { (bits, held) = (random?.next() ?? 0, 5) }
                logit += Self.gumbels[Int(bits & 4095)]
                (bits, held) = (bits >> 12, held - 1)
            }
            if logit > most { (chosen, most) = (word, logit) }
            shares.append(Share(word: word, share: logit, distance: distances[word]))
        }
        var sum: Float = 0
        for index in first..<shares.count {
            shares[index].share = expf(shares[index].share - most)
            sum += shares[index].share
        }
        for index in first..<shares.count { shares[index].share /= sum }
        starts.append(shares.count)
        return chosen
    }

    /// Adds the slopes through the shares of a draw, `slope` being that by the word's components; returns the slope by the
    /// logarithm of the temperature.
    package func addSlopes(
        of draw: Int, _ slope: UnsafePointer<Float>, _ y: UnsafePointer<Float>,
        words: UnsafePointer<Float>, temperature: Float, toY: UnsafeMutablePointer<Float>,
        toWords: UnsafeMutablePointer<Float>
    ) -> Float {
        let range = starts[draw]..<starts[draw + 1]
        guard range.count > 1 else { return 0 }
        return shares.withUnsafeBufferPointer { shares in
            func along(_ word: Int) -> Float {
                var sum: Float = 0
                for component in 0..<width { sum += slope[component] * words[word * width + component] }
                return sum
            }
            var mean: Float = 0
            for index in range { mean += shares[index].share * along(shares[index].word) }
            var byTemperature: Float = 0
            for index in range where shares[index].share > 1e-4 {
                let word = shares[index].word
                let logit = shares[index].share * (along(word) - mean)
                let factor = 2 * logit / temperature
                for component in 0..<width {
                    let off = factor * (y[component] - words[word * width + component])
                    toY[component] -= off
                    toWords[word * width + component] += off
                }
                byTemperature += logit * shares[index].distance / temperature
            }
            return byTemperature
        }
    }
}
