// Clustering, labels and training that stop at any milestone or checkpoint and go on: the bytes of what nothing stopped.

import Build
import Foundation
import Index
import Learn
import Storage
import TestSupport
import Testing
import Vectors

struct MilestoneResumeTests {
    private let fixture: Fixture
    private let work: String

    init() throws {
        fixture = try Fixture(.u8, count: 5000, dimension: 32)
        work = fixture.directory.file(".index.building")
    }

    private var names: [String] { fixture.directory.names.filter { $0.contains("index") } }

    /// Every unit of clustering: levels, splits and cells, in a build and a plan that share them.
    @Test func plansGoOnFromAnyUnitOfClustering() throws {
        let sets: [(String, (inout BuildParameters) -> Void)] = [
            ("levels", { $0.partitions = 2100 }), ("splits", { $0.pagesMaximum = 4 }),
            ("cells", { $0.subSegments = 3 }),
        ]
        for (name, set) in sets {
            func learn(
                _ out: String, start: AtomicDirectory.Start = .fresh, stopAfter: Int = .max,
                change: (inout BuildParameters) -> Void = { _ in }
            ) throws -> [String] {
                var parameters = BuildParameters()
                parameters.partitions = 160
                parameters.iterations = 2
                set(&parameters)
                change(&parameters)
                var unit = WorkUnit()
                unit.seconds = 0
                var units: [String] = []
                try SharedPartitions.learn(
                    base: fixture.base, parameters: parameters, directory: fixture.directory.file(out),
                    start: start, unit: unit
                ) { stage, _ in
                    units.append(stage)
                    if units.count == stopAfter { throw Stopped() }
                }
                return units
            }
            let (whole, index) = ("whole-\(name)", fixture.directory.file("index"))
            let units = try learn(whole)
            #expect(units.suffix(2) == ["partition", "publish"] && units.count > 6, "\(units)")
            // Router's tests stop after every single one.
            for count in [2, units.count / 2, units.count - 2] {
                #expect(unfinished { _ = try learn("index", stopAfter: count) } != nil)
                #expect(names == [".index.building"])
                #expect(storageError { _ = try learn("index") }?.kind == .exists)
                let other = storageError { _ = try learn("index", start: .resume) { $0.seed = 7 } }
                #expect(other?.description.contains("seed differs") == true)
                let rest = try learn("index", start: .resume)
                #expect(rest.count == units.count - count, "\(name), stopped after \(count): \(rest)")
                #expect(try differences(index, fixture.directory.file(whole)) == [], "\(name) \(count)")
                try FileManager.default.removeItem(atPath: index)
            }
            guard name == "splits" else { continue }
            // What is damaged is refused by name, or begun anew.
            #expect(unfinished { _ = try learn("index", stopAfter: 3) } != nil)
            let milestone = try #require(
                try FileManager.default.contentsOfDirectory(atPath: work).first { $0.hasPrefix("milestone") })
            var bytes = try Data(contentsOf: URL(fileURLWithPath: work + "/" + milestone))
            bytes[bytes.count / 2] ^= 4
            try bytes.write(to: URL(fileURLWithPath: work + "/" + milestone))
            let text = storageError { _ = try learn("index", start: .resume) }?.description ?? ""
            #expect(
                text.contains(milestone) && text.contains("checksum") && text.contains("begin anew"),
                "\(text)"
            )
            #expect(try learn("index", start: .restart) == units)
            #expect(try differences(index, fixture.directory.file(whole)) == [])
            try FileManager.default.removeItem(atPath: index)
        }
    }

    /// Labels by blocks, epochs, and a router that is learned whole: stopped after each, by a run each.
    @Test(arguments: [RouterKind.prototypes, .lira])
    func labelsAndTrainingGoOnFromTheirLastCheckpoint(kind: RouterKind) throws {
        func trained(_ name: String, start: AtomicDirectory.Start = .fresh) -> IndexBuilder {
            var training = RouterTraining()
            training.predictor.kind = kind
            training.predictor.prototypes = 2
            training.predictor.training.epochs = 2
            training.predictor.training.batchSize = 128
            training.predictor.lira.tower = [16, 8]
            training.predictor.lira.head = [16]
            training.pairs.syntheticCount = 700
            var parameters = BuildParameters()
            parameters.partitions = 40
            parameters.iterations = 3
            parameters.router = training
            let builder = IndexBuilder(
                base: fixture.base, directory: fixture.directory.file(name), parameters: parameters)
            builder.start = start
            builder.unit.byteCount = 1
            return builder
        }
        /// What was finished after the segments stood.
        func run(_ builder: IndexBuilder, stopAfter: Int) throws -> [String] {
            var units: [String] = []
            builder.afterUnit = { stage, _ in
                guard ["checkpoint", "train", "publish"].contains(stage) else { return }
                units.append(stage)
                if units.count == stopAfter { throw Stopped() }
            }
            do {
                _ = try builder.build()
            } catch {
                #expect("\(error)".hasPrefix("Stopped()"), "\(error)")
            }
            return units
        }
        let units = try run(trained("whole"), stopAfter: .max)
        // Labels in three blocks, two epochs.
        #expect(units == [String](repeating: "checkpoint", count: 5) + ["train", "publish"])
        for count in [2, 3, 4, 6] {
            #expect(try run(trained("index"), stopAfter: count).count == count)
            let rest = try run(trained("index", start: .resume), stopAfter: .max)
            #expect(rest == Array(units[count...]), "stopped after \(count)")
            #expect(try differences(fixture.directory.file("index"), fixture.directory.file("whole")) == [])
            #expect(names == ["index"])
            try FileManager.default.removeItem(atPath: fixture.directory.file("index"))
        }
        // A damaged one is refused by name.
        #expect(try run(trained("index"), stopAfter: 4).count == 4)
        let checkpoints = work + "/training"
        for name in try FileManager.default.contentsOfDirectory(atPath: checkpoints) {
            let path = URL(fileURLWithPath: checkpoints + "/" + name)
            var bytes = try Data(contentsOf: path)
            bytes[bytes.count / 2] ^= 4
            try bytes.write(to: path)
        }
        let error = storageError { _ = try trained("index", start: .resume).build() }
        #expect(error?.path.contains(".training") == true, "\(String(describing: error))")
        _ = try trained("index", start: .restart).build()
        #expect(try differences(fixture.directory.file("index"), fixture.directory.file("whole")) == [])
    }
}
