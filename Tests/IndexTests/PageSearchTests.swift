// Pages chosen by codes of records: what is read, counted and promised.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

struct PageSearchTests {
    private static let count = 6000

    private static func fixture(_ type: ElementType = .u8) throws -> Fixture {
        try Fixture(type, count: count, dimension: 24, queryCount: 200, clusters: 40)
    }

    /// An index whose every record has a code, calibrated on queries made from the base.
    private static func training(codes: Int = 8, threads: Int = 2) -> RouterTraining {
        var training = RouterTraining()
        training.predictor.kind = .distance
        training.predictor.training.threads = threads
        training.pairs.syntheticCount = 2000
        training.pairs.neighbourCount = 10
        training.pairs.threads = threads
        training.recordCodes = RecordCodeParameters(byteCount: codes)
        return training
    }

    private static func build(_ fixture: Fixture, _ name: String = "index", _ metric: Metric = .l2) throws {
        try fixture.build(name, metric, partitions: 30) { $0.router = training() }
    }

    @Test(arguments: [Metric.l2, .cosine, .ip])
    func allPagesFindAllNeighboursOfWhatIsLookedAt(metric: Metric) throws {
        let fixture = try Self.fixture(metric == .l2 ? .u8 : .f32)
        try Self.build(fixture, "index", metric)
        let index = try fixture.open()
        let truth = try fixture.truth(k: 10, metric)
        // Nothing is worth less than nothing: every page with a candidate is read.
        let found = try index.search(fixture.queries, parameters: SearchParameters(k: 10, policy: .pages(0)))
        let recall = Recall.mean(of: found.answers, against: truth, k: 10, metric: metric)
        #expect(recall > 0.98, "\(recall)")
        let few = try index.search(fixture.queries, parameters: SearchParameters(k: 10, policy: .pages(0.5)))
        let pages = { (result: SearchResult) in result.counters.reduce(0) { $0 + $1.pages } }
        #expect(pages(few) * 2 < pages(found))
        #expect(Recall.mean(of: few.answers, against: truth, k: 10, metric: metric) > 0.5)
    }

    @Test func everyRecordOfEveryPageReadIsCounted() throws {
        let fixture = try Self.fixture()
        try Self.build(fixture)
        let index = try fixture.open()
        let result = try index.search(
            fixture.queries, parameters: SearchParameters(k: 5, policy: .pages(0.2)))
        for counters in result.counters {
            #expect(counters.pages >= 1 && counters.reads <= counters.pages && counters.rounds == 1)
            #expect(counters.bytes == counters.pages * 4096)
            // Full pages but for the last of each segment.
            let full = UInt64(index.layout.recordsPerUnit)
            #expect(counters.vectors <= counters.pages * full)
            #expect(counters.vectors > (counters.pages - min(counters.pages, counters.segments)) * full)
            #expect(counters.distinct == counters.vectors)
        }
    }

    @Test func aDeclaredRecallIsKeptOnQueriesThatNothingHasSeen() throws {
        let fixture = try Self.fixture()
        try Self.build(fixture)
        let index = try fixture.open()
        let policies = try #require(index.policies)
        for k in [1, 5, 10, 15] {
            let truth = try fixture.truth(k: k)
            let declared = try policies.declaredPages(recall: 0.9, k: k)
            let found = try index.search(
                fixture.queries, parameters: SearchParameters(k: k, policy: .pages(declared.threshold)))
            let recall = Recall.mean(of: found.answers, against: truth, k: k, metric: .l2)
            #expect(recall > 0.88, "k \(k): \(recall)")
        }
        // Of a base so small no deeper thresholds are kept.
        #expect(throws: DeclaredRecallError.self) { try policies.declaredPages(recall: 0.9, k: 101) }
    }

    @Test func aRecallIsKeptForEachQueryAndNotOnlyInTheMean() throws {
        let fixture = try Self.fixture()
        try Self.build(fixture)
        let index = try fixture.open()
        let policies = try #require(index.policies)
        for k in [1, 10] {
            let truth = try fixture.truth(k: k)
            let (mean, each) = (
                try policies.declaredPages(recall: 0.9, k: k),
                try policies.declaredPagesPerQuery(recall: 0.9, k: k)
            )
            #expect(each.threshold < mean.threshold)
            let found = try index.search(
                fixture.queries, parameters: SearchParameters(k: k, policy: .pages(each.threshold)))
            let below = Recall.shareBelow(0.9, of: found.answers, against: truth, k: k, metric: .l2)
            // 200 queries: one in twenty and what chance adds to it.
            #expect(below <= 0.08, "k \(k): \(below)")
            // What codes expect of the pages read is near what is found.
            let recall = Recall.mean(of: found.answers, against: truth, k: k, metric: .l2)
            #expect(abs(try #require(found.expectedRecall) - recall) < 0.1)
        }
        #expect(throws: DeclaredRecallError.self) {
            try policies.declaredPagesPerQuery(recall: 0.9, k: 101)
        }
        // The next higher recall that was calibrated stands for one between two.
        #expect(
            try policies.declaredPagesPerQuery(recall: 0.87, k: 5).threshold
                == policies.declaredPagesPerQuery(recall: 0.9, k: 5).threshold)
    }

    @Test func threadsDoNotChangeTheBytes() throws {
        let fixture = try Self.fixture()
        try fixture.build("one", partitions: 30) { $0.router = Self.training(threads: 1) }
        try fixture.build("two", partitions: 30) { $0.router = Self.training(threads: 2) }
        let (one, two) = (
            try contents(of: fixture.directory.file("one")), try contents(of: fixture.directory.file("two"))
        )
        #expect(one == two)
    }

    @Test func whatHasNoCodesOrSharesSegmentsIsRefused() throws {
        let fixture = try Self.fixture()
        try fixture.build("plain", partitions: 30)
        let plain = try fixture.open("plain")
        #expect(throws: IndexError.self) {
            try plain.search(fixture.queries, parameters: SearchParameters(k: 1, policy: .pages(0.5)))
        }
        try Self.build(fixture)
        let index = try fixture.open()
        #expect(throws: IndexError.self) {
            try index.batch(
                fixture.queryFile, out: fixture.directory.file("out.bin"),
                parameters: BatchParameters(search: SearchParameters(k: 1, policy: .pages(0.5))))
        }
        // Copies would stand on several pages.
        #expect(throws: IndexError.self) {
            try fixture.build("copies", .l2, .closure, partitions: 30) { $0.router = Self.training() }
        }
    }

    @Test func aDamagedPageIsNamedWhenItIsReadAlone() throws {
        let fixture = try Self.fixture()
        try Self.build(fixture)
        let path = fixture.directory.file("index/segments.bin")
        var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        for page in stride(from: 0, to: bytes.count, by: 4096) { bytes[page + 100] ^= 4 }
        let index = try DiskIndex(
            path: fixture.directory.file("index"), device: MemoryDevice(bytes: Array(bytes)))
        let error = #expect(throws: IndexError.self) {
            try index.search(fixture.queries, parameters: SearchParameters(k: 1, policy: .pages(0.9)))
        }
        guard case .corruptSegment = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }
}
