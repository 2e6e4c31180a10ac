// Where routing codes begin: at the family that chooses best on held-out queries before anything is learned. Training
// keeps the best of its epochs by the same measure, the start among them, so that what comes out chooses no worse there
// than any of the families.

import Vectors

extension RoutingCodesTrainer {
    /// Families that training may begin from; `pq` and `scalar` are never better than these.
    public static let starts: [CodeFamily] = [.weighted, .opq, .narrow]

    /// A trainer of the family whose codes lose least on the held-out examples.
    ///
    /// - Parameter rows: residuals (f32), as for `ProductQuantiser.train`.
    public static func fromBestStart(
        rows: VectorMatrix, codeByteCount: Int, examples: RoutingExamples, options: RoutingCodesOptions
    ) -> RoutingCodesTrainer {
        let (seed, threads) = (options.training.seed, options.training.threads)
        return best(
            of: starts.map {
                ProductQuantiser.train(
                    $0, rows: rows, codeByteCount: codeByteCount, seed: seed, threads: threads)
            }, examples: examples, options: options)
    }

    /// A trainer of the start that loses least on the held-out examples, the first of equals.
    package static func best(
        of starts: [ProductQuantiser], examples: RoutingExamples, options: RoutingCodesOptions
    ) -> RoutingCodesTrainer {
        precondition(!starts.isEmpty)
        var best = RoutingCodesTrainer(start: starts[0], examples: examples, options: options)
        // Losses are comparable where differences of estimates are told in one unit.
        let unit = best.inverseError
        var least = best.heldOutLoss()
        for start in starts.dropFirst() {
            let other = RoutingCodesTrainer(
                start: start, examples: examples, options: options, inverseError: unit)
            let loss = other.heldOutLoss()
            if loss < least { (best, least) = (other, loss) }
        }
        return best
    }
}
