// Results of parallel tasks, each at a place of its own.

/// A place for the result of each task of a parallel loop; written by one thread, read after all are done.
package final class ResultSlots<Result: Sendable>: @unchecked Sendable {
    private let results: UnsafeMutablePointer<Result?>
    private let count: Int

    package init(count: Int) {
        self.count = count
        results = .allocate(capacity: max(count, 1))
        results.initialize(repeating: nil, count: count)
    }

    deinit {
        results.deinitialize(count: count)
        results.deallocate()
    }

    package func set(_ index: Int, _ result: Result) { results[index] = result }

    /// Moves a result out.
    package func take(_ index: Int) -> Result? {
        let result = results[index]
        results[index] = nil
        return result
    }
}
