// The offline engine answers as a search does, whatever the blocks, threads, memory and shards.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

struct BatchTests {
    @Test(arguments: Kind.allCases, Metric.allCases)
    func aBatchFindsWhatASearchFinds(kind: Kind, metric: Metric) throws {
        // Heads are vectors of the base by position: only l2 has them.
        if metric == .ip && (kind == .heads || kind == .headsWithClosure) { return }
        for elementType in [ElementType.u8, .i8, .f16, .f32] {
            let fixture = try Fixture(elementType, count: 3000, queryCount: 90)
            try fixture.build("index", metric, kind, partitions: 60)
            let index = try fixture.open()
            let policies: [Policy] = [
                .nprobe(1), .nprobe(7), .nprobe(index.partitionCount), .eps2(0.4, nprobe: 12),
                .vectorBudget(300),
                .mass(0.6), .gain(0.0005),
            ]
            for policy in policies {
                let found = try index.ask(fixture.queries, policy)
                let (answers, summary) = try index.batch(fixture.queryFile, fixture.directory, policy)
                #expect(answers == found.answers, "\(elementType) \(policy)")
                #expect(summary.sweep.comparisons == found.counters.reduce(0) { $0 + $1.vectors })
                #expect(
                    summary.sweep.bytes <= index.table.byteCount && summary.waves == 1 && summary.blocks == 1)
            }
        }
        // The device itself, with reads in flight.
        let fixture = try Fixture(.u8, count: 3000, queryCount: 90)
        try fixture.build("index", metric, kind, partitions: 60)
        let index = try DiskIndex(path: fixture.directory.file("index"))
        let found = try index.ask(fixture.queries, .nprobe(9))
        #expect(try index.batch(fixture.queryFile, fixture.directory, .nprobe(9)).answers == found.answers)
    }

    /// Waves are the rounds of a search, for all queries at once.
    @Test func wavesFindWhatRoundsFind() throws {
        let fixture = try Fixture(.u8, count: 4000, queryCount: 300)
        var training = RouterTraining()
        training.learn = try Fixture(.u8, count: 1500, queryCount: 2000, seed: 5).queryFile
        training.predictor.kind = .prototypes
        training.predictor.prototypes = 4
        training.predictor.candidates = 20
        training.predictor.training.epochs = 1
        let router = training
        try fixture.build("index", .l2, .closure, partitions: 60) { $0.router = router }
        let index = try fixture.open()
        for (k, lambda) in [(1, Float(0.0003)), (10, 0.0003), (10, 0.00002), (20, 0.00005)] {
            for rounds in 1...3 {
                var asked = SearchParameters(k: k, policy: .gain(lambda))
                asked.rounds = rounds
                let found = try index.search(fixture.queries, parameters: asked)
                for atOnce in [nil, 70] {
                    let (answers, summary) = try index.batch(
                        fixture.queryFile, fixture.directory, .gain(lambda), k: k
                    ) {
                        $0.search.rounds = rounds
                        $0.queriesAtOnceMaximum = atOnce
                    }
                    #expect(answers == found.answers, "k \(k), lambda \(lambda), rounds \(rounds)")
                    #expect(summary.sweep.comparisons == found.counters.reduce(0) { $0 + $1.vectors })
                    let rounded = Int(found.counters.reduce(0) { max($0, $1.rounds) })
                    #expect(summary.waves >= rounded && summary.waves <= rounds * summary.blocks)
                    #expect(summary.sweep.bytes <= UInt64(summary.waves) * index.table.byteCount)
                    #expect(summary.blocks == (atOnce == nil ? 1 : 5))
                }
            }
        }
        // Policies that count go on beyond the router's candidates.
        let everything = try index.ask(fixture.queries, .nprobe(50))
        #expect(
            try index.batch(fixture.queryFile, fixture.directory, .nprobe(50)).answers == everything.answers)
    }

    /// Little memory makes several blocks of the same answers; too little is refused with the least.
    @Test func memoryDecidesBlocksAndNotAnswers() throws {
        let fixture = try Fixture(.u8, count: 3000, queryCount: 30000)
        try fixture.build("index", .l2, .closure, partitions: 60)
        let index = try fixture.open()
        let (all, whole) = try index.batch(fixture.queryFile, fixture.directory, .nprobe(6))
        #expect(whole.blocks == 1 && all.count == 30000)
        for policy in [Policy.nprobe(6), .mass(0.9)] {
            let text = refusal {
                _ = try index.batch(fixture.queryFile, fixture.directory, name: "none.bin", policy) {
                    $0.memoryByteCount = 100_000
                }
            }
            let numbers = text.split(whereSeparator: { !$0.isNumber }).compactMap { Int($0) }
            let least = try #require(numbers.dropFirst().first, "\(text)")
            var blocks = Int.max
            for memory in [least, least + (1 << 20), least + (2 << 20)] {
                let (answers, summary) = try index.batch(fixture.queryFile, fixture.directory, policy) {
                    $0.memoryByteCount = memory
                }
                #expect(summary.blocks > 1 && summary.blocks < blocks, "\(policy) \(memory)")
                #expect(summary.sweep.bytes <= UInt64(summary.waves) * index.table.byteCount)
                blocks = summary.blocks
                if case .nprobe = policy { #expect(answers == all) }
            }
        }
        #expect(!fixture.directory.names.contains { $0.hasPrefix("none.bin") || $0.hasSuffix("journal") })
    }

    @Test func oneQueryAndNamesOfIvecs() throws {
        let fixture = try Fixture(.f32, count: 600, queryCount: 3)
        try fixture.build("index", partitions: 12)
        let index = try fixture.open()
        let found = try index.ask(fixture.queries, .nprobe(4))
        let one = try VectorFile.open(path: fixture.queryFile.path, first: 1, skip: 1)
        let (answers, summary) = try index.batch(one, fixture.directory, .nprobe(4))
        #expect(answers.ids == Array(found.answers.ids[10..<20]) && summary.queries == 1)
        let ids = try index.batch(fixture.queryFile, fixture.directory, name: "ids.ivecs", .nprobe(4)) {
            $0.queriesAtOnceMaximum = 1
        }
        #expect(
            ids.answers.ids == found.answers.ids && ids.answers.distances == nil && ids.summary.blocks == 3)
        // More neighbours than the partitions read hold.
        let many = try index.ask(fixture.queries, k: 300, .nprobe(1))
        #expect(
            try index.batch(fixture.queryFile, fixture.directory, .nprobe(1), k: 300).answers == many.answers)
    }

    @Test func requestsThatMeanNothingAreRefused() throws {
        let fixture = try Fixture(count: 400)
        try fixture.build("index", partitions: 6)
        let index = try fixture.open()
        func refused(_ policy: Policy = .nprobe(2), k: Int = 5, _ change: (inout BatchParameters) -> Void)
            -> String
        {
            refusal {
                _ = try index.batch(fixture.queryFile, fixture.directory, policy, k: k, change: change)
            }
        }
        #expect(refused(k: 0) { _ in }.contains("k must be"))
        #expect(refused(.nprobe(0)) { _ in }.contains("nprobe"))
        #expect(refused { $0.search.rounds = 2 }.contains("gain"))
        #expect(refused { $0.shard = Shard(index: 2, count: 2) }.contains("shard"))
        #expect(refused { $0.queriesAtOnceMaximum = 0 }.contains("block"))
        let other = try Fixture(count: 100, dimension: 21)
        #expect(
            refusal { _ = try index.batch(other.queryFile, fixture.directory, .nprobe(1)) }.contains("21"))
        #expect(!fixture.directory.names.contains { $0.hasPrefix("batch.bin") })
    }
}
