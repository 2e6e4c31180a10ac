// k-means: partitions as cells around means. Seeded on a part of the rows, Lloyd's iteration on all of
// them, two levels when partitions are many, empty partitions refilled, large ones split on request.
// Means are kept as floats; rows are compared with the means as the routing element type holds them, by
// integer kernels where the base is of bytes.

import Glibc
import Synchronization
import Vectors

/// The parameters of one k-means.
public struct KMeans: Sendable {
    /// Partitions wanted.
    public var partitions: Int
    public var seed: UInt64
    public var threads: Int
    /// Lloyd iterations at most, over a part of the rows.
    public var iterations = 20
    /// Rows a partition in that part.
    public var sampleRows = 256
    /// Iteration ends when it lowers the summed distance by less than this share.
    public var tolerance = 1e-4
    /// Up to this many partitions there is one level.
    public var flatLimit = 2048
    /// Iterations after that, over all rows and all partitions; nil: from 4 to 10, as many as cost about
    /// `refinementDistances` distances.
    public var refinements: Int?
    static let refinementDistances = 25e9
    /// Rows a partition that seeding looks at.
    public var seedingRows = 16
    /// No partition of the training rows may hold more; what does is split, and more partitions come out.
    public var capRecords: Int?
    /// Told how much is done of how much, in rows compared with all centroids. Called from any thread.
    public var progress: (@Sendable (_ done: Int, _ total: Int) -> Void)?

    public init(partitions: Int, seed: UInt64, threads: Int) {
        precondition(partitions > 0)
        self.partitions = partitions
        self.seed = seed
        self.threads = max(1, threads)
    }

    /// What came out.
    public struct Result: Sendable {
        /// Partition centroids in the element type of the rows. As many as were asked for, unless there
        /// were fewer rows than that (then as many as rows) or a cap made more.
        public let centroids: VectorMatrix
        /// Sum of squared distances at the last assignment, a row.
        public let meanDistance: Double
        /// Iterations over all rows that were made.
        public let iterations: Int
        /// The largest partition of the training rows at the last assignment.
        public let largest: Int
    }

    /// Trains on `rows` (a sample, or all of them) in routing space. The result depends on the rows, the
    /// seed and the parameters, not on the number of threads.
    public func train(_ rows: VectorMatrix) -> Result {
        precondition(rows.count > 0)
        let wanted = min(partitions, rows.count)
        let rounds = refinementCount(rows: rows.count)
        let isFlat = wanted <= flatLimit
        // A row of a group is compared with the means of that group alone.
        let first =
            iterations * (isFlat ? min(rows.count, wanted * sampleRows) : rows.count / groupCount(wanted))
        let meter = Meter(total: first + rounds * rows.count, report: progress)
        let means = isFlat ? oneLevel(rows, wanted, meter) : twoLevels(rows, wanted, meter)
        meter.reach(first)
        var lloyd = Lloyd(rows: rows, means: means, threads: threads)
        lloyd.run(iterations: rounds, tolerance: tolerance) { meter.add(rows.count) }
        meter.reach(meter.total)
        if let capRecords { split(&lloyd, cap: max(1, capRecords)) }
        return Result(
            centroids: lloyd.centroids, meanDistance: lloyd.meanDistance, iterations: lloyd.iterations,
            largest: lloyd.largest)
    }

    /// Iterations over all of so many rows.
    public func refinementCount(rows: Int) -> Int {
        let affordable = Int(Self.refinementDistances / (Double(rows) * Double(min(partitions, rows))))
        return max(1, refinements ?? max(4, min(10, affordable)))
    }

    fileprivate func groupCount(_ wanted: Int) -> Int {
        max(2, min(flatLimit, Int(Double(wanted).squareRoot())))
    }

    private func oneLevel(_ rows: VectorMatrix, _ wanted: Int, _ meter: Meter) -> VectorMatrix {
        var random = SeededRandom(seed: seed, stream: 3)
        let sampled = random.sample(wanted * sampleRows, below: rows.count)
        let part = sampled.count == rows.count ? rows : rows.gather(sampled)
        var lloyd = Lloyd(rows: part, means: seeds(part, wanted), threads: threads)
        lloyd.run(iterations: iterations, tolerance: tolerance) { meter.add(part.count) }
        return lloyd.means
    }

    /// Two levels: sqrt(wanted) groups, each divided into a number of partitions in proportion to its rows.
    private func twoLevels(_ rows: VectorMatrix, _ wanted: Int, _ meter: Meter) -> VectorMatrix {
        let groupCount = groupCount(wanted)
        var random = SeededRandom(seed: seed, stream: 1)
        let sampled = random.sample(groupCount * 256, below: rows.count)
        var top = KMeans(partitions: groupCount, seed: seed, threads: threads)
        top.iterations = iterations
        let groups = top.train(rows.gather(sampled)).centroids
        let home = NearestCentroids(scanning: groups).assign(rows, threads: threads).partitions
        let order = CountingOrder(home, partitionCount: groups.count)
        let sizes = (0..<groups.count).map { order.size($0) }
        let shares = Self.shares(of: wanted, sizes: sizes)
        var starts = [0]
        for share in shares { starts.append(starts.last! + share) }
        let means = VectorMatrix(count: starts.last!, dimension: rows.dimension, elementType: .f32)
        // The largest first, so that no thread is left alone with one.
        let sequence = (0..<groups.count).filter { shares[$0] > 0 }.sorted {
            (sizes[$0] * shares[$0], $1) > (sizes[$1] * shares[$1], $0)
        }
        let firsts = starts
        Workers.forEach(count: sequence.count, threads: threads) { index in
            let group = sequence[index]
            let members = rows.gather(Array(order.rows[order.starts[group]..<order.starts[group + 1]]))
            var sub = KMeans(partitions: shares[group], seed: seed ^ UInt64(group + 1) << 20, threads: 1)
            sub.iterations = iterations
            sub.flatLimit = Int.max
            var lloyd = Lloyd(rows: members, means: sub.seeds(members, shares[group]), threads: 1)
            lloyd.run(iterations: sub.iterations, tolerance: sub.tolerance)
            means.row(firsts[group]).copyMemory(from: lloyd.means.bytes, byteCount: lloyd.means.byteCount)
            meter.add(sub.iterations * members.count / groups.count)
        }
        return means
    }

    /// Divides `total` in proportion to `sizes` by largest remainder; no share exceeds its size, and
    /// what has a size has at least one.
    static func shares(of total: Int, sizes: [Int]) -> [Int] {
        let sum = sizes.reduce(0, +)
        precondition(total <= sum)
        var shares = sizes.map {
            $0 == 0 ? 0 : max(1, min($0, Int(Double(total) * Double($0) / Double(sum))))
        }
        var missing = total - shares.reduce(0, +)
        // Adds where a partition would be largest, takes where it would stay smallest.
        while missing != 0 {
            var chosen = -1
            for index in sizes.indices {
                if missing > 0 {
                    guard shares[index] < sizes[index] else { continue }
                    if chosen < 0 || sizes[index] * shares[chosen] > sizes[chosen] * shares[index] {
                        chosen = index
                    }
                } else {
                    guard shares[index] > 1 else { continue }
                    if chosen < 0 || sizes[index] * shares[chosen] < sizes[chosen] * shares[index] {
                        chosen = index
                    }
                }
            }
            if chosen < 0 { break }
            shares[chosen] += missing > 0 ? 1 : -1
            missing += missing > 0 ? -1 : 1
        }
        return shares
    }

    /// Splits partitions over `cap` in two (or more) and assigns anew, until none is over it. Rows that are
    /// all alike cannot be parted by centroids: they stay together, and `largest` says so.
    private func split(_ lloyd: inout Lloyd, cap: Int) {
        for round in 0..<64 {
            lloyd.assign()
            let order = CountingOrder(lloyd.assignment.partitions, partitionCount: lloyd.means.count)
            let over = (0..<lloyd.means.count).filter { order.size($0) > cap }
            if over.isEmpty { return }
            let rows = lloyd.rows
            let current = lloyd.means
            nonisolated(unsafe) var parts = [VectorMatrix?](repeating: nil, count: over.count)
            let lock = Lock()
            Workers.forEach(count: over.count, threads: threads) { index in
                let members = rows.gather(
                    Array(order.rows[order.starts[over[index]]..<order.starts[over[index] + 1]]))
                // A cell is not parted evenly: asking for a little more spares rounds.
                let count = min(members.count, (members.count * 5 / 4 + cap - 1) / cap)
                var sub = KMeans(partitions: max(2, count), seed: seed ^ UInt64(round + 1) << 40, threads: 1)
                sub.iterations = 8
                var part = Lloyd(rows: members, means: sub.seeds(members, sub.partitions), threads: 1)
                part.run(iterations: sub.iterations, tolerance: tolerance)
                if part.meanDistance == 0, part.largest == members.count { return }
                lock.with { parts[index] = part.means }
            }
            var kept = [VectorMatrix?](repeating: nil, count: current.count)
            for (index, partition) in over.enumerated() { kept[partition] = parts[index] }
            let total = kept.reduce(0) { $0 + ($1?.count ?? 1) }
            if total == current.count { return }
            let means = VectorMatrix(count: total, dimension: current.dimension, elementType: .f32)
            var next = 0
            for partition in 0..<current.count {
                let source = kept[partition]
                let count = source?.count ?? 1
                means.row(next).copyMemory(
                    from: source?.bytes ?? current.row(partition), byteCount: count * current.rowByteCount)
                next += count
            }
            lloyd = Lloyd(rows: rows, means: means, threads: threads, iterations: lloyd.iterations)
        }
        lloyd.assign()
    }
}

/// How far a training is. Iterations that converge early leave a gap, which `reach` closes.
private final class Meter: Sendable {
    let total: Int
    private let report: (@Sendable (Int, Int) -> Void)?
    private let done = Mutex(0)

    init(total: Int, report: (@Sendable (Int, Int) -> Void)?) {
        self.total = total
        self.report = report
    }

    func add(_ work: Int) { move { $0 + work } }

    func reach(_ work: Int) { move { max($0, work) } }

    private func move(_ step: (Int) -> Int) {
        guard let report else { return }
        let now = done.withLock { done in
            done = min(step(done), total)
            return done
        }
        report(now, total)
    }
}

extension KMeans {
    /// Distances that a training of so many rows computes at most; an estimate.
    public func distanceCount(rows: Int) -> Double {
        let wanted = min(partitions, rows)
        let rounds = Double(refinementCount(rows: rows))
        let (n, p) = (Double(rows), Double(wanted))
        let each =
            NearestCentroids.looksAtAll(rows: rows, centroids: wanted)
            ? p : NearestCentroids.distancesThroughGroups(centroids: wanted, probes: 8)
        let refining = rounds * n * each
        func seeding(_ count: Double, of rows: Double) -> Double {
            count * min(rows, max(count * Double(seedingRows), 1024)) * (2 + log(max(count, 1)) / 2)
        }
        if wanted <= flatLimit {
            return refining + Double(iterations) * min(n, p * Double(sampleRows)) * p + seeding(p, of: n)
        }
        let groups = Double(groupCount(wanted))
        var top = KMeans(partitions: Int(groups), seed: seed, threads: threads)
        top.iterations = iterations
        return refining + top.distanceCount(rows: min(rows, Int(groups) * 256)) + n * groups
            + Double(iterations) * n * p / groups + groups * seeding(p / groups, of: n / groups)
    }
}

extension NearestCentroids {
    /// Distances that assigning a row computes among so many centroids in groups.
    public static func distancesThroughGroups(centroids: Int, probes: Int) -> Double {
        let groups = Double(CentroidGroups.groupCount(for: centroids))
        return groups + Double(probes) * Double(centroids) / groups
    }
}
