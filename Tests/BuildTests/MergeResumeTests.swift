// Merges that stop after any unit of segments and go on.

import Build
import Foundation
import Index
import Learn
import Storage
import TestSupport
import Testing

struct MergeResumeTests {
    /// Stopped after each unit of copied segments, and gone on with.
    @Test func aMergeGoesOnFromItsLastUnit() throws {
        struct Stopped: Error {}
        let fixture = try Fixture(.u8)
        _ = try fixture.merge(on: try fixture.plan(), .closure, shards: 3, name: "whole")
        let shards = (0..<3).map { fixture.directory.file("whole-\($0)") }
        // Shards of the same plan that hold other records.
        _ = try fixture.merge(
            on: .read(path: fixture.directory.file("plan")), shards: 3, name: "other")
        let others = (0..<3).map { fixture.directory.file("other-\($0)") }
        let (index, whole) = (fixture.directory.file("index"), fixture.directory.file("whole"))
        let work = fixture.directory.file(".index.building")
        func merge(_ start: AtomicDirectory.Start = .fresh, of shards: [String], stopAfter: Int = .max) throws
            -> [String]
        {
            var merger = IndexMerger()
            merger.start = start
            merger.unit.byteCount = 8192
            var units: [String] = []
            try merger.merge(shards, to: index) { stage, _ in
                units.append(stage)
                if units.count == stopAfter { throw Stopped() }
            }
            return units
        }
        let units = try merge(of: shards)
        #expect(Set(units) == ["write", "publish"] && units.count > 8)
        #expect(try differences(index, whole) == [])
        for count in [1, units.count / 2, units.count - 1, units.count] {
            try FileManager.default.removeItem(atPath: index)
            #expect(unfinished { _ = try merge(of: shards, stopAfter: count) } != nil)
            #expect(!FileManager.default.fileExists(atPath: index))
            let refused = storageError { _ = try merge(of: shards) }
            #expect(refused?.kind == .exists && refused?.description.contains("go on with") == true)
            let other = storageError { _ = try merge(.resume, of: others) }
            #expect(
                other?.description.contains("shard 0 differs") == true, "\(String(describing: other))")
            // Bytes that do not count, behind those that do.
            for name in ["index/segments.bin", "entries"] where count < units.count {
                let handle = try #require(FileHandle(forWritingAtPath: work + "/" + name))
                try handle.seekToEnd()
                handle.write(Data([1, 2, 3]))
            }
            #expect(try merge(.resume, of: shards.reversed()).count == units.count - count)
            #expect(try differences(index, whole) == [], "stopped after \(count)")
            #expect(!FileManager.default.fileExists(atPath: work))
        }
        // What is damaged is refused by name, or begun anew.
        try FileManager.default.removeItem(atPath: index)
        #expect(unfinished { _ = try merge(of: shards, stopAfter: 4) } != nil)
        let path = URL(fileURLWithPath: work + "/index/segments.bin")
        var bytes = try Data(contentsOf: path)
        bytes[bytes.count / 3] ^= 1
        try bytes.write(to: path)
        let damaged = storageError { _ = try merge(.resume, of: shards) }
        #expect(
            damaged?.description.contains("segments.bin") == true
                && damaged?.description.contains("begin anew") == true)
        #expect(try merge(.restart, of: shards) == units)
        #expect(try differences(index, whole) == [])
    }
}
