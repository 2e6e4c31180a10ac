// The rows of the table at one number of partitions: routers without copies. Copies.swift and Studies.swift
// hold the rest.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import Vectors

/// The forms under test, and how they become rows.
struct Methods {
    let experiment: Experiment

    func none(_ router: any PartitionRouter, _ sweep: Candidate.Sweep, _ note: String = "") throws
        -> Candidate
    {
        Candidate(
            index: try experiment.index(), router: router, homes: try experiment.homes(), sweep: sweep,
            note: note)
    }

    func form(_ kind: RouterKind, _ prototypes: Double = 16, epochs: Int = 2) -> PredictorParameters {
        var parameters = PredictorParameters()
        parameters.kind = kind
        parameters.prototypes = prototypes
        parameters.training.epochs = epochs
        return parameters
    }

    func codes(_ prototypes: Double, bytes: Int) -> PredictorParameters {
        var parameters = form(.subcentroids, prototypes)
        parameters.codeByteCount = bytes
        return parameters
    }

    /// A router for the index without copies, or for `index`.
    func trained(
        _ parameters: PredictorParameters, pairs count: Int? = nil, for index: DiskIndex? = nil
    ) throws -> (router: Predictor, note: String) {
        let learned = try experiment.pairs(count ?? experiment.data.pairs)
        var parameters = parameters
        parameters.training.seed = experiment.seed
        parameters.training.threads = experiment.threads
        let (predictor, report) = try (index ?? experiment.index()).trainPredictor(
            pairs: learned.pairs, homes: index.map { try $0.homes() } ?? experiment.homes(),
            parameters: parameters)
        if report.heldOutLosses.isEmpty { return (predictor, "") }
        let held = ([report.heldOutStart] + report.heldOutLosses).map { String(format: "%.3f", $0) }
        let training = report.trainLosses.map { String(format: "%.3f", $0) }
        return (
            predictor,
            "nats held out \(held.joined(separator: " ")), training \(training.joined(separator: " ")), best epoch \(report.bestEpoch)"
        )
    }

    func posteriors(_ router: any PartitionRouter, for index: DiskIndex? = nil) throws -> [PosteriorModel] {
        let learned = try experiment.pairs(experiment.data.pairs)
        let held = learned.pairs.heldOut
        let depth = learned.pairs.neighbourCount
        return try (index ?? experiment.index()).trainPosteriors(
            router: router, queries: learned.queries.gather(held),
            neighbours: Array(learned.pairs.neighbours[held.lowerBound * depth..<held.upperBound * depth]),
            depth: depth, homes: index.map { try $0.homes() } ?? experiment.homes(),
            threads: experiment.threads,
            seed: experiment.seed)
    }

    /// A trained form under the gain threshold.
    func row(_ name: String, _ parameters: PredictorParameters, pairs: Int? = nil) throws {
        try experiment.row(name) {
            let (router, note) = try trained(parameters, pairs: pairs)
            return try none(router, .gain(.vectors), note)
        }
    }

    /// The same, then with a second round.
    func rowsByRounds(_ name: String, _ parameters: PredictorParameters) throws {
        var made: (router: Predictor, note: String)?
        func router() throws -> (router: Predictor, note: String) {
            if let made { return made }
            let fresh = try trained(parameters)
            made = fresh
            return fresh
        }
        try experiment.row(name) {
            let (router, note) = try router()
            return try none(router, .gain(.vectors), note)
        }
        try experiment.row(name + ", 2 rounds") {
            let (router, note) = try router()
            return try none(router, .rounds(2, try posteriors(router)), note)
        }
    }

    /// Every form without copies, the baselines first.
    func routers() throws {
        try experiment.row("kmeans nprobe") { try none(experiment.index().router, .nprobe) }
        try row("kmeans gain", form(.distance))
        try experiment.row("closure eps2") { try duplicated(.closure(replicas: 8, eps1: 10), .eps2) }
        try experiment.row("soar nprobe") { try duplicated(.soar(lambda: 1), .nprobe) }
        let perPartition = Double(try experiment.index().count) / Double(experiment.partitions)
        // Many whole sub-centroids are the costliest rows and the same on every seed within a percent.
        for count in [4.0, 16] + (experiment.seed == 1 ? [64, 256] : []) where count < perPartition / 2 {
            try row("subcentroids \(Int(count))", form(.subcentroids, count))
        }
        // Prototypes as codes: resolution for few bytes, up to a code for every vector.
        for count in [64.0, 256] where count < perPartition / 2 {
            for bytes in experiment.data.codeByteCounts {
                try rowsByRounds("codes \(Int(count)), \(bytes) B", codes(count, bytes: bytes))
            }
        }
        for bytes in [8] + experiment.data.codeByteCounts {
            try rowsByRounds("codes every vector, \(bytes) B", codes(perPartition, bytes: bytes))
        }
        for count in [4.0, 16, 64] where count < perPartition / 2 {
            try row("prototypes \(Int(count))", form(.prototypes, count))
        }
        var coded = form(.prototypes, min(64, perPartition / 4))
        coded.codeByteCount = 16
        try row("prototypes \(Int(coded.prototypes)) as 16 B codes", coded)
        for (name, plain, onPrototypes) in [
            ("network plain", true, false), ("network residual", false, false),
            ("prototypes 16 + network", false, true),
        ] {
            var parameters = form(.network, min(16, perPartition / 4))
            parameters.plain = plain
            parameters.onPrototypes = onPrototypes
            try row(name, parameters)
        }
    }

    private func duplicated(_ copyRule: CopyRule, _ sweep: Candidate.Sweep) throws -> Candidate {
        let index = try experiment.index(copyRule)
        return Candidate(
            index: index, router: index.router, homes: try experiment.homes(copyRule), sweep: sweep)
    }
}
