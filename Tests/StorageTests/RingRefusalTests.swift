// A ring whose calls the kernel refuses: what is in flight is waited for all the same.

import Foundation
import Storage
import TestSupport
import Testing

@Suite struct RingRefusalTests {
    private static let pages = 32
    private let directory: TemporaryDirectory
    private let path: String

    init() throws {
        let build = FileManager.default.currentDirectoryPath + "/.build"
        directory = try TemporaryDirectory(
            parent: FileManager.default.fileExists(atPath: build) ? build : NSTemporaryDirectory())
        path = try directory.write(noise(Self.pages * 4096, seed: 3), as: "pages.bin")
    }

    private func submit(_ count: Int, to queue: RingQueue) {
        for slot in 0..<count {
            queue.submit(offset: UInt64(slot) * 4096, byteCount: 4096, arenaOffset: slot * 4096, tag: 0)
        }
    }

    @Test func aRefusedCallWaitsForAllReadsAndTheQueueGoesOn() throws {
        guard let device = try? DirectFile(path: path) else { return }
        let arena = try ReadArena(byteCount: 8 * 4096)
        let queue = try device.makeRing(depth: 8, arena: arena)
        var completions: [ReadCompletion] = []
        for refused in [1, 2, 5] {
            // Some are with the kernel, the last one is not.
            submit(7, to: queue)
            queue.refuseCalls(refused, errno: ENOMEM, patience: 5000)
            #expect(throws: StorageError.self) { try queue.wait(atLeast: 7, into: &completions) }
            #expect(queue.inFlight == 0 && completions.isEmpty)
            // The arena is the caller's: nothing lands in it any more.
            memset(arena.base, 0x5a, arena.byteCount)
            usleep(5000)
            let bytes = UnsafeRawBufferPointer(start: arena.base, count: arena.byteCount)
            #expect(bytes.allSatisfy { $0 == 0x5a })
            submit(8, to: queue)
            try queue.wait(atLeast: 8, into: &completions)
            #expect(completions.count == 8 && bytes.contains { $0 != 0x5a })
            completions.removeAll()
        }
        submit(3, to: queue)
        queue.refuseCalls(1, errno: EIO, patience: 5000)
        #expect(throws: StorageError.self) { try queue.flush() }
        #expect(queue.inFlight == 0)
    }

    @Test func aKernelThatTakesNoCallsAnyMoreIsNotWaitedForForEver() throws {
        guard let device = try? DirectFile(path: path) else { return }
        let queue = try device.makeRing(depth: 8, arena: ReadArena(byteCount: 8 * 4096))
        guard queue.defersCompletions else { return }
        submit(6, to: queue)
        queue.refuseCalls(1_000_000, errno: EPERM, patience: 20)
        for _ in 0..<2 {
            var completions: [ReadCompletion] = []
            #expect(throws: StorageError.self) { try queue.wait(atLeast: 1, into: &completions) }
            #expect(queue.inFlight == 0 && completions.isEmpty)
        }
    }
}
