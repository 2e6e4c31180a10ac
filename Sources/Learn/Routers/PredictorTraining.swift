// Training a router for an index that stands: sub-clusters from its segments, pairs from a learn set, the one
// training loop, calibration on what was held out. The query files of a measurement are never touched.

import Index
import Router
import Storage
import Vectors

/// Which router an index is given.
public enum RouterKind: String, Sendable, CaseIterable {
    /// Centroid distance with one calibrated beta.
    case distance
    /// Log-sum-exp over sub-clusters, untrained.
    case subcentroids
    /// Prototypes, trained.
    case prototypes
    /// A perceptron: alone, or as a residual on distance or prototypes.
    case network
    /// LIRA's probing model: two towers, a probability a partition for itself.
    case lira
}

/// How to train a router.
public struct PredictorParameters: Sendable {
    public var kind = RouterKind.prototypes
    /// Mean number of prototypes a partition; larger partitions get more.
    public var prototypes = 16.0
    /// Widths of the network's hidden layers.
    public var hidden = [256, 256]
    /// The network alone, without a base.
    public var plain = false
    /// The network on top of prototypes instead of centroid distances.
    public var onPrototypes = false
    /// Element type of stored prototypes; nil: that of routing, or f16 where that is f32.
    public var storedAs: ElementType?
    /// Bytes of a prototype's product-quantised code, beside two for its weight; nil: prototypes are kept whole.
    public var codeByteCount: Int?
    /// Partitions that get a probability at search, and that enter a training step.
    public var candidates = 256
    public var trainingCandidates = 64
    /// Whether logits are refined by what the candidates say of one another.
    public var refines = false
    public var training = TrainingOptions()
    /// lira: its shape, and the neighbours that a partition is wanted for.
    public var lira = LiraOptions()
    /// Where training keeps its state after every epoch, to go on after a kill; nil: nowhere.
    public var checkpoints: TrainingCheckpoints?

    public init() {}

    package var form: PredictorForm {
        switch kind {
        case .distance: PredictorForm(base: .distance)
        case .subcentroids, .prototypes: PredictorForm(base: .prototypes)
        case .network:
            PredictorForm(base: plain ? .none : (onPrototypes ? .prototypes : .distance), hidden: hidden)
        case .lira: PredictorForm(base: .none)
        }
    }

    /// The parameters as a manifest keeps them.
    package var description: [String: String] {
        var build = ["router": kind.rawValue]
        switch kind {
        case .distance: break
        case .subcentroids, .prototypes: build["prototypes"] = String(prototypes)
        case .network:
            build["hidden"] = hidden.map(String.init).joined(separator: ",")
            build["mode"] = plain ? "plain" : "residual"
            if onPrototypes { build["prototypes"] = String(prototypes) }
        case .lira:
            build["towers"] = (lira.tower + lira.head).map(String.init).joined(separator: ",")
            build["depth"] = String(lira.depth)
        }
        if refines { build["refine"] = "true" }
        if form.base == .prototypes, let codeByteCount { build["prototype-codes"] = String(codeByteCount) }
        if kind == .prototypes || kind == .network || kind == .lira {
            build["epochs"] = String(training.epochs)
            build["noise"] = String(training.noise)
            build["targets"] = String(training.targets)
            build["training-seed"] = String(training.seed)
        }
        return build
    }
}

extension DiskIndex {
    /// Trains and calibrates the router that the parameters ask for.
    public func trainLearnedRouter(
        pairs: TrainingPairs, homes: Homes, parameters: PredictorParameters, progress: JobProgress = .none
    ) throws -> (router: any LearnedRouter, report: TrainingReport) {
        guard parameters.kind == .lira else {
            if cells != nil {
                throw IndexError.invalid(
                    "\(path) has sub-segments: they are read by a lira router, or by distance")
            }
            let (predictor, report) = try trainPredictor(
                pairs: pairs, homes: homes, parameters: parameters, progress: progress)
            return (predictor, report)
        }
        guard parameters.lira.depth >= 1, parameters.lira.depth <= pairs.neighbourCount else {
            throw IndexError.invalid(
                "lira wants pairs of at least \(parameters.lira.depth) neighbours, found \(pairs.neighbourCount)"
            )
        }
        var options = parameters.lira
        let batchSize = options.training.batchSize
        options.training = parameters.training
        options.training.batchSize = min(batchSize, parameters.training.batchSize)
        // Where partitions are divided into cells, the model speaks of whole partitions.
        let trainer = LiraTrainer(
            centroids: cells?.parents ?? centroids, pairs: pairs, homes: cells?.parentHomes(homes) ?? homes,
            options: options)
        let checkpoints = parameters.checkpoints
        let identity = trainingIdentity(pairs: pairs, homes: homes, parameters: parameters)
        try checkpoints?.restore(identity, take: trainer.restore)
        try trainer.train(
            progress: { done, total in progress(stage: "train", done: done, total: total) },
            afterEpoch: { try checkpoints?.store($0.state, identity: identity) })
        let model = trainer.model()
        let router: any LearnedRouter =
            cells.map { CellRouter(groups: $0, cells: centroids, parent: model) } ?? model
        return (router, trainer.report)
    }

    /// Trains and calibrates a predictor (any kind but `lira`) for this index on `pairs`.
    public func trainPredictor(
        pairs: TrainingPairs, homes: Homes, parameters: PredictorParameters, progress: JobProgress = .none
    ) throws -> (predictor: Predictor, report: TrainingReport) {
        let (predictor, report) = try trainUnrefined(
            pairs: pairs, homes: homes, parameters: parameters, progress: progress)
        guard parameters.refines else { return (predictor, report) }
        // The second half of what was held out is for thresholds.
        let held = pairs.heldOut
        let refined = predictor.refined(
            pairs: pairs, range: held.lowerBound..<held.lowerBound + held.count / 2, homes: homes,
            records: (0..<partitionCount).map { table[$0].recordCount }, seed: parameters.training.seed,
            threads: parameters.training.threads)
        return (refined, report)
    }

    private func trainUnrefined(
        pairs: TrainingPairs, homes: Homes, parameters: PredictorParameters, progress: JobProgress = .none
    ) throws -> (predictor: Predictor, report: TrainingReport) {
        let form = parameters.form
        if let codeByteCount = parameters.codeByteCount,
            codeByteCount < 1 || codeByteCount > min(centroids.dimension, ProductQuantiser.codeByteLimit)
        {
            throw IndexError.invalid(
                "prototype codes must be from 1 to \(min(centroids.dimension, ProductQuantiser.codeByteLimit)) bytes, "
                    + "found \(codeByteCount)")
        }
        if parameters.kind == .subcentroids, let codeByteCount = parameters.codeByteCount {
            return try codedSubClusters(
                pairs: pairs, homes: homes, codeByteCount: codeByteCount, parameters: parameters,
                progress: progress)
        }
        let subClusters =
            form.base == .prototypes
            ? try self.subClusters(
                perPartition: parameters.prototypes, threads: parameters.training.threads, progress: progress)
            : nil
        let model = TrainablePredictor(
            form: form, centroids: centroids, candidateCount: parameters.trainingCandidates,
            beta: centroids.beta, subClusters: subClusters, sharesBeta: parameters.codeByteCount != nil,
            inputs: pairs.queries, seed: parameters.training.seed)
        let trainer = PredictorTrainer(model: model, pairs: pairs, homes: homes, options: parameters.training)
        trainer.calibrateBeta(subClusters: subClusters)
        if parameters.kind == .prototypes || parameters.kind == .network {
            let checkpoints = parameters.checkpoints
            let identity = trainingIdentity(pairs: pairs, homes: homes, parameters: parameters)
            try checkpoints?.restore(identity, take: trainer.restore)
            try trainer.train(
                progress: { done, total in progress(stage: "train", done: done, total: total) },
                afterEpoch: { trainer in
                    try checkpoints?.store(trainer.state, identity: identity)
                    return true
                })
            trainer.calibrateTemperature()
        }
        if form.base == .prototypes, let codeByteCount = parameters.codeByteCount {
            let predictor = trainer.frozen(
                codeByteCount: codeByteCount, candidateCount: parameters.candidates)
            return (predictor, trainer.report)
        }
        let stored = parameters.storedAs ?? (centroids.elementType == .f32 ? .f16 : centroids.elementType)
        return (model.frozen(elementType: stored, candidateCount: parameters.candidates), trainer.report)
    }

    /// Clusters the records of every partition, about `perPartition` clusters each, in proportion to what
    /// they hold.
    func subClusters(perPartition: Double, threads: Int, progress: JobProgress) throws -> SubClusters {
        let share = perPartition * Double(partitionCount) / Double(max(manifest.records, 1))
        let rows = centroids.centroids()
        var parts: [SubClusterPart] = []
        var batch: [(partition: Int, rows: VectorMatrix)] = []
        var next = 0
        func finishBatch() {
            guard !batch.isEmpty else { return }
            let slots = ResultSlots<SubClusterPart>(count: batch.count)
            let work = batch
            Workers.forEach(count: work.count, threads: threads) { task in
                let wanted = max(1, Int((Double(work[task].rows.count) * share).rounded()))
                slots.set(
                    task,
                    SubClusterPart(rows: work[task].rows, wanted: wanted, seed: UInt64(work[task].partition)))
            }
            for (task, item) in batch.enumerated() {
                while next < item.partition {
                    parts.append(SubClusterPart.empty(like: rows, row: next))
                    next += 1
                }
                if let part = slots.take(task) { parts.append(part) }
                next += 1
            }
            batch.removeAll()
            progress(stage: "sub-clusters", done: next, total: partitionCount)
        }
        try forEachSegment { partition, segment in
            batch.append((partition, space.rows(from: records(of: partition, in: segment).vectors)))
            if batch.count >= 16 * threads { finishBatch() }
        }
        finishBatch()
        while next < partitionCount {
            parts.append(SubClusterPart.empty(like: rows, row: next))
            next += 1
        }
        guard !parts.isEmpty else { throw IndexError.invalid("the index holds no partitions") }
        return SubClusters(joining: parts)
    }
}

extension SubClusters {
    /// The sub-clusters of partitions one after the other; at least one of them.
    init(joining parts: [SubClusterPart]) {
        var starts: [UInt32] = [0]
        for part in parts { starts.append(starts[starts.count - 1] + UInt32(part.centers.count)) }
        guard let centers = VectorMatrix.joined(parts.map(\.centers)) else {
            preconditionFailure("no partition to join")
        }
        self.init(
            starts: starts, centers: centers, counts: parts.flatMap(\.counts),
            spreads: parts.flatMap(\.spreads))
    }
}

/// The sub-clusters of one partition.
package struct SubClusterPart: Sendable {
    package var centers: VectorMatrix
    var counts: [Float]
    var spreads: [Float]

    package init(rows: VectorMatrix, wanted: Int, seed: UInt64) {
        guard wanted < rows.count else {
            // As many as records: every vector stands for itself.
            centers = rows
            counts = [Float](repeating: 1, count: rows.count)
            spreads = [Float](repeating: 0, count: rows.count)
            return
        }
        var means = KMeans(partitions: min(wanted, rows.count), seed: seed, threads: 1)
        means.iterations = 8
        means.refinements = 1
        centers = means.train(rows).centroids
        let assigned = NearestCentroids(scanning: centers).assign(rows, threads: 1)
        counts = [Float](repeating: 0, count: centers.count)
        spreads = counts
        for (partition, distance) in zip(assigned.partitions, assigned.distances) {
            counts[Int(partition)] += 1
            spreads[Int(partition)] += distance
        }
        for index in counts.indices where counts[index] > 0 { spreads[index] /= counts[index] }
    }

    private init(centers: VectorMatrix) {
        self.centers = centers
        counts = [1]
        spreads = [0]
    }

    /// A partition without records keeps its centroid as its only prototype.
    package static func empty(like centroids: VectorMatrix, row: Int) -> SubClusterPart {
        SubClusterPart(centers: centroids.gather(row..<row + 1))
    }
}
