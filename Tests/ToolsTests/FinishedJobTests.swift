// What a job array meets: jobs that are finished, threads that are refused, files of others.

import Foundation
import Testing

@Suite struct FinishedJobCommandTests {
    private let scratch: Scratch

    init() throws { scratch = try smallIndex() }

    private func file(_ name: String) -> String { scratch.file(name) }

    /// Twice with --resume, then with something that makes it another job.
    private func expectFoundAgain(_ arguments: [String], other: [String]) throws {
        try succeed(arguments + ["--resume"])
        let names = scratch.names
        let again = try sonde(arguments + ["--resume"])
        #expect(again.code == 0 && again.err.isEmpty, "\(arguments): \(again.err)")
        let refused = try sonde(arguments + other + ["--resume"])
        #expect(refused.code == 1 && refused.errorLine?.contains("another job") == true, "\(refused.err)")
        #expect(try sonde(arguments).code == 1)
        #expect(scratch.names == names)
    }

    @Test func whatIsFinishedIsNoFailure() throws {
        let base = ["--base", file("base.u8bin")]
        let build = ["build"] + base + ["--partitions", "20", "-q", "--index"]
        try expectFoundAgain(build + [file("b")], other: ["--seed", "2"])
        try expectFoundAgain(
            build + [file("slots"), "--duplicate", "slots", "--synthetic", "100"],
            other: ["--replication-max", "1.2"])
        try expectFoundAgain(
            ["plan"] + base + ["--partitions", "20", "-q", "--out", file("plan")], other: ["--seed", "2"])
        for shard in 0..<2 {
            try succeed(
                ["build"] + base + [
                    "--plan", file("plan"), "--shard", "\(shard)/2", "--index", file("s\(shard)"), "-q",
                ])
        }
        let merge = ["merge", file("s0"), file("s1"), "-q", "--out", file("merged"), "--resume"]
        try succeed(merge)
        try succeed(merge)
        #expect(try sonde(["merge", file("s0"), file("s1"), "--out", file("s0"), "-q"]).code == 1)
        try expectFoundAgain(
            [
                "train", "--index", file("index"), "--out", file("trained"), "--learn", file("learn.u8bin"),
                "--router", "subcentroids", "-q",
            ], other: ["--seed", "3"])
    }

    @Test func aTrainingRemovesItsOwnCheckpointsOnly() throws {
        let state = file("state")
        try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: true)
        try Data("mine".utf8).write(to: URL(fileURLWithPath: state + "/x.training"))
        let arguments = [
            "train", "--index", file("index"), "--learn", file("learn.u8bin"), "--router", "network",
            "--epochs", "1", "--checkpoint", state, "-q", "--out",
        ]
        try succeed(arguments + [file("a")])
        #expect(try FileManager.default.contentsOfDirectory(atPath: state) == ["x.training"])
        try FileManager.default.removeItem(atPath: state)
        try succeed(arguments + [file("b")])
        #expect(!FileManager.default.fileExists(atPath: state))
    }

    @Test func noCommandStartsThreadsThatItDoesNotNeed() throws {
        // It waits for whoever reads the FIFO.
        mkfifo(file("f.u8bin"), 0o600)
        let process = Process()
        process.executableURL = productDirectory.appendingPathComponent("sonde")
        process.arguments = ["synth", "--out", file("f.u8bin"), "--count", "10", "--dim", "4", "-q"]
        try process.run()
        defer {
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
        usleep(300_000)
        let tasks = "/proc/\(process.processIdentifier)/task"
        #expect(try FileManager.default.contentsOfDirectory(atPath: tasks).count == 1)
    }

    @Test func aMissingOpenBLASIsNamedWhereItIsNeeded() throws {
        let command = productDirectory.appendingPathComponent("sonde").path
        let train = [
            "train", "--index", file("index"), "--learn", file("learn.u8bin"), "--out", file("t"), "-q",
        ]
        let missing = try run("/usr/bin/env", ["SONDE_OPENBLAS=/none", command] + train)
        #expect(missing.code == 1 && missing.errorLine?.contains("install libopenblas0") == true)
        let inspected = try run("/usr/bin/env", ["SONDE_OPENBLAS=/none", command, "inspect", file("index")])
        #expect(inspected.code == 0)
    }
}
