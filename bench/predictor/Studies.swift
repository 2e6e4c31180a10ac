// What each choice is worth: learn sets of several sizes, noise, labels, prototypes, widths, rounds.

import Build
import Foundation
import Router
import Storage
import Vectors

extension Methods {
    /// Ablations around 16 trained prototypes a partition and around the best router.
    func studies() throws {
        for count in experiment.data.learnSizes {
            try row("prototypes 16, \(count) learn queries", form(.prototypes), pairs: count)
            try row("network residual, \(count) learn queries", form(.network), pairs: count)
        }
        for noise in experiment.data.noises {
            var parameters = form(.prototypes)
            parameters.training.noise = noise
            try row("prototypes 16, noise \(noise)", parameters)
        }
        for targets in [3, 10] {
            var parameters = form(.prototypes)
            parameters.training.targets = targets
            try row("prototypes 16, \(targets) targets", parameters)
        }
        for epochs in [1, 4] { try row("prototypes 16, \(epochs) epochs", form(.prototypes, epochs: epochs)) }
        for hidden in [[64, 64], [512, 512], [256]] {
            var parameters = form(.network)
            parameters.hidden = hidden
            try row("network residual \(hidden.map(String.init).joined(separator: "-"))", parameters)
        }
        let perPartition = Double(try experiment.index().count) / Double(experiment.partitions)
        let (router, note) = try trained(codes(perPartition, bytes: 16))
        try experiment.row("codes every vector, 16 B, 3 rounds") {
            try none(router, .rounds(3, try posteriors(router)), note)
        }
        for candidates in [64, 128, 512] {
            var parameters = codes(perPartition, bytes: 16)
            parameters.candidates = candidates
            try row("codes every vector, 16 B, \(candidates) candidates", parameters)
        }
        for maximum in [1.05, 1.5] {
            try copied(
                "prototypes 16", form(.prototypes),
                CopyPlan(name: "gain copies at most \(maximum)", copyRule: .gain, maximum: maximum),
                rounds: false)
        }
    }
}
