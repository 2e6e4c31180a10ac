// Builds that stop anywhere and go on: the bytes of one that nothing stopped, nothing left behind; and everything that
// must not be gone on with is refused by name.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

private struct Stopped: Error {}

struct BuildResumeTests {
    private let fixture: Fixture
    private let work: String

    init() throws {
        fixture = try Fixture(.u8, count: 5000, dimension: 32)
        work = fixture.directory.file(".index.building")
    }

    /// Units of a chunk each, in several buckets where `spread`; none of clustering unless wanted.
    private func builder(
        _ name: String = "index", kind: Kind = .none, spread: Bool = true, base: VectorFile? = nil,
        start: AtomicDirectory.Start = .fresh, clustering: Bool = false,
        change: (inout BuildParameters) -> Void = { _ in }
    ) -> IndexBuilder {
        var parameters = BuildParameters()
        parameters.partitions = 40
        parameters.iterations = 3
        parameters.sampleCount = 600
        kind.apply(to: &parameters)
        // Heads are chosen from the whole base in memory.
        parameters.memoryByteCount = !spread ? 1 << 30 : parameters.headShare == nil ? 120 << 10 : 240 << 10
        change(&parameters)
        let builder = IndexBuilder(
            base: base ?? fixture.base, directory: fixture.directory.file(name), parameters: parameters)
        builder.start = start
        builder.unit.byteCount = 1
        if !clustering { builder.unit.seconds = 1e15 }
        return builder
    }

    /// Builds until `units` units are finished; false where the build ended before.
    private func stop(_ builder: IndexBuilder, after units: Int) throws -> Bool {
        var finished = 0
        builder.afterUnit = { _, _ in
            finished += 1
            if finished >= units { throw Stopped() }
        }
        do {
            _ = try builder.build()
            return false
        } catch {
            guard case .unfinished(.interrupted(let cause), _) = error else { throw error }
            #expect(cause is Stopped)
            #expect(error.description.contains(".index.building") && error.description.contains("goes on"))
            return true
        }
    }

    private var names: [String] { fixture.directory.names.filter { $0.contains("index") } }

    @Test(arguments: [
        (Kind.none, true, 2), (.none, false, 1), (.closure, true, 4), (.headsWithClosure, true, 3),
    ])
    func whereverItStopsItGoesOn(kind: Kind, spread: Bool, step: Int) throws {
        var units: [String] = []
        let clustering = kind == .headsWithClosure
        func builder(_ name: String = "index", start: AtomicDirectory.Start = .fresh) -> IndexBuilder {
            self.builder(name, kind: kind, spread: spread, start: start, clustering: clustering)
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
            #expect(try stop(builder(), after: count))
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
        _ = try builder("whole", kind: .soar).build()
        var runs = 0
        while try stop(
            builder(kind: .soar, start: runs == 0 ? .fresh : .resume) { $0.threads = 1 + runs % 3 }, after: 1)
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
        _ = try builder("whole").build()
        #expect(try stop(builder(), after: 3))
        let text = storageError { _ = try builder().build() }?.description ?? ""
        #expect(
            text.contains("go on with") && text.contains("begin anew") && text.contains("unfinished"),
            "\(text)")
        let train = storageError { _ = try AtomicDirectory.create(path: fixture.directory.file("index")) }
        #expect(train?.kind == .exists)
        _ = try builder(start: .restart).build()
        #expect(try differences(fixture.directory.file("index"), fixture.directory.file("whole")) == [])
        // Where there is nothing to go on with, it is built.
        try FileManager.default.removeItem(atPath: fixture.directory.file("index"))
        _ = try builder(start: .resume).build()
        #expect(try differences(fixture.directory.file("index"), fixture.directory.file("whole")) == [])
        // What is finished is no failure; begun anew it would be overwritten.
        _ = try builder(start: .resume).build()
        #expect(storageError { _ = try builder().build() }?.kind == .exists)
    }

    @Test func buildersOfOneIndexRefuseEachOther() throws {
        let other = try AtomicDirectory.create(path: fixture.directory.file("index"))
        for start in [AtomicDirectory.Start.fresh, .resume, .restart] {
            let error = storageError { _ = try builder(start: start).build() }
            #expect(error?.kind == .exists && error?.detail.contains("another process") == true)
        }
        #expect(FileManager.default.fileExists(atPath: other.contentPath))
        other.leave()
        // Without a journal nothing is worth keeping.
        _ = try builder().build()
        #expect(names == ["index"])
    }

    @Test func otherBuildsAreRefusedByName() throws {
        #expect(try stop(builder(), after: 4))
        let cases: [(String, (inout BuildParameters) -> Void)] = [
            ("seed", { $0.seed = 9 }), ("partitions", { $0.partitions = 41 }),
            ("metric", { $0.metric = .cosine }),
            ("duplicate", { $0.copyRule = .soar(lambda: 1) }), ("pages-max", { $0.pagesMaximum = 9 }),
            ("iterations", { $0.iterations = 4 }), ("sample", { $0.sampleCount = 500 }),
            ("sub-segments", { $0.subSegments = 2 }), ("router", { $0.router = RouterTraining() }),
        ]
        for (word, change) in cases {
            let text =
                storageError { _ = try builder(start: .resume, change: change).build() }?.description ?? ""
            #expect(
                text.contains("\(word)") && text.contains("differs") && text.contains("begin anew"), "\(text)"
            )
        }
        #expect(try !stop(builder(start: .resume), after: 100))
    }

    @Test func anotherBaseIsRefusedByName() throws {
        #expect(try stop(builder(), after: 4))
        func text(_ base: VectorFile) -> String {
            storageError { _ = try builder(base: base, start: .resume).build() }?.description ?? ""
        }
        let path = fixture.base.path
        #expect(text(try VectorFile.open(path: path, first: 4000)).contains("base differs"))
        let time = try #require(
            try FileManager.default.attributesOfItem(atPath: path)[.modificationDate] as? Date)
        try FileManager.default.setAttributes([.modificationDate: time + 5], ofItemAtPath: path)
        var said = text(try VectorFile.open(path: path))
        #expect(
            said.contains("modification") && said.contains(path) && said.contains("begin anew"), "\(said)")
        // The time of before, other bytes.
        let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        var changed = bytes
        for place in 128..<changed.count { changed[place] ^= 1 }
        try changed.write(to: URL(fileURLWithPath: path))
        try setTimeOfJournal(path)
        said = text(try VectorFile.open(path: path))
        #expect(said.contains("sample"), "\(said)")
    }

    /// Gives a file the time that the journal keeps of the base.
    private func setTimeOfJournal(_ path: String) throws {
        let identity = try JobJournals.identity(at: work + "/journal")
        let kept = try #require(identity.entries.first { $0.name.contains("modification") }?.value)
            .split(separator: ".").compactMap { Int($0) }
        let time = timespec(tv_sec: kept[0], tv_nsec: kept[1])
        #expect(utimensat(AT_FDCWD, path, [time, time], 0) == 0)
    }

    @Test func whatIsDamagedIsRefusedByName() throws {
        #expect(try stop(builder(), after: 6))
        let good = try contents(of: work, but: "index")
        #expect(Set(good.keys).isSuperset(of: ["journal", "partitioning", "assignment"]))
        func refuse(_ name: String, _ bytes: Data, _ words: String...) throws {
            let path = URL(fileURLWithPath: work + "/" + name)
            try bytes.write(to: path)
            let text = storageError { _ = try builder(start: .resume).build() }?.description ?? ""
            for word in words + [name] { #expect(text.contains(word), "\(name): \(text)") }
            try good[name]?.write(to: path)
        }
        for (name, bytes) in good where name != "journal" && name != "lock" {
            var flipped = bytes
            flipped[bytes.count / 2] ^= 4
            try refuse(name, flipped, "checksum", "begin anew")
            try refuse(name, bytes.dropLast(1), "ends too early", "begin anew")
        }
        var journal = good["journal"] ?? Data()
        journal[8] = 2
        try refuse("journal", journal, "version", "expected 1, found 2")
        for place in [0, 12, 30, journal.count - 6 * 32] {
            journal = good["journal"] ?? Data()
            journal[place] ^= 4
            try refuse("journal", journal, "damaged", "begin anew")
        }
        // Nothing was touched by refusing.
        #expect(try !stop(builder(start: .resume), after: 100))
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

    @Test func aFullDiskIsNamedBeforeAnythingIsDone() throws {
        // Of nothing but a header and a hole.
        let path = fixture.directory.file("huge.u8bin")
        let (count, dimension) = (UInt32(1) << 31, UInt32(4096))
        var header = Data()
        for value in [count, dimension] {
            withUnsafeBytes(of: value.littleEndian) { header.append(contentsOf: $0) }
        }
        try header.write(to: URL(fileURLWithPath: path))
        guard truncate(path, 8 + Int(count) * Int(dimension)) == 0 else { return }
        let huge = try VectorFile.open(path: path)
        let error = storageError { _ = try builder(base: huge) { $0.partitions = 1000 }.build() }
        #expect(error?.kind == .noSpace && error?.description.contains("bytes free") == true)
        #expect(names == [])
        let plan = try builder(base: huge) { $0.partitions = 1000 }.plan(measuring: false)
        #expect(plan.peakByteCount > Int(count) * Int(dimension) && plan.freeByteCount < plan.peakByteCount)
    }

    @Test func aRouterThatWasLearnedIsNotLearnedAgain() throws {
        func trained(_ name: String, start: AtomicDirectory.Start = .fresh) -> IndexBuilder {
            builder(name, spread: false, start: start) {
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
            BuildWithCopies(builder: builder(name, start: start), plan: [("copies", "random \(seed)")])
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

    /// Buckets are cut by the memory of the run that assigned; a smaller one is refused, and nothing lost.
    @Test func lessMemoryThanTheBucketsNeedIsRefused() throws {
        func sized(_ name: String, spread: Bool, start: AtomicDirectory.Start = .fresh) -> IndexBuilder {
            builder(name, spread: spread, start: start) { $0.sampleCount = 100 }
        }
        _ = try sized("whole", spread: false).build()
        #expect(try stop(sized("index", spread: false), after: 2))
        let text =
            storageError { _ = try sized("index", spread: true, start: .resume).build() }?.description ?? ""
        #expect(text.contains("memory") && text.contains("begin anew"), "\(text)")
        #expect(names.contains(".index.building"))
        _ = try sized("index", spread: false, start: .resume).build()
        #expect(try differences(fixture.directory.file("index"), fixture.directory.file("whole")) == [])
    }

    /// What a build that dies between its rename and its end leaves is cleared up.
    @Test func remainsBehindAPublishedIndexGo() throws {
        let index = fixture.directory.file("index")
        #expect(try stop(builder(), after: 3))
        let journal = try Data(contentsOf: URL(fileURLWithPath: work + "/journal"))
        _ = try builder(start: .resume).build()
        try FileManager.default.createDirectory(atPath: work, withIntermediateDirectories: false)
        try journal.write(to: URL(fileURLWithPath: work + "/journal"))
        #expect(try builder(start: .resume).build().count == 5000)
        #expect(names == ["index"])
        // Without its journal too, whoever comes.
        try FileManager.default.createDirectory(atPath: work, withIntermediateDirectories: false)
        #expect(storageError { _ = try builder().build() }?.kind == .exists)
        #expect(names == ["index"] && FileManager.default.fileExists(atPath: index + "/manifest.json"))
    }

    @Test func aPlanSaysWhatABuildTakes() throws {
        for spread in [true, false] {
            let builder = builder(spread: spread)
            let plan = try builder.plan(measuring: false)
            #expect(plan.stages.map(\.name) == ["partition", "assign", "group", "write"])
            #expect(plan.partitions == 40 && plan.records == 5000 && (plan.buckets > 1) == spread)
            #expect(names == [])
            var peak = 0
            builder.afterUnit = { _, _ in
                let files = try FileManager.default.subpathsOfDirectory(atPath: work)
                peak = max(
                    peak,
                    files.reduce(0) {
                        var status = stat()
                        stat(work + "/" + $1, &status)
                        return $0 + (status.st_mode & S_IFMT == S_IFREG ? Int(status.st_size) : 0)
                    })
            }
            let report = try builder.build()
            #expect(Double(plan.finalByteCount) > 0.85 * Double(report.indexByteCount))
            #expect(Double(plan.finalByteCount) < 1.2 * Double(report.indexByteCount))
            #expect(
                plan.peakByteCount >= peak - 20_000 && plan.peakByteCount < peak * 3 / 2, "\(plan) \(peak)")
            try FileManager.default.removeItem(atPath: fixture.directory.file("index"))
        }
    }
}

/// The bytes of the files in a directory but `left`.
private func contents(of directory: String, but left: String) throws -> [String: Data] {
    var files: [String: Data] = [:]
    for name in try FileManager.default.contentsOfDirectory(atPath: directory) where name != left {
        files[name] = try Data(contentsOf: URL(fileURLWithPath: directory + "/" + name))
    }
    return files
}
