// Batches that end early and go on, and batches that are split and joined.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

private struct Stopped: Error {}

struct BatchRestartTests {
    private let fixture: Fixture
    private let index: DiskIndex
    /// What a run that nothing stops writes.
    private let whole: Data

    init() throws {
        fixture = try Fixture(.u8, count: 2000, queryCount: 500)
        try fixture.build("index", .l2, .closure, partitions: 40)
        index = try fixture.open()
        _ = try index.batch(fixture.queryFile, fixture.directory, name: "whole.bin", .nprobe(5))
        whole = try Data(contentsOf: URL(fileURLWithPath: fixture.directory.file("whole.bin")))
    }

    private func bytes(_ name: String) throws -> Data {
        try Data(contentsOf: URL(fileURLWithPath: fixture.directory.file(name)))
    }

    /// Ends after so many blocks of 100 queries.
    private func stop(_ name: String = "out.bin", after blocks: Int, shard: Shard? = nil) throws {
        #expect(throws: IndexError.self) {
            _ = try index.batch(fixture.queryFile, fixture.directory, name: name, .nprobe(5)) {
                $0.queriesAtOnceMaximum = 100
                $0.shard = shard
                $0.afterBlock = { if $0 >= blocks * 100 { throw Stopped() } }
            }
        }
        #expect(
            fixture.directory.names.filter { $0.hasPrefix(name + ".") } == [
                name + ".journal", name + ".part",
            ])
    }

    private func goOn(
        _ name: String = "out.bin", queries: VectorFile? = nil, policy: Policy = .nprobe(5), k: Int = 10,
        change: (inout BatchParameters) -> Void = { _ in }
    ) throws -> BatchSummary {
        try index.batch(
            queries ?? fixture.queryFile, fixture.directory, name: name, policy, k: k, change: change
        )
        .summary
    }

    @Test func anotherRunGoesOn() throws {
        for blocks in 1...4 {
            try stop(after: blocks)
            let summary = try goOn()
            #expect(summary.continued == blocks * 100 && summary.queries == 500 - blocks * 100)
            #expect(try bytes("out.bin") == whole)
            #expect(fixture.directory.names.filter { $0.hasPrefix("out.bin") } == ["out.bin"])
        }
        // Twice, with other blocks.
        try stop(after: 1)
        try stop(after: 3)
        #expect(try goOn { $0.queriesAtOnceMaximum = 33 }.continued == 300)
        #expect(try bytes("out.bin") == whole)
    }

    @Test func journalsOfOtherJobsAreRefusedByName() throws {
        try stop(after: 2)
        let other = try Fixture(.u8, count: 200, queryCount: 500, seed: 6)
        try fixture.build("other", .l2, .none, partitions: 40)
        let cases: [(String, () throws -> Void)] = [
            ("policy", { _ = try goOn(policy: .nprobe(6)) }), ("its k is", { _ = try goOn(k: 9) }),
            ("queries", { _ = try goOn(queries: other.queryFile) }),
            ("range of queries", { _ = try goOn { $0.shard = Shard(index: 0, count: 2) } }),
            (
                "index",
                {
                    _ = try fixture.open("other").batch(
                        fixture.queryFile, fixture.directory, name: "out.bin", .nprobe(5))
                }
            ),
        ]
        for (word, body) in cases {
            let text = storageError(body)?.description ?? ""
            #expect(
                text.contains(word) && text.contains("out.bin.journal") && text.contains("begin anew"),
                "\(text)")
        }
        // One query among those answered, which the fingerprint's sample may miss.
        let changed = fixture.queries.gather(0..<500)
        changed.row(3).storeBytes(of: changed.row(3).load(as: UInt8.self) ^ 1, as: UInt8.self)
        let file = try Fixture.write(changed, to: fixture.directory.file("changed.npy"))
        let text = storageError { _ = try goOn(queries: file) }?.description ?? ""
        #expect(text.contains("another job") && text.contains("queries"), "\(text)")
        // It can still go on, and begin anew.
        #expect(try goOn().continued == 200)
        try stop(after: 2)
        #expect(try goOn { $0.start = .restart }.continued == 0)
        #expect(try bytes("out.bin") == whole)
    }

    @Test func whatIsDamagedIsRefusedAndWhatIsCutShortIsNot() throws {
        try stop(after: 3)
        let journal = try bytes("out.bin.journal")
        let part = try bytes("out.bin.part")
        let journalPath = URL(fileURLWithPath: fixture.directory.file("out.bin.journal"))
        let partPath = URL(fileURLWithPath: fixture.directory.file("out.bin.part"))
        let entries = journal.count - 3 * 32
        for place in [0, 9, 13, 20, entries - 2, entries + 1, entries + 32 + 9] {
            var damaged = journal
            damaged[place] ^= 0x10
            try damaged.write(to: journalPath)
            let text = storageError { _ = try goOn() }?.description ?? ""
            #expect(text.contains("out.bin.journal"), "\(place): \(text)")
        }
        try journal.write(to: journalPath)
        for place in [8 + 17, 8 + 500 * 40 + 299 * 40] {
            var damaged = part
            damaged[place] ^= 1
            try damaged.write(to: partPath)
            let text = storageError { _ = try goOn() }?.description ?? ""
            #expect(text.contains("out.bin.part") && text.contains("begin anew"), "\(text)")
        }
        try FileManager.default.removeItem(at: partPath)
        #expect(storageError { _ = try goOn() }?.kind == .missing)
        // A kill may cut the last entry, or leave answers that no entry tells of.
        var longer = part
        for place in 8 + 300 * 40..<8 + 330 * 40 { longer[place] = 7 }
        try longer.write(to: partPath)
        for (cut, kept) in [(0, 300), (1, 200), (31, 200), (40, 100)] {
            try longer.write(to: partPath)
            try journal.dropLast(cut).write(to: journalPath)
            #expect(try goOn().continued == kept)
            #expect(try bytes("out.bin") == whole)
        }
    }

    @Test func aFailureLeavesNothingThatCannotGoOn() throws {
        let path = fixture.directory.file("index/segments.bin")
        var segments = try Data(contentsOf: URL(fileURLWithPath: path))
        segments[100] ^= 1
        try segments.write(to: URL(fileURLWithPath: path))
        let damaged = try fixture.open()
        #expect(throws: IndexError.self) {
            _ = try damaged.batch(fixture.queryFile, fixture.directory, name: "out.bin", .nprobe(40))
        }
        #expect(!fixture.directory.names.contains { $0.hasPrefix("out.bin") })
    }

    @Test(arguments: [1, 3, 7])
    func shardsJoinToTheWhole(count: Int) throws {
        let names = (0..<count).map { "part\($0)" }
        for (place, name) in names.enumerated() {
            let shard = Shard(index: place, count: count)
            // One of them ends early and goes on.
            if shard.range(of: 500).count > 100 && place == 1 { try stop(name, after: 1, shard: shard) }
            var asked = BatchParameters(search: SearchParameters(k: 10, policy: .nprobe(5)))
            asked.shard = shard
            _ = try index.batch(fixture.queryFile, out: fixture.directory.file(name), parameters: asked)
        }
        let paths = names.map { fixture.directory.file($0) }
        try PartialResult.merge(paths.reversed(), out: fixture.directory.file("joined.bin"))
        #expect(try bytes("joined.bin") == whole)
        try PartialResult.merge(paths, out: fixture.directory.file("joined.ivecs"))
        #expect(
            try TruthFile.read(path: fixture.directory.file("joined.ivecs")).ids
                == TruthFile.read(path: fixture.directory.file("whole.bin")).ids)
    }

    @Test func partsThatDoNotFitAreRefused() throws {
        func part(_ name: String, _ shard: Shard, nprobe: Int = 5) throws -> String {
            var asked = BatchParameters(search: SearchParameters(k: 10, policy: .nprobe(nprobe)))
            asked.shard = shard
            _ = try index.batch(fixture.queryFile, out: fixture.directory.file(name), parameters: asked)
            return fixture.directory.file(name)
        }
        let (a, b, c) = (
            try part("a", Shard(index: 0, count: 3)), try part("b", Shard(index: 1, count: 3)),
            try part("c", Shard(index: 2, count: 3))
        )
        let half = try part("half", Shard(index: 0, count: 2))
        let other = try part("other", Shard(index: 2, count: 3), nprobe: 6)
        let out = fixture.directory.file("joined.bin")
        func refused(_ paths: [String]) -> String {
            storageError { try PartialResult.merge(paths, out: out) }?.description ?? ""
        }
        #expect(refused([]).contains("no parts"))
        #expect(refused([a, c]).contains("queries 167 to 333"))
        #expect(refused([b, c]).contains("queries 0 to 166"))
        #expect(refused([a, b]).contains("queries 334 to 499"))
        #expect(refused([a, b, c, half]).contains("repeats"))
        #expect(refused([a, b, b, c]).contains("repeats"))
        #expect(refused([a, b, other]).contains("policy"))
        #expect(refused([a, b, fixture.directory.file("whole.bin")]).contains("a shard of a batch"))
        let right = try bytes("b")
        for place in [1, 9, 20, 41, 60, right.count - 30, right.count / 4] {
            var damaged = right
            damaged[place] ^= 2
            try damaged.write(to: URL(fileURLWithPath: b))
            #expect(refused([a, b, c]).contains("/b: "), "\(place)")
        }
        try right.dropLast(3).write(to: URL(fileURLWithPath: b))
        #expect(refused([a, b, c]).contains("/b: "))
        #expect(!fixture.directory.names.contains { $0.hasPrefix("joined") })
    }

    /// More shards than queries: some are empty.
    @Test func shardsCoverAllQueries() throws {
        for (total, count) in [(0, 3), (2, 5), (10, 3), (100, 7)] {
            var end = 0
            for index in 0..<count {
                let range = Shard(index: index, count: count).range(of: total)
                #expect(range.lowerBound == end)
                end = range.upperBound
            }
            #expect(end == total)
        }
        let few = try VectorFile.open(path: fixture.queryFile.path, first: 2)
        var paths: [String] = []
        for place in 0..<4 {
            var asked = BatchParameters(search: SearchParameters(k: 10, policy: .nprobe(5)))
            asked.shard = Shard(index: place, count: 4)
            paths.append(fixture.directory.file("few\(place)"))
            _ = try index.batch(few, out: paths[place], parameters: asked)
        }
        try PartialResult.merge(paths, out: fixture.directory.file("few.bin"))
        #expect(try TruthFile.read(path: fixture.directory.file("few.bin")).count == 2)
    }
}
