// `sonde batch` as a user runs it: the answers of a search, kills, shards, refusals.

import Foundation
import Testing

@Suite struct BatchCommandTests {
    private let scratch: Scratch

    init() throws {
        scratch = try Scratch(in: productDirectory)
        try succeed([
            "synth", "--out", scratch.file("base.u8bin"), "--count", "4000", "--dim", "24", "--clusters",
            "40",
            "--queries", scratch.file("query.u8bin"), "--query-count", "20000", "-q",
        ])
        try succeed([
            "build", "--base", scratch.file("base.u8bin"), "--index", scratch.file("index"), "--partitions",
            "40",
            "-q",
        ])
    }

    private func arguments(_ out: String, command: String = "batch", _ more: [String] = ["--nprobe", "5"])
        -> [String]
    {
        [
            command, "--index", scratch.file("index"), "--queries", scratch.file("query.u8bin"), "--out",
            scratch.file(out), "-q",
        ] + more
    }

    @Test func answersAreThoseOfASearch() throws {
        for more in [
            ["--nprobe", "5"], ["--eps2", "0.5", "-k", "3"], ["--mass", "0.8"], ["--gain", "0.001"],
        ] {
            let range = ["--first", "700"]
            try succeed(arguments("s.bin", command: "search", more + range))
            let out = try succeed(arguments("b.bin", more + range))
            #expect(try scratch.bytes("b.bin") == scratch.bytes("s.bin"), "\(more)")
            #expect(
                out.contains("700 queries") && out.contains("waves 1") && out.contains("peak memory"),
                "\(out)")
        }
        try succeed([
            "truth", "--base", scratch.file("base.u8bin"), "--queries", scratch.file("query.u8bin"), "-k",
            "10",
            "--out", scratch.file("t.bin"), "-q",
        ])
        #expect(
            try succeed(arguments("b.bin", ["--nprobe", "40", "--truth", scratch.file("t.bin")])).contains(
                "recall@10 1.0000"))
    }

    /// Bytes are summed exactly, so that a narrower tier gives the same answers; the summary names it.
    @Test func theEnvironmentForcesANarrowerTier() throws {
        let range = ["--nprobe", "5", "--first", "300", "--json"]
        let widest = try succeed(arguments("widest.bin", range))
        for tier in ["scalar", "avx2", "nothing"] {
            let result = try sonde(arguments("\(tier).bin", range), environment: ["SONDE_KERNELS": tier])
            #expect(result.code == 0 && result.err.isEmpty, "\(result.err)")
            let isForced = tier == "scalar" || (tier == "avx2" && !widest.contains("\"scalar\""))
            let named = isForced ? tier : ["avx512", "avx2", "scalar"].first { widest.contains("\"\($0)\"") }
            #expect(result.out.contains("\"kernels\" : \"\(named ?? "none")\""), "\(tier): \(result.out)")
            #expect(try scratch.bytes("\(tier).bin") == scratch.bytes("widest.bin"), "\(tier)")
        }
    }

    /// Killed at any moment, the same command goes on and ends with the same bytes.
    @Test func aKilledBatchGoesOn() throws {
        try succeed(arguments("whole.bin"))
        let process = Process()
        process.executableURL = productDirectory.appendingPathComponent("sonde")
        process.arguments = arguments("out.bin", ["--nprobe", "5", "--block", "100", "--threads", "1"])
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        let journal = scratch.file("out.bin.journal")
        func journalByteCount() -> Int {
            (try? FileManager.default.attributesOfItem(atPath: journal)[.size] as? Int) ?? 0
        }
        while process.isRunning && journalByteCount() < 600 { usleep(500) }
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        try #require(process.terminationReason == .uncaughtSignal)
        #expect(!scratch.names.contains("out.bin"))
        let refused = try sonde(arguments("out.bin", ["--nprobe", "6"]))
        #expect(refused.code == 1 && refused.errorLine?.contains("--restart") == true, "\(refused.err)")
        let unasked = try sonde(arguments("out.bin"))
        #expect(unasked.code == 1 && unasked.errorLine?.contains("--resume") == true, "\(unasked.err)")
        let out = try succeed(arguments("out.bin") + ["--resume"])
        #expect(out.contains("of a run before"), "\(out)")
        #expect(try scratch.bytes("out.bin") == scratch.bytes("whole.bin"))
        #expect(scratch.names.filter { $0.hasPrefix("out.bin") } == ["out.bin"])
    }

    @Test func shardsJoin() throws {
        try succeed(arguments("whole.bin"))
        let parts = (0..<3).map { scratch.file("part\($0)") }
        for place in 0..<3 {
            try succeed(arguments("part\(place)", ["--nprobe", "5", "--shard", "\(place)/3"]))
        }
        try succeed(["batch", "--merge"] + parts + ["--out", scratch.file("joined.bin")])
        #expect(try scratch.bytes("joined.bin") == scratch.bytes("whole.bin"))
        let refused = try sonde(["batch", "--merge", parts[0], parts[2], "--out", scratch.file("none.bin")])
        #expect(refused.code == 1 && refused.errorLine?.contains("no part holds") == true, "\(refused.err)")
    }

    /// What grows with queries stays within --memory: the peak is that of ten queries and the memory.
    @Test func memoryIsBounded() throws {
        func peak(_ more: [String]) throws -> Int {
            let out = try succeed(
                arguments("m.bin", ["--nprobe", "20", "--memory", "6MiB", "--threads", "2"] + more))
            let after = try #require(out.range(of: "peak memory "))
            return try #require(Int(out[after.upperBound...].prefix { $0.isNumber }))
        }
        let few = try peak(["--first", "10"])
        let many = try peak([])
        #expect(many <= few + 6, "\(many) MiB, with ten queries \(few) MiB")
    }

    @Test func usageIsChecked() throws {
        for (more, word) in [
            (["--nprobe", "1", "--mass", "0.5"], "one of"),
            (["--nprobe", "1", "--shard", "3/3"], "shard"), (["--nprobe", "1", "--shard", "x"], "shard"),
            (["--nprobe", "1", "--merge", "a"], "merge"),
            (["--nprobe", "1", "--shard", "0/2", "--truth", "t"], "merge"),
        ] {
            let result = try sonde(arguments("u.bin", more))
            #expect(result.code == 2 && result.errorLine?.contains(word) == true, "\(more): \(result.err)")
        }
        // A recall is declared where nothing is said, and refused where no threshold is known.
        let silent = try sonde(arguments("u.bin", []))
        #expect(silent.code == 1 && silent.errorLine?.contains("sonde train") == true, "\(silent.err)")
        let time = try sonde(arguments("u.bin", ["--gain", "0.1", "--cost", "time"]))
        #expect(time.code == 1 && time.errorLine?.contains("train") == true, "\(time.err)")
        let little = try sonde(arguments("u.bin", ["--nprobe", "1", "--memory", "1MiB", "--threads", "64"]))
        #expect(little.code == 1 && little.errorLine?.contains("too little") == true, "\(little.err)")
        #expect(try sonde(["batch", "--out", scratch.file("u.bin")]).code == 2)
        #expect(!scratch.names.contains { $0.hasPrefix("u.bin") })
    }
}
