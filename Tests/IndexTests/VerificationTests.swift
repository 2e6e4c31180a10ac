// Verification names every damaged page, whatever else of the index is broken.

import Build
import Foundation
import Index
import Learn
import Storage
import TestSupport
import Testing
import Vectors

struct VerificationTests {
    /// An index of which every third page has a flipped bit.
    private struct Damaged {
        let fixture: Fixture
        let path: String
        let places: [Int]

        init() throws {
            fixture = try Fixture(count: 1500, dimension: 40)
            try fixture.build("index", .l2, .none)
            path = fixture.directory.file("index")
            let segments = URL(fileURLWithPath: path + "/segments.bin")
            var data = try Data(contentsOf: segments)
            places = stride(from: 0, to: data.count, by: 3 * 4096).map { $0 }
            for place in places { data[place + place / 4096 % 4096] ^= 4 }
            try data.write(to: segments)
        }

        func spoil(_ name: String) throws {
            let url = URL(fileURLWithPath: path + "/" + name)
            var data = try Data(contentsOf: url)
            data[data.count / 2] ^= 16
            try data.write(to: url)
        }

        func namesEveryPage(_ report: VerificationReport) -> Bool {
            places.allSatisfy { place in
                report.damage.contains { $0.contains("the page at offset \(place) fails its checksum") }
            }
        }
    }

    @Test(arguments: [
        [], ["router.bin"], ["segments.table"], ["manifest.json"], ["router.bin", "segments.table"],
    ])
    func everyDamagedPageIsNamedWhateverElseIsBroken(spoiled: [String]) throws {
        let damaged = try Damaged()
        for name in spoiled { try damaged.spoil(name) }
        let report = try Verification.run(path: damaged.path)
        #expect(damaged.namesEveryPage(report), "\(spoiled): \(report.damage)")
        for name in spoiled { #expect(report.damage.contains { $0.contains(name) }, "\(name)") }
        let fails = report.damage.filter { $0.contains("fails its checksum") && $0.contains("the page") }
        #expect(fails.count == damaged.places.count)
    }

    @Test func pagesThatCannotBeReadAreNamedAndTheRestIsChecked() throws {
        let fixture = try Fixture(count: 1500, dimension: 40)
        try fixture.build("index", .l2, .none)
        let path = fixture.directory.file("index")
        let memory = try MemoryDevice(contentsOf: path + "/segments.bin")
        var plan = FaultPlan()
        plan.at = [8192: .error(EIO), 5 * 4096: .error(EIO), 0: .error(EIO)]
        let report = try Verification.run(path: path, device: FaultyDevice(memory, plan: plan))
        let unread = report.damage.filter { $0.contains("Input/output error") }
        #expect(unread.count == 3, "\(report.damage)")
        #expect(report.pages == Int(memory.byteCount) / 4096)
        #expect(!report.damage.contains { $0.contains("fails its checksum") })
    }

    @Test func segmentsAreReadOnce() throws {
        let fixture = try Fixture(count: 1500, dimension: 40)
        try fixture.build("index", .l2, .none)
        let path = fixture.directory.file("index")
        let counting = CountingDevice(try MemoryDevice(contentsOf: path + "/segments.bin"))
        let report = try Verification.run(path: path, device: counting)
        #expect(report.damage.isEmpty)
        #expect(counting.byteCountRead == counting.byteCount)
    }
}

/// A device that remembers the queues made on it, for what they counted.
private final class CountingDevice: BlockDevice, @unchecked Sendable {
    private let device: any BlockDevice
    private var queues: [any ReadQueue] = []

    init(_ device: any BlockDevice) { self.device = device }

    var path: String { device.path }
    var kind: String { device.kind }
    var byteCount: UInt64 { device.byteCount }
    var byteCountRead: UInt64 { queues.reduce(0) { $0 + $1.counters.bytes } }

    func makeQueue(depth: Int, arena: ReadArena) throws(StorageError) -> any ReadQueue {
        let queue = try device.makeQueue(depth: depth, arena: arena)
        queues.append(queue)
        return queue
    }
}
