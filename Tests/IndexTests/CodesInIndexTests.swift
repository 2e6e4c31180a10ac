// Codes of records that lie in the index: read before pages are, counted, checked, and carried along.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

struct CodesInIndexTests {
    private static func fixture() throws -> Fixture {
        try Fixture(.u8, count: 6000, dimension: 24, queryCount: 200, clusters: 40)
    }

    private static func training(areInIndex: Bool = true) -> RouterTraining {
        var training = RouterTraining()
        training.predictor.kind = .distance
        training.predictor.training.threads = 2
        training.pairs.syntheticCount = 2000
        training.pairs.neighbourCount = 10
        training.pairs.threads = 2
        training.recordCodes = RecordCodeParameters(byteCount: 8, areInIndex: areInIndex)
        return training
    }

    private static func build(_ fixture: Fixture, _ name: String = "index") throws {
        try fixture.build(name, partitions: 30) { $0.router = training() }
    }

    /// Flips a bit of a file.
    private static func flip(_ path: String, at offset: Int) throws {
        var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        bytes[offset] ^= 16
        try bytes.write(to: URL(fileURLWithPath: path))
    }

    @Test func codesAreReadFirstAndCounted() throws {
        let fixture = try Self.fixture()
        try Self.build(fixture)
        let index = try fixture.open()
        let codes = try #require(index.recordCodes)
        #expect(!codes.isResident && codes.residentByteCount < 6000 * 8)
        let truth = try fixture.truth(k: 10)
        let declared = try #require(index.policies).declaredPages(recall: 0.9, k: 10)
        var parameters = SearchParameters(k: 10, policy: .pages(declared.threshold))
        let found = try index.search(fixture.queries, parameters: parameters)
        let recall = Recall.mean(of: found.answers, against: truth, k: 10, metric: .l2)
        #expect(recall > 0.88, "\(recall)")
        for counters in found.counters {
            #expect(counters.rounds == 2 && counters.reads >= 2)
            #expect(counters.bytes == counters.pages * 4096)
            // At least one page of codes beside those of records.
            #expect(counters.vectors <= (counters.pages - 1) * UInt64(index.layout.recordsPerUnit))
        }
        // However many queries and threads are under way.
        parameters.threads = 2
        parameters.inFlight = 1
        let again = try index.search(fixture.queries, parameters: parameters)
        #expect(again.answers.ids == found.answers.ids)
        #expect(again.counters.map(\.pages) == found.counters.map(\.pages))
        // Pages of codes are counted, too, where no record has to be read.
        let cached = try index.caching(
            byteCount: 4 << 20, learn: fixture.queries, policy: .nprobe(30), threads: 1)
        for counters in try cached.search(fixture.queries, parameters: parameters).counters {
            #expect(counters.bytes == counters.pages * 4096 && counters.pages > 0)
            #expect(counters.vectors == 0 && counters.rounds == 1)
        }
        // The lower the threshold, the more codes are looked at.
        parameters.policy = .pages(0)
        let all = try index.search(fixture.queries, parameters: parameters)
        #expect(Recall.mean(of: all.answers, against: truth, k: 10, metric: .l2) > 0.98)
    }

    @Test func aDamagedPageOfCodesIsNamed() throws {
        let fixture = try Self.fixture()
        try Self.build(fixture)
        let path = fixture.directory.file("index")
        let size = try Data(contentsOf: URL(fileURLWithPath: path + "/codes.bin")).count
        #expect(size == (6000 * 10 + 4095) / 4096 * 4096)
        for page in 0..<size / 4096 { try Self.flip(path + "/codes.bin", at: page * 4096 + 77) }
        let index = try fixture.open()
        let error = #expect(throws: IndexError.self) {
            try index.search(fixture.queries, parameters: SearchParameters(k: 1, policy: .pages(0.9)))
        }
        guard case .corruptCodes = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        let damage = try Verification.run(path: path).damage
        for page in 0..<size / 4096 {
            #expect(damage.contains { $0.contains("page of codes at offset \(page * 4096):") })
        }
    }

    @Test func codesOfAnotherIndexAreRefused() throws {
        let fixture = try Self.fixture()
        try Self.build(fixture)
        let path = fixture.directory.file("index/codes.bin")
        let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        // Pages of this index in another order are whole, and not where they belong.
        let turned = bytes[4096..<8192] + bytes[0..<4096] + bytes[8192...]
        try turned.write(to: URL(fileURLWithPath: path))
        let index = try fixture.open()
        #expect(throws: IndexError.self) {
            try index.search(fixture.queries, parameters: SearchParameters(k: 1, policy: .pages(0)))
        }
        try bytes.dropLast(4096).write(to: URL(fileURLWithPath: path))
        let error = #expect(throws: IndexError.self) { try fixture.open() }
        guard case .inconsistent = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test func anIndexThatIsWrittenAgainTakesThemAlong() throws {
        let fixture = try Self.fixture()
        try Self.build(fixture)
        let index = try fixture.open()
        try IndexRewriter(index: index).write(to: fixture.directory.file("again"))
        let again = try fixture.open("again")
        let parameters = SearchParameters(k: 5, policy: .pages(0.3))
        #expect(
            try again.search(fixture.queries, parameters: parameters).answers.ids
                == index.search(fixture.queries, parameters: parameters).answers.ids)
        #expect(try Verification.run(path: again.path).damage.isEmpty)
        // Trained anew they may lie in memory, and the file is gone.
        _ = try Retraining(training: Self.training(areInIndex: false)).run(
            index, to: fixture.directory.file("memory"))
        #expect(!FileManager.default.fileExists(atPath: fixture.directory.file("memory/codes.bin")))
        #expect(try fixture.open("memory").recordCodes?.isResident == true)
    }

    @Test func whatABudgetForeseesIsWhatAnIndexHolds() throws {
        let fixture = try Self.fixture()
        try Self.build(fixture)
        let index = try fixture.open()
        let budget = ResidentBudget(count: 6000, dimension: 24, elementType: .u8)
        let foreseen = budget.byteCount(partitions: 30, router: .recordsInIndex(byteCount: 8))
        #expect(index.residentByteCount <= foreseen && foreseen - index.residentByteCount < 4096)
    }

    @Test func codesGoIntoTheIndexWhereMemoryHasNoRoom() throws {
        var rule = ResidentRule(count: 1_000_000, dimension: 128, elementType: .u8)
        rule.residentByteCount = 2_500_000
        #expect(try rule.choose().router == .recordsInIndex(byteCount: 16))
        rule.residentByteCount = 40_000_000
        guard case .records = try rule.choose().router else {
            Issue.record("memory has room")
            return
        }
        rule.codesAreInIndex = true
        #expect(try rule.choose().router == .recordsInIndex(byteCount: 16))
        rule.residentByteCount = 100_000
        #expect(try rule.choose().router == .centroids)
    }
}
