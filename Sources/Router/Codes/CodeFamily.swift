// The families of codes. All are searched alike: a linear map of the query, then a table of 256 inner products for each
// byte of a code. They differ in how map, stretches and codewords are found.

import Vectors

/// How the codes of a quantiser were trained. Sections number them in this order: new ones go to the end.
public enum CodeFamily: String, Sendable, CaseIterable {
    /// Stretches of the vector as it is, k-means in each (Jegou, Douze, Schmid 2011).
    case pq
    /// The same after a rotation that is learned with the codewords (Ge, He, Ke, Sun 2013).
    case opq
    /// The same where directions in which vectors differ most are coded most finely (`DirectionWeights`).
    case weighted
    /// Rotation and codewords learned further from which records are near which queries (routing-guided learned product
    /// quantisation, Yue et al. 2023, arXiv 2311.18724).
    case rpq
    /// Principal components, each with levels of its own, bits dealt out by variance (after SAQ, Li et al. 2025).
    case scalar
    /// Fewer principal components than dimensions, more bits for each, codewords of several.
    case narrow

    /// In sections.
    var number: UInt32 { UInt32(Self.allCases.firstIndex(of: self) ?? 0) }

    init?(number: UInt32) {
        guard number < UInt32(Self.allCases.count) else { return nil }
        self = Self.allCases[Int(number)]
    }

    /// Bytes of a code at most for vectors of so many dimensions.
    public static func codeByteLimit(dimension: Int) -> Int {
        min(dimension, ProductQuantiser.codeByteLimit)
    }
}

extension ProductQuantiser {
    /// Trains a quantiser of a family on residuals (f32 rows). The result depends on the rows, the examples and the
    /// seed, not on the number of threads; no more than `trainingRows` rows are looked at.
    ///
    /// - Parameters:
    ///   - codeByteCount: from 1 to the dimension, at most `codeByteLimit`.
    ///   - examples: what queries looked for; `rpq` learns from them, the others pass them over. Without any `rpq` is
    ///     `weighted`.
    public static func train(
        _ family: CodeFamily, rows: VectorMatrix, codeByteCount: Int, seed: UInt64, threads: Int,
        examples: RoutingExamples? = nil
    ) -> ProductQuantiser {
        precondition(rows.count > 0 && rows.elementType == .f32)
        precondition(codeByteCount >= 1 && codeByteCount <= min(rows.dimension, codeByteLimit))
        var random = SeededRandom(seed: seed, stream: 21)
        let sample =
            rows.count <= trainingRows ? rows : rows.gather(random.sample(trainingRows, below: rows.count))
        let moments = OptimisedCodes.covariance(sample, threads: threads)
        let weights = DirectionWeights(moments)
        switch family {
        case .pq: return PlainCodes.train(sample, codeByteCount: codeByteCount, seed: seed, threads: threads)
        case .opq:
            return OptimisedCodes.train(sample, codeByteCount: codeByteCount, seed: seed, threads: threads)
        case .rpq:
            guard let examples else {
                return train(
                    .weighted, rows: sample, codeByteCount: codeByteCount, seed: seed, threads: threads)
            }
            var options = RoutingCodesOptions()
            (options.training.seed, options.training.threads) = (seed, threads)
            let trainer = RoutingCodesTrainer.fromBestStart(
                rows: sample, codeByteCount: codeByteCount, examples: examples, options: options)
            trainer.train { _ in }
            return trainer.quantiser
        case .weighted:
            return OptimisedCodes.train(
                sample, codeByteCount: codeByteCount, seed: seed, threads: threads, family: .weighted,
                weights: weights)
        case .scalar:
            return ScalarCodes.train(
                sample, codeByteCount: codeByteCount, seed: seed, threads: threads, weights: weights)
        case .narrow:
            return NarrowCodes.train(
                sample, codeByteCount: codeByteCount, seed: seed, threads: threads, weights: weights)
        }
    }
}
