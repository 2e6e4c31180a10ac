// Reads through io_uring: one ring, one arena, one thread. The only file that imports CUring. On the path
// of a read nothing is allocated and no protocol is crossed inside.

import CUring
import Glibc

/// A queue of direct reads. Made by `DirectFile`.
public final class RingQueue: ReadQueue {
    public let depth: Int
    /// Whether the arena is registered with the kernel; without, each read pins its pages (over 1 GiB, or
    /// beyond the limit of locked memory, `ulimit -l`).
    public let arenaIsRegistered: Bool
    public let fileIsRegistered: Bool
    /// Whether the kernel runs completions only when this thread waits.
    public let defersCompletions: Bool

    private let ring: OpaquePointer
    private let arena: ReadArena
    private let file: DirectFile
    private var ledger: ReadLedger
    private let finished: UnsafeMutablePointer<sonde_completion>
    private let largestRead: Int
    /// Why the kernel takes no calls of this ring any more.
    private var broken: StorageError?
    /// Milliseconds without a completion after which a kernel that refuses calls counts as lost.
    private var patience: UInt32 = 10_000
    /// Reads queued and perhaps not yet handed to the kernel.
    private var queued = 0

    /// Reads go to the kernel two by two: of three or more it holds back all until it has prepared the last
    /// (the block layer's plug), which cost 15 % of the rate of 4 KiB reads, 32 in flight.
    private static let pushCount = 2

    init(file: DirectFile, depth: Int, arena: ReadArena, largestRead: Int) throws(StorageError) {
        var opened: OpaquePointer?
        let result = sonde_ring_open(&opened, UInt32(depth), file.descriptor)
        guard result == 0, let opened else {
            throw StorageError.systemCall("io_uring_setup", path: file.path, errno: -result)
        }
        ring = opened
        arenaIsRegistered = sonde_ring_register_arena(opened, arena.base, arena.byteCount) == 0
        fileIsRegistered = sonde_ring_register_file(opened) == 0
        defersCompletions = sonde_ring_defers(opened) == 1
        self.depth = depth
        self.arena = arena
        self.file = file
        self.largestRead = largestRead
        ledger = ReadLedger(depth: depth, device: file)
        finished = .allocate(capacity: depth)
    }

    deinit {
        // Reads under way land in the arena, which goes with this object.
        if ledger.inFlight > 0 { try? drain() }
        sonde_ring_close(ring)
        finished.deallocate()
    }

    public var inFlight: Int { ledger.inFlight }
    public var counters: IOCounters { ledger.counters }

    public func submit(offset: UInt64, byteCount: Int, arenaOffset: Int, tag: UInt64) {
        queue(
            ledger.begin(
                offset: offset, byteCount: byteCount, arenaOffset: arenaOffset, tag: tag, arena: arena))
    }

    /// Queues what is left of the read at `slot`.
    private func queue(_ slot: Int) {
        if broken != nil { return }
        let read = ledger[slot]
        let byteCount = min(read.restByteCount, largestRead)
        ledger.count(byteCount: byteCount)
        let result = sonde_ring_queue_read(
            ring, arena.base + read.restArenaOffset, UInt32(byteCount), read.restOffset, UInt64(slot))
        precondition(result == 0, "the ring has an entry for each read in flight")
        queued += 1
        // A refusal is met again by the next wait, which also makes room.
        if queued >= Self.pushCount && sonde_ring_push(ring) == 0 { queued = 0 }
    }

    public func flush() throws(StorageError) {
        do {
            try enter { sonde_ring_submit(ring) }
        } catch {
            throw settle(error)
        }
    }

    /// Asks the kernel for nothing, to see whether it takes every call that reads need. Of a queue that is not used
    /// otherwise: it belongs to this thread from then on.
    func probe() throws(StorageError) {
        let result = sonde_ring_probe(ring)
        guard result == 0 else {
            throw StorageError.systemCall("io_uring_enter", path: file.path, errno: -result)
        }
    }

    /// Waits for the reads that the kernel has, though it has refused a call, and forgets all.
    ///
    /// Where it completes none for long, as a kernel does that takes no calls any more, the queue is of no more use: it
    /// throws that failure for ever, and keeps the arena for good, in which those reads may still land.
    private func settle(_ error: StorageError) -> StorageError {
        if broken == nil, ledger.inFlight > 0,
            sonde_ring_settle(ring, UInt32(ledger.inFlight), patience) != 0
        {
            broken = error
            _ = Unmanaged.passRetained(arena)
        }
        ledger.endAll()
        return error
    }

    /// For tests: the kernel seems to refuse the next calls.
    package func refuseCalls(_ count: Int, errno: Int32, patience: Int) {
        sonde_ring_refuse(ring, errno, UInt32(count))
        self.patience = UInt32(patience)
    }

    public func wait(atLeast: Int, into completions: inout [ReadCompletion]) throws(StorageError) {
        let start = completions.count
        let wanted = min(atLeast, inFlight)
        var failure: StorageError?
        while true {
            let missing = failure == nil ? max(0, wanted - (completions.count - start)) : inFlight
            do {
                try enter {
                    missing > 0 ? sonde_ring_submit_and_wait(ring, UInt32(missing)) : sonde_ring_submit(ring)
                }
            } catch {
                completions.removeSubrange(start...)
                throw settle(error)
            }
            let count = Int(sonde_ring_reap(ring, finished, UInt32(depth)))
            for index in 0..<count {
                let slot = Int(finished[index].tag)
                do {
                    if let completion = try ledger.settle(slot, result: Int(finished[index].result)) {
                        completions.append(completion)
                    } else if failure != nil {
                        ledger.end(slot)
                    } else {
                        queue(slot)
                    }
                } catch {
                    if failure == nil { failure = error }
                }
            }
            if let failure {
                guard inFlight == 0 else { continue }
                completions.removeSubrange(start...)
                throw failure
            }
            if completions.count - start >= wanted { return }
        }
    }

    /// Whether a file's filesystem takes O_DIRECT and reads from memory all the same.
    static func liesInMemory(descriptor: Int32) -> Bool { sonde_file_in_memory(descriptor) == 1 }

    /// Enters the kernel until it neither is interrupted nor short of room for completions.
    private func enter(_ call: () -> Int32) throws(StorageError) {
        if let broken { throw broken }
        while true {
            let result = call()
            queued = 0
            if result >= 0 || result == -EAGAIN || result == -EBUSY { return }
            if result == -EINTR { continue }
            throw StorageError.systemCall("io_uring_enter", path: file.path, errno: -result)
        }
    }
}
