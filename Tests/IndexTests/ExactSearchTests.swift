// The truth against the plainest loop there is.

import Build
import Foundation
import Index
import Learn
import Storage
import TestSupport
import Testing
import Vectors

struct ExactSearchTests {
    @Test(arguments: Metric.allCases, ElementType.allCases)
    func truthIsWhatALoopFinds(metric: Metric, elementType: ElementType) throws {
        let fixture = try Fixture(elementType, count: 700, dimension: 33, queryCount: 9)
        let truth = try fixture.truth(k: 50, metric)
        let base = try fixture.base.readAll()
        // Sums of integers are exact; others are rounded in another order than here.
        let isExact = !elementType.isFloatingPoint && metric != .cosine
        for query in 0..<9 {
            let wanted = naiveNeighbours(base: base, query: query, of: fixture.queries, metric: metric)
            let distanceOf = Dictionary(uniqueKeysWithValues: wanted.map { ($0.id, $0.distance) })
            var met = Set<UInt64>()
            for rank in 0..<50 {
                let (id, distance) = (
                    truth.id(query: query, rank: rank), Double(truth.distance(query: query, rank: rank))
                )
                #expect(met.insert(id).inserted)
                if isExact {
                    #expect(Int(id) == wanted[rank].id && distance == wanted[rank].distance)
                } else {
                    let tolerance = 1e-5 * max(1, abs(wanted[rank].distance))
                    #expect(abs(distance - wanted[rank].distance) <= tolerance)
                    #expect(abs((distanceOf[Int(id)] ?? .infinity) - wanted[rank].distance) <= tolerance)
                }
            }
        }
    }

    /// Many passes over the base, and many chunks of it, give what one gives.
    @Test(arguments: Metric.allCases)
    func memoryAndThreadsDoNotChangeTheTruth(metric: Metric) throws {
        let fixture = try Fixture(.f16, count: 5000, dimension: 12, queryCount: 500)
        let truth = try fixture.truth(k: 10, metric)
        for threads in [1, 2, 3] {
            // The scratch of the threads, the answers handed on, and 64 queries and rows at a time.
            let least = threads * 32 * 1024 * 8 + 500 * 10 * 40 + 128 * (10 * 16 + 160 + 24)
            let passes = PassCounter()
            let found = try ExactSearch(k: 10, metric: metric, threads: threads, memoryByteCount: least)
                .run(base: fixture.base, queries: fixture.queryFile, progress: passes.progress)
            #expect(found == truth)
            #expect(passes.total >= 4 * 5000, "\(passes.total) rows in all")
            #expect(
                refusal {
                    _ = try ExactSearch(k: 10, metric: metric, threads: threads, memoryByteCount: least - 1)
                        .run(base: fixture.base, queries: fixture.queryFile)
                }.contains("\(least) are the least"))
        }
    }

    @Test func equalDistancesFallToTheSmallerId() throws {
        let directory = try TemporaryDirectory()
        let rows = VectorMatrix(count: 5000, dimension: 3, elementType: .u8)
        for row in 0..<5000 { rows.row(row).storeBytes(of: UInt8(row % 2), as: UInt8.self) }
        let base = try Fixture.write(rows, to: directory.file("base.npy"))
        let query = try Fixture.write(rows.gather([1]), to: directory.file("query.npy"))
        let truth = try ExactSearch(k: 2600, metric: .l2, threads: 2, memoryByteCount: 1 << 30)
            .run(base: base, queries: query)
        // The odd rows are copies of the query; the even ones are all equally far.
        let odd = stride(from: 1, to: 5000, by: 2)
        let even = stride(from: 0, to: 200, by: 2)
        #expect(truth.ids == (Array(odd) + Array(even)).map { UInt64($0) })
    }

    /// Sums beyond 2^24 that single precision rounds to one number keep their order on every path.
    @Test func wholeDistancesBeyondSinglePrecisionKeepTheirOrder() throws {
        let directory = try TemporaryDirectory()
        let rows = VectorMatrix(count: 600, dimension: 1100, elementType: .u8)
        for row in 0..<600 {
            rows.row(row).initializeMemory(as: UInt8.self, repeating: 255, count: 1100)
            // The last rows are nearer, by 1 for each.
            for column in 0..<(600 - row) % 37 {
                rows.row(row).storeBytes(
                    of: UInt8(column % 2 == 0 ? 254 : 255), toByteOffset: column, as: UInt8.self)
            }
            rows.row(row).storeBytes(of: UInt8(row % 2), toByteOffset: 1000, as: UInt8.self)
        }
        let base = try Fixture.write(rows, to: directory.file("base.npy"))
        let zero = VectorMatrix(count: 3, dimension: 1100, elementType: .u8)
        for row in 0..<3 { zero.row(row).initializeMemory(as: UInt8.self, repeating: 0, count: 1100) }
        let queries = try Fixture.write(zero, to: directory.file("query.npy"))
        var wanted: [(sum: Int, id: Int)] = []
        for row in 0..<600 {
            let values = rows.row(row).assumingMemoryBound(to: UInt8.self)
            wanted.append(((0..<1100).reduce(0) { $0 + Int(values[$1]) * Int(values[$1]) }, row))
        }
        wanted.sort { $0 < $1 }
        let ids = wanted.prefix(100).map { UInt64($0.id) }
        let truth = try ExactSearch(k: 100, metric: .l2, threads: 2, memoryByteCount: 1 << 30)
            .run(base: base, queries: queries)
        #expect(Array(truth.ids[..<100]) == ids)
        var parameters = BuildParameters()
        parameters.partitions = 4
        _ = try IndexBuilder(base: base, directory: directory.file("index"), parameters: parameters).build()
        let index = try DiskIndex(path: directory.file("index"))
        let found = try index.search(zero, parameters: SearchParameters(k: 100, policy: .nprobe(4)))
        #expect(Array(found.answers.ids[..<100]) == ids)
        _ = try index.batch(
            queries, out: directory.file("out.bin"),
            parameters: BatchParameters(
                search: SearchParameters(k: 100, policy: .nprobe(4)), memoryByteCount: 1 << 28))
        #expect(try TruthFile.read(path: directory.file("out.bin")).ids == found.answers.ids)
    }

    /// One rule of ties: by the ids that users gave, wherever neighbours are found.
    @Test func tiesFallToTheSmallerExternalId() throws {
        let fixture = try Fixture(count: 1500)
        let path = fixture.directory.file("own.ids")
        var bytes: [UInt8] = []
        for row in 0..<1500 {
            withUnsafeBytes(of: UInt64(5000 - row).littleEndian) { bytes.append(contentsOf: $0) }
        }
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        let ids = VectorIds.file(try IdFile.open(path: path))
        try fixture.build("own") { $0.ids = ids }
        let truth = try ExactSearch(k: 10, metric: .l2, threads: 2, memoryByteCount: 1 << 30)
            .run(base: fixture.base, queries: fixture.queryFile, ids: ids)
        #expect(try fixture.open("own").ask(fixture.queries, .nprobe(24)).answers == truth)
    }

    @Test func vectorsWhoseSquaresVanishAreRefused() throws {
        let directory = try TemporaryDirectory()
        let rows = VectorMatrix(count: 20, dimension: 8, elementType: .f32)
        for row in 0..<20 { for column in 0..<8 { rows.floatRow(row)[column] = Float(row + column) * 1e-24 } }
        let base = try Fixture.write(rows, to: directory.file("base.npy"))
        for metric in Metric.allCases {
            let search = ExactSearch(k: 1, metric: metric, threads: 1, memoryByteCount: 1 << 30)
            #expect(refusal { _ = try search.run(base: base, queries: base) }.contains("too short"))
        }
    }

    @Test func kMayBeEverythingAndNoMore() throws {
        let fixture = try Fixture(count: 90, queryCount: 2)
        let truth = try fixture.truth(k: 90)
        #expect(Set(truth.ids[..<90]).count == 90)
        #expect(refusal { _ = try fixture.truth(k: 91) }.contains("k is 91"))
        #expect(refusal { _ = try fixture.truth(k: 0) }.contains("at least 1"))
    }

    @Test func filesThatDoNotFitAreRefused() throws {
        let bytes = try Fixture(count: 90, queryCount: 2)
        let floats = try Fixture(.f32, count: 90, queryCount: 2)
        let longer = try Fixture(count: 90, dimension: 21, queryCount: 2)
        let search = ExactSearch(k: 1, metric: .l2, threads: 1, memoryByteCount: 1 << 30)
        let wrongType = refusal { _ = try search.run(base: bytes.base, queries: floats.queryFile) }
        #expect(wrongType.contains("f32") && wrongType.contains("u8"))
        let wrongDimension = refusal { _ = try search.run(base: bytes.base, queries: longer.queryFile) }
        #expect(wrongDimension.contains("21") && wrongDimension.contains("20"))
        let none = bytes.queryFile.range(0..<0)
        #expect(refusal { _ = try search.run(base: bytes.base, queries: none) }.contains("no vectors"))
        #expect(refusal { _ = try search.run(base: none, queries: bytes.queryFile) }.contains("holds only 0"))
    }

    @Test func numbersThatAreNotFiniteAreNamed() throws {
        let fixture = try Fixture(.f32, count: 300, queryCount: 5)
        for (path, isBase) in [("base", true), ("query", false)] {
            let rows = try (isBase ? fixture.base : fixture.queryFile).readAll()
            rows.floatRow(3)[4] = isBase ? .nan : -.infinity
            let bad = try Fixture.write(rows, to: fixture.directory.file("bad-\(path).npy"))
            let search = ExactSearch(k: 1, metric: .l2, threads: 2, memoryByteCount: 1 << 30)
            let error = storageError {
                _ = try search.run(
                    base: isBase ? bad : fixture.base, queries: isBase ? fixture.queryFile : bad)
            }
            #expect(error?.detail == "row 3, column 4" && error?.found == (isBase ? "NaN" : "infinity"))
        }
    }

    @Test func cosineRefusesVectorsWithoutDirection() throws {
        for elementType in ElementType.allCases {
            let fixture = try Fixture(elementType, count: 300, queryCount: 5)
            for isBase in [true, false] {
                let rows = try (isBase ? fixture.base : fixture.queryFile).readAll()
                rows.row(2).initializeMemory(as: UInt8.self, repeating: 0, count: rows.rowByteCount)
                // A minus before a zero is no direction either.
                if elementType == .f32 { rows.floatRow(2)[1] = -0.0 }
                let bad = try Fixture.write(rows, to: fixture.directory.file("zero-\(isBase).npy"))
                let search = ExactSearch(k: 1, metric: .cosine, threads: 2, memoryByteCount: 1 << 30)
                let text = refusal {
                    _ = try search.run(
                        base: isBase ? bad : fixture.base, queries: isBase ? fixture.queryFile : bad)
                }
                #expect(text.contains("vector 2 is zero") && text.contains("zero-\(isBase).npy"))
            }
        }
    }
}

/// Keeps the greatest total that was announced.
private final class PassCounter: @unchecked Sendable {
    private(set) var total = 0
    // JobProgress of the truth comes from the calling thread alone.
    var progress: JobProgress { JobProgress { _, _, total in self.total = max(self.total, total) } }
}
