// What a build will read, write, hold and take, told before it starts; and the room it needs, compared with what the
// device has.

import Foundation
import Index
import Learn
import Router
import Storage
import Vectors

/// The plan of a build.
public struct BuildForecast: Sendable {
    public struct Stage: Sendable {
        public var name: String
        public var bytesRead: Int
        public var bytesWritten: Int
        /// Memory of the whole process at most; an estimate.
        public var memoryByteCount: Int
        /// nil where nothing was measured to estimate it from.
        public var seconds: Double?
    }

    public var stages: [Stage]
    public var partitions: Int
    /// Buckets of partitions that are written one after the other.
    public var buckets: Int
    /// Records that the sizes are computed for; for closure as many as there can be.
    public var records: Int
    /// Bytes of the finished index.
    public var finalByteCount: Int
    /// Bytes on the disk at the worst moment, the growing index included.
    public var peakByteCount: Int
    /// Of which are gone at the end.
    public var temporaryByteCount: Int { max(0, peakByteCount - finalByteCount) }
    /// Memory of the whole process at most; an estimate.
    public var memoryByteCount: Int { stages.map(\.memoryByteCount).max() ?? 0 }
    /// Free bytes on the device.
    public var freeByteCount: Int
    /// What this machine can do, where it was measured.
    public var calibration: MachineRates?
}

extension IndexBuilder {
    /// Plans without building.
    ///
    /// - Parameters:
    ///   - measuring: takes a few seconds to time this machine, for estimates of time.
    ///   - known: what was measured before; then nothing is.
    ///   - copies: what a `BuildWithCopies` does with the partitioned index.
    /// - Throws: as building does for a request that means nothing.
    public func plan(
        measuring: Bool = true, known: MachineRates? = nil, copies: Retraining? = nil
    ) throws -> BuildForecast {
        try prepare()
        let partitions = expectedPartitions
        let records = expectedRecords(most: true)
        let buckets = expectedBuckets(records: records, partitions: partitions)
        let space = space(records: records, partitions: partitions, buckets: buckets)
        let copying = copies.map {
            CopiesWork(
                builder: self, retraining: $0, partitions: partitions, segmentsByteCount: space.segments)
        }
        let learning = parameters.router.map {
            LearningWork(
                builder: self, training: $0, partitions: partitions, records: records,
                segmentsByteCount: space.segments)
        }
        let isMeasured = measuring && known == nil
        var calibration =
            isMeasured ? try MachineRates.measure(builder: self, partitions: partitions) : known
        if isMeasured, let work = learning ?? copying?.learning {
            calibration?.learning = try LearningRates.measure(work)
        }
        let peaks = memory.peaks(
            partitions: partitions, heads: parameters.headShare != nil, buckets: buckets,
            bucketByteCount: bucketByteCount(records: records, partitions: partitions))
        let spread = buckets > 1 ? space.spill : 0
        let base = Int(base.fileByteCount)
        let sampled =
            parameters.headShare == nil ? memory.sampleCount(partitions: partitions) : self.base.count
        let moved: [String: (read: Int, written: Int)] = [
            "partition": (min(base, sampled * self.base.rowByteCount), space.router),
            "assign": (base + space.router, space.list),
            "group": (base + space.list, spread),
            "write": (spread, space.segments + 2 * space.table),
        ]
        let written =
            peaks.map { stage, memory in
                let bytes = moved[stage] ?? (0, 0)
                return BuildForecast.Stage(
                    name: stage, bytesRead: bytes.read, bytesWritten: bytes.written,
                    memoryByteCount: memory,
                    seconds: calibration.map {
                        $0.seconds(
                            stage: stage, builder: self, partitions: partitions, records: records,
                            read: bytes.read, written: bytes.written)
                    })
            }
        let after = following(copying, learning: learning, space: space, calibration)
        return BuildForecast(
            stages: written + after.stages,
            partitions: partitions, buckets: buckets, records: max(records, copying?.records ?? 0),
            finalByteCount: after.final, peakByteCount: after.peak,
            freeByteCount: Int(clamping: try Directory.freeByteCount(at: directory)),
            calibration: calibration)
    }

    /// What follows the writing of the segments: a router that is learned, or copies that are planned on the
    /// partitioned index, the index written again with them, and its router.
    private func following(
        _ copying: CopiesWork?, learning: LearningWork?, space: Space, _ calibration: MachineRates?
    ) -> (stages: [BuildForecast.Stage], final: Int, peak: Int) {
        guard let copying else {
            let router = learning?.routerByteCount ?? 0
            return (
                learning?.stages(calibration) ?? [], space.final + router,
                max(space.peak, learnedPeak(learning, space: space))
            )
        }
        let again = again(copying, records: copying.records, space: space)
        let after = copiedSpace(copying, again: again, space: space)
        return (
            copying.stages(rewritten: again.segmentsByteCount, calibration)
                + (copying.learnsAgain ? again.stages(calibration) : []),
            after.final, max(space.peak, after.peak)
        )
    }

    /// Learning on the index with its copies.
    private func again(_ copying: CopiesWork, records: Int, space: Space) -> LearningWork {
        let whole = self.space(records: records, partitions: copying.partitions, buckets: 1)
        return LearningWork(
            builder: self, training: copying.retraining.training, partitions: copying.partitions,
            records: records,
            // Free places take copies without a page more.
            segmentsByteCount: copying.retraining.copyRule == .slots ? space.segments : whole.segments)
    }

    /// Bytes on the disk while a router is learned: the index as it will be, the partitioning and the table that the build
    /// keeps beside it, and what a run that follows a kill goes on from.
    private func learnedPeak(_ learning: LearningWork?, space: Space) -> Int {
        learning.map {
            space.final + $0.routerByteCount + space.router + space.table + $0.checkpointByteCount
        } ?? 0
    }

    /// Bytes of the index with its copies, and on the disk at the worst moment: the partitioned index stays until the one
    /// with copies stands, and so does what was learned on it.
    private func copiedSpace(_ copying: CopiesWork, again: LearningWork, space: Space) -> (
        final: Int, peak: Int
    ) {
        let router = copying.learnsAgain ? again.routerByteCount : 0
        let final = again.segmentsByteCount + space.table + space.router + router
        let incoming = max(0, again.records - base.count) * (base.rowByteCount + 16)
        let first = copying.retraining.copyRule.name.needsQueries ? copying.learning.checkpointByteCount : 0
        let second = copying.learnsAgain ? again.checkpointByteCount : 0
        return (final, space.final + final + first + max(incoming, second))
    }

    /// Refuses to start, or to go on, where the device has too little room: for the index and what it is made of, the
    /// router that is learned and, in a planned build, the index written again (copies count once they are planned).
    ///
    /// - Parameter counts: records of each partition, once they are known; before that the least that there can be.
    func requireSpace(_ job: BuildJob, counts: [Int]?) throws {
        let partitions = counts?.count ?? expectedPartitions
        let records = counts?.reduce(0, +) ?? expectedRecords(most: false)
        let buckets = expectedBuckets(records: records, partitions: partitions)
        let space = space(records: records, partitions: partitions, buckets: buckets)
        let after = laterPeak(records: records, partitions: partitions, space: space)
        let needed: UInt64
        if buckets > 1 && job.position(.group) == base.count {
            // A bucket goes when its segments stand; what follows has their room too.
            needed = UInt64(
                max(space.segments / buckets + 2 * space.table + space.router, after - space.spill))
        } else {
            // What an earlier run has written needs no room any more.
            let peak = UInt64(max(space.peak, after))
            needed = peak - min(peak, job.byteCount)
        }
        let free = try Directory.freeByteCount(at: job.target.workPath)
        guard free < needed else { return }
        throw StorageError(
            .noSpace, path: directory,
            detail: "there is too little free space for the index and what it is made of",
            expected: "\(needed) bytes free", found: "\(free)",
            advice: "free space, or build on another device", remedy: .forecast)
    }

    /// Bytes on the disk at the worst moment after the segments are written, at least.
    private func laterPeak(records: Int, partitions: Int, space: Space) -> Int {
        if let copies {
            let work = CopiesWork(
                builder: self, retraining: copies, partitions: partitions, segmentsByteCount: space.segments)
            return copiedSpace(work, again: again(work, records: records, space: space), space: space).peak
        }
        let learning = parameters.router.map {
            LearningWork(
                builder: self, training: $0, partitions: partitions, records: records,
                segmentsByteCount: space.segments)
        }
        return learnedPeak(learning, space: space)
    }

    private var expectedPartitions: Int {
        parameters.headShare.map { max(1, Int($0 * Double(base.count))) }
            ?? partitionsWanted * (parameters.subSegments ?? 1)
    }

    /// Records of all segments; under closure at most, or at least.
    private func expectedRecords(most: Bool) -> Int {
        let vectors = base.count - (parameters.headShare == nil ? 0 : expectedPartitions)
        switch parameters.copyRule {
        case .soar: return vectors * min(2, expectedPartitions)
        case .closure(let replicas, _): return vectors * (most ? min(replicas, expectedPartitions) : 1)
        default: return vectors
        }
    }

    private func bucketByteCount(records: Int, partitions: Int) -> Int {
        min(
            memory.bucketByteCount(partitions: partitions),
            Bucket.byteCount(records: records, rowByteCount: base.rowByteCount))
    }

    private func expectedBuckets(records: Int, partitions: Int) -> Int {
        let all = Bucket.byteCount(records: records, rowByteCount: base.rowByteCount)
        let most = memory.bucketByteCount(partitions: partitions)
        // Buckets end with whole partitions: none is quite full.
        return all <= most ? 1 : (all + all / max(1, partitions) + most - 1) / most + all / most / 16
    }

    private typealias Space = (
        segments: Int, table: Int, router: Int, list: Int, spill: Int, final: Int, peak: Int
    )

    private func space(records: Int, partitions: Int, buckets: Int) -> Space {
        guard let layout = try? layout() else { return (0, 0, 0, 0, 0, 0, 0) }
        // The last unit of a partition is half full in the mean.
        let each = Double(records) / Double(partitions) / Double(layout.recordsPerUnit) + 0.5
        let segments = Int(Double(partitions) * max(1, each)) * layout.unitByteCount
        let table = partitions * SegmentEntry.byteCount
        let router =
            partitions * base.dimension * (parameters.metric.isSpherical ? 4 : base.elementType.byteCount)
        let list = base.count * 5 + records * 8
        let spill = buckets > 1 ? records * (base.rowByteCount + 16) : 0
        let kept = 2 * router + 2 * table + partitions * 8
        let peak =
            kept
            + (buckets > 1
                // A bucket is removed once its segments are written.
                ? max(list + spill, max(spill + segments / buckets, segments)) : list + segments)
        return (segments, table, router, list, spill, segments + table + router, peak)
    }
}
