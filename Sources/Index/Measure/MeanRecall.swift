// The mean of recalls, and how sure it is.

/// Mean and standard error of the recalls of some queries.
package struct MeanRecall: Sendable {
    package private(set) var sum = 0.0
    package private(set) var squares = 0.0
    package private(set) var count = 0

    package init() {}

    package mutating func add(_ recall: Double) {
        sum += recall
        squares += recall * recall
        count += 1
    }

    package var mean: Double { sum / Double(max(count, 1)) }
    package var error: Double {
        guard count > 1 else { return 1 }
        return (max(0, squares / Double(count) - mean * mean) / Double(count - 1)).squareRoot()
    }

    /// What it is, but for bad luck: one standard error below.
    package var sure: Double { mean - error }

    /// As thresholds are stored: no more digits than mean something.
    package func point(_ lambda: Double) -> CalibratedPolicies.Point {
        .init(lambda: lambda, recall: mean.shortened, error: error.shortened)
    }
}

extension Double {
    package var shortened: Double { (self * 1e6).rounded() / 1e6 }
}
