// The first stages of a build: a sample, its k-means (or SPANN's heads, or two levels of clusters), and the order in
// which partitions lie in the file.

import Index
import Router
import Storage
import Vectors

extension IndexBuilder {
    struct Partitioning {
        /// In file order.
        var centroids: VectorMatrix
        /// Of the uncalibrated router.
        var beta: Float
        /// Base row of each centroid where centroids are heads.
        var heads: [UInt32]?
        /// Where centroids are those of cells: how they are grouped.
        var cells: CellGroups?
        /// Where partitions are a plan's: its centroids, indexed already.
        var router: CentroidIndex?
    }

    /// - Parameter milestones: keeps what is finished of it.
    func partition(_ milestones: Milestones<any Error>) throws -> Partitioning {
        if let plan = parameters.plan {
            sampled = plan.sampled
            return plan.partitioning
        }
        var centroids: VectorMatrix
        var heads: [UInt32]?
        let beta: Float
        if let share = parameters.headShare {
            let rows = try stage("read") { try readWholeBase(for: "choosing heads") }
            let chosen = try stage("heads") {
                try SpannHeads.select(
                    rows, share: share, seed: parameters.seed, threads: parameters.threads,
                    milestones: milestones, progress: report("heads"))
            }
            heads = chosen
            centroids = rows.gather(chosen)
            beta = CentroidIndex.defaultBeta(meanDistance: meanHomeDistance(rows, centroids: centroids))
        } else {
            let wanted = partitionsWanted
            let sample = try stage("sample") { try readSample(for: wanted) }
            let trained = try stage("partition") {
                var means = KMeans(partitions: wanted, seed: parameters.seed, threads: parameters.threads)
                means.iterations = parameters.iterations
                means.capRecords = recordsMaximum(sampleShare: Double(sample.count) / Double(wholeCount))
                means.progress = report("partition")
                return try means.train(sample, milestones: milestones)
            }
            centroids = trained.centroids
            beta = CentroidIndex.defaultBeta(meanDistance: trained.meanDistance)
            if let cells = parameters.subSegments {
                return try stage("cells") {
                    try divide(
                        sample, into: centroids.gather(Self.walk(centroids, space.distance)), cells: cells,
                        beta: beta, milestones: milestones)
                }
            }
        }
        // Partitions are numbered along a walk, so that near partitions lie near each other on disk.
        let order = stage("order") { Self.walk(centroids, space.distance, progress: report("order")) }
        centroids = centroids.gather(order)
        heads = heads.map { old in order.map { old[Int($0)] } }
        return Partitioning(centroids: centroids, beta: beta, heads: heads)
    }

    /// A receiver of one stage's progress.
    func report(_ stage: String) -> @Sendable (_ done: Int, _ total: Int) -> Void {
        { [progress] done, total in progress(stage: stage, done: done, total: total) }
    }

    private static func walk(
        _ rows: VectorMatrix, _ distance: Distance, progress: ((Int, Int) -> Void)? = nil
    ) -> [UInt32] {
        LocalityOrder.walk(
            rows: rows.bytes, count: rows.count, stride: rows.rowByteCount, distance: distance,
            dimension: rows.dimension, grain: 1, progress: progress)
    }

    /// A second level of clusters within each partition; cells of a partition stand side by side.
    private func divide(
        _ sample: VectorMatrix, into parents: VectorMatrix, cells: Int, beta: Float,
        milestones: Milestones<any Error>
    ) throws -> Partitioning {
        let homes = NearestCentroids(parents, seed: parameters.seed, threads: parameters.threads)
            .assign(sample, threads: parameters.threads).partitions
        var members = [[UInt32]](repeating: [], count: parents.count)
        for (row, parent) in homes.enumerated() { members[Int(parent)].append(UInt32(row)) }
        let slots = ResultSlots<DividedPartition>(count: parents.count)
        let (work, parameters, distance) = (members, parameters, space.distance)
        var (kept, part) = try milestones.dividedPartitions(
            dimension: sample.dimension, elementType: sample.elementType)
        let open = (0..<parents.count).filter { kept[$0] == nil }
        var fresh: [(number: Int, divided: DividedPartition)] = []
        let batch = 64 * parameters.threads
        for first in stride(from: 0, to: open.count, by: batch) {
            let some = open[first..<min(open.count, first + batch)]
            Workers.forEach(count: some.count, threads: parameters.threads) { task in
                let parent = some[some.startIndex + task]
                guard !work[parent].isEmpty else {
                    let own = parents.gather(parent..<parent + 1)
                    slots.set(parent, DividedPartition(centroids: own, spread: 0))
                    return
                }
                let rows = sample.gather(work[parent])
                var means = KMeans(
                    partitions: min(cells, rows.count), seed: parameters.seed &+ UInt64(parent), threads: 1)
                means.iterations = parameters.iterations
                let trained = means.train(rows)
                let order = Self.walk(trained.centroids, distance)
                slots.set(
                    parent,
                    DividedPartition(
                        centroids: trained.centroids.gather(order),
                        spread: trained.meanDistance * Double(rows.count)))
            }
            for parent in some {
                guard let divided = slots.take(parent) else { continue }
                kept[parent] = divided
                fresh.append((parent, divided))
            }
            progress(
                stage: "cells", done: parents.count - open.count + first + some.count, total: parents.count)
            if milestones.isDue() {
                try milestones.keep(fresh, part: part)
                fresh = []
                part += 1
            }
        }
        var parts: [VectorMatrix] = []
        var starts: [UInt32] = [0]
        var spread = 0.0
        for parent in 0..<parents.count {
            guard let part = kept[parent] else { continue }
            parts.append(part.centroids)
            starts.append(starts[starts.count - 1] + UInt32(part.centroids.count))
            spread += part.spread
        }
        return Partitioning(
            centroids: VectorMatrix.joined(parts) ?? parents,
            beta: CentroidIndex.defaultBeta(meanDistance: spread / Double(max(sample.count, 1))), heads: nil,
            cells: CellGroups(
                parents: CentroidIndex(
                    centroids: parents, beta: beta, seed: parameters.seed, threads: parameters.threads),
                starts: starts))
    }

    /// Mean squared distance of a thousand rows to their nearest centroids.
    private func meanHomeDistance(_ rows: VectorMatrix, centroids: VectorMatrix) -> Double {
        let count = min(1000, rows.count)
        let some = rows.gather((0..<count).map { UInt32($0 * rows.count / count) })
        let homes = NearestCentroids(scanning: centroids).assign(some, threads: parameters.threads)
        return homes.distances.reduce(0.0) { $0 + Double($1) } / Double(count)
    }

    /// The cap on records of a partition, scaled to a sample.
    private func recordsMaximum(sampleShare: Double) -> Int? {
        guard let pages = parameters.pagesMaximum,
            let layout = try? layout()
        else { return nil }
        return max(1, Int(Double(layout.recordsMaximum(pages: pages)) * sampleShare))
    }

    private func readWholeBase(for purpose: String) throws -> VectorMatrix {
        let needed =
            base.count * base.dimension
            * (base.elementType.byteCount + (parameters.metric.isSpherical ? 4 : 0))
        guard needed <= parameters.memoryByteCount * 3 / 4 else {
            throw IndexError.memoryTooSmall(
                "\(purpose) holds the whole base in memory: that must be at least \(needed / 3 * 4) bytes",
                given: parameters.memoryByteCount, least: needed / 3 * 4)
        }
        let rows = VectorMatrix(count: base.count, dimension: base.dimension, elementType: base.elementType)
        for first in stride(from: 0, to: base.count, by: 1 << 20) {
            progress(stage: "sample", done: first, total: base.count)
            try readInParallel(
                base, rows: first..<min(base.count, first + 1 << 20), into: rows, at: first,
                threads: parameters.threads)
        }
        progress(stage: "sample", done: base.count, total: base.count)
        try refuseLengths(rows, metric: parameters.metric) { "\(base.path): vector \($0)" }
        return routingRows(ofSample: rows)
    }

    /// A sample spread evenly over the file, in routing space.
    private func readSample(for partitions: Int) throws -> VectorMatrix {
        let count = memory.sampleCount(partitions: partitions)
        sampled = count
        if count == base.count { return try readWholeBase(for: "a sample of everything") }
        var random = SeededRandom(seed: parameters.seed)
        // One row of each stretch of equal length: spread over the file, and read forwards.
        let rows = (0..<count).map { position -> Int in
            let low = position * base.count / count
            let high = (position + 1) * base.count / count
            return low + random.below(high - low)
        }
        let sample = VectorMatrix(count: count, dimension: base.dimension, elementType: base.elementType)
        for first in stride(from: 0, to: count, by: 1 << 16) {
            progress(stage: "sample", done: first, total: count)
            try base.gather(rows[first..<min(count, first + 1 << 16)], into: sample, at: first)
        }
        progress(stage: "sample", done: count, total: count)
        try refuseLengths(sample, metric: parameters.metric) { "\(base.path): vector \(rows[$0])" }
        return routingRows(ofSample: sample)
    }
}
