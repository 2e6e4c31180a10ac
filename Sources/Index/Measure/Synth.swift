// Made-up vectors whose recall curves look like those of real ones: clusters in a hierarchy, sizes and spreads
// heavy-tailed, each cluster of few intrinsic dimensions. Row i of a draw depends only on (seed, draw, i), so
// any chunk can be made by any thread, and a longer file begins with the shorter one's rows.
//
// Only +, -, *, / and sqrt are used, which IEEE 754 rounds in one way: the bytes are those of every machine.

import Router
import Storage
import Vectors

/// What synthetic vectors are like.
public struct SynthParameters: Sendable, Equatable {
    public var dimension: Int
    public var elementType: ElementType
    public var seed: UInt64
    /// Clusters of the lowest level.
    public var clusters: Int

    public init(dimension: Int, elementType: ElementType, seed: UInt64, clusters: Int = 512) {
        self.dimension = dimension
        self.elementType = elementType
        self.seed = seed
        self.clusters = clusters
    }

    func validate() throws(IndexError) {
        if !(1...65536).contains(dimension) {
            throw .outOfRange("dimension", allowed: "from 1 to 65536", found: "\(dimension)")
        }
        if !(1...1_048_576).contains(clusters) {
            throw .outOfRange("clusters", allowed: "from 1 to 1048576", found: "\(clusters)")
        }
    }
}

/// A distribution of vectors, drawn from as often as wanted.
///
/// A record is `centre + spread * (frame^T z * t + noise)`: z is Gaussian in the few dimensions of the
/// cluster's own frame, t makes the sum a multivariate Student t. Centres lie around coarser centres in the
/// same way. The figures below were fitted to 128-dimensional SIFT: 100 k vectors of 256 k-means lists, recall@1
/// at nprobe 1, 4, 16 is .49, .80, .97 there.
public final class Synth: Sendable {
    /// Independent draws from one distribution.
    public enum Draw: UInt64, Sendable {
        case base = 1
        case learn = 2
        case query = 3
    }

    public let parameters: SynthParameters

    /// Intrinsic dimensions of a cluster, and of the centres around a coarser centre.
    static let rank = 12
    static let centreRank = 12
    static let coarseCentres = 12
    /// Spread of a cluster and distance of its centre from the coarser one, both in units of the coarse
    /// centres' own spread. Clusters overlap, as real ones do: that is what makes recall costly.
    static let clusterSpread: Float = 5
    static let centreSpread: Float = 1.3
    /// Noise in all dimensions, relative to the cluster's spread.
    static let noise: Float = 0.1
    /// Degrees of freedom of the Student t of records: the smaller, the heavier the tails.
    static let recordFreedom = 20
    static let clusterFreedom = 24

    private let centres: VectorMatrix
    /// `rank` axes a cluster, scaled.
    private let frames: VectorMatrix
    /// Running sums of the clusters' shares.
    private let cumulative: [Double]
    /// What turns a number into its stored value: (x - middle of its dimension) * scale + offset.
    private let middle: [Float]
    private let scale: Float

    /// Draws the clusters. The work grows with `clusters * dimension`, not with the vectors wanted later.
    public init(_ parameters: SynthParameters) throws(IndexError) {
        try parameters.validate()
        self.parameters = parameters
        let dimension = parameters.dimension
        let clusters = parameters.clusters
        let rank = min(Self.rank, dimension)
        let centres = VectorMatrix(count: clusters, dimension: dimension, elementType: .f32)
        let frames = VectorMatrix(count: clusters * rank, dimension: dimension, elementType: .f32)
        Self.drawClusters(parameters, rank: rank, centres: centres, frames: frames)
        self.centres = centres
        self.frames = frames
        cumulative = Self.drawShares(parameters)
        (middle, scale) = Self.fitRange(
            parameters, centres: centres, frames: frames, cumulative: cumulative)
    }

    /// Rows of a draw, made by `threads` threads; the same bytes for any number of them.
    public func rows(_ range: Range<Int>, of draw: Draw, threads: Int) -> VectorMatrix {
        let matrix = VectorMatrix(
            count: range.count, dimension: parameters.dimension, elementType: parameters.elementType)
        let blockRows = 512
        let blocks = (range.count + blockRows - 1) / blockRows
        Workers.forEach(count: blocks, threads: threads) { block in
            let maker = RowMaker(
                parameters: self.parameters, centres: self.centres, frames: self.frames)
            for index in block * blockRows..<min((block + 1) * blockRows, range.count) {
                maker.make(
                    row: range.lowerBound + index, stream: draw.rawValue, cumulative: self.cumulative)
                self.store(maker.values, to: matrix.row(index))
            }
        }
        return matrix
    }

    /// Appends the first `count` rows of a draw to a vector file, in chunks, and completes it.
    public func write(
        _ draw: Draw, count: Int, into writer: VectorFileWriter, threads: Int, progress: JobProgress = .none
    ) throws {
        let chunkRows = max(512, min(65536, (32 << 20) / (parameters.dimension * 4)))
        var start = 0
        while start < count {
            let end = min(start + chunkRows, count)
            try writer.append(rows(start..<end, of: draw, threads: threads))
            start = end
            progress(stage: "synth \(draw)", done: end, total: count)
        }
        try writer.finish()
    }

    private func store(_ values: UnsafeMutablePointer<Float>, to row: UnsafeMutableRawPointer) {
        let dimension = parameters.dimension
        middle.withUnsafeBufferPointer { middle in
            switch parameters.elementType {
            case .f32:
                let out = row.assumingMemoryBound(to: Float.self)
                for j in 0..<dimension { out[j] = (values[j] - middle[j]) * scale }
            case .f16:
                let out = row.assumingMemoryBound(to: Float16.self)
                for j in 0..<dimension { out[j] = Float16((values[j] - middle[j]) * scale) }
            case .u8:
                let out = row.assumingMemoryBound(to: UInt8.self)
                for j in 0..<dimension {
                    out[j] = UInt8(max(0, min(255, ((values[j] - middle[j]) * scale + 128).rounded())))
                }
            case .i8:
                let out = row.assumingMemoryBound(to: Int8.self)
                for j in 0..<dimension {
                    out[j] = Int8(max(-128, min(127, ((values[j] - middle[j]) * scale).rounded())))
                }
            }
        }
    }
}

extension Synth {
    /// Draws coarse centres, cluster centres around them, and every cluster's frame.
    private static func drawClusters(
        _ parameters: SynthParameters, rank: Int, centres: VectorMatrix, frames: VectorMatrix
    ) {
        let dimension = parameters.dimension
        let coarse = min(coarseCentres, parameters.clusters)
        let centreRank = min(centreRank, dimension)
        let tops = VectorMatrix(count: coarse, dimension: dimension, elementType: .f32)
        let topFrames = VectorMatrix(count: coarse * centreRank, dimension: dimension, elementType: .f32)
        var shared = CounterRandom(seed: parameters.seed, stream: 16, row: 0)
        // Dimensions of real vectors differ in variance.
        let dimensionSpread = (0..<dimension).map { _ in shared.spread(freedom: 8) }
        for top in 0..<coarse {
            var random = CounterRandom(seed: parameters.seed, stream: 17, row: UInt64(top))
            let row = tops.floatRow(top)
            for j in 0..<dimension { row[j] = random.gaussian() * dimensionSpread[j] }
            for axis in 0..<centreRank {
                let row = topFrames.floatRow(top * centreRank + axis)
                let length = centreSpread / Float(centreRank).squareRoot()
                for j in 0..<dimension { row[j] = random.gaussian() * length }
            }
        }
        // Axes fall off with the fourth root of their number; together they have the cluster's spread.
        let falls = (0..<rank).map { 1 / Float($0 + 1).squareRoot().squareRoot() }
        let total = falls.reduce(0) { $0 + $1 * $1 }.squareRoot()
        for cluster in 0..<parameters.clusters {
            var random = CounterRandom(seed: parameters.seed, stream: 18, row: UInt64(cluster))
            let centre = centres.floatRow(cluster)
            let top = cluster % coarse
            for j in 0..<dimension { centre[j] = tops.floatRow(top)[j] }
            let reach = random.spread(freedom: clusterFreedom)
            for axis in 0..<centreRank {
                let z = random.gaussian() * reach
                let row = topFrames.floatRow(top * centreRank + axis)
                for j in 0..<dimension { centre[j] += z * row[j] }
            }
            let spread = clusterSpread * random.spread(freedom: clusterFreedom)
            for axis in 0..<rank {
                let row = frames.floatRow(cluster * rank + axis)
                let length = spread * falls[axis] / total
                for j in 0..<dimension { row[j] = random.gaussian() * length }
            }
        }
    }

    /// Sizes after Zipf and Mandelbrot: share of the r-th largest cluster ~ 1 / (r + shift).
    private static func drawShares(_ parameters: SynthParameters) -> [Double] {
        var random = CounterRandom(seed: parameters.seed, stream: 19, row: 0)
        let shift = Double(parameters.clusters) / 16 + 1
        var shares = (0..<parameters.clusters).map { 1 / (Double($0) + shift) }
        // Large clusters must not all lie around the same coarse centre.
        for last in stride(from: shares.count - 1, to: 0, by: -1) {
            shares.swapAt(last, Int(random.next() % UInt64(last + 1)))
        }
        let total = shares.reduce(0, +)
        var sum = 0.0
        return shares.map { share in
            sum += share / total
            return sum
        }
    }

    /// The middle of each dimension, and the scale that takes all but one in 2000 numbers into the range of an
    /// integer element type (floating types are given a spread of about 1).
    private static func fitRange(
        _ parameters: SynthParameters, centres: VectorMatrix, frames: VectorMatrix, cumulative: [Double]
    ) -> ([Float], Float) {
        let dimension = parameters.dimension
        let count = max(256, 262_144 / dimension)
        let maker = RowMaker(parameters: parameters, centres: centres, frames: frames)
        var values: [Float] = []
        values.reserveCapacity(count * dimension)
        for row in 0..<count {
            maker.make(row: row, stream: 20, cumulative: cumulative)
            values.append(contentsOf: UnsafeBufferPointer(start: maker.values, count: dimension))
        }
        var middle = [Float](repeating: 0, count: dimension)
        for index in 0..<values.count { middle[index % dimension] += values[index] }
        for j in 0..<dimension { middle[j] /= Float(count) }
        for index in 0..<values.count {
            values[index] = (values[index] - middle[index % dimension]).magnitude
        }
        values.sort()
        let widest = max(values[values.count - 1 - values.count / 2000], .leastNormalMagnitude)
        // 3.5 is where a Gaussian has one number in 2000 beyond it.
        return (middle, (parameters.elementType.isFloatingPoint ? 3.5 : 127) / widest)
    }
}

/// Makes rows one after another into memory of its own; one a thread.
private final class RowMaker {
    let parameters: SynthParameters
    let centres: VectorMatrix
    let frames: VectorMatrix
    let values: UnsafeMutablePointer<Float>

    init(parameters: SynthParameters, centres: VectorMatrix, frames: VectorMatrix) {
        self.parameters = parameters
        self.centres = centres
        self.frames = frames
        values = .allocate(capacity: parameters.dimension)
        values.initialize(repeating: 0, count: parameters.dimension)
    }

    deinit { values.deallocate() }

    func make(row: Int, stream: UInt64, cumulative: [Double]) {
        var random = CounterRandom(seed: parameters.seed, stream: stream, row: UInt64(row))
        let cluster = Self.firstIndex(in: cumulative, above: random.uniform())
        let dimension = parameters.dimension
        let rank = frames.count / centres.count
        values.update(from: centres.floatRow(cluster), count: dimension)
        let tail = random.tail(freedom: Synth.recordFreedom)
        for axis in 0..<rank {
            let z = random.gaussian() * tail
            let frame = frames.floatRow(cluster * rank + axis)
            for j in 0..<dimension { values[j] += z * frame[j] }
        }
        let level = Synth.noise * Synth.clusterSpread
        for j in 0..<dimension { values[j] += random.roughGaussian() * level }
    }

    private static func firstIndex(in cumulative: [Double], above value: Double) -> Int {
        var low = 0
        var high = cumulative.count - 1
        while low < high {
            let middle = (low + high) / 2
            if cumulative[middle] > value { high = middle } else { low = middle + 1 }
        }
        return low
    }
}

/// splitmix64 (Steele et al. 2014) from a state that is a hash of (seed, stream, row): every row has a sequence
/// of its own, so rows can be made in any order. Gaussians are sums of uniform numbers, which needs no
/// logarithm and so rounds alike everywhere.
struct CounterRandom {
    private var state: UInt64

    init(seed: UInt64, stream: UInt64, row: UInt64) {
        state = Self.mix(Self.mix(Self.mix(seed) &+ stream) &+ row)
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        return Self.mix(state)
    }

    /// From 0 up to but not 1.
    mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }

    /// Sum of four uniform numbers, mean 0 and variance 1: light tails, enough for noise.
    mutating func roughGaussian() -> Float {
        Float(Self.quarterSum(next()) - 131_070) * (1.732_050_8 / 65536)
    }

    /// Sum of twelve uniform numbers, mean 0 and variance 1.
    mutating func gaussian() -> Float {
        let sum = Self.quarterSum(next()) + Self.quarterSum(next()) + Self.quarterSum(next())
        return Float(sum - 393_210) * (1.0 / 65536)
    }

    /// What turns a Gaussian vector into a multivariate Student t.
    mutating func tail(freedom: Int) -> Float { 1 / spread(freedom: freedom) }

    /// Around 1: the root mean square of `freedom` Gaussians.
    mutating func spread(freedom: Int) -> Float {
        var sum: Float = 0
        for _ in 0..<freedom {
            let value = gaussian()
            sum += value * value
        }
        return max((sum / Float(freedom)).squareRoot(), 0.05)
    }

    private static func quarterSum(_ bits: UInt64) -> Int {
        Int(bits & 0xFFFF) + Int(bits >> 16 & 0xFFFF) + Int(bits >> 32 & 0xFFFF) + Int(bits >> 48)
    }

    private static func mix(_ value: UInt64) -> UInt64 {
        var z = value &+ 0x9E37_79B9_7F4A_7C15
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
