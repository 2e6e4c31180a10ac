// What must not be gone on with, or not be begun, is refused by name, and nothing is lost by that.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

struct BuildResumeRefusalTests {
    private let builds: StoppedBuilds
    private var fixture: Fixture { builds.fixture }
    private var work: String { builds.work }
    private var names: [String] { builds.names }

    init() throws { builds = try StoppedBuilds() }

    @Test func buildersOfOneIndexRefuseEachOther() throws {
        let other = try AtomicDirectory.create(path: fixture.directory.file("index"))
        for start in [AtomicDirectory.Start.fresh, .resume, .restart] {
            let error = storageError { _ = try builds.builder(start: start).build() }
            #expect(error?.kind == .exists && error?.detail.contains("another process") == true)
        }
        #expect(FileManager.default.fileExists(atPath: other.contentPath))
        other.leave()
        // Without a journal nothing is worth keeping.
        _ = try builds.builder().build()
        #expect(names == ["index"])
    }

    @Test func otherBuildsAreRefusedByName() throws {
        #expect(try builds.stop(builds.builder(), after: 4))
        let cases: [(String, (inout BuildParameters) -> Void)] = [
            ("seed", { $0.seed = 9 }), ("partitions", { $0.partitions = 41 }),
            ("metric", { $0.metric = .cosine }),
            ("duplicate", { $0.copyRule = .soar(lambda: 1) }), ("pages-max", { $0.pagesMaximum = 9 }),
            ("iterations", { $0.iterations = 4 }), ("sample", { $0.sampleCount = 500 }),
            ("sub-segments", { $0.subSegments = 2 }), ("router", { $0.router = RouterTraining() }),
        ]
        for (word, change) in cases {
            let text =
                storageError { _ = try builds.builder(start: .resume, change: change).build() }?.description
                ?? ""
            #expect(
                text.contains("\(word)") && text.contains("differs") && text.contains("begin anew"), "\(text)"
            )
        }
        #expect(try !builds.stop(builds.builder(start: .resume), after: 100))
    }

    @Test func anotherBaseIsRefusedByName() throws {
        #expect(try builds.stop(builds.builder(), after: 4))
        func text(_ base: VectorFile) -> String {
            storageError { _ = try builds.builder(base: base, start: .resume).build() }?.description ?? ""
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
        #expect(try builds.stop(builds.builder(), after: 6))
        let good = try contents(of: work, but: "index")
        #expect(Set(good.keys).isSuperset(of: ["journal", "partitioning", "assignment"]))
        func refuse(_ name: String, _ bytes: Data, _ words: String...) throws {
            let path = URL(fileURLWithPath: work + "/" + name)
            try bytes.write(to: path)
            let text = storageError { _ = try builds.builder(start: .resume).build() }?.description ?? ""
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
        #expect(try !builds.stop(builds.builder(start: .resume), after: 100))
    }

    /// Buckets are cut by the memory of the run that assigned; a smaller one is refused, and nothing lost.
    @Test func lessMemoryThanTheBucketsNeedIsRefused() throws {
        func sized(_ name: String, spread: Bool, start: AtomicDirectory.Start = .fresh) -> IndexBuilder {
            builds.builder(name, spread: spread, start: start) { $0.sampleCount = 100 }
        }
        _ = try sized("whole", spread: false).build()
        #expect(try builds.stop(sized("index", spread: false), after: 2))
        let text =
            storageError { _ = try sized("index", spread: true, start: .resume).build() }?.description ?? ""
        #expect(text.contains("memory") && text.contains("begin anew"), "\(text)")
        #expect(names.contains(".index.building"))
        _ = try sized("index", spread: false, start: .resume).build()
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
        let error = storageError { _ = try builds.builder(base: huge) { $0.partitions = 1000 }.build() }
        #expect(error?.kind == .noSpace && error?.description.contains("bytes free") == true)
        #expect(names == [])
        let plan = try builds.builder(base: huge) { $0.partitions = 1000 }.plan(measuring: false)
        #expect(plan.peakByteCount > Int(count) * Int(dimension) && plan.freeByteCount < plan.peakByteCount)
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
