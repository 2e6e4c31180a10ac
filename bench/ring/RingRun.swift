// Our ring at one block size and depth: as many reads in flight as it is deep, each place read into again as
// soon as it is free.

import Glibc
import Storage

struct RingRun {
    let device: DirectFile
    let seconds: Double
    /// Places in the file as shares of 2^32, random, made before the clock starts.
    let places: [UInt32]

    init(device: DirectFile, seconds: Double) {
        self.device = device
        self.seconds = seconds
        var state = UInt64.random(in: 1...UInt64.max)
        places = (0..<1 << 20).map { _ in
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return UInt32(truncatingIfNeeded: state >> 32)
        }
    }

    func run(blockByteCount: Int, depth: Int) throws -> Rate {
        let arena = try ReadArena(byteCount: blockByteCount * depth)
        let ring = try device.makeRing(depth: depth, arena: arena)
        guard ring.arenaIsRegistered && ring.fileIsRegistered else {
            throw RunFailure(description: "the kernel registers no buffers or files: raise `ulimit -l`")
        }
        // As the engine holds it.
        let queue: any ReadQueue = ring
        let blocks = device.byteCount / UInt64(blockByteCount)
        // The memory is there before the clock starts, as fio's is.
        memset(arena.base, 1, arena.byteCount)

        var next = Int.random(in: 0..<places.count)
        func submit(slot: Int) {
            let block = UInt64(places[next]) * blocks >> 32
            next = (next + 1) & (places.count - 1)
            queue.submit(
                offset: block * UInt64(blockByteCount), byteCount: blockByteCount,
                arenaOffset: slot * blockByteCount, tag: UInt64(slot))
        }

        var completions: [ReadCompletion] = []
        completions.reserveCapacity(depth)
        var count = 0
        let (start, processorStart) = (clockSeconds(CLOCK_MONOTONIC), clockSeconds(CLOCK_THREAD_CPUTIME_ID))
        var now = start
        for slot in 0..<depth { submit(slot: slot) }
        while now - start < seconds {
            completions.removeAll(keepingCapacity: true)
            try queue.wait(atLeast: 1, into: &completions)
            count += completions.count
            for completion in completions { submit(slot: Int(completion.tag)) }
            now = clockSeconds(CLOCK_MONOTONIC)
        }
        let processor = clockSeconds(CLOCK_THREAD_CPUTIME_ID) - processorStart
        try queue.drain()
        let rate = Double(count) / (now - start)
        return Rate(
            readsPerSecond: rate, bytesPerSecond: rate * Double(blockByteCount),
            processorMicroseconds: processor * 1e6 / Double(max(count, 1)))
    }
}

private func clockSeconds(_ clock: clockid_t) -> Double {
    var time = timespec()
    clock_gettime(clock, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}
