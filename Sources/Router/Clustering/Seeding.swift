// Where k-means begins: k-means++ with a choice among several draws at each step (Arthur and Vassilvitskii
// 2007, section 7), on a part of the rows.

import Glibc
import Vectors

extension KMeans {
    /// `wanted` rows as first means (f32).
    func seeds(_ rows: VectorMatrix, _ wanted: Int) -> VectorMatrix {
        var random = SeededRandom(seed: seed, stream: 2)
        if wanted >= rows.count { return rows.converted(to: .f32).gather(0..<rows.count) }
        let chosen = random.sample(max(wanted * seedingRows, min(rows.count, 1024)), below: rows.count)
        let part = chosen.count == rows.count ? rows : rows.gather(chosen)
        let draws = 2 + Int(log(Double(wanted)) / 2)
        return part.gather(plusPlus(part, wanted, draws: draws, random: &random)).converted(to: .f32)
    }

    private func plusPlus(
        _ rows: VectorMatrix, _ wanted: Int, draws: Int, random: inout SeededRandom
    ) -> [UInt32] {
        let count = rows.count
        let blockSize = 4096
        let blocks = (count + blockSize - 1) / blockSize
        let distance = Distance(metric: .l2, elementType: rows.elementType)
        let memory = UnsafeMutablePointer<Float>.allocate(capacity: count * (draws + 1))
        defer { memory.deallocate() }
        nonisolated(unsafe) let least = memory
        nonisolated(unsafe) let offered = memory + count
        let sumMemory = UnsafeMutablePointer<Double>.allocate(capacity: blocks * draws)
        defer { sumMemory.deallocate() }
        nonisolated(unsafe) let sums = sumMemory
        // A thread costs more than a few thousand distances.
        let threads = count * draws < 1 << 15 ? 1 : threads

        var seeds = [UInt32(random.below(count))]
        distance.rows(
            rows.row(Int(seeds[0])), rows.bytes, count: count, dimension: rows.dimension, into: least)
        var blockSums = (0..<blocks).map { block in
            Self.sum(least, block * blockSize..<min(count, (block + 1) * blockSize))
        }
        while seeds.count < wanted {
            let total = blockSums.reduce(0, +)
            let candidates = (0..<draws).map { _ in
                Self.draw(least, count, blockSums, blockSize, random.uniform() * total, &random)
            }
            Workers.forEach(count: blocks, threads: threads) { block in
                let range = block * blockSize..<min(count, (block + 1) * blockSize)
                for draw in 0..<draws {
                    let target = offered + draw * count + range.lowerBound
                    distance.rows(
                        rows.row(candidates[draw]), rows.row(range.lowerBound), count: range.count,
                        dimension: rows.dimension, into: target)
                    var sum: Double = 0
                    for index in 0..<range.count {
                        let value = min(target[index], least[range.lowerBound + index])
                        target[index] = value
                        sum += Double(value)
                    }
                    sums[draw * blocks + block] = sum
                }
            }
            var best = 0
            var bestSum = Double.infinity
            for draw in 0..<draws {
                let sum = (0..<blocks).reduce(0.0) { $0 + sums[draw * blocks + $1] }
                if sum < bestSum {
                    best = draw
                    bestSum = sum
                }
            }
            seeds.append(UInt32(candidates[best]))
            least.update(from: offered + best * count, count: count)
            for block in 0..<blocks { blockSums[block] = sums[best * blocks + block] }
        }
        return seeds
    }

    private static func sum(_ values: UnsafeMutablePointer<Float>, _ range: Range<Int>) -> Double {
        range.reduce(0.0) { $0 + Double(values[$1]) }
    }

    /// The row at which the running sum of distances passes `mark`; any row where all distances are zero.
    private static func draw(
        _ values: UnsafeMutablePointer<Float>, _ count: Int, _ blockSums: [Double], _ blockSize: Int,
        _ mark: Double, _ random: inout SeededRandom
    ) -> Int {
        var rest = mark
        for (block, sum) in blockSums.enumerated() {
            if rest >= sum {
                rest -= sum
                continue
            }
            for index in block * blockSize..<min(count, (block + 1) * blockSize) {
                rest -= Double(values[index])
                if rest < 0 { return index }
            }
        }
        return random.below(count)
    }
}
