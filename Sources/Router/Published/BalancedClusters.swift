// k-means with a price on size, as SPTAG's trees use it: trained on a thousand rows drawn anew for each
// iteration, a row's distance to a cluster raised by a multiple of the cluster's last size.

import Vectors

/// Divides sets of rows into a few clusters of like size.
struct BalancedClusters: Sendable {
    /// What a division gives.
    struct Parts {
        /// Cluster of each member.
        var labels: [UInt32]
        var sizes: [Int]
        /// The row nearest to each cluster's mean; valid where the cluster is not empty.
        var centres: [UInt32]
    }

    private static let sampleCount = 1000
    private let matrix: VectorMatrix
    private let distance: Distance
    /// The square of the element type's largest number, to which the price of size is relative.
    private let scale: Float

    init(_ matrix: VectorMatrix) {
        self.matrix = matrix
        distance = Distance(metric: .l2, elementType: matrix.elementType)
        switch matrix.elementType {
        case .u8: scale = 255 * 255
        case .i8: scale = 127 * 127
        case .f32, .f16: scale = 1
        }
    }

    /// The price, of seven powers of ten, that divides `members` most evenly.
    func bestBalance(_ members: [UInt32], random: inout SeededRandom, threads: Int) -> Float {
        var best: Float = 100
        var bestDeviation = Float.infinity
        for balance: Float in [0.001, 0.01, 0.1, 1, 10, 100, 1000] {
            let count = min(32, members.count)
            let parts = divide(members, into: count, balance: balance, random: &random, threads: threads)
            let mean = Float(members.count) / Float(count)
            let squares = parts.sizes.reduce(Float(0)) { $0 + (Float($1) - mean) * (Float($1) - mean) }
            let deviation = (squares / Float(count)).squareRoot() / mean
            if deviation < bestDeviation {
                bestDeviation = deviation
                best = balance
            }
        }
        return best
    }

    func divide(
        _ members: [UInt32], into count: Int, balance: Float, random: inout SeededRandom, threads: Int
    ) -> Parts {
        var members = members
        let centres = train(&members, count, balance: balance, random: &random)
        return place(members: members, centres, threads: threads)
    }

    /// One pass over a sample: labels' sums, sizes, farthest members.
    private struct Pass {
        var sizes: [Int]
        var farthest: [Int]
        var farthestDistance: [Float]
        var priced: [Float]
        var total: Float = 0
        var labels: [Int]
    }

    private func pass(_ sample: VectorMatrix, _ centres: VectorMatrix, prices: [Float]) -> Pass {
        let count = centres.count
        var result = Pass(
            sizes: [Int](repeating: 0, count: count), farthest: [Int](repeating: -1, count: count),
            farthestDistance: [Float](repeating: -.infinity, count: count),
            priced: [Float](repeating: 0, count: count), labels: [Int](repeating: 0, count: sample.count))
        withUnsafeTemporaryAllocation(of: Float.self, capacity: sample.count * count) { values in
            distance.block(
                sample.bytes, queries: sample.count, centres.bytes, count: count,
                dimension: sample.dimension, into: values.baseAddress!, outStride: count)
            for row in 0..<sample.count {
                var label = 0
                var least = Float.infinity
                for cluster in 0..<count {
                    let value = values[row * count + cluster] + prices[cluster]
                    if value < least {
                        least = value
                        label = cluster
                    }
                }
                result.labels[row] = label
                result.sizes[label] += 1
                result.priced[label] += least
                result.total += least
                if least > result.farthestDistance[label] {
                    result.farthestDistance[label] = least
                    result.farthest[label] = row
                }
            }
        }
        return result
    }

    private func largest(_ sizes: [Int]) -> Int {
        var largest = 0
        for cluster in sizes.indices where sizes[cluster] > sizes[largest] { largest = cluster }
        return largest
    }

    /// Puts a random part of the members in front.
    private func draw(_ members: inout [UInt32], _ count: Int, _ random: inout SeededRandom) -> VectorMatrix {
        for index in 0..<count { members.swapAt(index, index + random.below(members.count - index)) }
        return matrix.gather(Array(members[0..<count]))
    }

    /// Trained centres, in the rows' element type.
    private func train(
        _ members: inout [UInt32], _ count: Int, balance: Float, random: inout SeededRandom
    ) -> VectorMatrix {
        let sampled = min(Self.sampleCount, members.count)
        var sample = draw(&members, sampled, &random)
        let free = [Float](repeating: 0, count: count)
        var centres = matrix.gather([members[0]])
        var sizes = [Int](repeating: 0, count: count)
        var least = Float.infinity
        var price: Float = 0
        for _ in 0..<3 {
            let tried = matrix.gather((0..<count).map { _ in members[random.below(members.count)] })
            let result = pass(sample, tried, prices: free)
            guard result.total < least || least == .infinity else { continue }
            least = result.total
            centres = tried
            sizes = result.sizes
            let top = largest(sizes)
            let mean = result.priced[top] / Float(max(1, result.sizes[top]))
            price = max(0, (result.farthestDistance[top] - mean) / Float(sampled))
        }
        price = min(price, scale / balance / Float(sampled))
        least = .infinity
        var stale = 0
        for _ in 0..<100 {
            if members.count > sampled { sample = draw(&members, sampled, &random) }
            let current = price
            let result = pass(sample, centres, prices: sizes.map { current * Float($0) })
            sizes = result.sizes
            if result.total < least {
                least = result.total
                stale = 0
            } else {
                stale += 1
            }
            let next = moved(centres, sample, result)
            var shift: Float = 0
            for cluster in 0..<count {
                shift += distance.pair(centres.row(cluster), next.row(cluster), dimension: matrix.dimension)
            }
            if shift < 1e-3 || stale >= 5 { break }
            centres = next
        }
        return centres
    }

    /// The means of a pass; an empty cluster takes the farthest row of the largest.
    private func moved(_ centres: VectorMatrix, _ sample: VectorMatrix, _ pass: Pass) -> VectorMatrix {
        let next = VectorMatrix(
            count: centres.count, dimension: matrix.dimension, elementType: matrix.elementType)
        let top = largest(pass.sizes)
        let sums = centres.indices.map { _ in
            MeanAccumulator(dimension: matrix.dimension, elementType: matrix.elementType)
        }
        for (row, label) in pass.labels.enumerated() { sums[label].add(sample.row(row)) }
        withUnsafeTemporaryAllocation(of: Float.self, capacity: matrix.dimension) { mean in
            for cluster in centres.indices {
                if pass.sizes[cluster] == 0 {
                    let row = sample.row(pass.farthest[top])
                    next.row(cluster).copyMemory(from: row, byteCount: matrix.rowByteCount)
                    continue
                }
                sums[cluster].mean(of: pass.sizes[cluster], into: mean.baseAddress!)
                VectorMatrix.fromFloat(
                    mean.baseAddress!, count: matrix.dimension, matrix.elementType, into: next.row(cluster))
            }
        }
        return next
    }

    /// Moves the centres to the rows nearest to them and gives every member its cluster.
    private func place(members: [UInt32], _ centres: VectorMatrix, threads: Int) -> Parts {
        let ordered = members.sorted()
        let rows = matrix.gather(ordered)
        let near = NearestCentroids(scanning: centres).assign(rows, threads: threads)
        var best = [UInt64](repeating: .max, count: centres.count)
        for (index, label) in near.partitions.enumerated() {
            let key = PackedHeap.pack(near.distances[index], UInt32(index))
            best[Int(label)] = min(best[Int(label)], key)
        }
        let used = best.indices.filter { best[$0] != .max }
        let chosen = used.map { ordered[Int(PackedHeap.number(best[$0]))] }
        let moved = matrix.gather(chosen)
        let final = NearestCentroids(scanning: moved).assign(rows, threads: threads)
        var sizes = final.sizes(partitionCount: chosen.count)
        sizes += [Int](repeating: 0, count: centres.count - chosen.count)
        let padded = chosen + [UInt32](repeating: NearestLists.none, count: centres.count - chosen.count)
        return Parts(labels: final.partitions, sizes: sizes, centres: padded)
    }
}

extension VectorMatrix {
    fileprivate var indices: Range<Int> { 0..<count }
}
