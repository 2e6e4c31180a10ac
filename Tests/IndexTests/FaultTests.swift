// Devices that fail: the right answer or a typed error, never a wrong answer, and never a hang.

import Build
import Glibc
import Index
import Learn
import Storage
import TestSupport
import Testing
import Vectors

struct FaultTests {
    private let fixture: Fixture
    private let path: String

    init() throws {
        fixture = try Fixture(count: 4000, queryCount: 60)
        try fixture.build("index", .l2, .closure, partitions: 60)
        path = fixture.directory.file("index")
    }

    private func open(_ plan: FaultPlan, onDisk: Bool = false) throws -> DiskIndex {
        let inner: any BlockDevice =
            onDisk
            ? try Devices.open(path: path + "/segments.bin")
            : try MemoryDevice(contentsOf: path + "/segments.bin")
        return try DiskIndex(path: path, device: FaultyDevice(inner, plan: plan))
    }

    @Test(arguments: [false, true])
    func shortReadsAndDelaysChangeNothing(onDisk: Bool) throws {
        let right = try fixture.open().ask(fixture.queries, .nprobe(9))
        for seed in 1...6 {
            var plan = FaultPlan()
            plan.seed = UInt64(seed)
            plan.shortShare = [0, 0.5, 1][seed % 3]
            plan.delayShare = 1 - plan.shortShare
            for (threads, inFlight) in [(1, 1), (2, 8), (1, 60)] {
                let found = try open(plan, onDisk: onDisk)
                    .ask(fixture.queries, .nprobe(9), threads: threads, inFlight: inFlight)
                #expect(found.answers == right.answers)
                // What is counted is what was planned: the rest of a short read is the device's affair.
                #expect(found.counters.map(Cost.init) == right.counters.map(Cost.init))
            }
        }
    }

    @Test(arguments: [false, true])
    func aFailedReadIsAnErrorWithItsPlace(onDisk: Bool) throws {
        let table = try fixture.open().table
        // Reads start where segments do; joined ones at the first of them.
        let whole = try fixture.open()
        let partition = Int(whole.routed(0, of: fixture.queries, limit: 1).partitions[0])
        let everywhere = Array(0..<60).filter { table[$0].recordCount > 0 }
        var plan = FaultPlan()
        plan.at[table[partition].offset] = .error(EIO)
        let index = try open(plan, onDisk: onDisk)
        #expect(everywhere.count > 50)
        for (threads, inFlight) in [(1, 1), (2, 8)] {
            var failed = 0
            for query in 0..<fixture.queries.count {
                let one = fixture.queries.gather(query..<query + 1)
                let mustFail =
                    whole.routed(query, of: fixture.queries, limit: 1).partitions == [UInt32(partition)]
                if mustFail {
                    failed += 1
                    let error = storageError {
                        _ = try index.ask(one, .nprobe(1), threads: threads, inFlight: inFlight)
                    }
                    guard case .systemCall(_, EIO)? = error?.kind else {
                        Issue.record("\(String(describing: error))")
                        continue
                    }
                    #expect(
                        error?.offset == table[partition].offset
                            && error?.path.hasSuffix("segments.bin") == true)
                } else {
                    let found = try index.ask(one, .nprobe(1), threads: threads, inFlight: inFlight)
                    #expect(found.answers == (try whole.ask(one, .nprobe(1))).answers)
                }
            }
            #expect(failed > 0)
        }
    }

    /// Everything at once, from many seeds: all queries are answered rightly, or the search fails.
    @Test func whateverFailsNoAnswerIsWrong() throws {
        let right = try fixture.open().ask(fixture.queries, .nprobe(6))
        var (errors, answered) = (0, 0)
        for seed in 1...80 {
            var plan = FaultPlan()
            plan.seed = UInt64(seed)
            plan.errorShare = 0.005
            plan.flipShare = 0.005
            plan.shortShare = 0.3
            plan.delayShare = 0.3
            let index = try open(plan, onDisk: seed % 4 == 0)
            do {
                let found = try index.ask(
                    fixture.queries, .nprobe(6), threads: 1 + seed % 3, inFlight: 1 + seed % 9)
                #expect(found.answers == right.answers)
                answered += 1
            } catch IndexError.storage(let error) {
                guard case .systemCall(_, EIO) = error.kind else { throw error }
                errors += 1
            } catch let error as IndexError {
                guard case .corruptSegment(_, let partition, let offset) = error else { throw error }
                #expect(index.table.extent(ofSegment: partition).offset <= offset)
                #expect(offset < index.table.extent(ofSegment: partition).end)
                errors += 1
            }
        }
        #expect(errors > 5 && answered > 5, "\(errors) failed, \(answered) answered")
    }

    /// An index goes on answering after a failure.
    @Test func aFailureDoesNotStick() throws {
        let table = try fixture.open().table
        var plan = FaultPlan()
        plan.at[table[0].offset] = .error(EIO)
        let index = try open(plan, onDisk: true)
        let right = try fixture.open()
        for _ in 0..<5 {
            #expect(throws: IndexError.self) {
                try index.ask(fixture.queries, .nprobe(60), threads: 2, inFlight: 8)
            }
            let away = (0..<fixture.queries.count).filter {
                !right.routed($0, of: fixture.queries, limit: 4).partitions.contains(0)
            }
            let some = fixture.queries.gather(away.map { UInt32($0) })
            #expect(
                try index.ask(some, .nprobe(4), threads: 2, inFlight: 8).answers
                    == right.ask(some, .nprobe(4)).answers)
        }
    }

    @Test func sweepsFailInTheSameWay() throws {
        let index = try fixture.open()
        let everything = (0..<fixture.queries.count).map { _ in Array(0..<UInt32(60)) }
        let sweepPlan = SweepLists(chosen: everything, partitionCount: 60)
        for (fault, isRight) in [
            (Fault.short, true), (.delay(3), true), (.error(EIO), false), (.flip(12345), false),
        ] {
            var plan = FaultPlan()
            plan.at[index.table[0].offset] = fault
            let sweep = BatchSweep(index: try open(plan), queries: fixture.queries, k: 10, threads: 2)
            if isRight {
                _ = try sweep.sweep(sweepPlan)
                #expect(sweep.takeAnswers(k: 10) == (try fixture.truth(k: 10)))
            } else {
                #expect(throws: (any Error).self) { try sweep.sweep(sweepPlan) }
            }
        }
    }
}
