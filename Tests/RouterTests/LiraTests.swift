import Foundation
import Router
import Testing
import Vectors

@Suite struct LiraTests {
    private func trainer(_ fixture: PredictorFixture, epochs: Int = 3, threads: Int = 2, depth: Int = 3)
        -> LiraTrainer
    {
        var options = LiraOptions()
        options.tower = [10, 6]
        options.head = [9]
        options.depth = depth
        options.training.batchSize = 64
        options.training.epochs = epochs
        options.training.threads = threads
        options.training.rate = 10
        return LiraTrainer(
            centroids: fixture.centroids, pairs: fixture.pairs, homes: fixture.homes, options: options)
    }

    private func routes(_ model: LiraModel, _ queries: VectorMatrix) -> [Route] {
        var routes: [Route] = []
        model.routeBlock(queries, limit: 100, scratch: model.makeScratch(), into: &routes)
        return routes
    }

    @Test(arguments: [false, true])
    func theGradientIsThatOfTheLoss(replicas: Bool) {
        let fixture = PredictorFixture(replicas: replicas)
        let trainer = trainer(fixture)
        // Off the start, where the last layer is zero and says nothing of those before it.
        var random = SeededRandom(seed: 3)
        for tensor in trainer.tensors {
            for position in 0..<tensor.count { tensor.values[position] += 0.2 * Float(random.gaussian()) }
        }
        let chosen = Array(UInt32(0)..<64)[...]
        _ = trainer.gradient(of: chosen)
        let gradients = trainer.tensors.map { tensor in (0..<tensor.count).map { tensor.gradient[$0] } }
        for (number, tensor) in trainer.tensors.enumerated() {
            for _ in 0..<12 {
                let position = random.below(tensor.count)
                let kept = tensor.values[position]
                let step: Float = 2e-3
                tensor.values[position] = kept + step
                let above = trainer.gradient(of: chosen)
                tensor.values[position] = kept - step
                let below = trainer.gradient(of: chosen)
                tensor.values[position] = kept
                let expected = Float((above - below) / Double(2 * step) / Double(chosen.count))
                #expect(
                    abs(expected - gradients[number][position]) < 2e-4 + 0.03 * abs(expected),
                    "\(tensor.name) \(position): \(expected) \(gradients[number][position])")
            }
        }
    }

    @Test(arguments: [ElementType.f32, .u8])
    func itLearnsWhichPartitionsAreWanted(elementType: ElementType) throws {
        let fixture = PredictorFixture(elementType: elementType)
        let trainer = trainer(fixture, epochs: 12)
        trainer.train()
        let losses = trainer.report.heldOutLosses
        #expect(try #require(losses.min()) < 0.6 * trainer.report.heldOutStart)
        // Calibrated: what it calls probable happens as often as it says.
        let model = trainer.model()
        let held = fixture.pairs.heldOut
        var (predicted, observed) = (0.0, 0.0)
        for (query, route) in zip(held, routes(model, fixture.pairs.queries.gather(held))) {
            let neighbours = fixture.pairs.neighbours[query * 3..<query * 3 + 3]
            let wanted = Set(neighbours.flatMap { fixture.homes[Int($0)] })
            predicted += route.logProbabilities.reduce(0) { $0 + exp(Double($1)) }
            observed += Double(wanted.count)
            #expect(route.logProbabilities == route.logProbabilities.sorted(by: >))
            #expect(route.logProbabilities.allSatisfy { $0 <= 0 } && Set(route.partitions).count == 12)
        }
        #expect(abs(predicted / observed - 1) < 0.1)
    }

    @Test func aCheckpointGoesOnAsIfNothingHadHappened() throws {
        let fixture = PredictorFixture()
        let whole = trainer(fixture, epochs: 4)
        var states: [[UInt8]] = []
        whole.train(afterEpoch: { states.append($0.state) })
        for state in states {
            let again = trainer(fixture, epochs: 4)
            #expect(again.restore(state))
            again.train()
            #expect(again.state == whole.state)
            #expect(again.model().encode().flatMap(\.bytes) == whole.model().encode().flatMap(\.bytes))
        }
        #expect(!trainer(fixture).restore([UInt8](try #require(states.last).dropLast())))
    }

    @Test func threadsDoNotChangeIt() {
        let fixture = PredictorFixture()
        let encoded = [1, 3].map { threads in
            let trainer = trainer(fixture, threads: threads)
            trainer.train()
            return trainer.model().encode().flatMap(\.bytes)
        }
        #expect(encoded[0] == encoded[1])
    }

    @Test func itComesBackFromItsBytes() throws {
        let fixture = PredictorFixture(elementType: .u8)
        let trainer = trainer(fixture, epochs: 1)
        trainer.train()
        let model = trainer.model()
        let sections = Dictionary(uniqueKeysWithValues: model.encode().map { ($0.tag, $0.bytes) })
        let again = try #require(try LiraModel.decode(sections, centroids: fixture.centroids))
        let queries = fixture.pairs.queries.gather(0..<50)
        for (a, b) in zip(routes(model, queries), routes(again, queries)) {
            #expect(a.partitions == b.partitions && a.logProbabilities == b.logProbabilities)
        }
        #expect(again.residentByteCount == model.residentByteCount && again.depth == 3)
        #expect(try LiraModel.decode([String: [UInt8]](), centroids: fixture.centroids) == nil)
        let bytes = try #require(sections[LiraModel.section])
        for length in stride(from: 0, to: bytes.count, by: 97) {
            #expect(throws: RouterError.self) {
                try LiraModel.decode(
                    [LiraModel.section: Array(bytes.prefix(length))], centroids: fixture.centroids)
            }
        }
    }
}
