// The rewriter by what a search finds afterwards.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

@Suite struct IndexRewriterTests {
    @Test func withoutAPlanTheFilesAreShared() throws {
        let planned = try Planned()
        let index = try planned.rewritten(Placements())
        #expect(try Verification.run(path: index.path).damage.isEmpty)
        #expect(try planned.ids(index, nprobe: 3) == planned.ids(planned.index, nprobe: 3))
        func inode(_ path: String) throws -> Int {
            try FileManager.default.attributesOfItem(atPath: path)[.systemFileNumber] as! Int
        }
        #expect(
            try inode(index.path + "/segments.bin") == inode(planned.index.path + "/segments.bin"))
    }

    @Test(arguments: [Metric.l2, .cosine, .ip])
    func copiesAndMovesArriveAndNothingIsLost(metric: Metric) throws {
        let planned = try Planned(metric: metric, elementType: metric == .l2 ? .u8 : .f32)
        var plan = try planned.planner(maximum: 1.5).plan(.random(seed: 3))
        plan.moves = (0..<200).map { id in
            Placement(
                id: id, partition: (planned.homes[Int(id)].first! + 1) % UInt32(planned.index.partitionCount))
        }
        let index = try planned.rewritten(plan)
        let report = try Verification.run(path: index.path)
        #expect(report.damage.isEmpty)
        let (found, expected) = (try index.homes(), planned.homes.applying(plan))
        #expect(found.count == expected.count)
        for id in 0..<found.count { #expect(Set(found[id]) == Set(expected[id])) }
        #expect(report.records == expected.partitions.count)
        #expect(index.manifest.build["duplicate"] == "test")
        // All partitions read: the answer is the exact one, before and after.
        let all = planned.index.partitionCount
        #expect(try planned.ids(index, nprobe: all) == planned.ids(planned.index, nprobe: all))
    }

    @Test func withHeadsTheHeadsStay() throws {
        let planned = try Planned { parameters in
            parameters.partitions = nil
            parameters.headShare = 0.05
        }
        let index = try planned.rewritten(try planned.planner(maximum: 2).plan(.slots))
        #expect(index.headIds == planned.index.headIds)
        #expect(try Verification.run(path: index.path).damage.isEmpty)
        #expect(index.manifest.records > planned.index.manifest.records)
    }

    @Test func nothingIsLostByCopies() throws {
        let planned = try Planned()
        let index = try planned.rewritten(
            try planned.planner(maximum: 1.4).plan(.closure(replicas: 4, eps1: 2)))
        let exact = try planned.ids(planned.index, nprobe: planned.index.partitionCount)
        func recall(_ index: DiskIndex) throws -> Int {
            zip(try planned.ids(index, nprobe: 2), exact).reduce(0) {
                $0 + Set($1.0).intersection($1.1).count
            }
        }
        #expect(try recall(index) >= recall(planned.index))
    }

    @Test func plansThatMeanNothingAreRefused() throws {
        let planned = try Planned()
        for plan in [
            Placements(copies: [Placement(id: 3000, partition: 0)]),
            Placements(moves: [Placement(id: 0, partition: 40)]),
            Placements(moves: [Placement(id: 0, partition: 1), Placement(id: 0, partition: 2)]),
        ] {
            #expect(throws: IndexError.self) { try planned.rewritten(plan) }
        }
        let names = try FileManager.default.contentsOfDirectory(atPath: planned.directory)
        #expect(names.sorted() == ["base.npy", "index", "learn.npy"])
    }
}
