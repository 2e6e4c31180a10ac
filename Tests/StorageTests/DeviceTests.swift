import Foundation
import Storage
import TestSupport
import Testing

/// Serialized, because one of them compares with what the kernel counts of the whole process.
@Suite(.serialized)
struct DeviceTests {
    private static let pages = 64
    private let directory: TemporaryDirectory
    private let path: String
    private let data: [UInt8]

    init() throws {
        // Direct reads need a disk; the temporary directory may lie in memory, the build does not.
        let build = FileManager.default.currentDirectoryPath + "/.build"
        directory = try TemporaryDirectory(
            parent: FileManager.default.fileExists(atPath: build) ? build : NSTemporaryDirectory())
        data = noise(Self.pages * 4096, seed: 11)
        path = try directory.write(data, as: "pages.bin")
    }

    /// Every device that is to give the same bytes; the ring also where it returns 8 KiB at most.
    private func devices() throws -> [any BlockDevice] {
        var all: [any BlockDevice] = [
            try BufferedFile(path: path, threads: 3), try MemoryDevice(contentsOf: path),
            try Devices.open(path: path),
        ]
        if all[2].kind == "direct" { all.append(try DirectFile(path: path, largestRead: 8192)) }
        return all
    }

    private func expect(_ arena: ReadArena, at place: Int, holds extent: Extent) {
        let got = UnsafeRawBufferPointer(start: arena.base + place, count: extent.byteCount)
        #expect(got.elementsEqual(data[Int(extent.offset)..<Int(extent.end)]))
    }

    /// Random extents of 1 to 8 pages, the end of the file among them, with up to 16 in flight.
    private func readMuch(_ device: any BlockDevice) throws {
        let arena = try ReadArena(byteCount: 16 * 8 * 4096)
        let queue = try device.makeQueue(depth: 16, arena: arena)
        var extents = zip(noise(200, seed: 5), noise(200, seed: 6)).map { first, count in
            let count = Int(count % 8) + 1
            return Extent(
                offset: UInt64(Int(first) % (Self.pages - count + 1) * 4096), byteCount: count * 4096)
        }
        extents.append(Extent(offset: UInt64(Self.pages - 1) * 4096, byteCount: 4096))
        var places = [Int](repeating: 0, count: extents.count)
        var (submitted, completed) = (0, 0)
        var completions: [ReadCompletion] = []
        while completed < extents.count {
            while submitted < extents.count, queue.inFlight < queue.depth,
                let place = arena.allocate(byteCount: extents[submitted].byteCount)
            {
                places[submitted] = place
                queue.submit(
                    offset: extents[submitted].offset, byteCount: extents[submitted].byteCount,
                    arenaOffset: place,
                    tag: UInt64(submitted))
                submitted += 1
            }
            completions.removeAll()
            try queue.wait(atLeast: 3, into: &completions)
            #expect(completions.count >= min(3, extents.count - completed))
            for completion in completions {
                let extent = extents[Int(completion.tag)]
                #expect(completion.byteCount == extent.byteCount)
                expect(arena, at: places[Int(completion.tag)], holds: extent)
                arena.release(offset: places[Int(completion.tag)], byteCount: extent.byteCount)
            }
            completed += completions.count
        }
        #expect(queue.inFlight == 0 && arena.usedByteCount == 0)
        #expect(queue.counters.reads >= UInt64(extents.count))
        #expect(queue.counters.bytes >= UInt64(extents.reduce(0) { $0 + $1.byteCount }))
    }

    @Test func everyDeviceReadsWhatTheFileHolds() throws {
        for device in try devices() {
            #expect(device.byteCount == UInt64(data.count))
            try readMuch(device)
        }
    }

    @Test func delaysAndShortReadsChangeNothing() throws {
        var plan = FaultPlan()
        plan.delayShare = 0.4
        plan.shortShare = 0.4
        for device in try devices() { try readMuch(FaultyDevice(device, plan: plan)) }
    }

    @Test func aReadPastTheEndIsTruncatedAndTheQueueGoesOn() throws {
        for device in try devices() {
            let arena = try ReadArena(byteCount: 16 * 4096)
            let queue = try device.makeQueue(depth: 4, arena: arena)
            var completions = [ReadCompletion(tag: 99, byteCount: 0)]
            queue.submit(offset: 0, byteCount: 4096, arenaOffset: 0, tag: 1)
            queue.submit(
                offset: UInt64(Self.pages - 2) * 4096, byteCount: 4 * 4096, arenaOffset: 4096, tag: 2)
            queue.submit(offset: UInt64(Self.pages) * 4096, byteCount: 4096, arenaOffset: 8 * 4096, tag: 3)
            #expect(kind { try queue.wait(atLeast: 3, into: &completions) } == .truncated)
            #expect(queue.inFlight == 0 && completions.count == 1)
            queue.submit(offset: 4096, byteCount: 4096, arenaOffset: 0, tag: 4)
            try queue.wait(atLeast: 1, into: &completions)
            #expect(completions.last == ReadCompletion(tag: 4, byteCount: 4096))
            expect(arena, at: 0, holds: Extent(offset: 4096, byteCount: 4096))
        }
    }

    @Test func aFileThatEndsInsideAPageIsTruncatedThere() throws {
        let torn = try directory.write(Array(data[..<(2 * 4096 + 100)]), as: "torn.bin")
        for device: any BlockDevice in [
            try BufferedFile(path: torn), try MemoryDevice(contentsOf: torn), try Devices.open(path: torn),
        ] {
            let arena = try ReadArena(byteCount: 4 * 4096)
            let queue = try device.makeQueue(depth: 1, arena: arena)
            var completions: [ReadCompletion] = []
            queue.submit(offset: 4096, byteCount: 8192, arenaOffset: 0, tag: 0)
            do {
                try queue.wait(atLeast: 1, into: &completions)
                Issue.record("a torn page was read by \(device.kind)")
            } catch {
                #expect(error.kind == .truncated && error.path == torn && error.offset == 4096)
                #expect(error.expected == "8192 bytes" && error.found == "4196")
            }
        }
    }

    @Test func anErrorDrainsThenThrowsWithItsPlace() throws {
        var plan = FaultPlan()
        plan.at[8192] = .error(EIO)
        for device in try devices() {
            let arena = try ReadArena(byteCount: 32 * 4096)
            let queue = try FaultyDevice(device, plan: plan).makeQueue(depth: 8, arena: arena)
            for page in 0..<8 {
                queue.submit(
                    offset: UInt64(page) * 4096, byteCount: 4096, arenaOffset: page * 4096, tag: UInt64(page))
            }
            var completions: [ReadCompletion] = []
            do {
                try queue.wait(atLeast: 8, into: &completions)
                Issue.record("an error was swallowed by \(device.kind)")
            } catch {
                #expect(error.kind == .systemCall(name: "read of 4096 bytes", errno: EIO))
                #expect(error.offset == 8192 && error.path == device.path)
            }
            #expect(completions.isEmpty && queue.inFlight == 0)
        }
    }

    @Test func aFlippedBitComesThroughAsData() throws {
        var plan = FaultPlan()
        plan.at[0] = .flip(4097 * 8)
        let arena = try ReadArena(byteCount: 2 * 4096)
        let queue = try FaultyDevice(MemoryDevice(bytes: data), plan: plan).makeQueue(depth: 1, arena: arena)
        var completions: [ReadCompletion] = []
        queue.submit(offset: 0, byteCount: 8192, arenaOffset: 0, tag: 0)
        try queue.wait(atLeast: 1, into: &completions)
        #expect(arena.base.load(fromByteOffset: 4097, as: UInt8.self) == data[4097] ^ 1)
        #expect(arena.base.load(fromByteOffset: 4096, as: UInt8.self) == data[4096])
    }

    @Test func faultsDependOnlyOnTheSeed() {
        var plan = FaultPlan()
        plan.errorShare = 0.3
        plan.flipShare = 0.3
        var other = plan
        other.seed = 2
        let offsets = (0..<500).map { UInt64($0) * 4096 }
        #expect(offsets.map(plan.fault) == offsets.map(plan.fault))
        #expect(offsets.map(plan.fault) != offsets.map(other.fault))
        let errors = offsets.filter { plan.fault(at: $0) == .error(EIO) }.count
        #expect((100...200).contains(errors))
    }

    @Test func lookingWithoutWaitingReturnsAtOnce() throws {
        for device in try devices() {
            let queue = try device.makeQueue(depth: 2, arena: ReadArena(byteCount: 4096))
            var completions: [ReadCompletion] = []
            try queue.wait(atLeast: 0, into: &completions)
            try queue.wait(atLeast: 5, into: &completions)
            queue.submit(offset: 0, byteCount: 4096, arenaOffset: 0, tag: 0)
            try queue.flush()
            try queue.drain()
            #expect(completions.isEmpty && queue.inFlight == 0)
        }
    }

    @Test func aQueueMayBeMadeByOneThreadAndUsedByAnother() throws {
        struct Handed: @unchecked Sendable { let queue: any ReadQueue }
        let arena = try ReadArena(byteCount: 4096)
        let handed = Handed(queue: try Devices.open(path: path).makeQueue(depth: 1, arena: arena))
        let thread = Thread {
            handed.queue.submit(offset: 4096, byteCount: 4096, arenaOffset: 0, tag: 0)
            try? handed.queue.drain()
        }
        thread.start()
        while !thread.isFinished { usleep(1000) }
        expect(arena, at: 0, holds: Extent(offset: 4096, byteCount: 4096))
    }

    @Test func aQueueThatGoesWithReadsInFlightIsHarmless() throws {
        for device in try devices() {
            let arena = try ReadArena(byteCount: 32 * 4096)
            let queue = try device.makeQueue(depth: 8, arena: arena)
            for page in 0..<8 {
                queue.submit(offset: UInt64(page) * 4096, byteCount: 4096, arenaOffset: page * 4096, tag: 0)
            }
            try queue.flush()
        }
    }

    @Test func theKernelCountsWhatTheRingCounts() throws {
        guard let device = try? DirectFile(path: path), IOCounters.processReadBytes() != nil else { return }
        let arena = try ReadArena(byteCount: 8 * 4096)
        let queue = try device.makeQueue(depth: 8, arena: arena)
        var completions: [ReadCompletion] = []
        // Other suites of this process may read the disk at the same time, for seconds on end: the best of many is
        // taken, with pauses, until one had the disk for itself.
        var least = UInt64.max
        for attempt in 0..<1000 where least > 64 * 4096 {
            if attempt > 0 { usleep(20_000) }
            let (asked, before) = (queue.counters, try #require(IOCounters.processReadBytes()))
            for round in 0..<8 {
                for slot in 0..<8 {
                    queue.submit(
                        offset: UInt64((round * 8 + slot * 5) % Self.pages) * 4096, byteCount: 4096,
                        arenaOffset: slot * 4096, tag: 0)
                }
                try queue.wait(atLeast: 8, into: &completions)
            }
            let counted = try #require(IOCounters.processReadBytes()) - before
            #expect(queue.counters - asked == IOCounters(reads: 64, bytes: 64 * 4096))
            #expect(counted >= 64 * 4096)
            least = min(least, counted)
        }
        #expect(least == 64 * 4096)
    }

    @Test func aFilesystemInMemoryIsReadBuffered() throws {
        guard FileManager.default.fileExists(atPath: "/dev/shm") else { return }
        let memory = try TemporaryDirectory(parent: "/dev/shm")
        let path = try memory.write(data, as: "pages.bin")
        #expect(kind { _ = try DirectFile(path: path) } == .unsupported)
        let device = try Devices.open(path: path)
        #expect(device.kind == "buffered")
        #expect((device as? BufferedFile)?.reason == "its filesystem lies in memory")
        try readMuch(device)
    }

    @Test func filesThatCannotBeOpenedSaySo() throws {
        #expect(kind { _ = try Devices.open(path: directory.file("none")) } == .missing)
        #expect(kind { _ = try Devices.open(path: directory.path) } != nil)
        let empty = try directory.write([], as: "empty")
        #expect(try Devices.open(path: empty).byteCount == 0)
    }
}
