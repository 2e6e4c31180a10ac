// Search against brute force: what is answered, and what is counted.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

struct SearchTests {
    /// Reading everything gives the truth to the bit, ties by id: the same kernels, whatever lies between.
    @Test(arguments: Metric.allCases, ElementType.allCases)
    func allPartitionsReadGiveTheTruth(metric: Metric, elementType: ElementType) throws {
        let fixture = try Fixture(elementType)
        let truth = try fixture.truth(k: 20, metric)
        for kind in [Kind.none, .closure, .soar] {
            try fixture.build(kind.rawValue, metric, kind)
            let index = try fixture.open(kind.rawValue)
            #expect(index.hasReplicas == (kind != .none))
            let found = try index.ask(fixture.queries, k: 20, .nprobe(index.partitionCount))
            #expect(found.answers == truth, "\(kind)")
            for k in [1, 10, 20] {
                #expect(Recall.mean(of: found.answers, against: truth, k: k, metric: metric) == 1)
            }
        }
    }

    @Test(arguments: [Metric.l2, .cosine], ElementType.allCases)
    func headsAreAnsweredFromMemory(metric: Metric, elementType: ElementType) throws {
        let fixture = try Fixture(elementType)
        let truth = try fixture.truth(k: 20, metric)
        for kind in [Kind.heads, .headsWithClosure] {
            try fixture.build(kind.rawValue, metric, kind)
            let index = try fixture.open(kind.rawValue)
            let heads = try #require(index.headIds)
            #expect(heads.count == index.partitionCount && Set(heads).count == heads.count)
            #expect(Set(try index.idsByPartition().joined()).isDisjoint(with: heads.map { UInt64($0) }))
            let found = try index.ask(fixture.queries, k: 20, .nprobe(index.partitionCount))
            if metric == .l2 {
                #expect(found.answers == truth, "\(kind)")
            } else {
                // Directions of heads are compared as unit vectors: the last bits may differ.
                #expect(Recall.mean(of: found.answers, against: truth, k: 20, metric: metric) == 1)
            }
        }
    }

    /// A zoo of shapes: a record a page, many pages a record, one dimension, one partition, one a vector.
    @Test(arguments: [(1, 1), (3, 7), (1000, 5), (5000, 3), (20, 1), (20, 300)])
    func anyShapeGivesTheTruth(dimension: Int, partitions: Int) throws {
        for elementType in [ElementType.u8, .f32] {
            let fixture = try Fixture(elementType, count: 300, dimension: dimension, queryCount: 7)
            try fixture.build("index", partitions: partitions)
            let index = try fixture.open()
            let found = try index.ask(fixture.queries, k: 300, .nprobe(1 << 40), inFlight: 3)
            #expect(found.answers == (try fixture.truth(k: 300)))
            #expect(try Verification.run(path: index.path).damage.isEmpty)
        }
    }

    /// Cached segments change no answer; what they spare is in no count of what was fetched.
    @Test(arguments: Kind.allCases)
    func whatIsCachedIsNotFetched(kind: Kind) throws {
        let fixture = try Fixture(count: 4000)
        try fixture.build("index", .l2, kind, partitions: 60)
        let index = try fixture.open()
        let policy = Policy.nprobe(8)
        let plain = try index.ask(fixture.queries, policy)
        let budget = Int(index.table.byteCount) / 3
        let some = try index.caching(byteCount: budget, learn: fixture.queries, policy: policy, threads: 2)
        let cache = try #require(some.cache)
        #expect(cache.segmentCount > 0 && cache.byteCount <= budget && cache.byteCount > budget / 2)
        #expect(some.residentByteCount == index.residentByteCount + cache.byteCount)
        let found = try some.ask(fixture.queries, policy, threads: 2, inFlight: 5)
        #expect(found.answers == plain.answers)
        for (a, b) in zip(found.counters, plain.counters) {
            #expect(a.vectors + a.cached == b.vectors && a.distinct == b.distinct && b.cached == 0)
            #expect(a.bytes <= b.bytes && a.segments <= b.segments)
        }
        func total(_ result: SearchResult) -> UInt64 { result.counters.reduce(0) { $0 + $1.vectors } }
        // A third of the bytes, chosen by these queries, spares more than a third of what they fetch.
        #expect(Double(total(found)) < 0.6 * Double(total(plain)))
        let whole = try index.caching(byteCount: 1 << 30, learn: fixture.queries, policy: policy, threads: 1)
        let nothing = try whole.ask(fixture.queries, policy)
        #expect(nothing.answers == plain.answers)
        #expect(nothing.counters.allSatisfy { $0.reads == 0 && $0.rounds == 0 && $0.cached > 0 })
        #expect(
            refusal {
                _ = try index.caching(
                    byteCount: 1, learn: VectorMatrix(count: 1, dimension: 3, elementType: .f32),
                    policy: policy, threads: 1)
            }.contains("dimensions"))
    }

    @Test(arguments: Kind.allCases)
    func countersAreThoseOfTheSegmentsRead(kind: Kind) throws {
        let fixture = try Fixture(count: 4000)
        try fixture.build("index", .l2, kind, partitions: 60)
        let index = try fixture.open()
        let ids = try index.idsByPartition()
        for nprobe in [1, 2, 7, 30, index.partitionCount] {
            let result = try index.ask(fixture.queries, .nprobe(nprobe))
            for query in 0..<fixture.queries.count {
                let read = index.routed(query, of: fixture.queries).partitions.prefix(nprobe).map { Int($0) }
                let filled = read.filter { index.table[$0].recordCount > 0 }.sorted()
                let met = filled.flatMap { ids[$0] }
                let counters = result.counters[query]
                #expect(counters.vectors == UInt64(met.count))
                #expect(counters.distinct == UInt64(Set(met).count))
                #expect(counters.segments == UInt64(filled.count))
                #expect(
                    counters.bytes == UInt64(filled.reduce(0) { $0 + index.table.byteCount(ofSegment: $1) }))
                #expect(counters.pages * 4096 == counters.bytes)
                #expect(counters.rounds == (filled.isEmpty ? 0 : 1))
                // Every run of segments that touch is one read of up to 1 MiB.
                let runs = filled.indices.filter {
                    $0 == 0
                        || index.table.extent(ofSegment: filled[$0 - 1]).end != index.table[filled[$0]].offset
                }
                if counters.bytes <= 1 << 20 { #expect(counters.reads == UInt64(runs.count)) }
                #expect(
                    counters.reads >= runs.count
                        && counters.reads <= UInt64(runs.count) + counters.bytes >> 20)
            }
        }
        let everything = try index.ask(fixture.queries, .nprobe(index.partitionCount))
        #expect(
            everything.counters.allSatisfy { $0.reads <= 2 && $0.vectors == UInt64(index.manifest.records) })
    }

    @Test func joinedReadsStayWithinTheirLimit() throws {
        let fixture = try Fixture(.f32, count: 3000, dimension: 200, queryCount: 3)
        try fixture.build("index", partitions: 50)
        let index = try fixture.open()
        #expect(index.table.byteCount > 2 << 20)
        let result = try index.ask(fixture.queries, .nprobe(50), threads: 2, inFlight: 3)
        for counters in result.counters {
            #expect(counters.bytes == index.table.byteCount)
            #expect(counters.reads >= index.table.byteCount >> 20 && counters.reads < 8)
        }
        #expect(result.answers == (try fixture.truth(k: 10)))
    }

    /// Many queries in flight, several threads, the device itself: answers and costs of one at a time.
    @Test(arguments: Kind.allCases)
    func throughputModeAnswersAsLatencyModeDoes(kind: Kind) throws {
        let fixture = try Fixture(count: 4000, queryCount: 300)
        try fixture.build("index", .l2, kind, partitions: 60)
        let memory = try fixture.open()
        let disk = try DiskIndex(path: memory.path)
        for policy in [Policy.nprobe(6), .eps2(0.3, nprobe: 20), .vectorBudget(500)] {
            let alone = try memory.ask(fixture.queries, policy)
            for (threads, inFlight) in [(2, 8), (1, 300), (3, 1)] {
                let together = try disk.ask(fixture.queries, policy, threads: threads, inFlight: inFlight)
                #expect(together.answers == alone.answers)
                #expect(together.counters.map(Cost.init) == alone.counters.map(Cost.init))
                #expect(together.counters.allSatisfy { $0.latencyNanoseconds > 0 })
            }
        }
    }

    @Test func aReplicaIsAnsweredOnce() throws {
        let fixture = try Fixture()
        try fixture.build("index", .l2, .closure)
        let index = try fixture.open()
        for countDistinct in [true, false] {
            var parameters = SearchParameters(k: 30, policy: .nprobe(24))
            parameters.countDistinct = countDistinct
            let found = try index.search(fixture.queries, parameters: parameters)
            #expect(found.answers == (try fixture.truth(k: 30)))
            #expect(found.counters.allSatisfy { $0.vectors == UInt64(index.manifest.records) })
            if countDistinct { #expect(found.counters.allSatisfy { $0.distinct == 1500 }) }
        }
    }

    @Test func answersStandInOrderAndEmptyPlacesSaySo() throws {
        let fixture = try Fixture(count: 600)
        try fixture.build("index", partitions: 30)
        let index = try fixture.open()
        let found = try index.ask(fixture.queries, k: 600, .nprobe(2))
        for query in 0..<fixture.queries.count {
            let filled = Int(found.counters[query].distinct)
            #expect(filled < 600)
            for rank in 0..<600 {
                let (id, distance) = (
                    found.answers.id(query: query, rank: rank),
                    found.answers.distance(query: query, rank: rank)
                )
                if rank >= filled {
                    #expect(id == TruthFile.noId && distance == .infinity)
                } else if rank > 0 {
                    let before = (
                        found.answers.distance(query: query, rank: rank - 1),
                        found.answers.id(query: query, rank: rank - 1)
                    )
                    #expect(before < (distance, id))
                }
            }
        }
    }

    @Test func noQueriesHaveNoAnswers() throws {
        let fixture = try Fixture(count: 200)
        try fixture.build("index", partitions: 4)
        let none = VectorMatrix(count: 0, dimension: 20, elementType: .u8)
        let found = try fixture.open().ask(none, .nprobe(2), threads: 2)
        #expect(found.answers.count == 0 && found.counters.isEmpty)
    }

    /// The device that a user gets reads past the page cache, and an open index holds no vectors.
    @Test func anOpenIndexHoldsRouterAndTableOnly() throws {
        let fixture = try Fixture(count: 4000)
        try fixture.build("index", partitions: 60)
        let index = try DiskIndex(path: fixture.directory.file("index"))
        #expect(index.residentByteCount == 60 * 20 + 60 * 24)
        #expect(["direct", "buffered"].contains(index.deviceKind))
        let report = index.inspect()
        #expect(
            report.count == 4000 && report.records == 4000 && report.partitions == 60
                && report.replication == 1)
        #expect(
            report.partitionRecords[0] <= report.partitionRecords[1]
                && report.pages * 4096 == Int(index.table.byteCount))
        #expect(report.text.contains("4000 x 20 u8, l2"))
    }
}
