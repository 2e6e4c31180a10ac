import Foundation
import Router
import Testing
import Vectors

@Suite struct CentroidIndexTests {
    private static let centroids = plantedRows(
        clusters: 300, perCluster: 20, dimension: 16, elementType: .u8, seed: 21, spread: 12
    ).rows

    private func routes(_ index: CentroidIndex, _ queries: VectorMatrix, limit: Int) -> [Route] {
        var routes: [Route] = []
        index.routeBlock(queries, limit: limit, scratch: index.makeScratch(), into: &routes)
        return routes
    }

    @Test func theScanIsExact() {
        let index = CentroidIndex(centroids: Self.centroids, beta: 1e-3, kind: .scan)
        let queries = Self.centroids.gather(50..<70)
        let exact = NearestCentroids(scanning: Self.centroids).nearest(40, queries, threads: 1)
        for (row, route) in routes(index, queries, limit: 40).enumerated() {
            #expect(route.partitions == Array(exact.partitions[row * 40..<row * 40 + 40]))
            #expect(route.distances == Array(exact.distances[row * 40..<row * 40 + 40]))
            let sum = route.logProbabilities.reduce(0.0) { $0 + exp(Double($1)) }
            #expect(abs(sum - 1) < 1e-4)
            #expect(zip(route.logProbabilities, route.logProbabilities.dropFirst()).allSatisfy { $0 >= $1 })
        }
        #expect(routes(index, queries, limit: 1_000_000)[0].count == Self.centroids.count)
        #expect(routes(index, queries, limit: 0)[0].count == 0)
    }

    /// A heap of few and a sort of many, both over several tiles of centroids.
    @Test(arguments: [7, 1000])
    func aBlockIsRoutedAsItsQueriesAre(limit: Int) {
        let index = CentroidIndex(centroids: Self.centroids, beta: 1e-3, kind: .scan)
        let queries = Self.centroids.gather(0..<150)
        let scratch = index.makeScratch()
        for (row, block) in routes(index, queries, limit: limit).enumerated() {
            var alone = Route()
            index.route(queries.row(row), limit: limit, scratch: scratch, into: &alone)
            #expect(block.partitions == alone.partitions && block.distances == alone.distances)
            #expect(
                block.logProbabilities == alone.logProbabilities && block.logNormaliser == alone.logNormaliser
            )
        }
    }

    @Test(arguments: [CentroidIndex.Kind.graph, .groups])
    func whatIsNotExactFindsNearlyAll(kind: CentroidIndex.Kind) {
        let index = CentroidIndex(centroids: Self.centroids, beta: 1e-3, kind: kind, seed: 1, threads: 2)
        let queries = Self.centroids.gather(1000..<1200)
        let exact = NearestCentroids(scanning: Self.centroids).nearest(32, queries, threads: 1)
        var found = 0
        for (row, route) in routes(index, queries, limit: 32).enumerated() {
            #expect(Set(route.partitions).count == route.count)
            found += Set(route.partitions).intersection(exact.partitions[row * 32..<row * 32 + 32]).count
        }
        #expect(found > 200 * 32 * 97 / 100)
    }

    @Test(arguments: CentroidIndex.Kind.allCases)
    func aRouterSurvivesItsBytes(kind: CentroidIndex.Kind) throws {
        let index = CentroidIndex(centroids: Self.centroids, beta: 2e-3, kind: kind, seed: 1, threads: 2)
        let alone = CentroidIndex(centroids: Self.centroids, beta: 2e-3, kind: kind, seed: 1, threads: 1)
        let sections = index.encode()
        for (one, two) in zip(sections, alone.encode()) { #expect(one.bytes == two.bytes) }
        let again = try CentroidIndex(decoding: Dictionary(uniqueKeysWithValues: sections))
        #expect(again.kind == kind && again.beta == 2e-3)
        #expect(again.residentByteCount == index.residentByteCount)
        #expect(bytes(again.centroids()) == bytes(Self.centroids))
        let queries = Self.centroids.gather(0..<50)
        for (one, two) in zip(routes(index, queries, limit: 20), routes(again, queries, limit: 20)) {
            #expect(one.partitions == two.partitions && one.logProbabilities == two.logProbabilities)
        }
    }

    @Test(arguments: CentroidIndex.Kind.allCases)
    func damagedBytesThrowOrRoute(kind: CentroidIndex.Kind) throws {
        let small = Self.centroids.gather(0..<200)
        let sections = CentroidIndex(centroids: small, beta: 1e-3, kind: kind, seed: 1).encode()
        let whole = Dictionary(uniqueKeysWithValues: sections)
        for (tag, bytes) in sections {
            var without = whole
            without[tag] = nil
            #expect(throws: RouterError.self) { try CentroidIndex(decoding: without) }
            for count in stride(from: 0, to: bytes.count, by: max(1, bytes.count / 97)) {
                var cut = whole
                cut[tag] = Array(bytes[0..<count])
                #expect(throws: RouterError.self) { try CentroidIndex(decoding: cut) }
            }
            #expect(throws: RouterError.self) {
                try CentroidIndex(decoding: whole.merging([tag: bytes + [0]]) { $1 })
            }
            var random = SeededRandom(seed: 5)
            for _ in 0..<3000 {
                var flipped = whole
                // Headers are small: half of the flips go there.
                let position = random.below(random.below(2) == 0 ? min(64, bytes.count) : bytes.count)
                flipped[tag]![position] ^= UInt8(1 << random.below(8))
                if let index = try? CentroidIndex(decoding: flipped) {
                    #expect(routes(index, small.gather(0..<1), limit: 10)[0].count <= 10)
                }
            }
        }
    }
}
