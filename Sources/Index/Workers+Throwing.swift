// Parallel loops whose bodies can fail, and the clock that stages and queries are timed by.

import Glibc
import Router
import Synchronization

extension Workers {
    /// Calls `body(index)` for each index below `count` on up to `threads` threads. Where bodies fail, the
    /// error of the lowest index is thrown after all running ones have ended; later ones are not begun.
    static func tryForEach(count: Int, threads: Int, body: @Sendable (Int) throws -> Void) throws {
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

/// Nanoseconds of a clock that only goes forward.
@inline(__always)
func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}
