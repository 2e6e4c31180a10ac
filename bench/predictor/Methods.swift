// The rows of the table.

import Foundation
import Index
import Router
import Storage
import Vectors

/// Runs every method on one experiment, the cheap ones first.
func runMethods(_ experiment: Experiment) throws {
    let pairs = experiment.data.pairs
    func none(_ router: any PartitionRouter, _ sweep: Candidate.Sweep, _ note: String = "") throws -> Candidate {
        Candidate(
            index: try experiment.index(), router: router, homes: try experiment.homes(), sweep: sweep, note: note)
    }
    func trained(_ parameters: PredictorParameters, pairs count: Int? = nil) throws -> (Predictor, String) {
        let learned = try experiment.pairs(count ?? pairs)
        var parameters = parameters
        parameters.training.seed = experiment.seed
        parameters.training.threads = experiment.threads
        let (predictor, report) = try experiment.index().trainPredictor(
            pairs: learned.pairs, homes: experiment.homes(), parameters: parameters)
        let losses = ([report.heldOutStart] + report.heldOutLosses).map { String(format: "%.3f", $0) }
        return (predictor, "held-out nats \(losses.joined(separator: " ")), best epoch \(report.bestEpoch)")
    }
    func posteriors(_ router: any PartitionRouter) throws -> [PosteriorModel] {
        let learned = try experiment.pairs(pairs)
        let held = learned.pairs.heldOut
        let depth = learned.pairs.neighbourCount
        return try experiment.index().trainPosteriors(
            router: router, queries: learned.queries.gather(held),
            neighbours: Array(learned.pairs.neighbours[held.lowerBound * depth..<held.upperBound * depth]),
            depth: depth, homes: experiment.homes(), threads: experiment.threads, seed: experiment.seed)
    }
    func form(_ kind: RouterKind, _ prototypes: Double = 16, epochs: Int = 2) -> PredictorParameters {
        var parameters = PredictorParameters()
        parameters.kind = kind
        parameters.prototypes = prototypes
        parameters.training.epochs = epochs
        return parameters
    }

    try experiment.row("kmeans nprobe") { try none(experiment.index().router, .nprobe) }
    try experiment.row("kmeans gain") {
        let (router, note) = try trained(form(.distance))
        return try none(router, .gain(.vectors), note)
    }
    for duplication in [Duplication.closure(replicas: 8, eps1: 10), .soar(lambda: 1)] {
        try experiment.row(duplication.name + (duplication.name == "closure" ? " eps2" : " nprobe")) {
            let index = try experiment.index(duplication)
            return Candidate(
                index: index, router: index.router, homes: try experiment.homes(duplication),
                sweep: duplication.name == "closure" ? .eps2 : .nprobe)
        }
    }
    for count in [4.0, 16, 64, 256] where experiment.partitions * Int(count) <= 600_000 {
        try experiment.row("subcentroids \(Int(count))") {
            let (router, note) = try trained(form(.subcentroids, count))
            return try none(router, .gain(.vectors), note)
        }
    }
    for count in [64.0, 256] where experiment.partitions * Int(count) <= 600_000 {
        try experiment.row("subcentroids \(Int(count)), 2 rounds") {
            let (router, note) = try trained(form(.subcentroids, count))
            return try none(router, .rounds(2, try posteriors(router)), note)
        }
    }
    // Prototypes as codes: resolution for few bytes, up to a code for every vector.
    let everyVector = Double(try experiment.index().count) / Double(experiment.partitions)
    for (name, count, bytes) in [
        ("64", 64.0, 16), ("256", 256, 16), ("every vector", everyVector, 8), ("every vector", everyVector, 16),
    ] where count <= everyVector {
        var made: (Predictor, String)?
        func coded() throws -> (Predictor, String) {
            if let made { return made }
            var parameters = form(.subcentroids, count)
            parameters.codeByteCount = bytes
            let fresh = try trained(parameters)
            made = fresh
            return fresh
        }
        try experiment.row("codes \(name), \(bytes) B") {
            let (router, note) = try coded()
            return try none(router, .gain(.vectors), note)
        }
        try experiment.row("codes \(name), \(bytes) B, 2 rounds") {
            let (router, note) = try coded()
            return try none(router, .rounds(2, try posteriors(router)), note)
        }
    }
    for count in [16.0, 64, 4] where experiment.partitions * Int(count) <= 200_000 {
        try experiment.row("prototypes \(Int(count))") {
            let (router, note) = try trained(form(.prototypes, count))
            return try none(router, .gain(.vectors), note)
        }
    }
    for (name, plain, onPrototypes) in [
        ("network plain", true, false), ("network residual", false, false), ("prototypes 16 + network", false, true),
    ] {
        try experiment.row(name) {
            var parameters = form(.network)
            parameters.plain = plain
            parameters.onPrototypes = onPrototypes
            let (router, note) = try trained(parameters)
            return try none(router, .gain(.vectors), note)
        }
    }
}
