import Glibc
import Router
import Testing
import Vectors

@Suite struct RefinementTests {
    private let fixture = PredictorFixture(queries: 2560, partitions: 40)

    private func plain() -> Predictor {
        let model = fixture.model(PredictorForm(base: .distance), candidates: 24)
        fixture.trainer(model).calibrateBeta(subClusters: nil)
        return model.frozen(elementType: .f32, candidateCount: 24)
    }

    private func refined(_ predictor: Predictor, threads: Int = 2) -> Predictor {
        predictor.refined(
            pairs: fixture.pairs, range: 0..<1500, homes: fixture.homes,
            records: fixture.homes.recordCounts(partitionCount: 40).map { UInt32($0) }, seed: 1,
            threads: threads)
    }

    private func routes(_ predictor: Predictor, _ queries: Range<Int>) -> [Route] {
        let scratch = predictor.makeScratch()
        return queries.map { query in
            var route = Route()
            predictor.route(fixture.pairs.queries.row(query), limit: 24, scratch: scratch, into: &route)
            return route
        }
    }

    /// Mean -log of the probability of the partition that holds the nearest, where it is a candidate.
    private func loss(_ predictor: Predictor) -> Double {
        let held = fixture.pairs.heldOut
        let losses = zip(held, routes(predictor, held)).compactMap { pair, route -> Double? in
            let home = fixture.homes[Int(fixture.pairs.neighbours[pair * fixture.pairs.neighbourCount])]
            return route.partitions.firstIndex(where: { home.contains($0) }).map {
                -Double(route.logProbabilities[$0])
            }
        }
        return losses.reduce(0, +) / Double(losses.count)
    }

    @Test func refiningLowersTheLossOfPairsNotSeen() {
        let predictor = plain()
        #expect(loss(refined(predictor)) < loss(predictor) * 0.99)
    }

    @Test func probabilitiesSumToOneAndFall() {
        for route in routes(refined(plain()), 0..<50) {
            let sum = route.logProbabilities.reduce(0.0) { $0 + exp(Double($1)) }
            #expect(abs(sum - 1) < 1e-4)
            #expect(zip(route.logProbabilities, route.logProbabilities.dropFirst()).allSatisfy { $0 >= $1 })
        }
    }

    @Test func aBlockIsRoutedAsItsQueriesAre() {
        let predictor = refined(plain())
        var block: [Route] = []
        predictor.routeBlock(
            fixture.pairs.queries.gather(0..<100), limit: 24, scratch: predictor.makeScratch(), into: &block)
        for (one, two) in zip(block, routes(predictor, 0..<100)) {
            #expect(one.partitions == two.partitions && one.logProbabilities == two.logProbabilities)
        }
    }

    @Test func itSurvivesItsBytesAndThreadsDoNotChangeThem() throws {
        let predictor = refined(plain())
        let sections = predictor.encode()
        for (one, two) in zip(sections, refined(plain(), threads: 1).encode()) {
            #expect(one.bytes == two.bytes)
        }
        let whole = Dictionary(uniqueKeysWithValues: sections)
        let again = try #require(
            try Predictor.decode(whole, centroids: CentroidIndex(decoding: whole)))
        #expect(again.residentByteCount == predictor.residentByteCount)
        for (one, two) in zip(routes(again, 0..<50), routes(predictor, 0..<50)) {
            #expect(one.partitions == two.partitions && one.logProbabilities == two.logProbabilities)
        }
    }

    @Test func damagedBytesThrowOrRoute() throws {
        let whole = Dictionary(uniqueKeysWithValues: refined(plain()).encode())
        let bytes = try #require(whole["refine"])
        let centroids = try CentroidIndex(decoding: whole)
        for count in stride(from: 0, to: bytes.count, by: 7) {
            #expect(throws: RouterError.self) {
                try Predictor.decode(
                    whole.merging(["refine": Array(bytes[0..<count])]) { $1 }, centroids: centroids)
            }
        }
        var random = SeededRandom(seed: 5)
        for _ in 0..<500 {
            var flipped = whole
            flipped["refine"]![random.below(bytes.count)] ^= UInt8(1 << random.below(8))
            if let predictor = try? Predictor.decode(flipped, centroids: centroids) {
                #expect(routes(predictor, 0..<1)[0].count == 24)
            }
        }
    }
}
