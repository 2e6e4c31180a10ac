// How a loss reaches an assignment that it cannot be differentiated through: the word is drawn by the Gumbel-max trick
// from the softmax of negative squared distances over a temperature, and the slope taken as if the word were the softmax's
// mean (straight-through Gumbel-softmax: Jang, Gu, Poole 2017; Yue et al. 2023). Words further than `reach` temperatures
// beyond the nearest have no share worth a logarithm.

import Glibc
import Vectors

/// One sub-space's drawn word with what its slope needs.
struct StraightThrough {
    private static let reach: Float = 7
    /// Quantiles of the Gumbel distribution: one drawn is as good as a logarithm of a logarithm.
    private static let gumbels = (0..<4096).map { Float(-log(-log((Double($0) + 0.5) / 4096))) }
    private let width: Int
    private let distance = Distance(metric: .l2, elementType: .f32)
    private var distances = [Float](repeating: 0, count: ProductQuantiser.wordCount)
    /// Words of some share, and their shares.
    private(set) var near: [Int] = []
    private(set) var shares: [Float] = []

    init(width: Int) { self.width = width }

    /// The nearest word.
    mutating func nearest(to y: UnsafePointer<Float>, words: UnsafePointer<Float>) -> Int {
        distance.rows(y, words, count: distances.count, dimension: width, into: &distances)
        var best = 0
        for word in 1..<distances.count where distances[word] < distances[best] { best = word }
        return best
    }

    /// A word drawn with noise; without a generator the nearest. Shares are of the softmax, with the same noise.
    mutating func draw(
        _ y: UnsafePointer<Float>, words: UnsafePointer<Float>, temperature: Float,
        random: inout SeededRandom?
    ) -> Int {
        let nearest = nearest(to: y, words: words)
        let least = distances[nearest]
        near.removeAll(keepingCapacity: true)
        shares.removeAll(keepingCapacity: true)
        var (chosen, most, bits, held) = (0, -Float.infinity, UInt64(0), 0)
        for word in distances.indices where distances[word] - least < Self.reach * temperature {
            var logit = -(distances[word] - least) / temperature
            if random != nil {
                if held == 0 { (bits, held) = (random?.next() ?? 0, 5) }
                logit += Self.gumbels[Int(bits & 4095)]
                (bits, held) = (bits >> 12, held - 1)
            }
            if logit > most { (chosen, most) = (word, logit) }
            near.append(word)
            shares.append(logit)
        }
        var sum: Float = 0
        for index in shares.indices {
            shares[index] = expf(shares[index] - most)
            sum += shares[index]
        }
        for index in shares.indices { shares[index] /= sum }
        return chosen
    }

    /// Adds the slopes through the shares of what was drawn last, `slope` being that by the word's components; returns
    /// the slope by the logarithm of the temperature.
    func addSlopes(
        _ slope: UnsafePointer<Float>, _ y: UnsafePointer<Float>, words: UnsafePointer<Float>,
        temperature: Float, toY: UnsafeMutablePointer<Float>, toWords: UnsafeMutablePointer<Float>
    ) -> Float {
        guard near.count > 1 else { return 0 }
        func along(_ word: Int) -> Float {
            (0..<width).reduce(Float(0)) { $0 + slope[$1] * words[word * width + $1] }
        }
        var mean: Float = 0
        for (index, word) in near.enumerated() { mean += shares[index] * along(word) }
        var byTemperature: Float = 0
        for (index, word) in near.enumerated() where shares[index] > 1e-6 {
            let logit = shares[index] * (along(word) - mean)
            let factor = 2 * logit / temperature
            for component in 0..<width {
                let off = y[component] - words[word * width + component]
                toY[component] -= factor * off
                toWords[word * width + component] += factor * off
            }
            byTemperature += logit * distances[word] / temperature
        }
        return byTemperature
    }
}
