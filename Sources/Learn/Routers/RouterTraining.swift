// The whole of learning a router, as a build's stage and as a command: pairs, training, calibration, and
// the thresholds that held-out pairs say reach a wanted recall. What comes out is the sections of router.bin.

import Foundation
import Index
import Router
import Storage
import Vectors

/// What to learn a router from, and how.
public struct RouterTraining: Sendable {
    public var predictor = PredictorParameters()
    public var pairs = LearnParameters()
    /// Queries drawn like those that will be asked, never those that will be measured.
    public var learn: VectorFile?
    /// Neighbours of the first rows of `learn`, where they are known; else they are found with the index.
    public var labels: TruthFile?
    /// The device that thresholds of cost by time are calibrated for. An input like any other: one timed on
    /// the spot would make other bytes of every build.
    public var model = DeviceModel.common
    /// Which code every record gets, by which pages are chosen; nil: none.
    public var recordCodes: RecordCodeParameters?

    public init() {}

    /// What a manifest keeps of it.
    package var description: [String: String] {
        var build = predictor.description
        if let recordCodes {
            build["codes"] = String(recordCodes.byteCount)
            build["code-family"] = recordCodes.family.rawValue
            if recordCodes.areInIndex { build["codes-in"] = "index" }
        }
        return build
    }

    /// Whether there is anything to learn from: a learn file, or queries made from the base.
    public var hasQueries: Bool { learn != nil || pairs.syntheticCount > 0 }
}

/// A router that was trained for an index.
public struct TrainedRouter: Sendable {
    public let router: any LearnedRouter
    public let report: TrainingReport
    public let policies: CalibratedPolicies
    public let posteriors: [PosteriorModel]
    public let recordCodes: RecordCodes?
    /// What codes.bin is to hold, where codes lie in the index.
    package let codeBlocks: VectorMatrix?

    init(
        router: any LearnedRouter, report: TrainingReport, policies: CalibratedPolicies,
        posteriors: [PosteriorModel] = [], codes: RecordCodes? = nil, codesAreInIndex: Bool = false
    ) {
        self.router = router
        self.report = report
        self.policies = policies
        self.posteriors = posteriors
        if codesAreInIndex, let codes, let blocks = codes.blocks {
            recordCodes = codes.inIndex(
                pageChecksums: CodePages.checksums(
                    of: UnsafeRawBufferPointer(start: blocks.bytes, count: blocks.byteCount)))
            codeBlocks = blocks
        } else {
            (recordCodes, codeBlocks) = (codes, nil)
        }
    }

    /// Memory that an open index holds of it.
    public var residentByteCount: Int {
        router.residentByteCount + posteriors.reduce(0) { $0 + $1.residentByteCount }
            + (recordCodes?.residentByteCount ?? 0)
    }

    /// What router.bin holds.
    public func sections() throws -> [(tag: String, bytes: [UInt8])] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        let learned = posteriors.isEmpty ? [] : [PosteriorModel.encode(posteriors)]
        let codes = recordCodes.map { [$0.encode()] } ?? []
        return router.encode() + learned + codes + [
            (CalibratedPolicies.section, Array(try encoder.encode(policies)))
        ]
    }
}

extension DiskIndex {
    /// Learns a router for this index.
    ///
    /// - Throws: `outOfRange`, `tooFewQueries` or `invalid` for parameters that mean nothing, `unlikeVectors` for a
    ///   learn file that does not fit, `storage` from reading.
    public func trainRouter(
        _ training: RouterTraining, progress: JobProgress = .none
    ) throws(IndexError) -> TrainedRouter {
        try IndexError.door { try learnRouter(training, progress: progress) }
    }

    private func learnRouter(_ training: RouterTraining, progress: JobProgress) throws -> TrainedRouter {
        try training.predictor.validate()
        if headIds != nil {
            throw IndexError.invalid(
                "\(path) has heads, which lie in no segment: a router is learned for partitions of k-means")
        }
        var training = training
        // Forms with one number to fit need few pairs for it: the others make its thresholds surer.
        if training.predictor.kind == .distance || training.predictor.kind == .subcentroids {
            training.pairs.heldOutShare = max(training.pairs.heldOutShare, 0.25)
        }
        let threads = training.predictor.training.threads
        let learned = try learnPairs(training, progress: progress)
        training.predictor.training.targets = min(
            training.predictor.training.targets, learned.pairs.neighbourCount)
        let homes = try homes()
        let (router, report) = try trainLearnedRouter(
            pairs: learned.pairs, homes: homes, parameters: training.predictor, progress: progress)
        let set = try calibrationSet(learned.kept, threads: threads, progress: progress)
        var policies = calibratePolicies(
            router: router, set: set, homes: homes, model: training.model, threads: threads,
            provenance: provenance(of: training, learned: learned, set: set, report: report))
        // Pages are chosen by records: no posterior of partitions has a part in it.
        if let wanted = training.recordCodes {
            let codes = try calibratePages(
                codeRecords(
                    wanted, seed: training.predictor.training.seed, threads: threads, progress: progress),
                areInIndex: wanted.areInIndex, router: router, set: set, threads: threads, into: &policies)
            return TrainedRouter(
                router: router, report: report, policies: policies, codes: codes,
                codesAreInIndex: wanted.areInIndex)
        }
        // A probing model gives each partition a probability of its own: there is no posterior of one neighbour.
        guard let predictor = router as? Predictor else {
            return TrainedRouter(router: router, report: report, policies: policies)
        }
        // What stopped the training teaches the posterior; what sets thresholds has no part in either.
        let teaching = learned.pairs.heldOut
        let depth = learned.pairs.neighbourCount
        let posteriors = try trainPosteriors(
            router: predictor, queries: learned.queries.gather(teaching),
            sources: learned.sources.isEmpty ? [] : Array(learned.sources[teaching]),
            neighbours: Array(
                learned.pairs.neighbours[teaching.lowerBound * depth..<teaching.upperBound * depth]),
            depth: depth, homes: homes, threads: threads, seed: training.predictor.training.seed)
        // What a router promises of a query made from the base hangs on the vector that it was made from, and so does what
        // a second round would still read: only queries from outside tell how that ends.
        guard set.sources.isEmpty else {
            return TrainedRouter(
                router: router, report: report, policies: policies, posteriors: posteriors)
        }
        try calibrateLaterRounds(
            predictor: predictor, posteriors: posteriors, set: set,
            memoryByteCount: training.pairs.memoryByteCount, threads: threads, into: &policies)
        return TrainedRouter(router: router, report: report, policies: policies, posteriors: posteriors)
    }

    /// The labelled queries that a training asks for.
    package func learnPairs(_ training: RouterTraining, progress: JobProgress) throws -> LearnPairs {
        guard let labels = training.labels else {
            return try learnPairs(
                learn: training.learn, parameters: training.pairs,
                checkpoints: training.predictor.checkpoints, progress: progress)
        }
        guard let learn = training.learn, training.pairs.syntheticCount == 0 else {
            throw IndexError.noLearnFile("labels belong to a learn file, without synthetic queries beside it")
        }
        return try learnPairs(learn: learn, labels: labels, parameters: training.pairs, progress: progress)
    }

    private func provenance(
        of training: RouterTraining, learned: LearnPairs, set: CalibrationSet, report: TrainingReport
    ) -> [String: String] {
        [
            "pairs": String(learned.pairs.trainingCount), "held-out": String(set.count),
            "label-accuracy": String(learned.labelAccuracy),
            "learn": training.learn.map { name(of: $0) } ?? "none",
            "synthetic": String(training.pairs.syntheticCount),
            "loss-at-start": String(report.heldOutStart),
            "losses": report.heldOutLosses.map { String($0) }.joined(separator: ","),
        ]
    }

    private func name(of file: VectorFile) -> String { URL(fileURLWithPath: file.path).lastPathComponent }
}

extension FetchAccount {
    /// Each candidate's probability against whether it held the nearest neighbour. Candidates below one in
    /// ten thousand are left out: they would fill the lowest bin with certainties.
    public static func reliability(routes: [Route], nearest: [UInt32], homes: Homes) -> Reliability {
        var reliability = Reliability()
        for (query, route) in routes.enumerated() {
            let home = homes[Int(nearest[query])]
            for position in 0..<route.count {
                let probability = Float(exp(Double(route.logProbabilities[position])))
                guard probability > 1e-4 else { continue }
                reliability.add(probability: probability, happened: home.contains(route.partitions[position]))
            }
        }
        return reliability
    }
}

extension PredictorParameters {
    /// Refuses values that mean nothing.
    package func validate() throws(IndexError) {
        if let failure = MatrixProduct.failure {
            throw .missingLibrary(
                "training a router needs OpenBLAS, which cannot be loaded (\(failure)): install libopenblas0")
        }
        if !(prototypes >= 1 && prototypes <= 65536) {
            throw .outOfRange("prototypes", allowed: "from 1 to 65536 a partition", found: "\(prototypes)")
        }
        if hidden.contains(where: { $0 < 1 || $0 > 65536 }) || hidden.count > 8 {
            throw .outOfRange("hidden", allowed: "up to eight widths from 1 to 65536", found: "\(hidden)")
        }
        if refines && kind == .lira {
            throw .invalid("lira gives partitions probabilities of their own, which are not refined")
        }
        if training.epochs < 1 {
            throw .outOfRange("epochs", allowed: "at least 1", found: "\(training.epochs)")
        }
        if !(training.noise >= 0 && training.noise.isFinite) {
            throw .outOfRange("noise", allowed: "0 or more", found: "\(training.noise)")
        }
    }
}
