// Parallel loops. A loop's result must not depend on who does what: every index writes places of its own,
// and sums are taken over indices in order afterwards. Then one thread and many give the same bits.

import Glibc
import Synchronization

/// Loops over a queue of indices, worked off by threads that end with the loop.
public enum Workers {
    /// The number of processors this process may use.
    public static var processorCount: Int { max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) }

    /// Calls `body(index)` once for each index below `count`, on up to `threads` threads (the calling one
    /// included). Indices are handed out in rising order, one at a time; returns when all are done.
    public static func forEach(count: Int, threads: Int, body: @Sendable (Int) -> Void) {
        forEach(count: count, threads: threads) { _, index in body(index) }
    }

    /// The same; `body(worker, index)` also learns which worker it runs on (0 ..< `threads`), for scratch
    /// memory of a worker's own.
    public static func forEach(count: Int, threads: Int, body: @Sendable (Int, Int) -> Void) {
        let workers = max(1, min(threads, count))
        if workers == 1 {
            for index in 0..<count { body(0, index) }
            return
        }
        withoutActuallyEscaping(body) { body in
            let job = Job(count: count, body: body)
            var handles: [pthread_t] = []
            for worker in 1..<workers {
                let start = Unmanaged.passRetained(Start(job: job, worker: worker))
                var handle = pthread_t()
                let failed = pthread_create(
                    &handle, nil,
                    { raw in
                        let start = Unmanaged<Start>.fromOpaque(raw!).takeRetainedValue()
                        start.job.run(worker: start.worker)
                        return nil
                    }, start.toOpaque())
                // Where no thread can be had, the ones that run do its share.
                if failed == 0 { handles.append(handle) } else { start.release() }
            }
            job.run(worker: 0)
            for handle in handles { pthread_join(handle, nil) }
            job.body = { _, _ in }
        }
    }

    /// Splits `count` things into blocks of `blockSize` and calls `body(worker, range)` for each.
    public static func forEachBlock(
        count: Int, blockSize: Int, threads: Int, body: @Sendable (Int, Range<Int>) -> Void
    ) {
        forEach(count: (count + blockSize - 1) / blockSize, threads: threads) { worker, block in
            body(worker, block * blockSize..<min(count, (block + 1) * blockSize))
        }
    }

    private final class Job: @unchecked Sendable {
        let count: Int
        var body: @Sendable (Int, Int) -> Void
        private let following = Atomic<Int>(0)

        init(count: Int, body: @escaping @Sendable (Int, Int) -> Void) {
            self.count = count
            self.body = body
        }

        func run(worker: Int) {
            while true {
                let index = following.wrappingAdd(1, ordering: .relaxed).oldValue
                if index >= count { return }
                body(worker, index)
            }
        }
    }

    private final class Start {
        let job: Job
        let worker: Int
        init(job: Job, worker: Int) {
            self.job = job
            self.worker = worker
        }
    }
}

extension Workers {
    /// Calls `body(index)` for each index below `count` on up to `threads` threads. Where bodies fail, the
    /// error of the lowest index is thrown after all running ones have ended; later ones are not begun.
    public static func tryForEach(count: Int, threads: Int, body: @Sendable (Int) throws -> Void) throws {
        let first = Mutex<(index: Int, error: any Error)?>(nil)
        forEach(count: count, threads: threads) { index in
            if first.withLock({ $0 != nil }) { return }
            do {
                try body(index)
            } catch {
                first.withLock { held in
                    if held == nil || held!.index > index { held = (index, error) }
                }
            }
        }
        if let failed = first.withLock({ $0 }) { throw failed.error }
    }
}
