// What a build does once its segments are written, as work that can be told before: pairs and their labels, sub-clusters
// and codes, epochs, calibration, planned copies and the index written again with them. The terms follow RouterTraining,
// PredictorTraining, SubClusterCoding, PosteriorTraining and Retraining; a change there is one here.

import Foundation
import Index
import Learn
import Router
import Storage
import Vectors

/// One learning of a router on an index of so many records.
struct LearningWork {
    let builder: IndexBuilder
    let training: RouterTraining
    let partitions: Int
    /// Records of all segments, and the bytes of segments.bin.
    let records: Int
    let segmentsByteCount: Int

    var threads: Int { training.predictor.training.threads }
    var recordsEach: Double { Double(records) / Double(max(partitions, 1)) }
    /// Bytes of a segment in the mean.
    var segmentByteCount: Int { max(4096, segmentsByteCount / max(partitions, 1)) }
    /// Whether a gradient is followed; other forms have one factor to find.
    var isTrained: Bool { training.predictor.kind == .prototypes || training.predictor.kind == .network }
    private var isCoded: Bool {
        training.predictor.kind == .subcentroids && training.predictor.codeByteCount != nil
    }
    /// Sub-clusters of a partition in the mean; nil where there are none.
    var prototypesEach: Double? {
        guard training.predictor.form.base == .prototypes else { return nil }
        return min(training.predictor.prototypes, recordsEach)
    }
    private var prototypes: Int { Int((prototypesEach ?? 0) * Double(partitions)) }

    private var dimension: Int { builder.base.dimension }
    private var rowByteCount: Int { builder.base.rowByteCount }
    private var routingRowByteCount: Int {
        dimension * (builder.parameters.metric.isSpherical ? 4 : builder.base.elementType.byteCount)
    }
    private var isSpherical: Bool { builder.parameters.metric.isSpherical }

    /// Learn queries and queries made from the base.
    var synthetic: Int { min(training.pairs.syntheticCount, records) }
    var queries: Int {
        let learn = training.learn.map { min($0.count, training.pairs.learnCount ?? $0.count) } ?? 0
        return training.labels.map { min(learn, $0.count) } ?? learn + synthetic
    }
    private var held: Int { training.pairs.heldOutCount(of: queries) }
    private var neighbours: Int { training.pairs.neighbourCount }
    private var probes: Int { min(partitions, max(8, Int(2 * Double(partitions).squareRoot()))) }
    private var memoryByteCount: Int { training.pairs.memoryByteCount }

    // What the router takes.

    /// Bytes that the learned router adds to router.bin.
    var routerByteCount: Int {
        let parameters = training.predictor
        let fixed = ResidentBudget.posteriorsByteCount + 112 << 10
        func network(_ widths: [Int]) -> Int {
            zip(widths, widths.dropFirst()).reduce(0) { $0 + ($1.0 + 1) * $1.1 } * 4
        }
        switch parameters.kind {
        case .distance: return fixed + codesByteCount
        case .lira:
            let width = parameters.lira.tower.last ?? 0
            return network([partitions] + parameters.lira.tower)
                + network([dimension] + parameters.lira.tower)
                + network([2 * width] + parameters.lira.head + [partitions])
        case .network where !parameters.onPrototypes:
            return fixed + network([dimension] + parameters.hidden + [partitions])
        case .network, .subcentroids, .prototypes:
            let form =
                fixed + (partitions + 1) * 4
                + (parameters.kind == .network ? network([dimension] + parameters.hidden + [partitions]) : 0)
            guard let size = parameters.codeByteCount else {
                return form + prototypes * (dimension * storedByteCount + 8)
            }
            return form + prototypes * (size + 2) + dimension * (4 + ProductQuantiser.wordCount * 2)
        }
    }

    /// Bytes of a code of every record, in router.bin or beside it.
    private var codesByteCount: Int {
        guard let codes = training.recordCodes else { return 0 }
        return records * ResidentBudget.recordByteCount(codes: codes.byteCount) + (partitions + 1) * 4
            + dimension * (4 + ProductQuantiser.wordCount * 2) + codes.mapsByteCount(dimension: dimension)
    }

    /// Bytes of all that a run that follows a kill goes on from: labels of queries, and the state after an epoch beside the
    /// one before.
    var checkpointByteCount: Int {
        let labels = (training.labels == nil ? queries * neighbours : 0) + synthetic * 2
        return labels * 12 + (isTrained ? 2 * 16 * parameterCount : 0)
    }

    private var storedByteCount: Int {
        (training.predictor.storedAs
            ?? (isSpherical ? .f16 : builder.space.elementType == .f32 ? .f16 : builder.space.elementType))
            .byteCount
    }

    // Memory.

    /// What stands in memory whatever is done: the process, the index, where every vector lives, queries and labels.
    private var heldByteCount: Int {
        let index = partitions * (routingRowByteCount + 32)
        let pairs = queries * (rowByteCount + (isSpherical ? dimension * 4 : 0) + neighbours * 20)
        return BuildMemory.processByteCount + index * 2 + homesByteCount + pairs
    }

    private var homesByteCount: Int { (builder.base.count + records) * 4 + idsByteCount }
    /// External ids are numbered by a list of all.
    private var idsByteCount: Int {
        if case .positions = builder.parameters.ids { 0 } else { builder.base.count * 8 }
    }

    /// A sweep over `count` queries: heaps, plan and arenas of a block of them.
    private func sweepByteCount(_ count: Int, k: Int, probes: Int) -> Int {
        let each = 160 + k * 24 + probes * 8
        return min(count, max(1024, memoryByteCount / 4 / each)) * (each + rowByteCount)
            + threads * (BatchSweep.arenaByteCountDefault + 4 << 20)
    }

    private func blocks(_ count: Int, k: Int, probes: Int) -> Int {
        let most = max(1024, memoryByteCount / 4 / (160 + k * 24 + probes * 8))
        return (count + most - 1) / most
    }

    // Stages.

    /// All stages of learning, in their order.
    func stages(_ rates: MachineRates?) -> [BuildForecast.Stage] {
        var stages = [label(rates)]
        if prototypesEach != nil { stages.append(isCoded ? code(rates) : divide(rates)) }
        if isTrained || training.predictor.kind == .lira { stages.append(train(rates)) }
        return stages + [calibrate(rates)]
    }

    private func stage(
        _ name: String, read: Int, written: Int = 0, memory: Int,
        _ rates: MachineRates?, _ seconds: (MachineRates, LearningRates) -> Double?
    ) -> BuildForecast.Stage {
        BuildForecast.Stage(
            name: name, bytesRead: read, bytesWritten: written, memoryByteCount: memory,
            seconds: rates.flatMap { rates in rates.learning.flatMap { seconds(rates, $0) } })
    }

    /// Queries, their neighbours in the nearest partitions, and 200 labels checked against everything.
    private func label(_ rates: MachineRates?) -> BuildForecast.Stage {
        let isKnown = training.labels != nil
        let asked = isKnown ? 0 : queries
        // Homes of all vectors are read once, and the check of labels reads all once more.
        var sweeps = 1 + (isKnown ? 1 : 1 + blocks(asked, k: neighbours, probes: probes))
        if synthetic > 0 { sweeps += 1 + blocks(synthetic, k: 2, probes: 8) }
        let comparisons =
            recordsEach
            * (Double(asked) * Double(probes) + Double(synthetic) * Double(min(partitions, 8))
                + 200 * Double(partitions))
        let read = sweeps * segmentsByteCount + queries * rowByteCount
        // Queries made from the base stand as floats for a while, twice.
        let made = synthetic * (rowByteCount + dimension * 8)
        return stage(
            "label", read: read,
            memory: heldByteCount + made + sweepByteCount(asked, k: neighbours, probes: probes), rates
        ) { rates, learning in
            comparisons / learning.comparisons + Double(asked + synthetic) * Double(partitions)
                / rates.distances
                + Double(read) / learning.bytesSwept
        }
    }

    /// Sub-clusters of every partition.
    private func divide(_ rates: MachineRates?) -> BuildForecast.Stage {
        let rows = prototypes * (routingRowByteCount + 8)
        return stage(
            "sub-clusters", read: segmentsByteCount, memory: heldByteCount + 2 * rows, rates
        ) { _, learning in
            Double(segmentsByteCount) / learning.bytesSwept
                + (learning.divided.map { Double(partitions) / $0 } ?? 0)
        }
    }

    /// Sub-clusters of every partition as codes, after codewords were learned from some.
    private func code(_ rates: MachineRates?) -> BuildForecast.Stage {
        let size = training.predictor.codeByteCount ?? 0
        let residuals = min(prototypes, Self.residualCount)
        let memory =
            heldByteCount + prototypes * (2 * (size + 8) + 8) + 3 * residuals * dimension * 4
        let read = 2 * segmentsByteCount
        return stage("codes", read: read, memory: memory, rates) { rates, learning in
            let divided = 1 + Double(residuals) / Double(max(prototypes, 1))
            // Distances of parts of vectors: a code takes 256 of whole ones.
            let words = Double(ProductQuantiser.wordCount)
            let distances =
                Double(residuals) * words * Self.codewordRounds + Double(prototypes) * words
            return Double(read) / learning.bytesSwept
                + (learning.divided.map { Double(partitions) * divided / $0 } ?? 0)
                + distances * Self.partsFactor / rates.distances
        }
    }

    /// Epochs of the training pairs, a look at those held out before and after each.
    private func train(_ rates: MachineRates?) -> BuildForecast.Stage {
        let parameters = training.predictor
        let count = parameterCount
        let events =
            parameters.training.batchSize * parameters.trainingCandidates
            * Int((prototypesEach ?? 1).rounded(.up))
        // Values, gradients, two moments and the best so far, and what a batch says of each prototype.
        let memory = heldByteCount + count * 20 + events * 64 + prototypes * routingRowByteCount
        return stage("train", read: 0, memory: memory, rates) { rates, learning in
            guard isTrained, let trained = learning.trained, let stepped = learning.stepped else {
                return nil
            }
            let pairs = Double(max(0, queries - held))
            let epochs = Double(parameters.training.epochs)
            let steps = (pairs / Double(parameters.training.batchSize)).rounded(.down) * epochs
            let calibrated = Double(min(held, Self.calibrationPairs)) * Self.calibrationRounds
            let looked = (epochs + 1) * Double(held) + calibrated
            return pairs * epochs / trained.forwardsAndBackwards + looked / trained.forwards
                + steps * Double(count) / stepped
        }
    }

    private var parameterCount: Int {
        let parameters = training.predictor
        let widths = [dimension] + parameters.hidden + [partitions]
        let network =
            parameters.kind == .network
            ? zip(widths, widths.dropFirst()).reduce(0) { $0 + ($1.0 + 1) * $1.1 } : 0
        return prototypes * (dimension + 2) + network
    }

    /// Thresholds by cost, posteriors, and two rounds of reads asked of the index itself.
    private func calibrate(_ rates: MachineRates?) -> BuildForecast.Stage {
        let candidates = min(partitions, training.predictor.candidates)
        let half = held / 2
        let routes = half * candidates * 16
        let asked = training.predictor.kind == .lira ? 0 : min(DiskIndex.askedMaximum, half)
        let segments = Double(asked) * askedSegments
        // One sweep for posteriors; every threshold asks from memory where the segments have room there.
        let kept = DiskIndex.heldByteCount(segments: segmentsByteCount, partitions: partitions)
        let isKept = kept <= memoryByteCount / DiskIndex.heldShare
        let again = isKept ? segmentsByteCount : Int(segments * Double(segmentByteCount))
        let teaching =
            2 * routes + half * Self.posteriorByteCount + sweepByteCount(half * 24, k: 10, probes: 1)
        let asking = (isKept ? kept : 0) + asked * candidates * 16 + Self.posteriorHeapByteCount
        let memory = heldByteCount + routerByteCount + max(teaching, asking)
        return stage("calibrate", read: segmentsByteCount + again, memory: memory, rates) {
            rates, learning in
            // A query is routed for thresholds or for posteriors, and once for all rounds.
            let each = Double(partitions) + Double(candidates) * (prototypesEach ?? 0)
            let routed = Double(2 * half + asked) * each * Self.routedDistances / rates.distances
            let fitted = training.predictor.kind == .lira ? 0 : Double(2 * half) * Self.posteriorRows
            let tried = Double(half) * Self.accountedCandidates
            let thresholds = isFine ? Self.thresholdsFine : Self.thresholds
            let weighed = Double(asked) * thresholds * Self.weighedCandidates
            let searches =
                segments * recordsEach / learning.scanned + weighed / learning.weighed
            let reading = Double(again) / (isKept ? learning.bytesSwept : learning.bytesAsked)
            return routed + fitted / learning.fitted + tried / learning.weighed
                + (isKept ? reading + searches : max(reading, searches))
                + Double(segmentsByteCount) / learning.bytesSwept
        }
    }

    /// Partitions that a held-out query reads over all thresholds of two rounds: some of the square root of their number
    /// for the highest recall, and less and less for the lower ones.
    private var askedSegments: Double {
        let root = Double(partitions).squareRoot()
        return Self.laterRounds * (isFine ? Self.laterRoundsFine : 1) * root
    }

    /// Whether codes tell nearly every vector from the others.
    private var isFine: Bool { prototypesEach.map { $0 * 2 > recordsEach } ?? false }

    // Of SubClusterCoding, ProductQuantiser and PredictorCalibration.
    private static let residualCount = 65_536
    private static let calibrationPairs = 4096
    private static let calibrationRounds = 26.0

    // Measured, in distances of this machine, or in bytes.
    private static let codewordRounds = 16.0
    private static let partsFactor = 30.0
    /// Rows of a posterior that a held-out query makes, of two posteriors, and thresholds that are tried in searches.
    private static let posteriorRows = 195.0
    private static let thresholds = 25.0
    private static let thresholdsFine = 15.0
    private static let posteriorByteCount = 24_000
    /// What is not given back of posteriors once they are fitted.
    private static let posteriorHeapByteCount = 16 << 20
    /// Distances for each centroid or prototype that a query is routed by: alone, and with what is sorted.
    private static let routedDistances = 6.0
    /// In candidates of a posterior: what a held-out query costs over all policies of one round, and at a threshold of two.
    private static let accountedCandidates = 4000.0
    private static let weighedCandidates = 256.0
    private static let laterRounds = 4.5
    private static let laterRoundsFine = 0.21
}
