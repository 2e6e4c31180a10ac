// What was finished before is known again, and what was published counts as done.

import Build
import Foundation
import Index
import Storage
import TestSupport
import Testing

struct FinishedJobTests {
    private let fixture: Fixture
    private let index: String

    init() throws {
        fixture = try Fixture(.u8, count: 600, queryCount: 10)
        index = fixture.directory.file("index")
    }

    private func builder(seed: UInt64 = 1, start: AtomicDirectory.Start = .resume) -> IndexBuilder {
        var parameters = BuildParameters()
        parameters.partitions = 12
        parameters.seed = seed
        let builder = IndexBuilder(base: fixture.base, directory: index, parameters: parameters)
        builder.start = start
        return builder
    }

    @Test func aFinishedBuildIsFoundAgainAndAnotherOneRefused() throws {
        let made = try builder(start: .fresh).build()
        let manifest = try Data(contentsOf: URL(fileURLWithPath: index + "/manifest.json"))
        let again = try builder().build()
        #expect(again.stages.isEmpty && again.count == made.count && again.records == made.records)
        #expect(try Data(contentsOf: URL(fileURLWithPath: index + "/manifest.json")) == manifest)
        #expect(storageError { _ = try builder(seed: 2).build() }?.kind == .exists)
        #expect(storageError { _ = try builder(start: .fresh).build() }?.kind == .exists)
    }

    @Test func aPublishedIndexThatCannotBeReadAgainIsNoFailedBuild() throws {
        let work = builder(start: .fresh)
        work.afterUnit = { stage, _ in
            guard stage == "publish" else { return }
            // On the way to its name, as a device that loses bytes would.
            let router = fixture.directory.file(".index.building/index/router.bin")
            try Data().write(to: URL(fileURLWithPath: router))
        }
        #expect(indexError { _ = try work.build() }?.isOfFinishedWork == true)
        #expect(FileManager.default.fileExists(atPath: index + "/manifest.json"))
        #expect(fixture.directory.names.filter { $0.hasPrefix(".") } == [])
    }
}
