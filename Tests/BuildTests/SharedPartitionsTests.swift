// Plans of partitions: a build on one is the build without it, and what does not fit a plan is refused.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

struct SharedPartitionsTests {
    /// A plan decides what a build would have decided: only the manifest tells of it.
    @Test(arguments: shardKinds, Metric.allCases)
    func aBuildOnAPlanIsTheBuildWithoutIt(kind: Kind, metric: Metric) throws {
        let fixture = try Fixture(.u8, count: 2000)
        let sets: [(inout BuildParameters) -> Void] = [
            { _ in }, { $0.sampleCount = 700 }, { $0.pagesMaximum = 2 }, { $0.subSegments = 3 },
            { $0.seed = 9 },
        ]
        for (number, set) in sets.enumerated() {
            try fixture.build("plain-\(number)", metric, kind, change: set)
            let plan = try fixture.plan("plan-\(number)", metric, change: set)
            try fixture.build("planned-\(number)", on: plan, kind)
            let (plain, planned) = ("plain-\(number)", "planned-\(number)")
            #expect(
                try differences(fixture.directory.file(plain), fixture.directory.file(planned)) == [
                    "manifest.json"
                ])
            var build = try fixture.open(planned).manifest.build
            #expect(build.removeValue(forKey: "plan") == plan.identity)
            #expect(try fixture.open(plain).manifest.build == build)
        }
    }

    /// Threads do not change a plan; another seed does.
    @Test func theSeedDecidesAPlan() throws {
        let fixture = try Fixture(.f32, count: 2000)
        for (name, threads, seed) in [("one", 1, 3), ("five", 5, 3), ("other", 2, 4)] {
            try fixture.plan(name) {
                $0.threads = threads
                $0.seed = UInt64(seed)
            }
        }
        #expect(try differences(fixture.directory.file("one"), fixture.directory.file("five")) == [])
        #expect(
            try differences(fixture.directory.file("one"), fixture.directory.file("other")) == [
                "plan.json", "router.bin",
            ])
    }

    @Test func plansAreChecked() throws {
        let fixture = try Fixture()
        let plan = try fixture.plan()
        func learn(_ change: (inout BuildParameters) -> Void) -> String {
            refusal { try fixture.plan("refused", change: change) }
        }
        #expect(learn { $0.headShare = 0.1 }.contains("partitions only"))
        #expect(learn { $0.copyRule = .soar(lambda: 1) }.contains("partitions only"))
        #expect(learn { $0.wholeCount = 10 }.contains("at least the 1500 vectors"))
        #expect(learn { $0.partitions = 2000 }.contains("from 1 to the 1500"))
        #expect(storageError { try fixture.plan() }?.kind == .exists)
        #expect(!fixture.directory.names.contains { $0.contains("refused") })
        // Builds that do not fit the plan.
        let floats = try Fixture(.f32)
        #expect(refusal { try floats.build("index", on: plan) }.contains("the plan"))
        func build(_ change: (inout BuildParameters) -> Void) -> String {
            refusal {
                try fixture.build("refused", on: plan, shard: Shard(index: 0, count: 2), change: change)
            }
        }
        #expect(build { $0.headShare = 0.1 }.contains("leave out the plan"))
        #expect(build { $0.router = RouterTraining() }.contains("merge first"))
        #expect(
            refusal { try fixture.build("refused", on: plan, shard: Shard(index: 2, count: 2)) }.contains(
                "no shard 2 of 2"))
        let capped = try fixture.plan("capped") { $0.pagesMaximum = 3 }
        #expect(
            refusal { try fixture.build("refused", on: capped, .closure, shard: Shard(index: 0, count: 2)) }
                .contains("pages-max"))
        try fixture.build("capped-0", on: capped, shard: Shard(index: 0, count: 2))
        // Damage.
        let file = URL(fileURLWithPath: plan.path + "/router.bin")
        var bytes = try Data(contentsOf: file)
        bytes[bytes.count - 1] ^= 1
        try bytes.write(to: file)
        #expect(indexError { _ = try SharedPartitions.read(path: plan.path) } != nil)
        #expect(
            storageError { _ = try SharedPartitions.read(path: fixture.directory.file("capped-0")) }?.kind
                == .missing)
        #expect(storageError { _ = try DiskIndex(path: plan.path) } != nil)
    }
}
