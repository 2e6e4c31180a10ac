// Builds: the same bytes whatever the threads and the memory, nothing lost, nothing left behind.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

struct BuildTests {
    /// A seed decides every byte; threads do not.
    @Test(arguments: Kind.allCases, [ElementType.u8, .f32])
    func threadsDoNotChangeABit(kind: Kind, elementType: ElementType) throws {
        let fixture = try Fixture(elementType, count: 3000)
        for metric in [Metric.l2, .cosine] {
            for (name, threads, seed) in [("one", 1, 3), ("two", 2, 3), ("five", 5, 3), ("other", 2, 4)] {
                try fixture.build("\(metric)-\(name)", metric, kind, partitions: 70) {
                    $0.threads = threads
                    $0.seed = UInt64(seed)
                }
            }
            func path(_ name: String) -> String { fixture.directory.file("\(metric)-\(name)") }
            #expect(try differences(path("one"), path("two")) == [])
            #expect(try differences(path("one"), path("five")) == [])
            #expect(try differences(path("one"), path("other")).contains("segments.bin"))
        }
    }

    /// With little memory records pass through a spill file a bucket; the bytes are those of one bucket.
    @Test(arguments: Kind.allCases)
    func littleMemoryDoesNotChangeABit(kind: Kind) throws {
        let (count, dimension) = (6000, 64)
        let fixture = try Fixture(.u8, count: count, dimension: dimension)
        // Heads are chosen from the whole base in memory; else 200 KiB make five buckets and more.
        let little = kind == .heads || kind == .headsWithClosure ? count * dimension * 4 / 3 : 200 << 10
        // Writing is reported a batch of partitions, and at the end of each bucket.
        let counters = (much: StageCounter(), little: StageCounter())
        for (name, memory, counted) in [
            ("much", 1 << 30, counters.much), ("little", little, counters.little),
        ] {
            var parameters = BuildParameters()
            parameters.partitions = 40
            parameters.sampleCount = 700
            parameters.pagesMaximum = 6
            kind.apply(to: &parameters)
            // Few enough to be written in one batch, which grows with the threads.
            if parameters.headShare != nil { parameters.headShare = 0.05 }
            parameters.threads = 8
            parameters.memoryByteCount = memory
            _ = try IndexBuilder(
                base: fixture.base, directory: fixture.directory.file(name), parameters: parameters,
                progress: counted.progress
            ).build()
        }
        #expect(counters.much.calls(of: "write") == 1 && counters.little.calls(of: "write") > 1)
        #expect(try differences(fixture.directory.file("much"), fixture.directory.file("little")) == [])
    }

    @Test(arguments: Kind.allCases, Metric.allCases)
    func everyKindIsWhole(kind: Kind, metric: Metric) throws {
        if metric == .ip && [.heads, .headsWithClosure].contains(kind) { return }
        let fixture = try Fixture(.i8, count: 3000)
        let report = try fixture.build("index", metric, kind, partitions: 50)
        let verified = try Verification.run(path: fixture.directory.file("index"))
        #expect(verified.damage.isEmpty, "\(verified.text)")
        let index = try fixture.open()
        #expect(verified.records == report.records && index.manifest.records == report.records)
        #expect(verified.pages == index.inspect().pages)
        #expect(report.partitions == index.partitionCount && report.count == 3000)
        #expect(
            report.replication == index.replication && report.residentByteCount == index.residentByteCount)
        let heads = index.headIds?.count ?? 0
        let ids = try index.idsByPartition()
        #expect(Set(ids.joined()).count == 3000 - heads)
        // No partition holds a vector twice.
        #expect(ids.allSatisfy { Set($0).count == $0.count })
        switch kind {
        case .none, .heads: #expect(report.records == 3000 - heads && report.replication == 1)
        case .closure: #expect(report.replication > 1 && report.replication <= 4)
        case .headsWithClosure: #expect(report.replication > 1 && report.replication <= 8)
        case .soar: #expect(report.records == 6000)
        }
        #expect(fixture.directory.names == ["base.npy", "index", "query.npy"])
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: index.path).sorted()
                == ["manifest.json", "router.bin", "segments.bin", "segments.table"])
        #expect(report.stages.map(\.name).contains("assign") && report.summary.contains("3000 vectors"))
    }

    /// Without copies a vector lies in the partition of its nearest centroid, and the radius covers it.
    @Test(arguments: [Metric.l2, .cosine])
    func vectorsLieAtTheirNearestCentroid(metric: Metric) throws {
        let fixture = try Fixture(.f32, count: 2000)
        try fixture.build("index", metric, partitions: 30)
        let index = try fixture.open()
        let rows = try fixture.base.readAll()
        for (partition, ids) in try index.idsByPartition().enumerated() {
            for id in ids {
                let route = index.routed(Int(id), of: rows, limit: 1)
                #expect(route.partitions == [UInt32(partition)])
                #expect(route.distances[0].squareRoot() <= index.table[partition].radius * 1.0001)
            }
        }
    }

    /// A cap drops copies, the farthest first, and never a vector.
    @Test(arguments: [Kind.none, .closure, .soar, .headsWithClosure], [1, 2, 5])
    func aCapLosesNoVector(kind: Kind, pages: Int) throws {
        let fixture = try Fixture(.u8, count: 3000, dimension: 128)
        let free = try fixture.build("free", .l2, kind, partitions: 20)
        let report = try fixture.build("index", .l2, kind, partitions: 20) { $0.pagesMaximum = pages }
        let index = try fixture.open()
        let ids = try index.idsByPartition()
        let heads = index.headIds ?? []
        #expect(Set(ids.joined().map { UInt32($0) }).union(heads).count == 3000)
        let verified = try Verification.run(path: index.path)
        #expect(verified.damage.isEmpty, "\(verified.text)")
        #expect(try index.ask(fixture.queries, .nprobe(index.partitionCount)).answers == fixture.truth(k: 10))
        let largest = ids.map(\.count).max() ?? 0
        let capacity = pages * index.layout.recordsPerUnit
        if heads.isEmpty {
            // The sample is the whole base here, so that splitting alone keeps to the cap.
            #expect(largest <= capacity)
            #expect(report.partitions > free.partitions)
        } else {
            #expect(report.records <= free.records)
        }
    }

    @Test func aFailedBuildLeavesNothing() throws {
        let fixture = try Fixture(.f32, count: 3000)
        let rows = try fixture.base.readAll()
        rows.floatRow(2990)[7] = .nan
        let damaged = try Fixture.write(rows, to: fixture.directory.file("damaged.npy"))
        let before = fixture.directory.names
        var parameters = BuildParameters()
        parameters.partitions = 4
        // The sample misses the damaged row, so that the pass over everything meets it.
        parameters.sampleCount = 10
        let builder = IndexBuilder(
            base: damaged, directory: fixture.directory.file("index"), parameters: parameters)
        let error = storageError { _ = try builder.build() }
        #expect(
            error?.kind == .invalidValue && error?.detail == "row 2990, column 7" && error?.found == "NaN")
        #expect(fixture.directory.names == before)
    }

    @Test func theManifestSaysHowItWasMade() throws {
        let fixture = try Fixture(count: 500)
        try fixture.build("index", .l2, .closure, partitions: 9) {
            $0.seed = 77
            $0.pagesMaximum = 3
            $0.sampleCount = 400
        }
        let index = try fixture.open()
        let build = index.manifest.build
        #expect(build["seed"] == "77" && build["duplicate"] == "closure" && build["replicas"] == "4")
        #expect(build["eps1"] == "0.6" && build["pages-max"] == "3" && build["iterations"] == "6")
        #expect(build["sample"] == "400")
    }

    /// More centroids than are all looked at: the build says how often that found the nearest.
    @Test func manyPartitionsTellHowWellTheyWereAssigned() throws {
        let fixture = try Fixture(.u8, count: 18_000, dimension: 8, queryCount: 1)
        try fixture.build("many", .l2, .none, partitions: 16_500) { $0.iterations = 2 }
        let share = try #require(
            try fixture.open("many").manifest.build["assigned-nearest"].flatMap { Double($0) })
        #expect(share > 0.9 && share <= 1)
        try fixture.build("few", .l2, .none, partitions: 100)
        #expect(try fixture.open("few").manifest.build["assigned-nearest"] == nil)
    }

    @Test func theDefaultNumberOfPartitionsSuitsTheBase() throws {
        let fixture = try Fixture(count: 2500)
        let report = try fixture.build { $0.partitions = nil }
        #expect(report.partitions == 200)
    }
}

/// Counts how often each stage told of its progress.
final class StageCounter: @unchecked Sendable {
    private let lock = NSLock()
    private var calls: [String: Int] = [:]

    var progress: JobProgress {
        JobProgress { stage, _, _ in self.lock.withLock { self.calls[stage, default: 0] += 1 } }
    }

    func calls(of stage: String) -> Int { lock.withLock { calls[stage] ?? 0 } }
}
