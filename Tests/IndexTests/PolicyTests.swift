// Policies by their promises: more reading never finds less, and a limit is a limit.

import Build
import Index
import Learn
import Storage
import TestSupport
import Testing
import Vectors

struct PolicyTests {
    @Test(arguments: Kind.allCases)
    func readingMoreNeverFindsLess(kind: Kind) throws {
        let fixture = try Fixture(count: 3000)
        try fixture.build("index", .l2, kind, partitions: 50)
        let index = try fixture.open()
        let truth = try fixture.truth(k: 10)
        let sweeps: [[Policy]] = [
            [1, 2, 3, 5, 9, 20, 50, 400].map { .nprobe($0) },
            [0, 0.01, 0.1, 0.3, 1, 3, 1e9].map { .eps2($0, nprobe: 400) },
            [1, 50, 200, 500, 1000, 3000, 100_000].map { .vectorBudget($0) },
        ]
        for sweep in sweeps {
            var before: SearchResult?
            for policy in sweep {
                let found = try index.ask(fixture.queries, policy)
                for k in [1, 10] {
                    let recall = Recall.mean(of: found.answers, against: truth, k: k, metric: .l2)
                    if let before {
                        #expect(
                            recall >= Recall.mean(of: before.answers, against: truth, k: k, metric: .l2),
                            "\(policy)")
                    }
                }
                // Each query by itself reads no less than before.
                for query in 0..<fixture.queries.count {
                    #expect(found.counters[query].vectors >= before?.counters[query].vectors ?? 0)
                    #expect(found.counters[query].bytes >= before?.counters[query].bytes ?? 0)
                }
                before = found
            }
            #expect(try #require(before).answers == truth)
        }
    }

    @Test func eps2ReadsThePartitionsWithinItsLimit() throws {
        let fixture = try Fixture(.f32, count: 3000)
        try fixture.build("index", partitions: 50)
        let index = try fixture.open()
        for (eps2, nprobe) in [(Float(0), 9), (0.2, 50), (0.2, 3), (5, 7)] {
            let found = try index.ask(fixture.queries, .eps2(eps2, nprobe: nprobe))
            for query in 0..<fixture.queries.count {
                let route = index.routed(query, of: fixture.queries)
                let within = zip(route.partitions, route.distances).prefix(nprobe)
                    .filter { $0.1 <= (1 + eps2) * route.distances[0] }.map { Int($0.0) }
                #expect(!within.isEmpty)
                #expect(
                    found.counters[query].segments
                        == UInt64(within.filter { index.table[$0].recordCount > 0 }.count))
                #expect(found.counters[query].segments >= 1)
                #expect(
                    found.counters[query].vectors
                        == within.reduce(0) { $0 + UInt64(index.table[$1].recordCount) })
            }
        }
    }

    /// A query that lies on a centroid is at distance zero: the limit must not lose the nearest partition.
    @Test func eps2ReadsTheNearestPartitionOfACentroid() throws {
        let fixture = try Fixture(.u8, count: 3000)
        try fixture.build("index", partitions: 50)
        let index = try fixture.open()
        let centroids = index.centroids.centroids()
        for eps2 in [Float(0), 0.5, .greatestFiniteMagnitude] {
            let found = try index.ask(centroids, .eps2(eps2, nprobe: 50))
            #expect(found.counters.allSatisfy { $0.segments >= 1 })
        }
        #expect(refusal { _ = try index.ask(centroids, .eps2(.infinity, nprobe: 50)) }.contains("eps2"))
    }

    @Test(arguments: Kind.allCases, [1, 40, 300, 2000])
    func aBudgetIsRespected(kind: Kind, budget: Int) throws {
        let fixture = try Fixture(count: 3000)
        try fixture.build("index", .l2, kind, partitions: 50)
        let index = try fixture.open()
        let found = try index.ask(fixture.queries, .vectorBudget(budget))
        for query in 0..<fixture.queries.count {
            let counters = found.counters[query]
            #expect(counters.vectors <= UInt64(budget) || counters.segments == 1)
            // At least one, and all that fit.
            #expect(counters.segments >= 1)
            var (sum, expected) = (0, 0)
            for partition in index.routed(query, of: fixture.queries).partitions {
                sum += Int(index.table[Int(partition)].recordCount)
                if sum > budget && expected > 0 { break }
                expected = sum
            }
            #expect(counters.vectors == UInt64(expected))
        }
    }

    /// Heads make thousands of tiny partitions; a budget goes on until it is spent.
    @Test func aBudgetIsSpentOverManySmallPartitions() throws {
        let fixture = try Fixture(count: 12000, dimension: 4, queryCount: 5)
        try fixture.build("index", partitions: 6000)
        let index = try fixture.open()
        let found = try index.ask(fixture.queries, .vectorBudget(11_900))
        let largest = (0..<6000).reduce(0) { max($0, Int(index.table[$1].recordCount)) }
        #expect(found.counters.allSatisfy { $0.vectors + UInt64(largest) > 11_900 })
    }

    @Test func limitsThatMeanNothingAreRefused() throws {
        let fixture = try Fixture(count: 200)
        try fixture.build("index", partitions: 4)
        let index = try fixture.open()
        for (policy, word) in [
            (Policy.nprobe(0), "nprobe"), (.nprobe(-3), "nprobe"), (.eps2(-0.1, nprobe: 3), "eps2"),
            (.eps2(.nan, nprobe: 3), "eps2"), (.eps2(0.1, nprobe: 0), "nprobe"), (.vectorBudget(0), "budget"),
        ] {
            #expect(refusal { _ = try index.ask(fixture.queries, policy) }.contains(word))
        }
        #expect(try index.ask(fixture.queries, .nprobe(Int.max)).counters.allSatisfy { $0.vectors == 200 })
        #expect(
            try index.ask(fixture.queries, .vectorBudget(Int.max)).counters.allSatisfy { $0.vectors == 200 })
    }
}
