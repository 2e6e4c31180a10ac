// What learning costs on this machine, measured with small pieces of the real thing: a batch of the real training, real
// sub-clusters of a partition's size, real reads of a segment's size. Everything else is counted in distances.

import Index
import Learn
import Router
import Storage
import Vectors

/// What this machine does in a second when a router is learned, all threads together.
public struct LearningRates: Sendable {
    /// Query and record pairs compared in a sweep.
    public var comparisons: Double
    /// Bytes read in order, and in reads of a segment's size at random places.
    public var bytesSwept: Double
    public var bytesAsked: Double
    /// Partitions divided into sub-clusters; nil where none are.
    public var divided: Double?
    /// Pairs of a training step forwards and backwards, and forwards alone; nil where nothing is trained.
    public var trained: (forwardsAndBackwards: Double, forwards: Double)?
    /// Rows of a posterior fitted, by one thread.
    public var fitted: Double
    /// Candidates that a posterior is asked for, and records compared with one query after the other: all threads
    /// together.
    public var weighed: Double
    public var scanned: Double
    /// Parameters stepped by Adam.
    public var stepped: Double?

    private static let nanoseconds: UInt64 = 150_000_000
    private static let sweptByteCount = 1 << 20
    /// Prototypes of the piece that a training is timed on, at most: what all of them take is in proportion.
    private static let prototypeMaximum = 16_384
    private static let batch = 2048

    static func measure(_ work: LearningWork) throws -> LearningRates {
        let builder = work.builder
        let base = builder.base
        let rows = min(8192, base.count)
        let sample = builder.space.rows(
            from: try base.gather((0..<rows).map { $0 * base.count / rows }))
        let read = try reading(work)
        return LearningRates(
            comparisons: comparing(sample, threads: work.threads), bytesSwept: read.swept,
            bytesAsked: read.asked, divided: dividing(work, sample),
            trained: training(work, sample), fitted: fitting(), weighed: weighing(threads: work.threads),
            scanned: scanning(sample, threads: work.threads),
            stepped: work.isTrained ? stepping(threads: work.threads) : nil)
    }

    private static func rate(each: Double, _ body: () -> Void) -> Double {
        MachineRates.rate(each: each, nanoseconds: nanoseconds, body)
    }

    /// Tiles as a sweep takes them: 128 queries against 512 records.
    private static func comparing(_ sample: VectorMatrix, threads: Int) -> Double {
        let distance = Distance(metric: .l2, elementType: sample.elementType)
        let (queries, records) = (min(128, sample.count), min(512, sample.count))
        return rate(each: Double(queries * records * threads * 8)) {
            Workers.forEach(count: threads, threads: threads) { _ in
                let tile = UnsafeMutablePointer<Float>.allocate(capacity: queries * records)
                defer { tile.deallocate() }
                for _ in 0..<8 {
                    distance.block(
                        sample.bytes, queries: queries, sample.bytes, count: records,
                        dimension: sample.dimension, into: tile, outStride: records)
                }
            }
        }
    }

    /// The base stands in for the segments that are not there yet; one too small for it is read at a common rate.
    private static func reading(_ work: LearningWork) throws -> (swept: Double, asked: Double) {
        let each = (work.segmentByteCount + 4095) / 4096 * 4096
        let device = try Devices.open(path: work.builder.base.path)
        func rate(_ byteCount: Int, seconds: Double) throws -> Double {
            let common = DeviceModel.common.microseconds(byteCount: byteCount)
            let count = max(16, Int(seconds * 1e6 / Double(common)))
            guard device.byteCount >= UInt64(byteCount * 16) else {
                return Double(byteCount) / Double(common) * 1e6
            }
            let took = try DeviceModel.time(on: device, byteCount: byteCount, count: count, seed: 1)
            return Double(byteCount) / Double(took) * 1e6
        }
        return (try rate(sweptByteCount, seconds: 0.2), try rate(min(each, sweptByteCount), seconds: 0.2))
    }

    private static func dividing(_ work: LearningWork, _ sample: VectorMatrix) -> Double? {
        guard let wanted = work.prototypesEach, wanted < work.recordsEach else { return nil }
        let size = min(sample.count, max(1, Int(work.recordsEach)))
        let parts = max(1, min(work.threads * 2, sample.count / size))
        return rate(each: Double(parts) * Double(size) / work.recordsEach) {
            Workers.forEach(count: parts, threads: work.threads) { part in
                _ = SubClusterPart(
                    rows: sample.gather(part * size..<(part + 1) * size),
                    wanted: max(1, min(size, Int(wanted))), seed: UInt64(part))
            }
        }
    }

    private static func training(_ work: LearningWork, _ sample: VectorMatrix) -> (Double, Double)? {
        guard work.isTrained else { return nil }
        let parameters = work.training.predictor
        let each = max(1, Int(work.prototypesEach ?? 1))
        let partitions = max(2, min(work.partitions, prototypeMaximum / each))
        let centroids = repeated(sample, count: partitions)
        let clusters =
            work.prototypesEach == nil
            ? nil
            : SubClusters(
                starts: (0...partitions).map { UInt32($0 * each) },
                centers: repeated(sample, count: partitions * each),
                counts: [Float](repeating: 1, count: partitions * each),
                spreads: [Float](repeating: 0, count: partitions * each))
        let index = CentroidIndex(centroids: centroids, beta: 1e-4, threads: work.threads)
        let queries = sample.gather(0..<min(sample.count, batch))
        let homes = Homes((0..<queries.count).map { UInt32($0 % partitions) })
        var options = parameters.training
        options.batchSize = queries.count
        let pairs = TrainingPairs(
            queries: queries,
            neighbours: (0..<queries.count * options.targets).map { UInt32($0 % queries.count) },
            neighbourCount: options.targets, heldOutCount: 0)
        let trainer = PredictorTrainer(
            model: TrainablePredictor(
                form: parameters.form, centroids: index, candidateCount: parameters.trainingCandidates,
                beta: 1e-4, subClusters: clusters, sharesBeta: parameters.codeByteCount != nil,
                inputs: queries, seed: 1), pairs: pairs, homes: homes, options: options)
        let chosen = Array(0..<UInt32(queries.count))[...]
        let count = Double(queries.count)
        return (
            rate(each: count) { _ = trainer.gradient(of: chosen, noiseSeed: nil) },
            rate(each: count) { _ = trainer.loss(of: chosen) }
        )
    }

    private static func fitting() -> Double {
        let rows = posteriorRows()
        return rate(each: Double(batch)) { _ = PosteriorModel.fit(rows, seed: 1) }
    }

    /// As later rounds ask, for so many candidates of a query.
    private static func weighing(threads: Int) -> Double {
        let model = PosteriorModel.fit(posteriorRows(), epochs: 1, seed: 1)
        let (state, depth, rounds) = (posteriorState, LaterRounds.candidateDepth, 64)
        let candidates = (0..<depth).map { posteriorCandidate($0) }
        return rate(each: Double(depth * rounds * threads)) {
            Workers.forEach(count: threads, threads: threads) { _ in
                let scratch = PosteriorModel.Scratch(model: model, capacity: depth)
                var result: [Float] = []
                for _ in 0..<rounds {
                    model.logProbabilities(state, candidates, scratch: scratch, into: &result)
                }
            }
        }
    }

    /// As a search scans what it has read: every thread its own query, and every page checked.
    private static func scanning(_ sample: VectorMatrix, threads: Int) -> Double {
        let distance = Distance(metric: .l2, elementType: sample.elementType)
        return rate(each: Double(sample.count * threads)) {
            Workers.forEach(count: threads, threads: threads) { thread in
                let row = UnsafeMutablePointer<Float>.allocate(capacity: sample.count)
                defer { row.deallocate() }
                _ = Checksum.crc32c(sample.bytes, count: sample.byteCount)
                distance.block(
                    sample.row(thread % sample.count), queries: 1, sample.bytes, count: sample.count,
                    dimension: sample.dimension, into: row, outStride: sample.count)
            }
        }
    }

    private static let posteriorState = PosteriorState(
        best: 1, tenth: 2, massRead: 0.5, readCount: 1, leastSoft: 1)

    private static func posteriorCandidate(_ row: Int) -> PosteriorCandidate {
        let value = Float(row % 64) / 64
        return PosteriorCandidate(
            logProbability: -value, soft: 1 + value, centroidDistance: 1 + value, logRecords: 4)
    }

    private static func posteriorRows() -> PosteriorRows {
        var rows = PosteriorRows(floor: 1)
        for row in 0..<batch {
            rows.append(
                posteriorState, posteriorCandidate(row), label: Float(row % 64) / 64, weight: 1)
        }
        return rows
    }

    private static func repeated(_ rows: VectorMatrix, count: Int) -> VectorMatrix {
        rows.gather((0..<count).map { UInt32($0 % rows.count) })
    }

    private static func stepping(threads: Int) -> Double {
        let tensor = Tensor(name: "piece", count: 1 << 21, rate: 0)
        return rate(each: Double(tensor.count)) { tensor.step(1, schedule: 0, threads: threads) }
    }
}
