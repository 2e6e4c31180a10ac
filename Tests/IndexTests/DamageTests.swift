// Bits that change on the disk: reported, by search where it reads them and by verify wherever they are.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

struct DamageTests {
    /// An index in files of its own, to be damaged.
    private struct Victim {
        let fixture: Fixture
        let path: String
        let files: [String: Data]

        init(_ kind: Kind = .closure, count: Int = 1500, dimension: Int = 20) throws {
            fixture = try Fixture(count: count, dimension: dimension)
            try fixture.build("index", .l2, kind)
            path = fixture.directory.file("index")
            files = try contents(of: path)
        }

        /// Writes one file anew; only its bytes change.
        func write(_ data: Data, to name: String) throws {
            try data.write(to: URL(fileURLWithPath: path + "/" + name))
        }

        func flip(bit: Int, of name: String) throws {
            var data = try #require(files[name])
            data[bit / 8] ^= 1 << UInt8(bit % 8)
            try write(data, to: name)
        }

        func restore(_ name: String) throws { try write(try #require(files[name]), to: name) }

        /// What verify says: its lines, or the error that kept it from opening the index.
        func reported() -> [String] {
            do {
                return try Verification.run(path: path).damage
            } catch {
                return ["\(error)"]
            }
        }
    }

    /// One flipped bit in each page in turn: search names the partition and the page, verify too.
    @Test func aFlippedBitInASegmentIsReported() throws {
        let victim = try Victim(.closure, count: 500, dimension: 200)
        var random = SeededRandom(seed: 9)
        let table = try victim.fixture.open().table
        #expect(table.largestSegmentByteCount > 4096)
        for partition in 0..<table.count {
            for unit in 0..<Int(table[partition].unitCount) {
                let page = table[partition].offset + UInt64(unit * 4096)
                try victim.flip(bit: Int(page) * 8 + random.below(4096 * 8), of: "segments.bin")
                // From memory, and through the ring with several threads.
                for index in [try victim.fixture.open(), try DiskIndex(path: victim.path)] {
                    let error = indexError {
                        _ = try index.ask(
                            victim.fixture.queries, .nprobe(index.partitionCount), threads: 2, inFlight: 4)
                    }
                    guard case .corruptSegment(let path, let named, let offset)? = error else {
                        Issue.record("\(String(describing: error))")
                        continue
                    }
                    #expect(path == victim.path + "/segments.bin" && named == partition && offset == page)
                    #expect(
                        "\(IndexError.corruptSegment(path: path, partition: named, offset: offset))".contains(
                            "verify"))
                }
                let lines = victim.reported()
                #expect(
                    lines.contains {
                        $0.contains("partition \(partition): the page at offset \(page) fails")
                    }, "\(lines)")
            }
        }
        try victim.restore("segments.bin")
        #expect(victim.reported().isEmpty)
    }

    /// Queries that read other pages are answered as if nothing were wrong.
    @Test func aDamagedSegmentHurtsNobodyElse() throws {
        let victim = try Victim(.none)
        let whole = try victim.fixture.open()
        let before = try whole.ask(victim.fixture.queries, .nprobe(3))
        try victim.flip(bit: Int(whole.table[5].offset) * 8 + 77, of: "segments.bin")
        let damaged = try victim.fixture.open()
        for query in 0..<victim.fixture.queries.count {
            let one = victim.fixture.queries.gather(query..<query + 1)
            if whole.routed(query, of: victim.fixture.queries, limit: 3).partitions.contains(5) {
                #expect(throws: IndexError.self) { try damaged.ask(one, .nprobe(3)) }
            } else {
                let found = try damaged.ask(one, .nprobe(3))
                #expect(found.answers.ids == Array(before.answers.ids[query * 10..<query * 10 + 10]))
            }
        }
    }

    /// Random flips in every file: none passes in silence.
    @Test(
        arguments: ["manifest.json", "segments.bin", "segments.table", "router.bin"], [Kind.closure, .heads])
    func everyFlipIsReported(name: String, kind: Kind) throws {
        let victim = try Victim(kind)
        let size = try #require(victim.files[name]).count
        var random = SeededRandom(seed: 31)
        for _ in 0..<150 {
            let bit = random.below(size * 8)
            try victim.flip(bit: bit, of: name)
            let lines = victim.reported()
            #expect(lines.contains { $0.contains(name) }, "bit \(bit): \(lines)")
        }
        try victim.restore(name)
        #expect(victim.reported().isEmpty)
    }

    /// Files cut short or grown: an error at open, and a line of verify.
    @Test(arguments: ["manifest.json", "segments.bin", "segments.table", "router.bin"])
    func filesOfAnotherLengthAreReported(name: String) throws {
        let victim = try Victim()
        let whole = try #require(victim.files[name])
        for length in [0, 1, 63, whole.count / 2, whole.count - 1] {
            try victim.write(whole.prefix(length), to: name)
            #expect(victim.reported().contains { $0.contains(name) }, "\(length) bytes")
            #expect(throws: (any Error).self, "\(length) bytes") { try DiskIndex(path: victim.path) }
        }
        try victim.write(whole + [0], to: name)
        #expect(victim.reported().contains { $0.contains(name) })
        try FileManager.default.removeItem(atPath: victim.path + "/" + name)
        #expect(victim.reported().contains { $0.contains(name) })
        let error = storageError { _ = try DiskIndex(path: victim.path) }
        #expect(error?.kind == .missing && error?.path.hasSuffix(name) == true)
    }

    /// Every file is whole in itself, but one belongs to another index of the same shape.
    @Test(arguments: ["segments.bin", "segments.table", "router.bin"], [Kind.none, .heads])
    func filesOfDifferentIndexesAreNotMixed(name: String, kind: Kind) throws {
        let victim = try Victim(kind)
        // The same shape from another order of the same rows: only contents differ.
        let rows = try victim.fixture.base.readAll()
        let turned = rows.gather((0..<UInt32(rows.count)).reversed().map { $0 })
        var parameters = BuildParameters()
        parameters.partitions = 24
        parameters.iterations = 6
        kind.apply(to: &parameters)
        let other = victim.fixture.directory.file("other")
        let file = try Fixture.write(turned, to: victim.fixture.directory.file("turned.npy"))
        _ = try IndexBuilder(base: file, directory: other, parameters: parameters).build()
        let foreign = try #require(try contents(of: other)[name])
        try #require(foreign != victim.files[name])
        try victim.write(foreign, to: name)
        #expect(victim.reported().contains { $0.contains(name) })
        // segments.bin is too large to be read at open; if its size fits, its pages are checked one by one.
        if name != "segments.bin" {
            #expect(throws: (any Error).self) { try DiskIndex(path: victim.path) }
        }
    }

    /// Two pages that changed places are whole each, and wrong both.
    @Test func pagesInTheWrongPlaceAreReported() throws {
        let victim = try Victim(.none)
        let index = try victim.fixture.open()
        let order = (0..<index.partitionCount).sorted {
            index.table[$0].recordCount > index.table[$1].recordCount
        }
        let (a, b) = (Int(index.table[order[0]].offset), Int(index.table[order[1]].offset))
        var data = try #require(victim.files["segments.bin"])
        let (first, second) = (data[a..<a + 4096], data[b..<b + 4096])
        data.replaceSubrange(a..<a + 4096, with: second)
        data.replaceSubrange(b..<b + 4096, with: first)
        try victim.write(data, to: "segments.bin")
        let lines = victim.reported()
        for partition in order[..<2] {
            #expect(lines.contains { $0.contains("partition \(partition)") }, "\(lines)")
        }
        let misplaced = try victim.fixture.open()
        let error = indexError { _ = try misplaced.ask(victim.fixture.queries, .nprobe(24)) }
        #expect("\(String(describing: error))".contains("segments.bin"))
    }

    @Test func aSegmentFullOfDamageIsListedToALimit() throws {
        let victim = try Victim(.none, count: 3000)
        let size = try #require(victim.files["segments.bin"]).count
        try victim.write(Data(repeating: 0x5a, count: size), to: "segments.bin")
        let report = try Verification.run(path: victim.path)
        #expect(report.records == 0 && report.damage.count > size / 4096)
        #expect(report.text.contains("\(report.damage.count) damaged"))
    }

    @Test func aDirectoryThatIsNoIndexSaysSo() throws {
        let directory = try TemporaryDirectory()
        for path in [directory.path, directory.file("none")] {
            for body in [{ _ = try DiskIndex(path: path) }, { _ = try Verification.run(path: path) }] {
                let error = storageError(body)
                #expect(error?.kind == .missing && error?.description.contains("no index") == true)
            }
        }
    }
}
