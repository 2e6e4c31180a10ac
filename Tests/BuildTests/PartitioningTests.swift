// Partitions of bases that are hard to part: vectors that repeat, lengths that differ, very few or very small ones.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

struct PartitioningTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private func gaussian(_ count: Int, dimension: Int = 8, scale: Float = 1, seed: UInt64 = 7)
        -> VectorMatrix
    {
        var random = SeededRandom(seed: seed)
        let rows = VectorMatrix(count: count, dimension: dimension, elementType: .f32)
        for row in 0..<count {
            for column in 0..<dimension { rows.floatRow(row)[column] = scale * Float(random.gaussian()) }
        }
        return rows
    }

    private func build(
        _ rows: VectorMatrix, _ name: String = "index", change: (inout BuildParameters) throws -> Void
    ) throws -> (report: BuildReport, index: DiskIndex) {
        let base = try Fixture.write(rows, to: directory.file(name + ".npy"))
        var parameters = BuildParameters()
        parameters.iterations = 6
        try change(&parameters)
        let report = try IndexBuilder(base: base, directory: directory.file(name), parameters: parameters)
            .build()
        return (report, try DiskIndex(path: directory.file(name)))
    }

    @Test func vectorsThatRepeatGetFewerPartitionsAndTheReportSaysSo() throws {
        let values = gaussian(100)
        let (report, index) = try build(values.gather((0..<2000).map { UInt32($0 % 100) })) {
            $0.partitions = 300
        }
        #expect(index.partitionCount == 100)
        #expect(report.partitionsLeftOut == 200)
        #expect(report.summary.contains("200 fewer than asked for"))
        #expect((0..<index.partitionCount).allSatisfy { index.table[$0].recordCount > 0 })
        let found = try index.ask(values, k: 1, .nprobe(8))
        #expect(found.counters.allSatisfy { $0.segments == 8 })
        for query in 0..<100 { #expect(found.answers.distance(query: query, rank: 0) == 0) }
    }

    @Test func policiesThatCountCountPartitionsThatHoldSomething() throws {
        // The partitions of many vectors, of which this index holds few.
        let rows = gaussian(3000)
        let whole = try Fixture.write(rows, to: directory.file("whole.npy"))
        var learned = BuildParameters()
        learned.partitions = 400
        let plan = try SharedPartitions.learn(
            base: whole, parameters: learned, directory: directory.file("plan")
        ).plan
        let (_, index) = try build(rows.gather(0..<150)) { try plan.apply(to: &$0) }
        let filled = (0..<index.partitionCount).count { index.table[$0].recordCount > 0 }
        #expect(filled < 150 && index.partitionCount == 400)
        let queries = gaussian(40, seed: 8)
        let file = try Fixture.write(queries, to: directory.file("queries.npy"))
        for policy in [
            Policy.nprobe(1), .nprobe(20), .nprobe(399), .eps2(0, nprobe: 5), .eps2(1e9, nprobe: 30),
        ] {
            let found = try index.ask(queries, k: 5, policy)
            let wanted =
                switch policy {
                case .nprobe(let count): min(count, filled)
                case .eps2(let eps2, let count): eps2 == 0 ? 1 : count
                default: 0
                }
            #expect(found.counters.allSatisfy { $0.segments == UInt64(wanted) }, "\(policy)")
            let parameters = BatchParameters(search: SearchParameters(k: 5, policy: policy, threads: 2))
            let summary = try index.batch(file, out: directory.file("out"), parameters: parameters)
            #expect(summary.queries == 40)
            #expect(try TruthFile.read(path: directory.file("out")).ids == found.answers.ids, "\(policy)")
        }
        let everything = try index.ask(queries, k: 5, .vectorBudget(150))
        #expect(everything.counters.allSatisfy { $0.vectors == 150 })
        let mass = try index.ask(queries, k: 5, .mass(1e-6))
        #expect(mass.counters.allSatisfy { $0.segments == 1 })
        let sigma = try index.ask(queries, k: 5, .sigma(0.999))
        #expect(sigma.counters.allSatisfy { $0.segments == 1 })
    }

    @Test(arguments: [Kind.none, .closure, .soar])
    func lengthsCountUnderInnerProduct(kind: Kind) throws {
        var random = SeededRandom(seed: 11)
        let rows = gaussian(4000, dimension: 16)
        RoutingSpace.normalise(rows)
        for row in 0..<rows.count {
            let length = Float(exp(random.gaussian()))
            for column in 0..<16 { rows.floatRow(row)[column] *= length }
        }
        let queries = gaussian(100, dimension: 16, seed: 12)
        let (_, index) = try build(rows) {
            $0.metric = .ip
            $0.partitions = 100
            kind.apply(to: &$0)
        }
        #expect(index.space.longest != nil)
        let base = try VectorFile.open(path: directory.file("index.npy"))
        let file = try Fixture.write(queries, to: directory.file("queries.npy"))
        let truth = try ExactSearch(k: 10, metric: .ip, threads: 1, memoryByteCount: 1 << 28)
            .run(base: base, queries: file)
        let found = try index.ask(queries, k: 10, .nprobe(5))
        #expect(Recall.mean(of: found.answers, against: truth, k: 1, metric: .ip) > 0.9)
        #expect(try index.ask(queries, k: 10, .nprobe(100)).answers.ids == truth.ids)
    }

    @Test(arguments: [(1, 1), (2, 2), (8, 8), (9, 9), (1000, 1), (1000, 2), (1000, 3), (1000, 4)])
    func headsOfFewVectorsOrValues(count: Int, values: Int) throws {
        let rows = gaussian(values).gather((0..<count).map { UInt32($0 % values) })
        let (_, index) = try build(rows) { $0.headShare = 0.15 }
        #expect(index.partitionCount >= 1)
        let found = try index.ask(rows, k: 1, .nprobe(index.partitionCount))
        for query in 0..<count { #expect(found.answers.distance(query: query, rank: 0) == 0) }
        #expect(!directory.names.contains { $0.hasSuffix(".building") })
    }

    /// Vectors whose squares are no numbers of 32 bits any more are refused before anything is partitioned.
    @Test func vectorsTooShortForTheirDistancesAreRefused() throws {
        let error = #expect(throws: (any Error).self) { try build(gaussian(500, scale: 3e-20)) { _ in } }
        #expect("\(String(describing: error))".contains("too short"))
        #expect(!directory.names.contains { $0.hasSuffix(".building") })
    }

    @Test func smallNumbersAreBuiltAndFound() throws {
        let rows = gaussian(500, scale: 1e-14)
        let (_, index) = try build(rows) { $0.partitions = 20 }
        let found = try index.ask(rows, k: 1, .nprobe(20))
        for query in 0..<500 { #expect(found.answers.distance(query: query, rank: 0) == 0) }
    }
}
