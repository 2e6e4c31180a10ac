// A second or two of measuring, from which the time of a build is estimated: how fast rows are compared with centroids,
// how fast records are ordered, how fast the base is read and the disk written.

import Foundation
import Index
import Learn
import Router
import Storage
import Vectors

/// What this machine does in a second, all threads together.
public struct MachineRates: Sendable {
    /// Distances between rows of the base.
    public var distances: Double
    /// Records put in order.
    public var ordered: Double
    /// Rows of the base from which heads are chosen; nil where none are.
    public var headed: Double?
    /// Bytes of the base read; what the page cache holds counts as fast as it comes.
    public var bytesRead: Double
    /// Bytes written and brought to the device.
    public var bytesWritten: Double
    /// What learning takes; nil where nothing is learned.
    public var learning: LearningRates?

    private static let rows = 4096
    private static let nanoseconds: UInt64 = 400_000_000
    private static let writtenByteCount = 256 << 20

    static func measure(builder: IndexBuilder, partitions: Int) throws -> MachineRates {
        let base = builder.base
        let rows = min(Self.rows, base.count)
        let sample = builder.space.rows(from: try base.gather((0..<rows).map { $0 * base.count / rows }))
        let threads = builder.parameters.threads
        let centroids = sample.gather(0..<min(rows, max(1, partitions)))
        let search = NearestCentroids(scanning: centroids)
        let distances = rate(each: Double(rows * centroids.count)) {
            _ = search.assign(sample, threads: threads)
        }
        let distance = Distance(metric: .l2, elementType: sample.elementType)
        let ordered = rate(each: Double(rows * threads)) {
            Workers.forEach(count: threads, threads: threads) { _ in
                _ = LocalityOrder.walk(
                    rows: sample.bytes, count: rows, stride: sample.rowByteCount, distance: distance,
                    dimension: sample.dimension, grain: 32)
            }
        }
        let headed = builder.parameters.headShare.map { share in
            rate(each: Double(rows)) {
                _ = SpannHeads.select(sample, share: share, seed: 1, threads: threads)
            }
        }
        let chunk = VectorMatrix(
            count: min(base.count, max(1, (16 << 20) / base.rowByteCount)), dimension: base.dimension,
            elementType: base.elementType)
        var (place, failure) = (0, (any Error)?.none)
        let read = rate(each: Double(chunk.byteCount)) {
            let first = place % (base.count - chunk.count + 1)
            place += max(chunk.count, base.count / 8)
            do {
                try readInParallel(base, rows: first..<first + chunk.count, into: chunk, threads: threads)
            } catch { failure = error }
        }
        if let failure { throw failure }
        return MachineRates(
            distances: distances, ordered: ordered, headed: headed, bytesRead: read,
            bytesWritten: try WriteRate.measure(beside: builder.directory, byteCount: writtenByteCount))
    }

    /// How much of `each` a second `body` does, in the best of three stretches: what others do on the machine for a moment
    /// is no property of it.
    static func rate(
        each: Double, nanoseconds: UInt64 = Self.nanoseconds, _ body: () -> Void
    ) -> Double {
        var best = 0.0
        for _ in 0..<3 {
            let start = monotonicNanoseconds()
            var done = 0.0
            repeat {
                body()
                done += each
            } while monotonicNanoseconds() - start < nanoseconds / 3
            best = max(best, done * 1e9 / Double(monotonicNanoseconds() - start))
        }
        return best
    }

    /// The time of a stage.
    func seconds(
        stage: String, builder: IndexBuilder, partitions: Int, records: Int, read: Int, written: Int
    ) -> Double {
        let moving = Double(read) / bytesRead + Double(written) / bytesWritten
        let count = Double(builder.base.count)
        switch stage {
        case "partition":
            if let headed {
                // The tree is the deeper the more rows there are. Heads are put in order by one thread.
                let depth = log(max(count, 2)) / log(Double(Self.rows))
                return moving + count * max(depth, 1) / headed
                    + Double(partitions * builder.parameters.threads) / ordered
            }
            var means = KMeans(
                partitions: partitions, seed: builder.parameters.seed, threads: builder.parameters.threads)
            means.iterations = builder.parameters.iterations
            let sampled = builder.memory.sampleCount(partitions: builder.partitionsWanted)
            return moving + (means.distanceCount(rows: sampled) + dividing(builder, rows: sampled))
                / distances
        case "assign":
            let looked = Self.distancesEach(rows: builder.wholeCount, centroids: partitions)
            // Lists of candidates cost about half as much again as the nearest alone,
            // and through groups far more: more groups are looked at, and the lists stay long.
            let isExact = NearestCentroids.looksAtAll(rows: builder.wholeCount, centroids: partitions)
            let share = builder.parameters.copyRule == .none ? 1.0 : isExact ? 1.5 : 10
            return moving + count * looked * share / distances
        case "write": return moving + Double(records) / ordered
        default: return moving
        }
    }

    /// Distances that finding the nearest of so many centroids takes each of so many rows.
    static func distancesEach(rows: Int, centroids: Int) -> Double {
        NearestCentroids.looksAtAll(rows: rows, centroids: centroids)
            ? Double(centroids)
            : NearestCentroids.distancesThroughGroups(
                centroids: centroids, probes: AssignStage.likelyProbes)
    }

    /// Distances of a second level of clusters, and of finding which partition each row is in.
    private func dividing(_ builder: IndexBuilder, rows: Int) -> Double {
        guard let cells = builder.parameters.subSegments else { return 0 }
        let parents = builder.partitionsWanted
        var means = KMeans(partitions: cells, seed: 1, threads: 1)
        means.iterations = builder.parameters.iterations
        return Double(rows) * Self.distancesEach(rows: rows, centroids: parents)
            + Double(parents) * means.distanceCount(rows: max(1, rows / parents))
    }
}
