// A second or two of measuring, from which the time of a build is estimated: how fast rows are compared with centroids,
// how fast records are ordered, how fast the base is read and the disk written.

import Foundation
import Router
import Storage
import Vectors

/// What this machine does in a second, all threads together.
public struct BuildCalibration: Sendable {
    /// Distances between rows of the base.
    public var distances: Double
    /// Records put in order.
    public var ordered: Double
    /// Bytes of the base read; what the page cache holds counts as fast as it comes.
    public var bytesRead: Double
    /// Bytes written and brought to the device.
    public var bytesWritten: Double

    private static let rows = 4096
    private static let nanoseconds: UInt64 = 400_000_000
    private static let writtenByteCount = 256 << 20

    static func measure(builder: IndexBuilder, partitions: Int) throws -> BuildCalibration {
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
        return BuildCalibration(
            distances: distances, ordered: ordered, bytesRead: read,
            bytesWritten: try WriteRate.measure(beside: builder.directory, byteCount: writtenByteCount))
    }

    /// How much of `each` a second `body` does.
    private static func rate(each: Double, _ body: () -> Void) -> Double {
        let start = monotonicNanoseconds()
        var done = 0.0
        repeat {
            body()
            done += each
        } while monotonicNanoseconds() - start < nanoseconds
        return done * 1e9 / Double(monotonicNanoseconds() - start)
    }

    /// The time of a stage.
    func seconds(
        stage: String, builder: IndexBuilder, partitions: Int, records: Int, read: Int, written: Int
    ) -> Double {
        let moving = Double(read) / bytesRead + Double(written) / bytesWritten
        let count = Double(builder.base.count)
        switch stage {
        case "partition":
            if builder.parameters.headShare != nil { return moving + count * 3000 / distances }
            var means = KMeans(
                partitions: partitions, seed: builder.parameters.seed, threads: builder.parameters.threads)
            means.iterations = builder.parameters.iterations
            let sampled = builder.memory.sampleCount(partitions: builder.partitionsWanted)
            return moving + means.distanceCount(rows: sampled) / distances
        case "assign":
            let looked =
                NearestCentroids.looksAtAll(rows: builder.wholeCount, centroids: partitions)
                ? Double(partitions)
                : NearestCentroids.distancesThroughGroups(
                    centroids: partitions, probes: AssignStage.likelyProbes)
            // Lists of candidates cost about half as much again as the nearest alone.
            let share = builder.parameters.duplication == .none ? 1.0 : 1.5
            return moving + count * looked * share / distances
        case "write": return moving + Double(records) / ordered
        default: return moving
        }
    }
}
