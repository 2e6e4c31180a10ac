// What a build makes where nobody chose, and how much a resident plan may try: counted before, never timed.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

@Suite struct ResidentRuleTests {
    private static func rule(
        _ count: Int, _ dimension: Int, _ type: ElementType, change: (inout ResidentRule) -> Void = { _ in }
    ) throws -> ResidentRule.Choice {
        var rule = ResidentRule(count: count, dimension: dimension, elementType: type)
        change(&rule)
        return try rule.choose()
    }

    @Test func anEighthOfTheBaseBuysACodeOfEveryVector() throws {
        let bytes = try Self.rule(1_000_000, 128, .u8)
        #expect(bytes.partitions == 4_000)
        #expect(bytes.router == .records(byteCount: 12))
        #expect(bytes.limit == 16_000_000 && bytes.residentByteCount <= 16_000_000)
        // Longer vectors leave room for more bytes than are of use.
        let text = try Self.rule(100_000, 384, .f32)
        #expect(text.partitions == 1265)
        #expect(text.router == .records(byteCount: 48))
        #expect(text.limit == 19_200_000 && text.residentByteCount <= 19_200_000)
        for (count, dimension, type) in [
            (20_000, 96, ElementType.u8), (30_000, 768, .f32), (250_000, 100, .f16), (5_000_000, 64, .i8),
        ] {
            for metric in [Metric.l2, .ip, .cosine] {
                let choice = try Self.rule(count, dimension, type) { $0.metric = metric }
                let limit = try #require(choice.limit)
                #expect(choice.residentByteCount <= limit, "\(count) x \(dimension) \(type) \(metric)")
                #expect(choice.isCalibrated)
            }
        }
    }

    @Test func smallBasesAndSmallBudgetsGetCentroidsAlone() throws {
        let small = try Self.rule(10_000, 128, .u8)
        #expect(small.router == .centroids && small.partitions == 400)
        #expect(try !Self.rule(500, 128, .u8).isCalibrated)
        // Five bytes a vector would tell them apart no better than centroids do: codes go into the index, and where not
        // even that fits there are none.
        let tight = try Self.rule(1_000_000, 128, .u8) { $0.residentByteCount = 7_000_000 }
        #expect(tight.router == .recordsInIndex(byteCount: 16) && tight.residentByteCount <= 7_000_000)
        let tightest = try Self.rule(1_000_000, 128, .u8) { $0.residentByteCount = 700_000 }
        #expect(tightest.router == .centroids && tightest.residentByteCount <= 700_000)
        #expect(tightest.partitions > 4000)
        let six = try Self.rule(1_000_000, 128, .u8) { $0.residentByteCount = 9_000_000 }
        #expect(six.router == .records(byteCount: 6))
        // No smaller than half a page.
        let none = try Self.rule(1_000_000, 128, .u8) { $0.codes = .none }
        #expect(none.router == .centroids && none.partitions == 66_666)
        // Fewer ids of eight bytes fit a page.
        let partitions = try [nil, UInt64.max - 1].map { greatest in
            try Self.rule(1_000_000, 16, .u8) {
                $0.codes = .none
                $0.greatestId = greatest
            }.partitions
        }
        #expect(partitions[1] > partitions[0])
    }

    @Test func codesThatWereAskedForAreGivenOrRefused() throws {
        let given = try Self.rule(100_000, 128, .u8) { $0.codes = .bytes(32) }
        #expect(given.router == .records(byteCount: 32))
        let limit = try #require(given.limit)
        #expect(given.residentByteCount <= limit)
        let fewer = try Self.rule(100_000, 128, .u8) {
            $0.codes = .bytes(32)
            $0.residentByteCount = 3_650_000
        }
        #expect(fewer.residentByteCount <= 3_650_000 && fewer.partitions < given.partitions)
        #expect(
            try Self.rule(100_000, 128, .u8) {
                $0.codes = .bytes(8)
                $0.partitions = 77
            }.partitions == 77)
        // Memory has no room for them: the index has, unless that was ruled out.
        #expect(
            try Self.rule(100_000, 128, .u8) {
                $0.codes = .bytes(32)
                $0.residentByteCount = 2_000_000
            }.router == .recordsInIndex(byteCount: 32))
        #expect(throws: IndexError.self) {
            try Self.rule(100_000, 128, .u8) {
                $0.codes = .bytes(32)
                $0.codesAreInIndex = false
                $0.residentByteCount = 2_000_000
            }
        }
        #expect(throws: IndexError.self) { try Self.rule(100_000, 16, .u8) { $0.codes = .bytes(17) } }
        #expect(throws: IndexError.self) { try Self.rule(100_000, 16, .u8) { $0.residentByteCount = 100 } }
        #expect(throws: IndexError.self) {
            try Self.rule(1_000_000, 128, .u8) { $0.memoryByteCount = 16 << 20 }
        }
        #expect(throws: IndexError.self) { try Self.rule(0, 16, .u8) }
    }

    @Test func whatTheRulePromisesIsKept() throws {
        let fixture = try Fixture(count: 1200, dimension: 16)
        for codes in [ResidentRule.Codes.fitting, .bytes(4)] {
            var rule = ResidentRule(base: fixture.base)
            rule.codes = codes
            let choice = try rule.choose()
            var parameters = BuildParameters()
            parameters.iterations = 4
            var training = RouterTraining()
            training.pairs.syntheticCount = 800
            choice.apply(to: &parameters, training: training)
            let name = "\(codes)"
            let report = try IndexBuilder(
                base: fixture.base, directory: fixture.directory.file(name), parameters: parameters
            ).build()
            #expect(report.residentByteCount <= choice.residentByteCount)
            let opened = try fixture.open(name)
            #expect(opened.residentMaximum == choice.limit)
            #expect(opened.manifest.build["plan-by"] == "rule")
            #expect(opened.policies?.lambda(recall: 0.95, cost: .vectors) != nil)
        }
    }
}
