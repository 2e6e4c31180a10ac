// What a batch leaves behind at the worst moments, and what the next one makes of it.

import Build
import Foundation
import Index
import Learn
import Storage
import TestSupport
import Testing

private struct Stopped: Error {}

struct BatchRemainsTests {
    private let fixture: Fixture
    private let index: DiskIndex

    init() throws {
        fixture = try Fixture(.u8, count: 1000, queryCount: 400)
        try fixture.build("index", .l2, .none, partitions: 20)
        index = try fixture.open()
    }

    private func run(_ change: (inout BatchParameters) -> Void = { _ in }) throws -> BatchSummary {
        try index.batch(fixture.queryFile, fixture.directory, name: "out.bin", .nprobe(3), change: change)
            .summary
    }

    private func stop() {
        // What a callback throws comes out of the batch as its own error, carried.
        #expect(throws: IndexError.self) {
            _ = try run {
                $0.queriesAtOnceMaximum = 100
                $0.afterBlock = { if $0 >= 200 { throw Stopped() } }
            }
        }
    }

    private var names: [String] { fixture.directory.names.filter { $0.hasPrefix("out.bin") } }

    @Test func aPartThatIsTooLongIsNotPublished() throws {
        stop()
        let part = URL(fileURLWithPath: fixture.directory.file("out.bin.part"))
        let bytes = try Data(contentsOf: part)
        try (bytes + [1]).write(to: part)
        let refused = storageError { _ = try run() }
        #expect(refused?.kind == .corrupt && refused?.description.contains("out.bin.part") == true)
        #expect(names == ["out.bin.journal", "out.bin.part"])
        try bytes.write(to: part)
        #expect(try run().continued == 200)
        #expect(names == ["out.bin"])
    }

    @Test func aDirectoryThatCannotBeSyncedCostsNeitherAnswersNorTheJournal() throws {
        let failure = storageError {
            try Directory.$unsyncable.withValue(fixture.directory.path) {
                _ = try run { $0.queriesAtOnceMaximum = 100 }
            }
        }
        #expect(failure?.kind == .systemCall(name: "fsync", errno: EIO))
        #expect(names == ["out.bin.journal", "out.bin.part"])
        #expect(try run().continued == 100)
        #expect(names == ["out.bin"])
    }

    /// The file has its name, the journal that tells that all is written is still there.
    @Test func aKillBetweenTheNameAndTheJournalIsFinishedByTheNextRun() throws {
        stop()
        let path = URL(fileURLWithPath: fixture.directory.file("out.bin.journal"))
        // A second name outlives the removal of the first, and gets the last entry.
        let kept = fixture.directory.file("kept")
        #expect(link(path.path, kept) == 0)
        _ = try run()
        let whole = try Data(contentsOf: URL(fileURLWithPath: fixture.directory.file("out.bin")))
        let journal = try Data(contentsOf: URL(fileURLWithPath: kept))
        try journal.write(to: path)
        let summary = try run()
        #expect(summary.continued == 400 && summary.queries == 0)
        #expect(names == ["out.bin"])
        #expect(try Data(contentsOf: URL(fileURLWithPath: fixture.directory.file("out.bin"))) == whole)
    }

    @Test func aRunningBatchLosesNothingToAnotherThatBeginsAnew() throws {
        // Called by the thread that runs the batch.
        nonisolated(unsafe) var met: StorageError?
        let summary = try run {
            $0.queriesAtOnceMaximum = 100
            $0.afterBlock = { done in
                guard done == 200 else { return }
                let before = names
                met = storageError { _ = try run { $0.start = .restart } }
                #expect(names == before && before == ["out.bin.journal", "out.bin.part"])
            }
        }
        #expect(met?.kind == .exists, "\(String(describing: met))")
        #expect(summary.queries == 400 && names == ["out.bin"])
    }
}
