// Plans, shards, merging and ids as a user goes through them.

import Foundation
import Testing

private struct Files {
    let scratch: Scratch

    init() throws {
        scratch = try Scratch()
        try succeed([
            "synth", "--out", file("base.u8bin"), "--count", "3000", "--dim", "24", "--queries",
            file("query.u8bin"), "--query-count", "60", "-q",
        ])
    }

    func file(_ name: String) -> String { scratch.file(name) }

    /// What a command that fails says.
    func failure(_ arguments: [String], code: Int32 = 1, _ location: SourceLocation = #_sourceLocation) throws
        -> String
    {
        let result = try sonde(arguments)
        #expect(result.code == code && result.errorLine != nil, "\(result)", sourceLocation: location)
        return result.err
    }

    func build(_ name: String, _ more: [String]) -> [String] {
        ["build", "--base", file("base.u8bin"), "--index", file(name), "-q"] + more
    }

    func ask(_ command: String, _ index: String, _ out: String, _ more: [String] = []) -> [String] {
        [
            command, "--index", file(index), "--queries", file("query.u8bin"), "--nprobe", "30", "--out",
            file(out), "-q",
        ] + more
    }
}

struct ShardCommandTests {
    /// Small base, big ids, from one end to the other.
    @Test func shardsOfABaseBeyond32BitsBecomeOneIndex() throws {
        let files = try Files()
        let first = ["--first-id", "5000000000"]
        try succeed([
            "plan", "--base", files.file("base.u8bin"), "--out", files.file("plan"), "--partitions", "30",
            "-q",
        ])
        try succeed(
            [
                "truth", "--base", files.file("base.u8bin"), "--queries", files.file("query.u8bin"), "-k",
                "10",
                "--out", files.file("truth.ids64"), "-q",
            ] + first)
        for shard in 0..<3 {
            try succeed(
                files.build(
                    "shard-\(shard)", ["--plan", files.file("plan"), "--shard", "\(shard)/3"] + first))
        }
        let merged = try succeed(
            ["merge", "--out", files.file("index"), "-q"] + (0..<3).map { files.file("shard-\($0)") })
        #expect(merged.contains("3 shards joined: 3000 vectors in 30 partitions"))
        try succeed(files.build("whole", ["--plan", files.file("plan")] + first))
        for command in ["search", "batch"] {
            for index in ["index", "whole"] {
                let out = try succeed(
                    files.ask(
                        command, index, "\(command)-\(index).ids64",
                        ["--truth", files.file("truth.ids64")]))
                #expect(out.contains("recall@10 1.0000"), "\(out)")
            }
        }
        let answers = try files.scratch.bytes("search-index.ids64")
        #expect(answers.count == 32 + 60 * 10 * 12)
        for name in ["search-whole", "batch-index", "batch-whole"] {
            #expect(try files.scratch.bytes(name + ".ids64") == answers)
        }
        #expect(try files.failure(files.ask("search", "index", "out.bin")).contains(".ids64"))
        #expect(try files.failure(files.ask("batch", "index", "out.ivecs")).contains(".ids64"))
        #expect(try succeed(["verify", files.file("index"), "-q"]).contains("whole"))
        let shard = try succeed(["inspect", files.file("shard-1")])
        #expect(
            shard.contains("ids 5000001000 to 5000001999, 8 bytes each")
                && shard.contains("shard 1 (from 0) of 3 of plan "))
        let json =
            try JSONSerialization.jsonObject(
                with: Data(succeed(["inspect", files.file("shard-1"), "--json"]).utf8))
            as? [String: Any]
        #expect((json?["ids"] as? [String: Any])?["least"] as? Int == 5_000_001_000)
        let measured = try succeed([
            "measure", "--index", files.file("index"), "--queries", files.file("query.u8bin"), "--truth",
            files.file("truth.ids64"), "-k", "10", "--values", "30", "-q",
        ])
        #expect(measured.contains("1.000"))
    }

    @Test func answersCarryTheIdsOfAFile() throws {
        let files = try Files()
        let ids = (0..<3000).map { UInt64(3000 - $0) * 11 }
        try Data(ids.flatMap { id in withUnsafeBytes(of: id.littleEndian) { Array($0) } })
            .write(to: URL(fileURLWithPath: files.file("ids")))
        let given = ["--ids", files.file("ids")]
        // The same rows of both files.
        let range = ["--first", "2000", "--skip", "500"]
        try succeed(files.build("index", ["--partitions", "30"] + given + range))
        try succeed(
            [
                "truth", "--base", files.file("base.u8bin"), "--queries", files.file("query.u8bin"), "-k",
                "10",
                "--out", files.file("truth.bin"), "-q",
            ] + given + range)
        let out = try succeed(
            files.ask("search", "index", "out.bin", ["--truth", files.file("truth.bin")]))
        #expect(out.contains("recall@10 1.0000"))
        let answers = try files.scratch.bytes("out.bin")
        let first = answers.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 8, as: UInt32.self) }
        #expect(first % 11 == 0 && (501...2500).contains(first / 11))
        #expect(
            try succeed(["inspect", files.file("index")]).contains(
                "ids external, 5511 to 27500, 4 bytes each"))
        #expect(try succeed(["verify", files.file("index"), "-q"]).contains("whole"))
        try Data(count: 80).write(to: URL(fileURLWithPath: files.file("few")))
        #expect(
            try files.failure(files.build("other", ["--ids", files.file("few")])).contains(
                "holds 10 ids, \(files.file("base.u8bin")) holds 3000 vectors"))
    }

    @Test func optionsThatContradictAreRefused() throws {
        let files = try Files()
        let plan = ["--plan", files.file("plan")]
        func usage(_ more: [String], _ text: String, _ location: SourceLocation = #_sourceLocation) throws {
            let said = try files.failure(files.build("index", more), code: 2, location)
            #expect(said.contains(text), "\(said)", sourceLocation: location)
        }
        try usage(["--shard", "0/2"], "--shard needs --plan")
        try usage(plan + ["--own-rows"], "--own-rows belongs to --shard")
        try usage(plan + ["--shard", "0/2", "--own-rows"], "needs --first-id or --ids")
        try usage(plan + ["--shard", "2/2"], "2/2")
        try usage(plan + ["--shard", "0/2", "--router", "prototypes"], "merge first")
        try usage(plan + ["--shard", "0/2", "--duplicate", "slots"], "merge first")
        for option in [["--metric", "ip"], ["--partitions", "3"], ["--seed", "2"], ["--iterations", "3"]] {
            try usage(plan + option, "the plan decides")
        }
        try usage(["--ids", "x", "--first-id", "3"], "two ways to say the same")
        #expect(try files.failure(files.build("index", plan)).contains("there is no plan"))
        #expect(
            try files.failure(["merge", "--out", files.file("index"), files.file("none")]).contains("none"))
        #expect(files.scratch.names == ["base.u8bin", "query.u8bin"])
    }
}
