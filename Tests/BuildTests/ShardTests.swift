// Shards and merging: what is joined holds and answers what one build on the same plan does.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

/// What a shard may be built with: heads have partitions of their own.
let shardKinds: [Kind] = [.none, .closure, .soar]

struct ShardTests {
    @Test(arguments: shardKinds, Metric.allCases)
    func joinedShardsAreOneIndex(kind: Kind, metric: Metric) throws {
        let fixture = try Fixture(metric == .ip ? .f32 : .u8)
        let plan = try fixture.plan("plan", metric)
        try fixture.build("whole", on: plan, kind)
        let whole = try fixture.open("whole")
        for shards in [1, 2, 7] {
            let name = "merged-\(shards)"
            let report = try fixture.merge(on: plan, kind, shards: shards, name: name)
            let merged = try fixture.open(name)
            #expect(report.count == 1500 && report.records == whole.manifest.records)
            #expect(try Verification.run(path: fixture.directory.file(name)).damage == [])
            // The same records in the same partitions, as tightly packed.
            let parts = try (0..<shards).map { try fixture.open("\(name)-\($0)").idsByPartition() }
            let joined = (0..<whole.partitionCount).map { partition in parts.flatMap { $0[partition] } }
            #expect(try merged.idsByPartition() == joined)
            #expect(try joined.map { $0.sorted() } == whole.idsByPartition().map { $0.sorted() })
            for partition in 0..<whole.partitionCount {
                let (one, other) = (merged.table[partition], whole.table[partition])
                #expect(
                    one.offset == other.offset && one.unitCount == other.unitCount
                        && one.radius == other.radius)
            }
            for policy in [
                Policy.nprobe(1), .nprobe(5), .eps2(0.4, nprobe: 9), .nprobe(whole.partitionCount),
            ] {
                let (one, other) = (
                    try merged.ask(fixture.queries, policy), try whole.ask(fixture.queries, policy)
                )
                #expect(one.answers == other.answers)
                #expect(one.counters.map { Cost($0) } == other.counters.map { Cost($0) })
            }
            #expect(
                try merged.batch(fixture.queryFile, fixture.directory, .nprobe(5)).answers
                    == whole.ask(fixture.queries, .nprobe(5)).answers)
            let sections = try differences(fixture.directory.file("whole"), fixture.directory.file(name))
            #expect(!sections.contains("router.bin"))
            #expect(shards > 1 || sections == ["manifest.json"])
            #expect(merged.manifest.shard == nil && merged.manifest.ids == nil)
        }
    }

    /// A shard is an index of its own rows, whose ids are their places in the whole base.
    @Test func aShardAnswersForItsRows() throws {
        let fixture = try Fixture()
        let plan = try fixture.plan()
        let shard = Shard(index: 1, count: 4)
        try fixture.build("shard", on: plan, shard: shard)
        let index = try fixture.open("shard")
        let rows = shard.range(of: 1500)
        #expect(index.manifest.shard == ShardIdentity(plan: plan.identity, number: 1, count: 4))
        #expect(
            index.manifest.ids
                == IdRange(
                    kind: .positions, least: UInt64(rows.lowerBound), greatest: UInt64(rows.upperBound - 1)))
        #expect(try Verification.run(path: index.path).damage == [])
        let alone = try ExactSearch(k: 10, metric: .l2, threads: 2, memoryByteCount: 1 << 28)
            .run(base: fixture.base.range(rows), queries: fixture.queryFile)
        let found = try index.ask(fixture.queries, .nprobe(24)).answers
        #expect(found.ids == alone.ids.map { $0 + UInt64(rows.lowerBound) })
        #expect(found.distances == alone.distances)
    }

    /// A window of one page on each shard gives what large ones give.
    @Test(arguments: [ElementType.u8, .f32])
    func littleMemoryDoesNotChangeABit(elementType: ElementType) throws {
        let fixture = try Fixture(elementType, count: 3000, dimension: 64)
        let plan = try fixture.plan()
        let report = try fixture.merge(on: plan, shards: 3)
        #expect(report.unitsCopied > 0 && report.unitsCopied < report.units)
        let shards = (0..<3).map { fixture.directory.file("merged-\($0)") }
        var merger = IndexMerger()
        merger.memoryByteCount = 1000
        let least = refusal { try merger.merge(shards, to: fixture.directory.file("little")) }
        #expect(least.contains("a memory of 1000 bytes is too little to merge 3 shards"))
        merger.memoryByteCount = try #require(least.split(separator: " ").compactMap { Int($0) }.last)
        try merger.merge(shards, to: fixture.directory.file("little"))
        #expect(try differences(fixture.directory.file("merged"), fixture.directory.file("little")) == [])
    }

    /// Each job of a cluster has a file of its own rows, learned from a sample that is none of them.
    @Test func shardsOfTheirOwnFilesJoin() throws {
        let fixture = try Fixture()
        let plan = try fixture.plan(base: fixture.base.range(100..<900)) { $0.wholeCount = 1500 }
        #expect(plan.count == 1500)
        try fixture.build("whole", on: plan)
        let cuts = [0, 50, 900, 1500]
        for index in 0..<3 {
            try fixture.build(
                "own-\(index)", on: plan, shard: Shard(index: index, count: 3), firstId: UInt64(cuts[index]),
                rows: cuts[index]..<cuts[index + 1])
        }
        let paths = (0..<3).map { fixture.directory.file("own-\($0)") }
        try IndexMerger().merge(paths, to: fixture.directory.file("merged"))
        let (merged, whole) = (try fixture.open("merged"), try fixture.open("whole"))
        #expect(
            try merged.ask(fixture.queries, .nprobe(4)).answers
                == whole.ask(fixture.queries, .nprobe(4)).answers)
        // Rows that no file held.
        try fixture.build(
            "gap", on: plan, shard: Shard(index: 1, count: 3), firstId: 51, rows: 51..<900)
        let text = refusal {
            try IndexMerger().merge(
                [paths[0], fixture.directory.file("gap"), paths[2]], to: fixture.directory.file("out"))
        }
        #expect(text.contains("end at 49") && text.contains("begin at 51"))
        // A file of some rows is not the whole base.
        var parameters = BuildParameters()
        let few = refusal {
            _ = try plan.apply(
                to: &parameters, shard: Shard(index: 0, count: 3), base: fixture.base.range(0..<900),
                holdsOwnRows: false)
        }
        #expect(few.contains("holds 900 vectors") && few.contains("is for 1500"))
    }

    /// Ids of one shard fit 32 bits, those of the next do not: records are packed anew.
    @Test func narrowAndWideIdsJoin() throws {
        let fixture = try Fixture()
        let plan = try fixture.plan()
        let first = UInt64(UInt32.max) - 700
        try fixture.build("whole", on: plan, firstId: first)
        for (index, rows) in [0..<700, 700..<1500].enumerated() {
            try fixture.build(
                "own-\(index)", on: plan, shard: Shard(index: index, count: 2),
                firstId: first + UInt64(rows.lowerBound), rows: rows)
        }
        #expect(try fixture.open("own-0").layout.idByteCount == 4)
        #expect(try fixture.open("own-1").layout.idByteCount == 8)
        try IndexMerger().merge(
            [fixture.directory.file("own-0"), fixture.directory.file("own-1")],
            to: fixture.directory.file("merged"))
        let (merged, whole) = (try fixture.open("merged"), try fixture.open("whole"))
        #expect(merged.layout.bound(to: nil) == whole.layout.bound(to: nil) && merged.layout.idByteCount == 8)
        #expect(try Verification.run(path: merged.path).damage == [])
        #expect(
            try merged.ask(fixture.queries, .nprobe(4)).answers
                == whole.ask(fixture.queries, .nprobe(4)).answers)
        #expect(merged.ids == whole.ids)
        // Of a base whose whole is in sight, all shards are of one kind.
        let report = try fixture.merge(on: plan, shards: 2, name: "cut", firstId: first)
        #expect(try fixture.open("cut-0").layout.idByteCount == 8 && report.count == 1500)
    }

    @Test func whatDoesNotBelongTogetherIsRefused() throws {
        let fixture = try Fixture()
        let plan = try fixture.plan()
        _ = try fixture.merge(on: plan, shards: 3)
        let other = try fixture.plan("other") { $0.seed = 2 }
        let angular = try fixture.plan("angular", .cosine)
        let second = Shard(index: 1, count: 3)
        try fixture.build("of-other", on: other, shard: second)
        try fixture.build("of-angular", on: angular, shard: second)
        try fixture.build("with-copies", on: plan, .soar, shard: second)
        try fixture.build("of-four", on: plan, shard: Shard(index: 1, count: 4))
        try fixture.build("late", on: plan, shard: second, firstId: 1)
        try fixture.build("plain", on: plan)
        let shards = (0..<3).map { fixture.directory.file("merged-\($0)") }
        let before = fixture.directory.names
        func refused(_ paths: [String], _ out: String = "out") -> String {
            refusal { try IndexMerger().merge(paths, to: fixture.directory.file(out)) }
        }
        func with(_ name: String) -> String {
            refused([shards[0], fixture.directory.file(name), shards[2]])
        }
        #expect(refused([]).contains("no shards"))
        #expect(refused([shards[0], shards[2]]).contains("shard 1 of 3 (from 0) is missing"))
        #expect(refused([shards[1], shards[0]]).contains("shard 2 of 3 (from 0) is missing"))
        #expect(refused([shards[1], shards[2]]).contains("shard 0 of 3 (from 0) is missing"))
        #expect(refused(shards + [shards[1]]).contains("are both shard 1 of 3"))
        #expect(with("of-other").contains("their plan differs (\(plan.identity), \(other.identity))"))
        #expect(with("of-angular").contains("their plan differs"))
        #expect(with("with-copies").contains("their duplicate differs (none, soar)"))
        #expect(with("of-four").contains("their number of shards differs (3, 4)"))
        #expect(with("late").contains("missing or doubled"))
        #expect(with("plain").contains("plain is no shard"))
        #expect(
            storageError {
                try IndexMerger().merge(shards, to: fixture.directory.file("merged"))
            }?.kind == .exists)
        #expect(fixture.directory.names == before)
        // A router learned of a shard is no part of the plan.
        try IndexRewriter(index: fixture.open("merged-1")).write(to: fixture.directory.file("changed"))
        #expect(with("changed").contains("changed is no shard"))
    }

    @Test func damageIsNamedWhereItLies() throws {
        let fixture = try Fixture(.u8, count: 4000, dimension: 60)
        let plan = try fixture.plan()
        _ = try fixture.merge(on: plan, shards: 2)
        let shards = (0..<2).map { fixture.directory.file("merged-\($0)") }
        let before = fixture.directory.names
        func error() -> StorageError? {
            storageError { try IndexMerger().merge(shards, to: fixture.directory.file("out")) }
        }
        let path = shards[1] + "/segments.bin"
        let whole = try Data(contentsOf: URL(fileURLWithPath: path))
        let page = 4096 * 5
        var bytes = whole
        bytes[page + 100] ^= 1
        try bytes.write(to: URL(fileURLWithPath: path))
        let damaged = error()
        #expect(damaged?.kind == .corrupt && damaged?.path == path && damaged?.offset == UInt64(page))
        // A page that is whole, but another one's.
        bytes = whole
        bytes.replaceSubrange(page..<page + 4096, with: whole[page + 4096..<page + 8192])
        try bytes.write(to: URL(fileURLWithPath: path))
        let stray = error()
        #expect(stray?.kind == .corrupt && stray?.path == path && stray?.offset == UInt64(page))
        try whole.dropLast(4096).write(to: URL(fileURLWithPath: path))
        #expect(error()?.kind == .truncated)
        try whole.write(to: URL(fileURLWithPath: path))
        // Files of another index.
        for name in ["segments.table", "router.bin"] {
            let file = URL(fileURLWithPath: shards[1] + "/" + name)
            let good = try Data(contentsOf: file)
            var bad = good
            bad[bad.count - 70] ^= 1
            try bad.write(to: file)
            #expect(throws: (any Error).self) {
                try IndexMerger().merge(shards, to: fixture.directory.file("out"))
            }
            try good.write(to: file)
        }
        #expect(fixture.directory.names == before)
        try IndexMerger().merge(shards, to: fixture.directory.file("out"))
    }

    /// A shard that was killed goes on, and only as itself.
    @Test func aShardGoesOnAfterAKill() throws {
        struct Stopped: Error {}
        let fixture = try Fixture(.u8, count: 3000)
        let plan = try fixture.plan()
        func builder(_ name: String, number: Int, firstId: UInt64 = 7) throws -> IndexBuilder {
            var parameters = BuildParameters()
            parameters.ids = .positions(first: firstId)
            let rows = try plan.apply(
                to: &parameters, shard: Shard(index: number, count: 2), base: fixture.base,
                holdsOwnRows: false)
            let builder = IndexBuilder(
                base: rows, directory: fixture.directory.file(name), parameters: parameters)
            builder.start = .resume
            builder.unit.byteCount = 1
            return builder
        }
        _ = try builder("whole", number: 1).build()
        for units in 1...4 {
            let stopped = try builder("shard", number: 1)
            var finished = 0
            stopped.afterUnit = { _, _ in
                finished += 1
                if finished >= units { throw Stopped() }
            }
            #expect(unfinished { _ = try stopped.build() } != nil)
            for (number, firstId) in [(0, UInt64(7)), (1, 8)] {
                let error = storageError {
                    _ = try builder("shard", number: number, firstId: firstId).build()
                }
                #expect(error?.kind == .invalidValue)
            }
            _ = try builder("shard", number: 1).build()
            #expect(try differences(fixture.directory.file("shard"), fixture.directory.file("whole")) == [])
            try FileManager.default.removeItem(atPath: fixture.directory.file("shard"))
        }
    }
}
