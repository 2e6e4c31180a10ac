// Builds as a user sees them die and go on: real kills, a full disk, refusals, the plan.

import Foundation
import Testing

@Suite struct BuildResumeCommandTests {
    private let scratch: Scratch

    /// 20,000 vectors of 64 dimensions, and the index that nothing disturbed.
    init() throws {
        scratch = try Scratch(in: productDirectory)
        try succeed([
            "synth", "--out", scratch.file("base.u8bin"), "--count", "20000", "--dim", "64", "--clusters",
            "80",
            "-q",
        ])
        try succeed(arguments("whole"))
    }

    private func arguments(_ index: String, _ more: [String] = []) -> [String] {
        [
            "build", "--base", scratch.file("base.u8bin"), "--index", scratch.file(index), "--partitions",
            "300",
            "--sample", "3000", "--memory", "2MiB", "--unit", "64KiB", "-q",
        ] + more
    }

    private func expectSame(_ index: String) throws {
        for name in ["manifest.json", "segments.bin", "segments.table", "router.bin"] {
            #expect(try scratch.bytes("\(index)/\(name)") == scratch.bytes("whole/\(name)"), "\(name)")
        }
        #expect(scratch.names == ["base.u8bin", index, "whole"].sorted())
    }

    /// Kills a build once its directory holds a file of that name.
    private func kill(_ arguments: [String], at name: String) throws {
        let process = Process()
        process.executableURL = productDirectory.appendingPathComponent("sonde")
        process.arguments = arguments
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        let path = scratch.file(".index.building/" + name)
        while process.isRunning && !FileManager.default.fileExists(atPath: path) { usleep(200) }
        Foundation.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        try #require(process.terminationReason == .uncaughtSignal)
    }

    @Test func aKilledBuildGoesOn() throws {
        try kill(arguments("index"), at: "assignment")
        #expect(scratch.names.contains(".index.building") && !scratch.names.contains("index"))
        let refused = try sonde(arguments("index"))
        #expect(refused.code == 1 && refused.errorLine?.contains("--resume") == true, "\(refused.err)")
        #expect(refused.errorLine?.contains("--restart") == true)
        let other = try sonde(arguments("index", ["--resume", "--seed", "5"]))
        #expect(other.code == 1 && other.errorLine?.contains("seed differs") == true, "\(other.err)")
        try kill(arguments("index", ["--resume", "--threads", "1"]), at: "index/segments.bin")
        try succeed(arguments("index", ["--resume"]))
        try expectSame("index")
        // Where there is nothing to go on with, and anew over what is left.
        try FileManager.default.removeItem(atPath: scratch.file("index"))
        try succeed(arguments("index", ["--resume"]))
        try expectSame("index")
        try FileManager.default.removeItem(atPath: scratch.file("index"))
        try kill(arguments("index"), at: "counts")
        try succeed(arguments("index", ["--restart"]))
        try expectSame("index")
    }

    /// Both are killed within their work, refused without being asked to go on, and go on.
    @Test func aKilledPlanAndAKilledMergeGoOn() throws {
        let plan = [
            "plan", "--base", scratch.file("base.u8bin"), "--partitions", "2100", "--iterations", "4",
            "--unit",
            "128KiB", "-q", "--out",
        ]
        try succeed(plan + [scratch.file("plan")])
        let index = scratch.file("index")
        func goOn(_ command: [String], killedAt name: String, as whole: String, _ files: [String]) throws {
            try kill(command + [index], at: name)
            let refused = try sonde(command + [index])
            #expect(refused.code == 1 && refused.errorLine?.contains("--resume") == true, "\(refused.err)")
            #expect(refused.errorLine?.contains("--restart") == true)
            #expect(try sonde(command + [index, "--resume", "--restart"]).code == 2)
            try succeed(command + [index, "--resume"])
            for name in files {
                #expect(try scratch.bytes("index/\(name)") == scratch.bytes("\(whole)/\(name)"), "\(name)")
            }
            #expect(!scratch.names.contains(".index.building"))
            try FileManager.default.removeItem(atPath: index)
        }
        try goOn(plan, killedAt: "milestone-groups-0", as: "plan", ["plan.json", "router.bin"])
        for shard in 0..<2 {
            try succeed([
                "build", "--base", scratch.file("base.u8bin"), "--plan", scratch.file("plan"), "--shard",
                "\(shard)/2", "--index", scratch.file("shard-\(shard)"), "-q",
            ])
        }
        let merge =
            ["merge"] + (0..<2).map { scratch.file("shard-\($0)") } + ["--unit", "256KiB", "-q", "--out"]
        try succeed(merge + [scratch.file("merged")])
        try goOn(
            merge, killedAt: "entries", as: "merged",
            ["manifest.json", "router.bin", "segments.bin", "segments.table"])
    }

    /// A limit on the size of files fails in the middle of writing as a full disk does.
    @Test func aBuildWithoutRoomKeepsWhatItHas() throws {
        let command = productDirectory.appendingPathComponent("sonde").path
        let script = #"trap "" XFSZ; ulimit -f 1000; exec "$@""#
        let failed = try run("/bin/bash", ["-c", script, "sh", command] + arguments("index"))
        #expect(failed.code == 1, "\(failed.err)")
        let line = failed.errorLine ?? ""
        #expect(
            line.contains("File too large") && line.contains("--resume") && line.contains(".index.building"),
            "\(line)")
        #expect(!scratch.names.contains("index"))
        try succeed(arguments("index", ["--resume"]))
        try expectSame("index")
    }

    @Test func plannedCopiesLeaveNothing() throws {
        let more = ["--duplicate", "slots", "--router", "distance", "--synthetic", "200"]
        try kill(arguments("index", more), at: ".partitioned.building/counts")
        try succeed(arguments("index", more + ["--resume"]))
        #expect(scratch.names == ["base.u8bin", "index", "whole"])
        #expect(try sonde(["verify", scratch.file("index"), "-q"]).code == 0)
    }

    @Test func aPlanBuildsNothing() throws {
        let out = try succeed(arguments("index", ["--dry-run"]))
        for word in ["assign", "buckets", "temporary", "free", "memory of the process", "a second"] {
            #expect(out.contains(word), "\(out)")
        }
        #expect(scratch.names == ["base.u8bin", "whole"])
        #expect(try sonde(arguments("index", ["--resume", "--restart"])).code == 2)
    }
}
