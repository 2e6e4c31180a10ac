// Indexes whose router was learned: the same promises as without, and those of the policies by probability.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

struct LearnedRouterTests {
    /// A router to learn from 600 queries of the fixture's own distribution, in a moment.
    private static func training(_ fixture: Fixture, _ kind: RouterKind, seed: UInt64 = 1) throws
        -> RouterTraining
    {
        let synth = try Synth(
            SynthParameters(
                dimension: fixture.base.dimension, elementType: fixture.base.elementType, seed: 5,
                clusters: 24))
        let path = fixture.directory.file("learn.npy")
        var training = RouterTraining()
        training.learn =
            FileManager.default.fileExists(atPath: path)
            ? try VectorFile.open(path: path)
            : try Fixture.write(synth.rows(0..<600, of: .learn, threads: 1), to: path)
        training.predictor.kind = kind
        training.predictor.prototypes = 4
        training.predictor.hidden = [16]
        training.predictor.candidates = 20
        training.predictor.lira.tower = [16, 8]
        training.predictor.lira.head = [16]
        training.predictor.training.epochs = 2
        training.predictor.training.batchSize = 64
        training.predictor.training.seed = seed
        return training
    }

    @Test(arguments: RouterKind.allCases, [Kind.none, .closure])
    func everyRouterKeepsThePromises(router: RouterKind, kind: Kind) throws {
        let fixture = try Fixture(count: 3000)
        let training = try Self.training(fixture, router)
        let report = try fixture.build("index", .l2, kind, partitions: 60) { $0.router = training }
        let verified = try Verification.run(path: fixture.directory.file("index"))
        #expect(verified.damage.isEmpty, "\(verified.text)")
        let index = try fixture.open()
        #expect(
            report.residentByteCount == index.residentByteCount
                && index.manifest.build["router"] == router.rawValue)
        // Beyond its 20 candidates a router goes on by distance: reading everything is the truth.
        let truth = try fixture.truth(k: 10)
        #expect(try index.ask(fixture.queries, .nprobe(60)).answers == truth)
        #expect(try index.ask(fixture.queries, .eps2(1e9, nprobe: 60)).answers == truth)
        #expect(try index.ask(fixture.queries, .vectorBudget(1 << 40)).answers == truth)
        for nprobe in [1, 5, 20, 33] {
            let counters = try index.ask(fixture.queries, .nprobe(nprobe)).counters
            #expect(counters.allSatisfy { $0.segments == nprobe })
        }
        // Probabilities of the candidates are those of one of them being right.
        for query in 0..<5 {
            let route = index.routed(query, of: fixture.queries)
            let sum = route.logProbabilities.reduce(0.0) { $0 + exp(Double($1)) }
            // A probing model gives each partition a probability of its own.
            #expect(abs(sum - 1) < 1e-3 || (router == .lira && sum > 0.5))
            #expect(route.logProbabilities == route.logProbabilities.sorted(by: >))
        }
    }

    /// The seed decides the router too.
    @Test(arguments: [RouterKind.prototypes, .network])
    func threadsDoNotChangeABit(router: RouterKind) throws {
        // Larger than what a device is timed on: no clock may decide a byte.
        let fixture = try Fixture(.f32, count: 2000, dimension: 200)
        for (name, threads, seed) in [("one", 1, 1), ("two", 2, 1), ("again", 2, 1), ("other", 2, 2)] {
            var training = try Self.training(fixture, router, seed: UInt64(seed))
            training.predictor.training.threads = threads
            training.pairs.threads = threads
            try fixture.build(name, .l2, .closure, partitions: 40) {
                $0.threads = threads
                $0.router = training
            }
        }
        #expect(try differences(fixture.directory.file("one"), fixture.directory.file("two")) == [])
        #expect(try differences(fixture.directory.file("two"), fixture.directory.file("again")) == [])
        #expect(
            try differences(fixture.directory.file("one"), fixture.directory.file("other")).contains(
                "router.bin"))
    }

    /// Mass and gain by the router's probabilities: a lower threshold reads more and finds no less.
    @Test(arguments: [RouterKind?.none, .distance, .prototypes])
    func readingMoreNeverFindsLess(router: RouterKind?) throws {
        let fixture = try Fixture(count: 3000)
        let training = try router.map { try Self.training(fixture, $0) }
        try fixture.build("index", .l2, .closure, partitions: 60) { $0.router = training }
        let index = try fixture.open()
        let truth = try fixture.truth(k: 10)
        for cost in [ReadCost.vectors, .bytes, .reads, .time(.common)] {
            let sweeps: [[Policy]] = [
                [0.01, 0.3, 0.6, 0.9, 0.99, 1].map { .mass($0) },
                [1e9, 0.1, 0.01, 1e-3, 1e-4, 1e-6, 0].map { .gain($0) },
            ]
            for sweep in sweeps {
                var before: SearchResult?
                for policy in sweep {
                    var parameters = SearchParameters(k: 10, policy: policy)
                    parameters.cost = cost
                    let found = try index.search(fixture.queries, parameters: parameters)
                    for query in 0..<fixture.queries.count {
                        #expect(
                            found.counters[query].segments >= max(1, before?.counters[query].segments ?? 0))
                    }
                    if let before {
                        #expect(
                            Recall.mean(of: found.answers, against: truth, k: 10, metric: .l2)
                                >= Recall.mean(of: before.answers, against: truth, k: 10, metric: .l2))
                    }
                    before = found
                }
            }
        }
    }

    /// What a fetch account says is what the search does.
    @Test func accountsAreThoseOfTheSearch() throws {
        let fixture = try Fixture(count: 4000, queryCount: 150)
        let training = try Self.training(fixture, .prototypes)
        for kind in [Kind.none, .closure] {
            try fixture.build(kind.rawValue, .l2, kind, partitions: 60) { $0.router = training }
            let index = try fixture.open(kind.rawValue)
            let truth = try fixture.truth(k: 10)
            let account = FetchAccount(
                index: index, routes: index.routes(of: fixture.queries, threads: 2),
                neighbours: truth.ids.map { UInt32($0) },
                depth: 10,
                homes: try index.homes())
            let policies: [Policy] = [
                .nprobe(1), .nprobe(7), .eps2(0.2, nprobe: 20), .mass(0.9), .gain(0.001), .gain(1e-5),
            ]
            for (policy, point) in zip(policies, account.points(policies, ks: [1, 10])) {
                let found = try index.ask(fixture.queries, policy)
                func mean(_ value: (QueryCounters) -> UInt64) -> Double {
                    found.counters.reduce(0.0) { $0 + Double(value($1)) } / 150
                }
                #expect(
                    abs(point.vectors - mean { $0.vectors }) < 1e-9
                        && abs(point.segments - mean { $0.segments }) < 1e-9)
                #expect(
                    abs(point.pages - mean { $0.pages }) < 1e-9 && abs(point.reads - mean { $0.reads }) < 1e-9
                )
                // An account goes by ids, so that a copy of the k-th neighbour counts as wrong.
                for k in [1, 10] {
                    let recall = Recall.mean(of: found.answers, against: truth, k: k, metric: .l2)
                    let byIds = try #require(point.recall[String(k)])
                    #expect(byIds <= recall && recall - byIds < 0.05, "\(policy): \(byIds), \(recall)")
                }
            }
        }
    }

    /// A copy is found wherever it lies: homes name every partition of every vector.
    @Test(arguments: [Kind.none, .closure, .soar])
    func homesAreWhereTheRecordsLie(kind: Kind) throws {
        let fixture = try Fixture(count: 2000)
        try fixture.build("index", .l2, kind, partitions: 40)
        let index = try fixture.open()
        let homes = try index.homes()
        var lists = [Set<UInt32>](repeating: [], count: 2000)
        for (partition, ids) in try index.idsByPartition().enumerated() {
            for id in ids { lists[Int(id)].insert(UInt32(partition)) }
        }
        for vector in 0..<2000 {
            #expect(Set(homes[vector]) == lists[vector] && homes[vector].count == lists[vector].count)
        }
    }

    /// Thresholds do not hang on whether all segments have room in memory while held-out queries are asked.
    @Test func thresholdsDoNotHangOnTheMemory() throws {
        let fixture = try Fixture(count: 3000, queryCount: 10)
        try fixture.build("index", .l2, .none, partitions: 40)
        let index = try fixture.open()
        var training = try Self.training(fixture, .subcentroids)
        let whole = try index.trainRouter(training)
        training.pairs.memoryByteCount = 1 << 16
        let little = try index.trainRouter(training)
        #expect(whole.policies.lambda(recall: 0.5, cost: .vectors, rounds: 2) != nil)
        #expect(try whole.sections().map(\.bytes) == little.sections().map(\.bytes))
    }

    @Test func laterRoundsReadWhatIsStillWorthIt() throws {
        let fixture = try Fixture(count: 4000, queryCount: 100)
        let training = try Self.training(fixture, .prototypes)
        try fixture.build("index", .l2, .closure, partitions: 60) { $0.router = training }
        let memory = try fixture.open()
        let disk = try DiskIndex(path: memory.path)
        var parameters = SearchParameters(k: 10, policy: .gain(1e-4), threads: 1, inFlight: 1)
        parameters.rounds = 4
        let alone = try memory.search(fixture.queries, parameters: parameters)
        #expect(alone.counters.allSatisfy { (1...4).contains($0.rounds) && $0.reads <= $0.segments })
        #expect(alone.counters.contains { $0.rounds > 1 })
        for (threads, inFlight) in [(2, 8), (1, 100)] {
            parameters.threads = threads
            parameters.inFlight = inFlight
            let together = try disk.search(fixture.queries, parameters: parameters)
            #expect(
                together.answers == alone.answers
                    && together.counters.map(Cost.init) == alone.counters.map(Cost.init))
        }
        // With everything worth it, everything that the router names is read, whatever the rounds.
        parameters.policy = .gain(0)
        let all = try memory.search(fixture.queries, parameters: parameters)
        parameters.rounds = 1
        #expect(all.answers == (try memory.search(fixture.queries, parameters: parameters)).answers)
        // A wanted recall has a threshold of its own for two rounds, and for no other number of later ones.
        let policies = try #require(memory.policies)
        let lambda = try #require(policies.lambda(recall: 0.9, cost: .vectors, rounds: 2))
        parameters = SearchParameters(k: 1, policy: .gain(lambda), threads: 2)
        parameters.rounds = 2
        let found = try memory.search(fixture.queries, parameters: parameters).answers
        let truth = try fixture.truth(k: 1)
        #expect(abs(Recall.mean(of: found, against: truth, k: 1, metric: .l2) - 0.9) < 0.1)
        #expect(policies.lambda(recall: 0.9, cost: .vectors, rounds: 3) == nil)
        #expect(policies.lambda(recall: 0.9, cost: .reads, rounds: 2) == nil)
    }

    /// A sigma reads exactly the partitions that exceed it, and one that was calibrated finds what it promises.
    @Test func sigmaReadsWhatExceedsIt() throws {
        let fixture = try Fixture(count: 4000, queryCount: 200)
        var training = try Self.training(fixture, .lira)
        training.predictor.training.epochs = 8
        training.predictor.training.rate = 5
        try fixture.build("index", .l2, .none, partitions: 40) { $0.router = training }
        let index = try fixture.open()
        for sigma in [Float(0.05), 0.3, 0.9] {
            let found = try index.ask(fixture.queries, .sigma(sigma), threads: 2)
            for query in 0..<fixture.queries.count {
                let above = index.routed(query, of: fixture.queries).logProbabilities.filter {
                    $0 > log(sigma)
                }.count
                #expect(found.counters[query].segments == UInt64(max(1, above)))
            }
            let together = try index.batch(fixture.queryFile, fixture.directory, .sigma(sigma))
            #expect(together.answers == found.answers)
            #expect(together.summary.sweep.comparisons == found.counters.reduce(0) { $0 + $1.vectors })
        }
        let policies = try #require(index.policies)
        let truth = try fixture.truth(k: 10)
        let sigma = try #require(policies.sigma(recall: 0.9, k: 10))
        let found = try index.ask(fixture.queries, .sigma(sigma)).answers
        // Calibrated on queries made from the base, which is done with caution: more may be found, not less.
        #expect(Recall.mean(of: found, against: truth, k: 10, metric: .l2) > 0.84)
        #expect(policies.lambda(recall: 0.9, cost: .vectors, k: 10) != nil)
    }

    /// Cells of a partition stand side by side, add up to it, and are read by themselves.
    @Test(arguments: [Metric.l2, .cosine])
    func partitionsOfCellsAreReadInPart(metric: Metric) throws {
        let fixture = try Fixture(.f32, count: 4000, queryCount: 100)
        var training = try Self.training(fixture, .lira)
        training.predictor.training.epochs = 8
        training.predictor.training.rate = 5
        try fixture.build("index", metric, .none, partitions: 12) {
            $0.subSegments = 5
            $0.router = training
        }
        #expect(try Verification.run(path: fixture.directory.file("index")).damage.isEmpty)
        let index = try fixture.open()
        let cells = try #require(index.cells)
        #expect(index.partitionCount == 60 && cells.cellCount == 60 && cells.starts.count == 13)
        #expect(index.manifest.build["sub-segments"] == "5")
        let truth = try fixture.truth(k: 10, metric)
        #expect(try index.ask(fixture.queries, .nprobe(60)).answers == truth)
        // Cells share their partition's probability, so that together they say what it says.
        let router = try #require(index.router as? CellRouter)
        let rows = index.space.queries(from: fixture.queries)
        let parents = cells.parentOfCell
        for query in 0..<20 {
            var (whole, parts) = (Route(), Route())
            router.parent.route(
                rows.row(query), limit: 12, scratch: router.parent.makeScratch(), into: &whole)
            router.route(rows.row(query), limit: 60, scratch: router.makeScratch(), into: &parts)
            let likeliest = whole.partitions[0]
            let sum = zip(parts.partitions, parts.logProbabilities).filter { parents[Int($0.0)] == likeliest }
                .reduce(0.0) { $0 + exp(Double($1.1)) }
            #expect(abs(sum - exp(Double(whole.logProbabilities[0]))) < 1e-3)
        }
        // Less is read for the same recall than by reading every cell of the partitions.
        func recall(_ result: SearchResult) -> Double {
            Recall.mean(of: result.answers, against: truth, k: 10, metric: metric)
        }
        let whole = try index.ask(fixture.queries, .sigma(1e-4))
        let part = try index.ask(fixture.queries, .sigma(0.02))
        func vectors(_ result: SearchResult) -> UInt64 { result.counters.reduce(0) { $0 + $1.vectors } }
        #expect(vectors(part) < vectors(whole) && recall(part) > 0.8)
        #expect(
            try index.batch(fixture.queryFile, fixture.directory, .sigma(0.02)).answers == part.answers)
        let homes = try index.homes()
        let parentHomes = cells.parentHomes(homes)
        #expect((0..<4000).allSatisfy { parentHomes[$0].first == homes[$0].first.map { parents[Int($0)] } })
        // Without a trained router the cells are partitions of their own.
        try fixture.build("plain", metric, .closure, partitions: 12) { $0.subSegments = 5 }
        let plain = try fixture.open("plain")
        #expect(plain.cells != nil && plain.router is CentroidIndex)
        #expect(try plain.ask(fixture.queries, .nprobe(60)).answers == truth)
    }

    /// Flips in the learned sections are reported as all others are.
    @Test func everyFlipOfALearnedRouterIsReported() throws {
        let fixture = try Fixture(count: 1000)
        let training = try Self.training(fixture, .network)
        try fixture.build("index", partitions: 30) { $0.router = training }
        let path = fixture.directory.file("index/router.bin")
        let whole = try Data(contentsOf: URL(fileURLWithPath: path))
        var random = SeededRandom(seed: 3)
        for _ in 0..<150 {
            var data = whole
            let bit = random.below(whole.count * 8)
            data[bit / 8] ^= 1 << UInt8(bit % 8)
            try data.write(to: URL(fileURLWithPath: path))
            #expect(throws: (any Error).self) { try DiskIndex(path: fixture.directory.file("index")) }
            let lines = try Verification.run(path: fixture.directory.file("index")).damage
            #expect(lines.contains { $0.contains("router.bin") })
        }
    }

    @Test func trainingThatMeansNothingIsRefusedBeforeAnyWork() throws {
        let fixture = try Fixture(count: 500)
        let longer = try Fixture(count: 100, dimension: 21)
        let floats = try Fixture(.f32, count: 100)
        let before = fixture.directory.names
        let changes: [((inout RouterTraining) -> Void, String)] = [
            ({ $0.learn = longer.base }, "21 dimensions"), ({ $0.learn = floats.base }, "f32"),
            ({ $0.predictor.prototypes = 0 }, "prototypes"),
            ({ $0.predictor.prototypes = .nan }, "prototypes"),
            ({ $0.predictor.hidden = [0] }, "hidden"), ({ $0.predictor.training.epochs = 0 }, "epochs"),
            ({ $0.predictor.training.noise = -1 }, "noise"), ({ $0.learn = nil }, "64 queries"),
        ]
        for (change, word) in changes {
            var training = RouterTraining()
            change(&training)
            let text = refusal { try fixture.build("index") { $0.router = training } }
            #expect(text.contains(word), "\(text)")
            #expect(fixture.directory.names == before)
        }
    }

    /// What a kill in the second epoch leaves is taken up by the same training, and by no other.
    @Test func aKilledTrainingGoesOnWhereItsCheckpointStands() throws {
        let fixture = try Fixture(count: 3000)
        try fixture.build("index", .l2, .none, partitions: 60)
        let index = try fixture.open()
        let training = try Self.training(fixture, .prototypes)
        let pairs = try index.learnPairs(learn: training.learn, parameters: training.pairs).pairs
        let homes = try index.homes()
        let steps = pairs.trainingCount / training.predictor.training.batchSize
        let (whole, killed) = (fixture.directory.file("whole"), fixture.directory.file("killed"))
        func train(
            _ directory: String?, seed: UInt64 = 1, homes other: Homes? = nil,
            steps: @escaping @Sendable (Int) -> Void
        ) throws -> [UInt8] {
            var parameters = training.predictor
            parameters.training.seed = seed
            parameters.checkpoints = directory.map { TrainingCheckpoints(directory: $0) }
            return try index.trainPredictor(
                pairs: pairs, homes: other ?? homes, parameters: parameters,
                progress: JobProgress { stage, done, _ in if stage == "train" { steps(done) } }
            ).predictor.encode().flatMap(\.bytes)
        }
        let expected = try train(whole) { done in
            if done == steps + 1 { try? FileManager.default.copyItem(atPath: whole, toPath: killed) }
        }
        let plain = try train(nil) { _ in }
        let continued = try train(killed) { done in
            if done <= steps { Issue.record("a step of the first epoch") }
        }
        #expect(plain == expected && continued == expected)
        // A finished training takes no step more; one with another seed starts anew.
        let finished = try train(killed) { _ in Issue.record("a step of a finished training") }
        let other = try train(killed, seed: 2) { _ in }
        #expect(finished == expected && other != expected)
        // Homes that planning tries are another training.
        let moved = Homes((0..<homes.count).map { (homes[$0].first ?? 0) / 2 })
        #expect(try train(killed, homes: moved) { _ in } == train(nil, homes: moved) { _ in })
        #expect(try FileManager.default.contentsOfDirectory(atPath: killed).count == 3)
        for name in try FileManager.default.contentsOfDirectory(atPath: killed) {
            let path = killed + "/" + name
            var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
            bytes[bytes.count / 2] ^= 1
            try Data(bytes).write(to: URL(fileURLWithPath: path))
        }
        #expect(throws: StorageError.self) { try train(killed) { _ in } }
        // One that has read and written nothing removes nothing.
        TrainingCheckpoints(directory: killed).discard()
        #expect(try FileManager.default.contentsOfDirectory(atPath: killed).count == 3)
    }
}
