// Ids of users in shards: an id that two shards hold is found before they are joined, in whatever memory there is.

import Build
import Foundation
import Index
import Learn
import Storage
import TestSupport
import Testing
import Vectors

extension Fixture {
    /// Shards of equal stretches of the base, one a list of ids.
    fileprivate func shards(
        _ name: String, _ lists: [[UInt64]], _ kind: Kind = .none, on plan: SharedPartitions
    ) throws -> [String] {
        try lists.enumerated().map { number, list in
            var parameters = BuildParameters()
            kind.apply(to: &parameters)
            parameters.ids = try ids("\(name)-\(number).ids", list)
            let first = lists[..<number].reduce(0) { $0 + $1.count }
            let rows = try plan.apply(
                to: &parameters, shard: Shard(index: number, count: lists.count),
                base: base.range(first..<first + list.count), holdsOwnRows: true)
            let path = directory.file("\(name)-\(number)")
            _ = try IndexBuilder(base: rows, directory: path, parameters: parameters).build()
            return path
        }
    }

    fileprivate func plan() throws -> SharedPartitions {
        var parameters = BuildParameters()
        parameters.partitions = 10
        parameters.iterations = 4
        return try SharedPartitions.learn(
            base: base, parameters: parameters, directory: directory.file("plan")
        ).plan
    }
}

private func ids(_ count: Int, from first: UInt64, step: UInt64) -> [UInt64] {
    (0..<count).map { first + UInt64($0) * step }
}

/// What a merge says of an id of two shards.
private func doubled(_ merge: () throws -> Void) -> String {
    let error = indexError(merge)
    guard case .doubledId = error else { return "" }
    return error?.description ?? ""
}

struct ShardIdTests {
    /// Ids of two shards that lie between each other, one of them in both.
    @Test(arguments: [Kind.none, .soar])
    func anIdOfTwoShardsIsRefusedByName(kind: Kind) throws {
        let fixture = try Fixture()
        let plan = try fixture.plan()
        let out = fixture.directory.file("out")
        var lists = [
            ids(500, from: 1000, step: 7), ids(500, from: 90_000, step: 1), ids(500, from: 5, step: 7),
        ]
        let good = try fixture.shards("good", lists, kind, on: plan)
        try IndexMerger().merge(good, to: fixture.directory.file("joined"))
        #expect(try Verification.run(path: fixture.directory.file("joined")).damage == [])
        lists[2][499] = lists[0][9]
        let bad = try fixture.shards("bad", lists, kind, on: plan)
        let before = fixture.directory.names
        guard
            case .doubledId(let id, let first, let second) = indexError({
                try IndexMerger().merge(bad, to: out)
            })
        else {
            Issue.record("joined although an id is doubled, or refused otherwise")
            return
        }
        #expect(id == lists[0][9] && first == bad[0] && second == bad[2])
        #expect(doubled { try IndexMerger().merge(bad, to: out) }.contains("both hold the id 1063"))
        #expect(fixture.directory.names == before)
    }

    /// The first id of a shard is the last of another's: no other id can be doubled.
    @Test func rangesThatTouchAreCompared() throws {
        let fixture = try Fixture()
        let plan = try fixture.plan()
        let lists = [ids(750, from: 0, step: 2), ids(750, from: 1498, step: 2)]
        let shards = try fixture.shards("touch", lists, on: plan)
        #expect(
            doubled { try IndexMerger().merge(shards, to: fixture.directory.file("out")) }.contains(
                "both hold the id 1498"))
    }

    /// More ids than the memory holds at a time go through several files, which are gone afterwards.
    @Test func littleMemoryFindsTheSame() throws {
        let fixture = try Fixture(count: 300_000, dimension: 4)
        let plan = try fixture.plan()
        // Ids of a million apart, as users have them.
        var lists = [
            ids(150_000, from: 0, step: 1 << 20), ids(150_000, from: 1 << 19, step: 1 << 20),
        ]
        var merger = IndexMerger()
        merger.memoryByteCount = 4_300_000
        try merger.merge(
            fixture.shards("good", lists, on: plan), to: fixture.directory.file("joined"))
        lists[1][77_777] = lists[0][149_999]
        let bad = try fixture.shards("bad", lists, on: plan)
        let before = fixture.directory.names
        #expect(
            doubled { try merger.merge(bad, to: fixture.directory.file("out")) }.contains(
                "both hold the id \(lists[0][149_999])"))
        #expect(fixture.directory.names == before)
    }
}
