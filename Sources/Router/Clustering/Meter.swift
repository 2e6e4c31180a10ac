// How far a long computation is, told to whoever asked for it.

import Synchronization

/// How far a training is. Iterations that converge early leave a gap, which `reach` closes.
final class Meter: Sendable {
    let total: Int
    private let report: (@Sendable (Int, Int) -> Void)?
    private let done = Mutex(0)

    init(total: Int, report: (@Sendable (Int, Int) -> Void)?) {
        self.total = total
        self.report = report
    }

    /// - Parameter most: what is done at most now: the work is estimated.
    func add(_ work: Int, until most: Int = .max) { move { max($0, min($0 + work, most)) } }

    func reach(_ work: Int) { move { max($0, work) } }

    private func move(_ step: (Int) -> Int) {
        guard let report else { return }
        let now = done.withLock { done in
            done = min(step(done), total)
            return done
        }
        report(now, total)
    }
}
