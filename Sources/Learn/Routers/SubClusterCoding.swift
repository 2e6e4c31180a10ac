// Coded sub-clusters of an index that stands, by two passes over its segments: one for the codewords, one for the
// codes. What stands in memory is the codes themselves and eight bytes beside each, so that a code of every vector of
// a base larger than memory can be made.

import Glibc
import Index
import Router
import Storage
import Vectors

extension DiskIndex {
    /// Residuals that codewords are trained on.
    private static let residualCount = 65_536

    /// A calibrated router of untrained sub-clusters as codes, about `parameters.prototypes` a partition.
    func codedSubClusters(
        pairs: TrainingPairs, homes: Homes, codeByteCount: Int, parameters: PredictorParameters,
        progress: JobProgress
    ) throws -> (predictor: Predictor, report: TrainingReport) {
        let (threads, seed) = (parameters.training.threads, parameters.training.seed)
        let wanted = subClusterCounts(perPartition: parameters.prototypes)
        var starts: [UInt32] = [0]
        starts.reserveCapacity(wanted.count + 1)
        for count in wanted { starts.append(starts[starts.count - 1] + UInt32(count)) }
        let rows = centroids.centroids()
        let residuals = try self.residuals(
            of: rows, wanted: wanted, seed: seed, threads: threads, progress: progress)
        var coder = PrototypeCoder(
            starts: starts, centroids: rows, residuals: residuals, codeByteCount: codeByteCount, seed: seed,
            threads: threads)
        try forEachSubClusters(
            of: [Bool](repeating: true, count: partitionCount), wanted: wanted, threads: threads,
            stage: "code", progress: progress
        ) { partitions, parts in
            coder.encode(partitions, threads: threads, parts)
        }
        // A partition without records keeps its centroid as its only prototype.
        let empty = (0..<partitionCount).filter { table[$0].recordCount == 0 }
        coder.encode(
            empty, threads: threads,
            Dictionary(uniqueKeysWithValues: empty.map { ($0, SubClusterPart.empty(like: rows, row: $0)) }))
        let (predictor, loss) = coder.calibrated(
            centroids: centroids, pairs: pairs, homes: homes, candidateCount: parameters.candidates,
            targets: parameters.training.targets,
            threads: threads)
        return (predictor, TrainingReport(pairs: pairs.trainingCount, heldOutStart: loss))
    }

    /// Sub-clusters of each partition, in proportion to what it holds.
    private func subClusterCounts(perPartition: Double) -> [Int] {
        let share = perPartition * Double(partitionCount) / Double(max(manifest.records, 1))
        return (0..<partitionCount).map { partition in
            let records = Int(table[partition].recordCount)
            return records == 0 ? 1 : min(records, max(1, Int((Double(records) * share).rounded())))
        }
    }

    /// Residuals of the sub-clusters of partitions drawn until there are enough.
    private func residuals(
        of centroids: VectorMatrix, wanted: [Int], seed: UInt64, threads: Int, progress: JobProgress
    ) throws -> VectorMatrix {
        let mean = max(1, wanted.reduce(0, +) / max(wanted.count, 1))
        var random = SeededRandom(seed: seed, stream: 20)
        var isDrawn = [Bool](repeating: false, count: partitionCount)
        for partition in random.sample(Self.residualCount / mean + 1, below: partitionCount) {
            isDrawn[Int(partition)] = true
        }
        let floats = centroids.converted(to: .f32)
        var found: [VectorMatrix] = []
        try forEachSubClusters(
            of: isDrawn, wanted: wanted, threads: threads, stage: "sample codes", progress: progress
        ) { partitions, parts in
            for partition in partitions {
                guard let part = parts[partition] else { continue }
                found.append(part.centers.residuals(to: floats.floatRow(partition)))
            }
        }
        // Only where all that were drawn are empty: one residual of nothing.
        return VectorMatrix.joined(found)
            ?? VectorMatrix(count: 1, dimension: centroids.dimension, elementType: .f32)
    }

    /// Clusters the records of partitions that have any, some at a time, in file order.
    private func forEachSubClusters(
        of isWanted: [Bool], wanted: [Int], threads: Int, stage: String, progress: JobProgress,
        _ body: ([Int], [Int: SubClusterPart]) -> Void
    ) throws {
        var batch: [(partition: Int, rows: VectorMatrix)] = []
        func finish() {
            guard !batch.isEmpty else { return }
            let slots = ResultSlots<SubClusterPart>(count: batch.count)
            let work = batch
            Workers.forEach(count: work.count, threads: threads) { task in
                slots.set(
                    task,
                    SubClusterPart(
                        rows: work[task].rows, wanted: wanted[work[task].partition],
                        seed: UInt64(work[task].partition)))
            }
            var parts: [Int: SubClusterPart] = [:]
            for (task, item) in batch.enumerated() { parts[item.partition] = slots.take(task) }
            body(batch.map(\.partition), parts)
            progress(stage: stage, done: batch[batch.count - 1].partition + 1, total: partitionCount)
            batch.removeAll(keepingCapacity: true)
        }
        try forEachSegment { partition, segment in
            guard isWanted[partition] else { return }
            batch.append((partition, space.rows(from: records(of: partition, in: segment).vectors)))
            if batch.count >= 32 * threads { finish() }
        }
        finish()
    }
}

extension PrototypeCoder {
    /// Codes sub-clusters: the weight of each is the logarithm of the records it stands for, less half its mean squared
    /// radius times beta.
    package mutating func encode(_ partitions: [Int], threads: Int, _ parts: [Int: SubClusterPart]) {
        encode(
            partitions, threads: threads, centers: { parts[$0]!.centers },
            weight: { partition, index in
                let part = parts[partition]!
                return (logf(max(part.counts[index], 1)), part.spreads[index] / 2)
            })
    }
}
