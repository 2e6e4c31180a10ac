// The plan turned round: a sweep finds what single searches find, and reads each segment once.

import Build
import Index
import Learn
import Storage
import TestSupport
import Testing
import Vectors

struct BatchSweepTests {
    @Test(arguments: [Kind.none, .closure, .soar], Metric.allCases)
    func aSweepFindsWhatSearchFinds(kind: Kind, metric: Metric) throws {
        for elementType in [ElementType.u8, .f32] {
            let fixture = try Fixture(elementType, count: 4000, queryCount: 150)
            try fixture.build("\(elementType)", metric, kind, partitions: 60)
            let memory = try fixture.open("\(elementType)")
            for index in [memory, try DiskIndex(path: memory.path)] {
                for nprobe in [1, 8, 60] {
                    let found = try index.ask(fixture.queries, .nprobe(nprobe))
                    let chosen = (0..<150).map {
                        index.routed($0, of: fixture.queries, limit: nprobe).partitions
                    }
                    for threads in [1, 2] {
                        let sweep = BatchSweep(
                            index: index, queries: fixture.queries, k: 10, threads: threads)
                        let counters = try sweep.sweep(SweepLists(chosen: chosen, partitionCount: 60))
                        #expect(sweep.takeAnswers(k: 10) == found.answers)
                        let wanted = Set(chosen.joined()).filter { index.table[Int($0)].recordCount > 0 }
                        #expect(counters.segments == UInt64(wanted.count))
                        #expect(
                            counters.bytes
                                == wanted.reduce(0) { $0 + UInt64(index.table.byteCount(ofSegment: Int($1))) }
                        )
                        #expect(
                            counters.vectors
                                == wanted.reduce(0) { $0 + UInt64(index.table[Int($1)].recordCount) })
                        #expect(counters.comparisons == found.counters.reduce(0) { $0 + $1.vectors })
                        #expect(counters.reads >= 1 && counters.reads <= counters.segments)
                    }
                }
            }
        }
    }

    /// Rounds of a plan add up: what one sweep found another one can improve.
    @Test func sweepsAddUp() throws {
        let fixture = try Fixture(.f16, count: 3000)
        try fixture.build("index", .l2, .closure, partitions: 40)
        let index = try fixture.open()
        let sweep = BatchSweep(index: index, queries: fixture.queries, k: 10, threads: 2)
        for half in 0..<2 {
            let chosen = (0..<fixture.queries.count).map { _ in
                (0..<40).filter { $0 % 2 == half }.map { UInt32($0) }
            }
            _ = try sweep.sweep(SweepLists(chosen: chosen, partitionCount: 40))
        }
        #expect(sweep.takeAnswers(k: 10) == (try fixture.truth(k: 10)))
        #expect(sweep.takeAnswers(k: 10).ids.allSatisfy { $0 == TruthFile.noId })
    }

    /// Large and small reads by turns, several megabytes: the arena always has room for the next one.
    @Test(arguments: [1, 2])
    func readsOfAllSizesFitTheArena(threads: Int) throws {
        let fixture = try Fixture(.f32, count: 12000, dimension: 300, queryCount: 2, clusters: 40)
        try fixture.build("index", partitions: 150) { $0.iterations = 2 }
        let index = try DiskIndex(path: fixture.directory.file("index"))
        #expect(index.table.byteCount > 14 << 20)
        for step in 1...12 {
            // Runs of many lengths between gaps.
            let chosen = [
                (0..<150).filter { $0 % 13 % step != 0 || $0 % 29 > step }.map { UInt32($0) }, [UInt32(step)],
            ]
            let sweep = BatchSweep(index: index, queries: fixture.queries, k: 5, threads: threads)
            let counters = try sweep.sweep(SweepLists(chosen: chosen, partitionCount: 150))
            #expect(counters.segments >= UInt64(chosen[0].count))
        }
    }

    @Test func anEmptyPlanReadsNothing() throws {
        let fixture = try Fixture(count: 200)
        try fixture.build("index", partitions: 4)
        let sweep = BatchSweep(index: try fixture.open(), queries: fixture.queries, k: 3, threads: 2)
        let plan = SweepLists(
            chosen: [[UInt32]](repeating: [], count: fixture.queries.count), partitionCount: 4)
        let counters = try sweep.sweep(plan)
        #expect(
            counters.reads == 0 && counters.bytes == 0 && counters.segments == 0 && counters.comparisons == 0)
        #expect(sweep.takeAnswers(k: 3).ids.allSatisfy { $0 == TruthFile.noId })
    }
}
