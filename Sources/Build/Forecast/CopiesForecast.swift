// What planning copies on the partitioned index and writing it again with them takes, told before: the terms follow
// Retraining, CopyPlanner, SelfNeighbours, CatchmentRoutes and IndexRewriter.

import Index
import Learn
import Router
import Storage
import Vectors

/// One planning of copies, and the rewriting that follows.
struct CopiesWork {
    let builder: IndexBuilder
    let retraining: Retraining
    let partitions: Int
    /// Bytes of segments.bin before.
    let segmentsByteCount: Int

    /// Base vectors that are asked as queries at most.
    private static let selfMaximum = 1 << 20
    private static let selfNeighbours = 4

    private var count: Int { builder.base.count }
    private var rowByteCount: Int { builder.base.rowByteCount }
    private var threads: Int { retraining.training.predictor.training.threads }
    private var recordsEach: Double { Double(count) / Double(max(partitions, 1)) }

    /// Learning on the index without copies, for plans that ask pairs.
    var learning: LearningWork {
        LearningWork(
            builder: builder, training: retraining.training, partitions: partitions, records: count,
            segmentsByteCount: segmentsByteCount)
    }

    /// Whether the router is learned again on the index with copies: plain distance without any queries is not.
    var learnsAgain: Bool {
        retraining.training.predictor.kind != .distance || retraining.training.hasQueries
    }

    /// Records of the index with its copies, at most.
    var records: Int {
        let most = Int(retraining.replicationMaximum * Double(count))
        return switch retraining.copyRule {
        case .none, .moves: count
        case .random, .soar: min(most, 2 * count)
        case .slots:
            // As many as last units have room for.
            min(most, max(count, Int(Double(count) + Double(partitions * layoutRecords) / 2)))
        case .lira(let eta): min(most, eta.map { count + Int($0 * Double(count)) } ?? 2 * count)
        case .closure, .paper, .gain: most
        }
    }

    private var layoutRecords: Int { (try? builder.layout())?.recordsPerUnit ?? 1 }

    /// The plan, and the index written again. `rewritten`: bytes of segments.bin with its copies.
    func stages(rewritten: Int, _ rates: MachineRates?) -> [BuildForecast.Stage] {
        let copies = max(0, records - count)
        let incoming = copies * (rowByteCount + 16)
        let bucket = min(
            retraining.training.pairs.memoryByteCount / 2,
            Bucket.byteCount(records: records, rowByteCount: rowByteCount))
        // Homes before and after, as lists and flat, and the plan itself.
        let plan = (count + records) * 24 + copies * 8
        let rewrite = BuildForecast.Stage(
            name: "rewrite", bytesRead: 3 * segmentsByteCount + incoming, bytesWritten: rewritten + incoming,
            memoryByteCount: BuildMemory.processByteCount + plan + bucket,
            seconds: rates.map {
                Double(rewritten + incoming) / $0.bytesWritten + Double(records) / $0.ordered
                    + Double(3 * segmentsByteCount) / ($0.learning?.bytesSwept ?? $0.bytesRead)
            })
        return [planning(rates), rewrite]
    }

    private func planning(_ rates: MachineRates?) -> BuildForecast.Stage {
        let placements = max(0, records - count) * 48
        guard retraining.copyRule.name.needsQueries else {
            let looked = MachineRates.distancesEach(rows: count, centroids: partitions)
            return BuildForecast.Stage(
                name: "copies", bytesRead: 2 * segmentsByteCount, bytesWritten: 0,
                memoryByteCount: BuildMemory.processByteCount + count * 88 + placements,
                seconds: rates.map {
                    Double(count) * looked * 1.5 / $0.distances
                        + Double(2 * segmentsByteCount) / ($0.learning?.bytesSwept ?? $0.bytesRead)
                })
        }
        // Pairs and a router on the index as it stands; then every vector is asked too.
        let learned = learning.stages(rates).dropLast()
        let asked = min(count, Self.selfMaximum)
        let probes = min(partitions, max(8, Int(Double(partitions).squareRoot())))
        let comparisons = Double(asked) * Double(probes) * recordsEach
        let routed = Double(count + learning.queries) * Double(partitions)
        let isGain = retraining.copyRule == .gain || retraining.copyRule == .moves
        let seconds = rates.flatMap { rates in
            rates.learning.map { learning in
                comparisons / learning.comparisons
                    + (Double(asked) * Double(partitions) + routed) / rates.distances
                    + Double(count * retraining.rounds) * Self.roundDistances / rates.distances
            }
        }
        let parts = learned.map(\.seconds) + (isGain ? [seconds] : [])
        return BuildForecast.Stage(
            name: "copies",
            bytesRead: learned.reduce(0) { $0 + $1.bytesRead } + (isGain ? 2 * segmentsByteCount : 0),
            bytesWritten: 0,
            memoryByteCount: (learned.map(\.memoryByteCount).max() ?? 0) + placements
                + (isGain
                    ? asked * (rowByteCount + 100) + count * Self.ownByteCount + learning.queries * 400 : 0),
            seconds: parts.contains { $0 == nil } ? nil : parts.reduce(0) { $0 + ($1 ?? 0) })
    }

    // Measured, in distances of this machine: a vector in a round of gains; bytes that stay of each vector's own routes.
    private static let roundDistances = 20_000.0
    private static let ownByteCount = 250
}
