// A truth that is not that of the index and the queries is refused, whatever makes it another one.

import Build
import Index
import Learn
import Storage
import TestSupport
import Testing
import Vectors

struct TruthCheckTests {
    private let fixture: Fixture

    init() throws { fixture = try Fixture(.f32, count: 3000, queryCount: 60) }

    private func check(_ index: DiskIndex, _ truth: TruthFile, nprobe: Int = 2) throws -> TruthFile {
        let answers = try index.ask(fixture.queries, .nprobe(nprobe)).answers
        return try index.checked(truth: truth, path: "t", k: 10, answers: answers) { rows in
            fixture.queries.gather(rows.map { UInt32($0) })
        }
    }

    private func changed(_ truth: TruthFile, _ change: (Float) -> Float) -> TruthFile {
        TruthFile(count: truth.count, k: truth.k, ids: truth.ids, distances: truth.distances?.map(change))
    }

    @Test(arguments: Metric.allCases)
    func theTruthIsTakenAndThoseOfOtherMetricsAreNot(metric: Metric) throws {
        try fixture.build("index", metric)
        let index = try fixture.open()
        let truth = try fixture.truth(k: 10, metric)
        #expect(try check(index, truth) == truth)
        for other in Metric.allCases where other != metric {
            let text = refusal { _ = try check(index, fixture.truth(k: 10, other)) }
            #expect(text.contains("t: row") && text.contains("sonde truth"), "\(other): \(text)")
        }
        switch metric {
        case .ip:
            #expect(
                refusal { _ = try check(index, changed(truth) { -$0 }) }.contains("positive inner products"))
        case .l2:
            #expect(
                refusal { _ = try check(index, changed(truth) { $0.squareRoot() }) }.contains("Euclidean"))
        case .cosine:
            #expect(refusal { _ = try check(index, changed(truth) { 2 * $0 }) }.contains("2 - 2 cos"))
            #expect(refusal { _ = try check(index, changed(truth) { 1 - $0 }) }.contains("cosines"))
        }
    }

    /// With distances and without, whether the search met the neighbours or not.
    @Test(arguments: [false, true], [1, 24])
    func truthsOfOtherVectorsAndQueriesAreRefused(hasDistances: Bool, nprobe: Int) throws {
        try fixture.build("index")
        let index = try fixture.open()
        let truth = try fixture.truth(k: 10)
        func given(_ truth: TruthFile) -> TruthFile {
            hasDistances ? truth : TruthFile(count: truth.count, k: truth.k, ids: truth.ids, distances: nil)
        }
        #expect(try check(index, given(truth), nprobe: nprobe).ids == truth.ids)
        let search = ExactSearch(k: 10, metric: .l2, threads: 1, memoryByteCount: 1 << 30)
        let fewer = try search.run(
            base: VectorFile.open(path: fixture.base.path, first: 600), queries: fixture.queryFile)
        #expect(!refusal { _ = try check(index, given(fewer), nprobe: nprobe) }.isEmpty)
        let others = try search.run(
            base: fixture.base, queries: VectorFile.open(path: fixture.base.path, first: 60))
        #expect(!refusal { _ = try check(index, given(others), nprobe: nprobe) }.isEmpty)
        // The last first, one twice, none at all.
        var wrong = truth
        wrong.ids[20..<30].reverse()
        wrong.distances?[20..<30].reverse()
        #expect(!refusal { _ = try check(index, given(wrong), nprobe: nprobe) }.isEmpty)
        wrong = truth
        wrong.ids[13] = wrong.ids[12]
        #expect(refusal { _ = try check(index, given(wrong), nprobe: nprobe) }.contains("twice"))
        wrong = truth
        wrong.ids[17...19] = [TruthFile.noId, TruthFile.noId, TruthFile.noId]
        #expect(refusal { _ = try check(index, given(wrong), nprobe: nprobe) }.contains("holds no neighbour"))
    }

    /// Without distances, another vector as near as the last true one is right.
    @Test func distancesAreFilledInWhereTheTruthHasNone() throws {
        try fixture.build("index")
        let index = try fixture.open()
        let truth = try fixture.truth(k: 10)
        let ids = TruthFile(count: truth.count, k: truth.k, ids: truth.ids, distances: nil)
        #expect(try check(index, ids) == truth)
    }
}
