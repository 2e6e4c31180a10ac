// Recall, sweeps and what they interpolate.

import Build
import Foundation
import Index
import Learn
import Storage
import TestSupport
import Testing
import Vectors

/// Foundation has a type of this name too.
private typealias Measurement = Index.Measurement

struct MeasureTests {
    @Test func recallCountsTheShareOfTheTruth() {
        let truth = TruthFile(count: 2, k: 3, ids: [1, 2, 3, 4, 5, 6], distances: [1, 2, 3, 1, 2, 2])
        func recall(_ ids: [UInt64], _ distances: [Float], k: Int) -> Double {
            Recall.mean(
                of: TruthFile(count: 2, k: 3, ids: ids, distances: distances), against: truth, k: k,
                metric: .l2)
        }
        #expect(recall([1, 2, 3, 4, 5, 6], [1, 2, 3, 1, 2, 2], k: 3) == 1)
        #expect(recall([3, 2, 1, 6, 5, 4], [1, 2, 3, 1, 2, 2], k: 3) == 1)
        #expect(recall([1, 2, 9, 4, 5, 9], [1, 2, 4, 1, 2, 3], k: 3) == 4.0 / 6)
        // Another vector at exactly the distance of the k-th is right, a farther one is not.
        #expect(recall([1, 2, 3, 4, 8, 9], [1, 2, 3, 1, 2, 2], k: 3) == 1)
        #expect(recall([7, 2, 3, 4, 8, 9], [1, 2, 3, 1, 2, 2], k: 1) == 1)
        #expect(recall([7, 2, 3, 4, 8, 9], [1.5, 2, 3, 1, 2, 2], k: 1) == 0.5)
        let none = TruthFile.noId
        #expect(
            recall([1, none, none, 4, none, none], [1, .infinity, .infinity, 1, .infinity, .infinity], k: 3)
                == 2.0 / 6)
    }

    @Test func recallGoesByIdsWhereTheTruthHoldsNoDistances() {
        let truth = TruthFile(count: 1, k: 2, ids: [1, 2], distances: nil)
        let found = TruthFile(count: 1, k: 2, ids: [1, 3], distances: [1, 2])
        #expect(Recall.mean(of: found, against: truth, k: 2, metric: .l2) == 0.5)
    }

    @Test func rowsWithFewerNeighboursAreCountedOverThose() {
        let truth = TruthFile(
            count: 1, k: 4, ids: [1, 2, TruthFile.noId, TruthFile.noId],
            distances: [1, 2, .infinity, .infinity])
        let found = TruthFile(count: 1, k: 4, ids: [1, 3, 4, 5], distances: [1, 3, 4, 5])
        #expect(Recall.mean(of: found, against: truth, k: 4, metric: .l2) == 0.5)
        #expect(Recall.shortRows(truth, count: 1, k: 4) == 1 && Recall.shortRows(truth, count: 1, k: 2) == 0)
    }

    @Test(arguments: [Kind.none, .closure, .heads])
    func aSweepIsWhatItsSearchesCost(kind: Kind) throws {
        let fixture = try Fixture(count: 4000, queryCount: 120)
        try fixture.build("index", .l2, kind, partitions: 60)
        let index = try DiskIndex(path: fixture.directory.file("index"))
        let policies = [1, 4, 16, index.partitionCount].map { Policy.nprobe($0) }
        let measured = try index.measure(
            queries: fixture.queries, truth: fixture.truth(k: 10), ks: [1, 10], policies: policies,
            parameters: SearchParameters(k: 1, policy: .nprobe(1), threads: 2), latencyQueries: 50)
        #expect(measured.data.n == 4000 && measured.data.queries == 120 && measured.data.dtype == "u8")
        #expect(
            measured.index.partitions == index.partitionCount
                && measured.index.duplicate == index.manifest.build["duplicate"])
        #expect(measured.rows.map { $0.parameter } == policies.map { $0.parameter })
        for (row, policy) in zip(measured.rows, policies) {
            let counters = try index.ask(fixture.queries, policy).counters
            func mean(_ value: (QueryCounters) -> UInt64) -> Double {
                counters.reduce(0) { $0 + Double(value($1)) } / 120
            }
            #expect(
                row.vectors == mean(\.vectors) && row.distinct == mean(\.distinct)
                    && row.bytes == mean(\.bytes))
            #expect(
                row.reads == mean(\.reads) && row.segments == mean(\.segments)
                    && row.bytes == row.pages * 4096)
            #expect(row.qps > 0 && row.latency.p50 <= row.latency.p99 && row.latency.p99 <= row.latency.p999)
        }
        #expect(measured.rows.last?.recall == ["1": 1, "10": 1])
        for k in ["1", "10"] {
            let recalls = measured.rows.compactMap { $0.recall[k] }
            #expect(recalls == recalls.sorted())
        }
        let decoded = try JSONDecoder().decode(Measurement.self, from: JSONEncoder().encode(measured))
        #expect(decoded.rows.map { $0.vectors } == measured.rows.map { $0.vectors })
    }

    @Test func costsLieBetweenTheRowsAroundARecall() throws {
        func row(_ recall: Double, _ vectors: Double) -> Measurement.Row {
            Measurement.Row(
                policy: "nprobe", parameter: vectors / 100, recall: ["1": recall], vectors: vectors,
                cached: 0, distinct: vectors, segments: 1, pages: vectors / 10, bytes: vectors * 409.6,
                reads: 1, rounds: 1, qps: 1,
                latency: .init(mean: 1, p50: 1, p99: 1, p999: 1), routeMicroseconds: 1, waitMicroseconds: 1,
                scanMicroseconds: 1, bound: "disk")
        }
        let at = Measurement.interpolate([row(0.98, 900), row(0.7, 100), row(0.9, 300)], ks: [1, 10])
        #expect(at["recall@10"] == nil)
        let costs = try #require(at["recall@1"])
        #expect(costs.keys.sorted() == ["0.80", "0.90", "0.95"])
        #expect(abs((costs["0.80"]?.vectors ?? 0) - 200) < 1e-9 && costs["0.90"]?.vectors == 300)
        #expect(abs((costs["0.95"]?.vectors ?? 0) - 675) < 1e-6)
        // Nothing is guessed below the first row or beyond the last one.
        #expect(Measurement.interpolate([row(0.97, 10)], ks: [1]).isEmpty)
    }

    @Test func aTruthThatIsTooSmallIsRefused() throws {
        let fixture = try Fixture(count: 300)
        try fixture.build("index", partitions: 6)
        let index = try fixture.open()
        let truth = try fixture.truth(k: 5)
        let parameters = SearchParameters(k: 1, policy: .nprobe(1))
        let text = refusal {
            _ = try index.measure(
                queries: fixture.queries, truth: truth, ks: [1, 10], policies: [.nprobe(1)],
                parameters: parameters)
        }
        #expect(text.contains("5 neighbours") && text.contains("10 of 40"))
        var foreign = truth
        foreign.ids[7] = 300
        let stray = refusal { try index.validate(truth: foreign, queryCount: 40, k: 5) }
        #expect(stray.contains("vector 300") && stray.contains("another base"))
        // Places that nothing filled, and queries that are not asked, say nothing.
        foreign.ids[7] = TruthFile.noId
        foreign.ids[199] = 300
        try index.validate(truth: foreign, queryCount: 39, k: 5)
    }

    /// Against counting by hand; with replicas an oracle needs no more partitions than without.
    @Test(arguments: [Kind.none, .closure])
    func probingIsComparedWithWhereNeighboursLive(kind: Kind) throws {
        let fixture = try Fixture(count: 3000, queryCount: 60)
        try fixture.build("index", .l2, kind, partitions: 40)
        let index = try fixture.open()
        let truth = try fixture.truth(k: 10)
        let report = try index.probing(
            queries: fixture.queries, truth: truth, k: 10, policy: .nprobe(6), threads: 2)
        #expect(report.probed.reduce(0, +) == 60 && report.needed.reduce(0, +) == 60)
        let homes = try index.homes()
        var (needed, waste, recall, probed) = (0, 0.0, 0.0, 0)
        for query in 0..<60 {
            let read = index.routed(query, of: fixture.queries).partitions.prefix(6)
                .filter { index.table[Int($0)].recordCount > 0 }
            let lists = (0..<10).map { Set(homes[Int(truth.id(query: query, rank: $0))]) }
            let union = lists.reduce(Set()) { $0.union($1) }
            if kind == .none { needed += union.count }
            probed += read.count
            waste += Double(read.filter { !union.contains($0) }.count) / Double(read.count)
            recall += Double(lists.filter { !$0.isDisjoint(with: read) }.count) / 10
        }
        #expect(abs(report.meanProbed - Double(probed) / 60) < 1e-9)
        #expect(abs(report.waste - waste / 60) < 1e-9 && abs(report.recall - recall / 60) < 1e-9)
        if kind == .none { #expect(abs(report.meanNeeded - Double(needed) / 60) < 1e-9) }
        let everything = try index.probing(
            queries: fixture.queries, truth: truth, k: 10, policy: .nprobe(40), threads: 1)
        #expect(abs(everything.recall - 1) < 1e-9 && everything.meanNeeded == report.meanNeeded)
        #expect(report.meanNeeded >= 1 && report.meanNeeded < 10)
    }
}
