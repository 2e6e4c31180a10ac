// Pages of format 2 say which index, partition and unit they are: whatever lies in another's place is refused, also
// where it is read alone. What format 1 wrote is still read.

import Build
import Foundation
import Index
import Learn
import Storage
import TestSupport
import Testing
import Vectors

/// Indexes as sondes before format 2 wrote them: for tests only.
enum Format1 {
    /// Writes an index again, byte for byte as format 1 has it.
    static func write(index path: String, to target: String) throws {
        try FileManager.default.copyItem(atPath: path, toPath: target)
        var manifest = try Manifest.read(path: path + "/manifest.json")
        let table = try SegmentTable.read(path: path + "/segments.table")
        let layout = table.layout.bound(to: nil)
        var data = try Data(contentsOf: URL(fileURLWithPath: path + "/segments.bin"))
        var entries: [SegmentEntry] = []
        data.withUnsafeMutableBytes { raw in
            for partition in 0..<table.count {
                var entry = table[partition]
                let segment = UnsafeRawPointer(raw.baseAddress!) + Int(entry.offset)
                for unit in 0..<Int(entry.unitCount) {
                    layout.rebind(
                        UnsafeMutableRawPointer(mutating: segment) + unit * layout.unitByteCount,
                        from: table.layout, unitNumber: unit, partition: partition, unitNumber: unit)
                }
                entry.checksum = SegmentWriter.checksum(
                    segment: segment, unitCount: Int(entry.unitCount), layout: layout)
                entries.append(entry)
            }
        }
        for name in ["segments.bin", "segments.table", "manifest.json"] {
            try FileManager.default.removeItem(atPath: target + "/" + name)
        }
        try data.write(to: URL(fileURLWithPath: target + "/segments.bin"))
        manifest.files["segments.bin"] = try FileDigest.of(path: target + "/segments.bin")
        manifest.files["segments.table"] = try SegmentTable(layout: layout, entries: entries).write(
            path: target + "/segments.table")
        manifest.index = nil
        try manifest.write(path: target + "/manifest.json")
    }
}

struct PageBindingTests {
    /// An index of long segments, and another one of the same shape: a number in each vector differs.
    private struct Pair {
        let fixture: Fixture
        let path: String
        let data: Data
        let table: SegmentTable
        /// A partition of at least four units.
        let partition: Int

        init() throws {
            fixture = try Fixture(count: 1500, dimension: 200)
            try fixture.build("index", partitions: 6)
            path = fixture.directory.file("index")
            data = try Data(contentsOf: URL(fileURLWithPath: path + "/segments.bin"))
            let table = try SegmentTable.read(path: path + "/segments.table")
            self.table = table
            partition = try #require((1..<table.count).first { table[$0].unitCount >= 4 })
        }

        func offset(_ partition: Int, _ unit: Int) -> Int {
            Int(table[partition].offset) + unit * table.layout.unitByteCount
        }

        func page(_ partition: Int, _ unit: Int, of data: Data? = nil) -> Data {
            let start = offset(partition, unit)
            return (data ?? self.data)[start..<start + table.layout.unitByteCount]
        }

        /// Writes pages into places that they do not belong to.
        func write(_ pages: [(partition: Int, unit: Int, page: Data)]) throws {
            var changed = data
            for (partition, unit, page) in pages {
                let start = offset(partition, unit)
                changed.replaceSubrange(start..<start + page.count, with: page)
            }
            try changed.write(to: URL(fileURLWithPath: path + "/segments.bin"))
        }

        /// Whether search of all, search of one unit, a batch's sweep and verify refuse what now lies at these places.
        func expectRefused(
            _ units: [Int], _ comment: Comment, _ location: SourceLocation = #_sourceLocation
        ) throws {
            let partitions = UInt64(partition)
            for index in [try fixture.open(), try DiskIndex(path: path)] {
                let errors = [
                    indexError { _ = try index.ask(fixture.queries, .nprobe(index.partitionCount)) },
                    indexError {
                        let sweep = BatchSweep(index: index, queries: fixture.queries, k: 10, threads: 1)
                        let all = [[UInt32]](
                            repeating: [UInt32](0..<UInt32(index.partitionCount)),
                            count: fixture.queries.count)
                        _ = try sweep.sweep(SweepLists(chosen: all, partitionCount: index.partitionCount))
                    },
                ]
                for error in errors {
                    guard case .corruptSegment(_, Int(partitions), let found)? = error else {
                        Issue.record("\(comment): \(String(describing: error))", sourceLocation: location)
                        continue
                    }
                    #expect(found == UInt64(offset(partition, units[0])), comment, sourceLocation: location)
                }
            }
            let damage = try Verification.run(path: path).damage
            for unit in units {
                #expect(
                    damage.contains {
                        $0.contains(
                            "partition \(partition): the page at offset \(offset(partition, unit)) fails")
                    }, comment, sourceLocation: location)
            }
            #expect(
                damage.filter { $0.contains("the page at offset") }.count == units.count, comment,
                sourceLocation: location)
            let now = try Data(contentsOf: URL(fileURLWithPath: path + "/segments.bin"))
            for unit in 0..<Int(table[partition].unitCount) {
                let accepted = scan(unit: unit, of: page(partition, unit, of: now))
                #expect(accepted != units.contains(unit), comment, sourceLocation: location)
            }
        }

        /// Whether a scan takes this page alone as unit `unit` of the partition.
        private func scan(unit: Int, of page: Data) -> Bool {
            let scanner = SegmentScanner(layout: table.layout, metric: .l2, hasReplicas: false)
            let heap = TopK(capacity: 10)
            let count = min(
                table.layout.recordsPerUnit,
                Int(table[partition].recordCount) - unit * table.layout.recordsPerUnit)
            return Data(page).withUnsafeBytes { raw in
                scanner.scan(
                    units: raw.baseAddress!, partition: partition, firstUnit: unit, recordCount: count,
                    query: fixture.queries.row(0), heap: heap, seen: nil) == nil
            }
        }
    }

    @Test func unitsThatChangedPlacesWithinASegmentAreRefused() throws {
        let pair = try Pair()
        let p = pair.partition
        try pair.write([(p, 1, pair.page(p, 2)), (p, 2, pair.page(p, 1))])
        try pair.expectRefused([1, 2], "swapped")
        let damage = try Verification.run(path: pair.path).damage
        #expect(damage.contains { $0.hasSuffix("it is page 2 of partition \(p)") }, "\(damage)")
        try pair.write([])
        #expect(try Verification.run(path: pair.path).damage == [])
    }

    @Test func aPageOfAnotherPartitionIsRefused() throws {
        let pair = try Pair()
        let p = pair.partition
        for unit in [0, 1] {
            try pair.write([(p, unit, pair.page(p - 1, unit))])
            try pair.expectRefused([unit], "of partition \(p - 1)")
            let damage = try Verification.run(path: pair.path).damage
            #expect(damage.contains { $0.hasSuffix("it is page \(unit) of partition \(p - 1)") }, "\(damage)")
        }
    }

    /// The other index holds the same vectors in the same places, but for one number of one vector elsewhere.
    @Test func aPageOfAnotherIndexAtTheSamePlaceIsRefused() throws {
        let pair = try Pair()
        let rows = try pair.fixture.base.readAll()
        let last = rows.bytes + (rows.byteCount - 1)
        last.storeBytes(of: last.load(as: UInt8.self) ^ 1, as: UInt8.self)
        let file = try Fixture.write(rows, to: pair.fixture.directory.file("changed.npy"))
        var parameters = BuildParameters()
        parameters.partitions = 6
        parameters.iterations = 6
        // Not learned from the vector that differs, so that partitions are the same.
        let plan = try pair.fixture.plan(partitions: 6)
        try pair.fixture.build("same", on: plan)
        try plan.apply(to: &parameters)
        let other = pair.fixture.directory.file("other")
        _ = try IndexBuilder(base: file, directory: other, parameters: parameters).build()
        let same = pair.fixture.directory.file("same")
        let (one, two) = (try pair.fixture.open("same"), try pair.fixture.open("other"))
        #expect(one.layout.binding != nil && one.layout.binding != two.layout.binding)
        // The page's bytes are the same but for the checksum.
        let (mine, foreign) = (
            try Data(contentsOf: URL(fileURLWithPath: same + "/segments.bin")),
            try Data(contentsOf: URL(fileURLWithPath: other + "/segments.bin"))
        )
        let partition = try #require(
            try one.idsByPartition().firstIndex { !$0.isEmpty && !$0.contains(1499) })
        let start = Int(one.table[partition].offset)
        #expect(one.table[partition].offset == two.table[partition].offset)
        #expect(mine[start..<start + 4092] == foreign[start..<start + 4092])
        var changed = mine
        changed.replaceSubrange(start..<start + 4096, with: foreign[start..<start + 4096])
        try changed.write(to: URL(fileURLWithPath: same + "/segments.bin"))
        let error = indexError { _ = try pair.fixture.open("same").ask(pair.fixture.queries, .nprobe(6)) }
        guard case .corruptSegment(_, partition, UInt64(start))? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        let damage = try Verification.run(path: same).damage
        #expect(
            damage.contains { $0.contains("the page at offset \(start) fails its checksum") }, "\(damage)")
    }

    /// Without segments.table, places are followed from page to page; what is damaged is named, and nothing else.
    @Test func verifyFollowsPlacesWithoutATable() throws {
        let pair = try Pair()
        var table = try Data(contentsOf: URL(fileURLWithPath: pair.path + "/segments.table"))
        table[70] ^= 1
        try table.write(to: URL(fileURLWithPath: pair.path + "/segments.table"))
        let size = pair.table.layout.unitByteCount
        let units = pair.data.count / size
        for bad in [
            [], [0], [0, 1, 2], [3, 4, 5, 6, 9], Array(stride(from: 1, to: units, by: 2)), [units - 1],
        ] {
            var data = pair.data
            for unit in bad { data[unit * size + 17] ^= 8 }
            try data.write(to: URL(fileURLWithPath: pair.path + "/segments.bin"))
            let named = try Verification.run(path: pair.path).damage.filter {
                $0.contains("the page at offset")
            }
            #expect(named.count == bad.count, "\(bad): \(named)")
            for unit in bad {
                #expect(named.contains { $0.contains("offset \(unit * size) fails") }, "\(bad)")
            }
        }
    }

    /// The id tells segments from others and nothing else: a router, threads and memory do not change it.
    @Test func whatDecidesSegmentsDecidesTheId() throws {
        let fixture = try Fixture(count: 3000)
        func id(_ name: String, change: (inout BuildParameters) -> Void = { _ in }) throws -> IndexId? {
            try fixture.build(name, change: change)
            let index = try fixture.open(name)
            #expect(index.manifest.index == index.layout.binding?.description)
            return index.layout.binding
        }
        let plain = try id("plain")
        #expect(plain != nil)
        #expect(try id("threads") { $0.threads = 3 } == plain)
        #expect(try id("notes") { $0.notes = ["a": "b"] } == plain)
        #expect(try id("seed") { $0.seed = 2 } != plain)
        #expect(try id("capped") { $0.pagesMaximum = 1 } != plain)
        #expect(try id("numbered") { $0.ids = .positions(first: 7) } != plain)
        let index = try fixture.open("plain")
        // Another router alone leaves the segments as they are; copies do not.
        try IndexRewriter(index: index).write(to: fixture.directory.file("same"))
        #expect(try fixture.open("same").layout.binding == plain)
        let plan = Placements(copies: [Placement(id: 3, partition: 5)])
        try IndexRewriter(index: index).write(to: fixture.directory.file("copied"), plan: plan)
        let copied = try fixture.open("copied")
        #expect(copied.layout.binding != plain && copied.layout.binding != nil)
        #expect(copied.manifest.index == copied.layout.binding?.description)
        #expect(try Verification.run(path: copied.path).damage == [])
    }

    // Format 1.

    @Test(arguments: [Kind.none, .closure, .heads]) func format1IsReadAsBefore(kind: Kind) throws {
        let fixture = try Fixture(count: 1500, dimension: 200)
        try fixture.build("index", .l2, kind)
        let path = fixture.directory.file("first")
        try Format1.write(index: fixture.directory.file("index"), to: path)
        #expect(try Verification.run(path: path).damage == [])
        let (old, new) = (try fixture.open("first"), try fixture.open())
        #expect(old.layout.binding == nil && new.layout.binding != nil)
        for policy in [Policy.nprobe(3), .nprobe(old.partitionCount)] {
            let found = try new.ask(fixture.queries, policy).answers
            #expect(try old.ask(fixture.queries, policy).answers == found)
            #expect(try old.batch(fixture.queryFile, fixture.directory, policy).answers == found)
        }
        // Another router keeps the format of the segments, new segments do not.
        try IndexRewriter(index: old).write(to: fixture.directory.file("linked"))
        #expect(try fixture.open("linked").layout.binding == nil)
        #expect(try Verification.run(path: fixture.directory.file("linked")).damage == [])
        let free = try #require((0..<UInt32(1500)).first { !(new.headIds ?? []).contains($0) })
        let plan = Placements(moves: [Placement(id: free, partition: 2)])
        try IndexRewriter(index: old).write(to: fixture.directory.file("moved"), plan: plan)
        let moved = try fixture.open("moved")
        #expect(moved.layout.binding != nil)
        #expect(try Verification.run(path: moved.path).damage == [])
        // Whole pages in each other's places: told where the segment is read whole.
        let segments = URL(fileURLWithPath: path + "/segments.bin")
        var data = try Data(contentsOf: segments)
        let long = try #require((0..<old.partitionCount).first { old.table[$0].unitCount > 1 })
        let start = Int(old.table[long].offset)
        let (first, second) = (data[start..<start + 4096], data[start + 4096..<start + 8192])
        data.replaceSubrange(start..<start + 8192, with: second + first)
        try data.write(to: segments)
        let error = indexError {
            _ = try fixture.open("first").ask(fixture.queries, .nprobe(old.partitionCount))
        }
        guard case .straySegment(_, long, UInt64(start))? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(try Verification.run(path: path).damage.contains { $0.contains("partition \(long)") })
    }

    @Test(arguments: [[0], [1], [0, 1, 2]]) func shardsOfBothFormatsAreJoined(old: [Int]) throws {
        let fixture = try Fixture(count: 3000, dimension: 64)
        let report = try fixture.merge(on: try fixture.plan(), .closure, shards: 3)
        let shards = try (0..<3).map { shard in
            let path = fixture.directory.file("merged-\(shard)")
            guard old.contains(shard) else { return path }
            try Format1.write(index: path, to: path + "-first")
            return path + "-first"
        }
        let again = try IndexMerger().merge(shards, to: fixture.directory.file("mixed"))
        #expect(again.unitsCopied == report.unitsCopied && again.units == report.units)
        let (mixed, merged) = (try fixture.open("mixed"), try fixture.open("merged"))
        #expect(mixed.layout.binding != nil && mixed.layout.binding != merged.layout.binding)
        #expect(try mixed.idsByPartition() == merged.idsByPartition())
        #expect(try Verification.run(path: mixed.path).damage == [])
        // A page of another place is refused before it is copied.
        let url = URL(fileURLWithPath: fixture.directory.file("merged-2") + "/segments.bin")
        var data = try Data(contentsOf: url)
        data.replaceSubrange(0..<4096, with: data[4096..<8192])
        try data.write(to: url)
        let error = storageError {
            _ = try IndexMerger().merge(
                (0..<3).map { fixture.directory.file("merged-\($0)") }, to: fixture.directory.file("bad"))
        }
        #expect(error?.kind == .corrupt && error?.description.contains("merged-2") == true)
    }
}
