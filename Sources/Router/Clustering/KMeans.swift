// k-means: partitions as cells around means. Seeded on a part of the rows, Lloyd's iteration on all of
// them, two levels when partitions are many, empty partitions refilled, large ones split on request.
// Means are kept as floats; rows are compared with the means as the routing element type holds them, by
// integer kernels where the base is of bytes.

import Glibc
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
        /// were fewer rows than that (then as many as rows), rows repeat (those that would hold none are left
        /// out) or a cap made more.
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
        train(rows, milestones: Milestones<Never>.none)
    }

    /// The same, from what `milestones` has kept on.
    public func train<Failure: Error>(
        _ rows: VectorMatrix, milestones: Milestones<Failure>
    ) throws(Failure) -> Result {
        try train(rows, milestones, steps: (.part, .all))
    }

    /// The same for one level of two.
    ///
    /// - Parameter steps: what the iterations over a part of the rows and over all of them are kept as.
    func train<Failure: Error>(
        _ rows: VectorMatrix, _ milestones: Milestones<Failure>,
        steps: (part: MilestoneStep, all: MilestoneStep)
    ) throws(Failure) -> Result {
        precondition(rows.count > 0)
        let wanted = min(partitions, rows.count)
        let rounds = refinementCount(rows: rows.count)
        let isFlat = wanted <= flatLimit
        // A row of a group is compared with the means of that group alone.
        let first =
            iterations * (isFlat ? min(rows.count, wanted * sampleRows) : rows.count / groupCount(wanted))
        let meter = Meter(total: first + rounds * rows.count, report: progress)
        let splits = capRecords == nil ? nil : try milestones.last(.split)
        var (lloyd, firstSplit): (Lloyd, Int)
        if let splits, let kept = Lloyd(kept: splits.reader, rows: rows, threads: threads) {
            (lloyd, firstSplit) = (kept, splits.part + 1)
        } else {
            firstSplit = 0
            if let kept = try Lloyd(milestones, steps.all, rows: rows, threads: threads) {
                lloyd = kept
            } else {
                let means =
                    try isFlat
                    ? oneLevel(rows, wanted, meter, milestones, steps.part)
                    : twoLevels(rows, wanted, meter, milestones)
                lloyd = Lloyd(rows: rows, means: means, threads: threads)
            }
            meter.reach(first + lloyd.iterations * rows.count)
            try lloyd.run(iterations: rounds, tolerance: tolerance) { (lloyd) throws(Failure) in
                meter.add(rows.count)
                try milestones.keepWhole(steps.all, part: lloyd.iterations) { lloyd.state }
            }
        }
        meter.reach(meter.total)
        if let capRecords { try split(&lloyd, cap: max(1, capRecords), milestones, from: firstSplit) }
        lloyd.dropEmpty(isAssigned: capRecords != nil)
        return Result(
            centroids: lloyd.centroids, meanDistance: lloyd.meanDistance, iterations: lloyd.iterations,
            largest: lloyd.largest)
    }

    /// Iterations over all of so many rows.
    public func refinementCount(rows: Int) -> Int {
        let affordable = Int(Self.refinementDistances / (Double(rows) * Double(min(partitions, rows))))
        return max(1, refinements ?? max(4, min(10, affordable)))
    }

    func groupCount(_ wanted: Int) -> Int {
        max(2, min(flatLimit, Int(Double(wanted).squareRoot())))
    }

    private func oneLevel<Failure: Error>(
        _ rows: VectorMatrix, _ wanted: Int, _ meter: Meter, _ milestones: Milestones<Failure>,
        _ step: MilestoneStep
    ) throws(Failure) -> VectorMatrix {
        var random = SeededRandom(seed: seed, stream: 3)
        let sampled = random.sample(wanted * sampleRows, below: rows.count)
        let part = sampled.count == rows.count ? rows : rows.gather(sampled)
        var lloyd =
            try Lloyd(milestones, step, rows: part, threads: threads)
            ?? Lloyd(rows: part, means: seeds(part, wanted), threads: threads)
        meter.reach(lloyd.iterations * part.count)
        try lloyd.run(iterations: iterations, tolerance: tolerance) { (lloyd) throws(Failure) in
            meter.add(part.count)
            try milestones.keepWhole(step, part: lloyd.iterations) { lloyd.state }
        }
        return lloyd.means
    }

    /// Splits partitions over `cap` in two (or more) and assigns anew, until none is over it. Rows that are
    /// all alike cannot be parted by centroids: they stay together, and `largest` says so.
    private func split<Failure: Error>(
        _ lloyd: inout Lloyd, cap: Int, _ milestones: Milestones<Failure>, from first: Int
    ) throws(Failure) {
        for round in min(first, 64)..<64 {
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
            let state = lloyd
            try milestones.keepWhole(.split, part: round) { state.state }
        }
        lloyd.assign()
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
