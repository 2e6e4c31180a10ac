import Foundation
import Router
import Testing
import Vectors

@Suite struct PredictorTests {
    /// Trained predictors of every form, prototypes kept whole and as codes.
    static func predictors(_ fixture: PredictorFixture) throws -> [(name: String, predictor: Predictor)] {
        var all: [(String, Predictor)] = []
        for form in predictorForms {
            let model = fixture.model(form)
            let trainer = fixture.trainer(model)
            try trainer.train()
            trainer.calibrateTemperature()
            let name = "\(form.base.rawValue) \(form.hidden ?? [])"
            for type in [ElementType.f32, .f16, .u8] where type == .f32 || form.base == .prototypes {
                all.append((name + " " + type.name, model.frozen(elementType: type, candidateCount: 7)))
            }
            if form.base == .prototypes {
                for size in [3, 8] {
                    all.append(
                        (name + " codes \(size)", trainer.frozen(codeByteCount: size, candidateCount: 7)))
                }
            }
        }
        return all
    }

    private static func routes(_ router: Predictor, _ queries: VectorMatrix, limit: Int = 100) -> [Route] {
        let scratch = router.makeScratch()
        return (0..<queries.count).map { row in
            var route = Route()
            router.route(queries.row(row), limit: limit, scratch: scratch, into: &route)
            return route
        }
    }

    private static func same(_ a: Route, _ b: Route) -> Bool {
        a.partitions == b.partitions && a.distances == b.distances
            && a.logProbabilities.map(\.bitPattern) == b.logProbabilities.map(\.bitPattern)
    }

    @Test(arguments: [ElementType.f32, .u8])
    func aRouteIsADistributionInOrder(elementType: ElementType) throws {
        let fixture = PredictorFixture(elementType: elementType)
        for (name, predictor) in try Self.predictors(fixture) {
            let queries = fixture.pairs.queries.gather(0..<100)
            for route in Self.routes(predictor, queries) {
                let sum = route.logProbabilities.reduce(0.0) { $0 + exp(Double($1)) }
                #expect(abs(sum - 1) < 1e-4, "\(name)")
                #expect(route.count == (name.hasPrefix("none") ? 12 : 7))
                #expect(Set(route.partitions).count == route.count)
                for place in 1..<route.count {
                    let (a, b) = (route.logProbabilities[place - 1], route.logProbabilities[place])
                    #expect(
                        a > b || (a == b && route.partitions[place - 1] < route.partitions[place]), "\(name)")
                }
            }
            for (short, long) in zip(
                Self.routes(predictor, queries, limit: 2), Self.routes(predictor, queries))
            {
                #expect(short.partitions == Array(long.partitions.prefix(2)))
                #expect(short.logProbabilities == Array(long.logProbabilities.prefix(2)))
            }
        }
    }

    @Test(arguments: [ElementType.f32, .u8])
    func aBlockIsRoutedAsItsQueriesAre(elementType: ElementType) throws {
        let fixture = PredictorFixture(elementType: elementType)
        for (name, predictor) in try Self.predictors(fixture) {
            let queries = fixture.pairs.queries.gather(0..<70)
            var block: [Route] = []
            predictor.routeBlock(queries, limit: 5, scratch: predictor.makeScratch(), into: &block)
            #expect(zip(block, Self.routes(predictor, queries, limit: 5)).allSatisfy(Self.same), "\(name)")
        }
    }

    /// As many codewords as prototypes: nothing is lost but what f16 and table steps round away.
    @Test(arguments: [ElementType.f32, .u8])
    func codesThatLoseNothingRouteLikeRows(elementType: ElementType) throws {
        let fixture = PredictorFixture(elementType: elementType)
        let model = fixture.model(PredictorForm(base: .prototypes), sharesBeta: true)
        let rows = model.frozen(elementType: .f32, candidateCount: 7)
        let coder = try #require(model.coded(codeByteCount: 4, candidateCount: 7, seed: 1, threads: 2))
        let logBetas = try #require(model.tensors.first { $0.name == "log betas" })
        let codes = coder(exp(logBetas.values[0]))
        let queries = fixture.pairs.queries.gather(0..<200)
        var offs: [Float] = []
        for (a, b) in zip(Self.routes(rows, queries), Self.routes(codes, queries)) {
            for (partition, probability) in zip(a.partitions, a.logProbabilities) {
                let place = try #require(b.partitions.firstIndex(of: partition))
                offs.append(abs(b.logProbabilities[place] - probability))
            }
        }
        #expect(offs.reduce(0, +) / Float(offs.count) < 0.04 && offs.max() ?? 0 < 0.25)
    }

    @Test func codingIsCountedToTheByte() throws {
        let fixture = PredictorFixture()
        let model = fixture.model(PredictorForm(base: .prototypes))
        let count = fixture.subClusters.centers.count
        let codes = fixture.trainer(model).frozen(codeByteCount: 3, candidateCount: 7)
        let centroids = fixture.centroids.residentByteCount
        // Code and weight, starts of partitions, mean, codewords with their four starts.
        #expect(codes.residentByteCount == centroids + count * 5 + 13 * 4 + 8 * 4 + 8 * 256 * 2 + 4 * 4)
        let rows = model.frozen(elementType: .u8, candidateCount: 7)
        #expect(rows.residentByteCount == centroids + count * (8 + 8) + 13 * 4)
    }

    @Test func threadsDoNotChangeCodes() throws {
        let fixture = PredictorFixture()
        let sections = [1, 2].map { threads in
            fixture.trainer(fixture.model(PredictorForm(base: .prototypes)), threads: threads)
                .frozen(codeByteCount: 3, candidateCount: 7).encode()
        }
        for (a, b) in zip(sections[0], sections[1]) { #expect(a.tag == b.tag && a.bytes == b.bytes) }
    }

    private static func decode(_ sections: [(tag: String, bytes: [UInt8])], _ fixture: PredictorFixture)
        throws -> Predictor?
    {
        try Predictor.decode(
            Dictionary(uniqueKeysWithValues: sections.map { ($0.tag, $0.bytes) }),
            centroids: fixture.centroids)
    }

    @Test func bytesComeBackAsTheSamePredictor() throws {
        let fixture = PredictorFixture(elementType: .u8)
        let queries = fixture.pairs.queries.gather(0..<70)
        for (name, predictor) in try Self.predictors(fixture) {
            let back = try #require(try Self.decode(predictor.encode(), fixture))
            #expect(
                zip(back.encode(), predictor.encode()).allSatisfy { $0.tag == $1.tag && $0.bytes == $1.bytes }
            )
            #expect(
                zip(Self.routes(back, queries), Self.routes(predictor, queries)).allSatisfy(Self.same),
                "\(name)")
            #expect(back.residentByteCount == predictor.residentByteCount)
        }
    }

    @Test func damagedBytesNeverTrap() throws {
        let fixture = PredictorFixture(elementType: .u8)
        let query = fixture.pairs.queries.gather(0..<3)
        var random = SeededRandom(seed: 2)
        for (name, predictor) in try Self.predictors(fixture) {
            let sections = predictor.encode()
            for (place, section) in sections.enumerated()
            where ["predict", "proto", "network"].contains(section.tag) {
                for length in 0..<section.bytes.count {
                    var damaged = sections
                    damaged[place].bytes = Array(section.bytes.prefix(length))
                    #expect(throws: RouterError.self, "\(name) \(section.tag) cut at \(length)") {
                        try Self.decode(damaged, fixture)
                    }
                }
                for round in 0..<300 {
                    var damaged = sections
                    // Half of the flips fall among the numbers in front, where they can do most.
                    let reach = round % 2 == 0 ? min(section.bytes.count, 80) : section.bytes.count
                    for _ in 0...round % 3 {
                        damaged[place].bytes[random.below(reach)] ^= UInt8(1 << random.below(8))
                    }
                    if let survivor = try? Self.decode(damaged, fixture) { _ = Self.routes(survivor, query) }
                }
                var missing = sections
                missing.remove(at: place)
                if section.tag != "predict" {
                    #expect(throws: RouterError.self) { try Self.decode(missing, fixture) }
                }
            }
        }
    }
}
