// Routers over many small partitions: what learning can give where a partition is a page, beside codes of the same
// bytes. Thresholds by vectors, and by modelled time where partitions cost a read each.

import Build
import Foundation
import Index
import Learn
import Router
import Vectors

extension Methods {
    /// Trained, coded and untrained routers with 1,024 candidates.
    func many() throws {
        let model = try experiment.deviceModel()
        let perPartition = Double(try experiment.index().count) / Double(experiment.partitions)
        try experiment.row("kmeans nprobe") { try none(experiment.index().router, .nprobe) }
        try manyRows("kmeans", form(.distance), model, rounds: true)
        try manyRows("codes 4, 16 B", codes(4, bytes: 16), model)
        try manyRows("prototypes 1", form(.prototypes, 1), model)
        var rows = form(.network)
        rows.hidden = [256, 64]
        try manyRows("rows 64", rows, model)
        try manyRows("codes every vector, 16 B", codes(perPartition, bytes: 16), model, rounds: true)
        try manyRows("subcentroids 4", form(.subcentroids, 4), model)
        try manyRows("prototypes 4", form(.prototypes, 4), model)
        if let most = experiment.data.learnSizes.last {
            try manyRows("prototypes 1, \(most) learn queries", form(.prototypes, 1), model, pairs: most)
            try manyRows("rows 64, \(most) learn queries", rows, model, pairs: most)
        }
    }

    /// A router as it is and refined.
    private func manyRows(
        _ name: String, _ parameters: PredictorParameters, _ model: DeviceModel, pairs: Int? = nil,
        rounds: Bool = false
    ) throws {
        for refines in [false, true] {
            var parameters = parameters
            parameters.candidates = 1024
            parameters.refines = refines
            try manyPolicies(
                name + (refines ? ", refined" : ""), parameters, model, pairs: pairs, rounds: rounds)
        }
    }

    private func manyPolicies(
        _ name: String, _ parameters: PredictorParameters, _ model: DeviceModel, pairs: Int?, rounds: Bool
    ) throws {
        var made: (router: Predictor, note: String)?
        func router() throws -> (router: Predictor, note: String) {
            if let made { return made }
            let start = ContinuousClock.now
            var fresh = try trained(parameters, pairs: pairs)
            fresh.note += String(format: " made in %.0f s", start.duration(to: .now) / .seconds(1))
            made = fresh
            return fresh
        }
        for (suffix, sweep) in [
            ("", Candidate.Sweep.gain(.vectors)), (", by time", .gain(.time(model))), (", mass", .mass),
        ] {
            try experiment.row(name + suffix) {
                let (router, note) = try router()
                return try none(router, sweep, note)
            }
        }
        guard rounds else { return }
        try experiment.row(name + ", 2 rounds") {
            let (router, note) = try router()
            return try none(router, .rounds(2, try posteriors(router)), note)
        }
    }
}
