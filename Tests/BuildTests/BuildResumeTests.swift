// Builds that stop anywhere and go on: the bytes of one that nothing stopped, nothing left behind.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

struct BuildResumeTests {
    private let builds: StoppedBuilds
    private var fixture: Fixture { builds.fixture }
    private var work: String { builds.work }
    private var names: [String] { builds.names }

    init() throws { builds = try StoppedBuilds() }

    @Test(arguments: [
        (Kind.none, true, 2), (.none, false, 1), (.closure, true, 4), (.headsWithClosure, true, 3),
    ])
    func whereverItStopsItGoesOn(kind: Kind, spread: Bool, step: Int) throws {
        var units: [String] = []
        let clustering = kind == .headsWithClosure
        func builder(_ name: String = "index", start: AtomicDirectory.Start = .fresh) -> IndexBuilder {
            builds.builder(name, kind: kind, spread: spread, start: start, clustering: clustering)
        }
        let whole = builder("whole")
        whole.afterUnit = { stage, _ in units.append(stage) }
        _ = try whole.build()
        #expect(
            Set(units)
                == Set(
                    ["partition", "assign", "write", "train", "publish"] + (spread ? ["group"] : [])
                        + (clustering ? ["cluster"] : [])))
        #expect(!spread || units.filter { $0 == "assign" }.count > 2)
        for count in stride(from: units.count, to: 0, by: -step) {
            #expect(try builds.stop(builder(), after: count))
            #expect(names == [".index.building"])
            let report = try builder(start: .resume).build()
            #expect(
                try differences(fixture.directory.file("index"), fixture.directory.file("whole")) == [],
                "\(count)")
            #expect(report.count == 5000 && names == ["index"])
            try FileManager.default.removeItem(atPath: fixture.directory.file("index"))
        }
    }

    /// One unit a run, other threads each time, and files that have more bytes than count.
    @Test func manyStopsEndWithTheSameBytes() throws {
        _ = try builds.builder("whole", kind: .soar).build()
        var runs = 0
        while try builds.stop(
            builds.builder(kind: .soar, start: runs == 0 ? .fresh : .resume) { $0.threads = 1 + runs % 3 },
            after: 1)
        {
            runs += 1
            for name in try FileManager.default.contentsOfDirectory(atPath: work)
            where name == "assignment" || name == "entries" || name.hasPrefix("bucket") {
                let handle = try #require(FileHandle(forWritingAtPath: work + "/" + name))
                try handle.seekToEnd()
                handle.write(Data([1, 2, 3]))
            }
            // A torn last entry.
            let handle = try #require(FileHandle(forWritingAtPath: work + "/journal"))
            try handle.seekToEnd()
            handle.write(Data(repeating: 7, count: 50))
        }
        #expect(runs > 15)
        #expect(try differences(fixture.directory.file("index"), fixture.directory.file("whole")) == [])
        #expect(names == ["index"])
    }

    @Test func withoutBeingAskedNothingGoesOn() throws {
        _ = try builds.builder("whole").build()
        #expect(try builds.stop(builds.builder(), after: 3))
        let text = storageError { _ = try builds.builder().build() }?.description ?? ""
        #expect(
            text.contains("go on with") && text.contains("begin anew") && text.contains("unfinished"),
            "\(text)")
        let train = storageError { _ = try AtomicDirectory.create(path: fixture.directory.file("index")) }
        #expect(train?.kind == .exists)
        _ = try builds.builder(start: .restart).build()
        #expect(try differences(fixture.directory.file("index"), fixture.directory.file("whole")) == [])
        // Where there is nothing to go on with, it is built.
        try FileManager.default.removeItem(atPath: fixture.directory.file("index"))
        _ = try builds.builder(start: .resume).build()
        #expect(try differences(fixture.directory.file("index"), fixture.directory.file("whole")) == [])
        // What is finished is no failure; begun anew it would be overwritten.
        _ = try builds.builder(start: .resume).build()
        #expect(storageError { _ = try builds.builder().build() }?.kind == .exists)
    }

    @Test func anUnreadableStretchIsNamedAndCanBeReadAnotherDay() throws {
        // So large that neither the sample of the file nor that of k-means reads every row.
        let fixture = try Fixture(.u8, count: 20_000, dimension: 256)
        func builder(_ name: String, _ base: VectorFile, start: AtomicDirectory.Start = .fresh)
            -> IndexBuilder
        {
            var parameters = BuildParameters()
            parameters.partitions = 40
            parameters.sampleCount = 100
            let builder = IndexBuilder(
                base: base, directory: fixture.directory.file(name), parameters: parameters)
            builder.start = start
            return builder
        }
        _ = try builder("whole", fixture.base).build()
        let bad = try fixture.base.unreadable(17_130..<17_131)
        for start in [AtomicDirectory.Start.fresh, .resume] {
            do {
                _ = try builder("index", bad, start: start).build()
                Issue.record("what cannot be read was built")
            } catch {
                guard case .unfinished(.storage, _) = error else { throw error }
                let text = error.description
                #expect(text.contains("base.npy") && text.contains("pread failed"), "\(text)")
                #expect(
                    text.contains("offset \(128 + 17_130 * 256)") && text.contains("goes on"), "\(text)")
            }
            #expect(fixture.directory.names == [".index.building", "base.npy", "query.npy", "whole"])
        }
        _ = try builder("index", fixture.base, start: .resume).build()
        #expect(try differences(fixture.directory.file("index"), fixture.directory.file("whole")) == [])
    }

    @Test func aRouterThatWasLearnedIsNotLearnedAgain() throws {
        func trained(_ name: String, start: AtomicDirectory.Start = .fresh) -> IndexBuilder {
            builds.builder(name, spread: false, start: start) {
                $0.router = RouterTraining()
                $0.router?.predictor.kind = .prototypes
                $0.router?.predictor.prototypes = 2
                $0.router?.predictor.training.epochs = 1
                $0.router?.pairs.syntheticCount = 600
            }
        }
        let report = try trained("whole").build()
        let stopped = trained("index")
        stopped.afterUnit = { stage, _ in if stage == "train" { throw Stopped() } }
        #expect(unfinished { _ = try stopped.build() } != nil)
        let again = try trained("index", start: .resume).build()
        #expect(
            !again.stages.contains { $0.name == "train" }
                && again.residentByteCount == report.residentByteCount)
        #expect(try differences(fixture.directory.file("index"), fixture.directory.file("whole")) == [])
    }

    @Test func plannedCopiesGoOnToo() throws {
        func planned(_ name: String, start: AtomicDirectory.Start = .fresh, seed: UInt64 = 1)
            -> BuildWithCopies
        {
            BuildWithCopies(builder: builds.builder(name, start: start), plan: [("copies", "random \(seed)")])
        }
        func retraining(_ index: DiskIndex) -> Retraining {
            var training = RouterTraining()
            training.predictor.kind = .distance
            var result = Retraining(training: training)
            result.copyRule = .random(seed: 1)
            return result
        }
        _ = try planned("whole").run(retraining: retraining)
        for units in [1, 5] {
            let stopped = planned("index")
            var finished = 0
            stopped.builder.afterUnit = { _, _ in
                finished += 1
                if finished == units { throw Stopped() }
            }
            #expect(unfinished { _ = try stopped.run(retraining: retraining) } != nil)
            #expect(names == [".index.building"])
            #expect(storageError { _ = try planned("index").run(retraining: retraining) }?.kind == .exists)
            let other = storageError {
                _ = try planned("index", start: .resume, seed: 2).run(retraining: retraining)
            }
            #expect(other?.description.contains("copies") == true)
            _ = try planned("index", start: .resume).run(retraining: retraining)
            #expect(try differences(fixture.directory.file("index"), fixture.directory.file("whole")) == [])
            #expect(names == ["index"])
            try FileManager.default.removeItem(atPath: fixture.directory.file("index"))
        }
        // Stopped behind partitioning.
        #expect(unfinished { _ = try planned("index").run { _ in throw Stopped() } } != nil)
        _ = try planned("index", start: .resume).run(retraining: retraining)
        #expect(try differences(fixture.directory.file("index"), fixture.directory.file("whole")) == [])
    }

    /// What a build that dies between its rename and its end leaves is cleared up.
    @Test func remainsBehindAPublishedIndexGo() throws {
        let index = fixture.directory.file("index")
        #expect(try builds.stop(builds.builder(), after: 3))
        let journal = try Data(contentsOf: URL(fileURLWithPath: work + "/journal"))
        _ = try builds.builder(start: .resume).build()
        try FileManager.default.createDirectory(atPath: work, withIntermediateDirectories: false)
        try journal.write(to: URL(fileURLWithPath: work + "/journal"))
        #expect(try builds.builder(start: .resume).build().count == 5000)
        #expect(names == ["index"])
        // Without its journal too, whoever comes.
        try FileManager.default.createDirectory(atPath: work, withIntermediateDirectories: false)
        #expect(storageError { _ = try builds.builder().build() }?.kind == .exists)
        #expect(names == ["index"] && FileManager.default.fileExists(atPath: index + "/manifest.json"))
    }
}
