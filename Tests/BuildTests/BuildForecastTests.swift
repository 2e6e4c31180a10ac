// Plans of builds that learn a router or plan copies: their stages, and the bytes that come out.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

struct BuildForecastTests {
    private func builder(
        _ fixture: Fixture, _ name: String = "index", _ change: (inout BuildParameters) -> Void = { _ in }
    ) -> IndexBuilder {
        var parameters = BuildParameters()
        parameters.partitions = 40
        change(&parameters)
        return IndexBuilder(
            base: fixture.base, directory: fixture.directory.file(name), parameters: parameters)
    }

    private func training(
        _ kind: RouterKind, prototypes: Double = 4, codes: Int? = nil, queries: Int = 2000
    ) -> RouterTraining {
        var training = RouterTraining()
        training.predictor.kind = kind
        training.predictor.prototypes = prototypes
        training.predictor.codeByteCount = codes
        training.predictor.training.epochs = 1
        training.pairs.syntheticCount = queries
        return training
    }

    @Test func aPlanTellsOfLearning() throws {
        let fixture = try Fixture(count: 6000, dimension: 64)
        let learned = ["label", "calibrate"]
        for (training, stages) in [
            (training(.distance), learned),
            (training(.prototypes), ["label", "sub-clusters", "train", "calibrate"]),
            (training(.subcentroids, prototypes: 150, codes: 16), ["label", "codes", "calibrate"]),
            (training(.network), ["label", "train", "calibrate"]),
        ] {
            let builder = builder(fixture) { $0.router = training }
            let plan = try builder.plan(measuring: false)
            #expect(
                plan.stages.map(\.name) == ["partition", "assign", "group", "write"] + stages)
            #expect(fixture.directory.names == ["base.npy", "query.npy"])
            let report = try builder.build()
            let (told, found) = (Double(plan.finalByteCount), Double(report.indexByteCount))
            #expect(told > 0.9 * found && told < 1.1 * found, "\(training.predictor.kind) \(told) \(found)")
            #expect(plan.peakByteCount > plan.finalByteCount)
            try FileManager.default.removeItem(atPath: fixture.directory.file("index"))
        }
    }

    /// More queries to label and more epochs take longer; what is measured is told.
    @Test func timeFollowsTheWork() throws {
        let fixture = try Fixture(count: 6000, dimension: 64)
        let measured = try builder(fixture) { $0.router = training(.prototypes, queries: 200) }.plan()
        #expect(measured.calibration?.learning != nil)
        func seconds(_ training: RouterTraining) throws -> [String: Double] {
            let plan = try builder(fixture) { $0.router = training }.plan(known: measured.calibration)
            return Dictionary(
                uniqueKeysWithValues: plan.stages.compactMap { stage in
                    stage.seconds.map { (stage.name, $0) }
                })
        }
        var more = training(.prototypes, queries: 6000)
        more.predictor.training.epochs = 20
        let (few, many) = (try seconds(training(.prototypes, queries: 200)), try seconds(more))
        #expect(few.count == 8 && many.count == 8)
        #expect(few.values.allSatisfy { $0 >= 0 && $0.isFinite })
        #expect(many["train"] ?? 0 > 5 * (few["train"] ?? 0) && few["train"] ?? 0 > 0)
        #expect(many["label"] ?? 0 > few["label"] ?? 0)
        #expect(try seconds(training(.lira))["train"] == nil)
    }

    @Test func aPlanTellsOfCopies() throws {
        let fixture = try Fixture(count: 6000, dimension: 64)
        for (copyRule, learns) in [(CopyRule.random(seed: 1), false), (.random(seed: 1), true)] {
            var retraining = Retraining(
                training: training(learns ? .prototypes : .distance, queries: learns ? 2000 : 0))
            retraining.copyRule = copyRule
            retraining.replicationMaximum = 1.5
            let builder = builder(fixture)
            let plan = try builder.plan(measuring: false, copies: retraining)
            let learned = learns ? ["label", "sub-clusters", "train", "calibrate"] : []
            #expect(
                plan.stages.map(\.name)
                    == ["partition", "assign", "group", "write", "copies", "rewrite"] + learned)
            #expect(plan.records == 9000)
            let report = try BuildWithCopies(builder: builder, plan: [("copies", "1.5")]).run { _ in
                retraining
            }
            let (told, found) = (Double(plan.finalByteCount), Double(report.indexByteCount))
            #expect(told > 0.95 * found && told < 1.1 * found, "\(told) \(found)")
            // Beside it the partitioned index stands until the end.
            #expect(plan.peakByteCount > plan.finalByteCount * 3 / 2)
            try FileManager.default.removeItem(atPath: fixture.directory.file("index"))
        }
    }

    /// Room for a router, and for an index written again, is asked for before anything is written.
    @Test func aDeviceTooSmallForWhatFollowsIsNamed() throws {
        let directory = try TemporaryDirectory()
        // A header and a hole: the index of it has room, what follows has not.
        let (path, dimension) = (directory.file("hole.u8bin"), 4096)
        let free = Int(clamping: try Directory.freeByteCount(at: directory.path))
        let count = min(Int(UInt32.max) - 1, free / 10 * 6 / dimension)
        var header = Data()
        for value in [UInt32(count), UInt32(dimension)] {
            withUnsafeBytes(of: value.littleEndian) { header.append(contentsOf: $0) }
        }
        try header.write(to: URL(fileURLWithPath: path))
        guard truncate(path, 8 + count * dimension) == 0 else { return }
        let base = try VectorFile.open(path: path)
        struct Stopped: Error {}
        func builder(_ router: RouterTraining?) -> IndexBuilder {
            var parameters = BuildParameters()
            parameters.partitions = max(1000, count / 5000)
            parameters.router = router
            parameters.memoryByteCount = 64 << 20
            let builder = IndexBuilder(
                base: base, directory: directory.file("index"), parameters: parameters)
            builder.afterUnit = { _, _ in throw Stopped() }
            return builder
        }
        let plain = try builder(nil).plan(measuring: false)
        #expect(plain.peakByteCount < plain.freeByteCount)
        // As many prototypes as vectors.
        let large = builder(training(.subcentroids, prototypes: 65_536))
        var retraining = Retraining(training: training(.distance))
        retraining.copyRule = .gain
        var planned = BuildWithCopies(builder: builder(nil), plan: [])
        planned.copies = retraining
        for build in [{ _ = try large.build() }, { _ = try planned.run { _ in retraining } }] {
            let error = storageError { try build() }
            #expect(error?.kind == .noSpace, "\(String(describing: error))")
            #expect(directory.names == ["hole.u8bin"])
        }
    }
}
