import Vectors

public enum CodeFamily: String, Sendable, CaseIterable {
    case pq
    case opq

    public static func codeByteLimit(dimension: Int) -> Int { min(dimension, ProductQuantiser.codeByteLimit) }
}

extension ProductQuantiser {
    public static let trainingRows = 65_536
    public static func train(
        _ family: CodeFamily, rows: VectorMatrix, codeByteCount: Int, seed: UInt64, threads: Int
    ) -> ProductQuantiser {
        train(rows, codeByteCount: codeByteCount, seed: seed, threads: threads)
    }
}
