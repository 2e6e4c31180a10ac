// The whole path as a user goes it: vectors, truth, index, answers, measurement, inspection, verification.

import Foundation
import Testing

/// A small world made by the command itself.
private struct World {
    let scratch: Scratch

    /// 4000 vectors in 40 partitions; on the disk that the product lies on, which the kernel reads directly
    /// where it can.
    init(_ buildOptions: [String] = []) throws {
        scratch = try Scratch(in: productDirectory)
        try succeed([
            "synth", "--out", file("base.fbin"), "--count", "4000", "--dim", "24", "--dtype", "f32",
            "--clusters",
            "40", "--queries", file("query.fbin"), "--query-count", "150", "-q",
        ])
        try succeed([
            "truth", "--base", file("base.fbin"), "--queries", file("query.fbin"), "--out", file("truth.bin"),
            "-q",
        ])
        try succeed(
            ["build", "--base", file("base.fbin"), "--index", file("index"), "--partitions", "40", "-q"]
                + buildOptions)
    }

    func file(_ name: String) -> String { scratch.file(name) }

    func search(_ more: [String]) throws -> String {
        try succeed(
            [
                "search", "--index", file("index"), "--queries", file("query.fbin"), "--out",
                file("answers.bin"), "-q",
            ] + more)
    }

    /// The columns of a CSV, by name.
    func columns(of name: String) throws -> [String: [Double]] {
        let lines = String(decoding: try scratch.bytes(name), as: UTF8.self).split(separator: "\n")
        let names = lines[0].split(separator: ",").map(String.init)
        var columns: [String: [Double]] = [:]
        for line in lines.dropFirst() {
            for (name, cell) in zip(names, line.split(separator: ",", omittingEmptySubsequences: false)) {
                columns[name, default: []].append(Double(cell) ?? .nan)
            }
        }
        return columns
    }
}

@Suite struct EngineTests {
    @Test func everyCommandDoesItsPart() throws {
        let world = try World(["--duplicate", "closure", "--replicas", "3", "--eps1", "0.5"])
        let out = try world.search(["-k", "10", "--nprobe", "40", "--truth", world.file("truth.bin")])
        #expect(out.contains("150 queries") && out.contains("recall@10 1.0000"), "\(out)")
        #expect(try world.scratch.bytes("answers.bin").count == 8 + 150 * 10 * 8)

        let inspected =
            try JSONSerialization.jsonObject(
                with: Data(succeed(["inspect", world.file("index"), "--json"]).utf8)) as? [String: Any]
        #expect(inspected?["count"] as? Int == 4000 && inspected?["partitions"] as? Int == 40)
        #expect(try succeed(["inspect", world.file("index")]).contains("4000 x 24 f32, l2"))
        #expect(try succeed(["verify", world.file("index"), "-q"]).contains("whole"))

        let table = try succeed([
            "measure", "--index", world.file("index"), "--queries", world.file("query.fbin"), "--truth",
            world.file("truth.bin"), "--values", "1,8,40", "--csv", world.file("m.csv"), "--json",
            world.file("m.json"),
            "--plot", world.file("m.svg"), "-q",
        ])
        #expect(table.contains("| nprobe") && table.contains("recall@10 = 0.90"))
        #expect(try world.columns(of: "m.csv")["recall@10"]?.last == 1)
        #expect(String(decoding: try world.scratch.bytes("m.svg"), as: UTF8.self).hasPrefix("<svg "))
        try checkShape(of: try world.scratch.bytes("m.json"))
    }

    /// The keys of `measure --json` are a promise to whoever reads them.
    private func checkShape(of json: Data) throws {
        let object = try #require(try JSONSerialization.jsonObject(with: json) as? [String: Any])
        let data = try #require(object["data"] as? [String: Any])
        #expect(Set(data.keys).isSuperset(of: ["n", "d", "dtype", "metric", "queries"]))
        let index = try #require(object["index"] as? [String: Any])
        #expect(
            Set(index.keys).isSuperset(of: [
                "partitions", "replication", "resident_bytes", "index_bytes", "duplicate", "router",
            ]))
        let rows = try #require(object["rows"] as? [[String: Any]])
        #expect(rows.count == 3)
        for row in rows {
            #expect(
                Set(row.keys).isSuperset(of: [
                    "policy", "parameter", "recall", "vectors", "cached", "distinct", "segments", "pages",
                    "bytes",
                    "reads", "rounds",
                    "qps", "latency_ms",
                ]))
            #expect(Set((row["recall"] as? [String: Any] ?? [:]).keys) == ["1", "10", "100"])
            #expect(Set((row["latency_ms"] as? [String: Any] ?? [:]).keys) == ["mean", "p50", "p99", "p999"])
        }
        let at = try #require(object["at"] as? [String: [String: [String: Double]]])
        let cost = try #require(at["recall@10"]?["0.90"])
        #expect(Set(cost.keys).isSuperset(of: ["vectors", "pages", "bytes", "parameter"]))
    }

    /// Bytes counted are bytes asked of the ring, and those are what the kernel says the process read. A
    /// shell inherits the count of the command it waited for.
    @Test(
        arguments: [["--inflight", "1", "--threads", "1"], ["--inflight", "8", "--threads", "2"]],
        [[], ["--duplicate", "soar"]])
    func countedBytesAreWhatTheKernelCounts(mode: [String], build: [String]) throws {
        let world = try World(build)
        let command = [
            productDirectory.appendingPathComponent("sonde").path, "search", "--index", world.file("index"),
            "--queries",
            world.file("query.fbin"), "--out", world.file("answers.bin"), "--counters", world.file("c.csv"),
            "--nprobe", "7", "-q",
        ]
        // Whatever of the command itself has left the page cache is read and counted too: the least of a few.
        var least = Double.infinity
        var counted = (bytes: 0.0, reads: 0.0)
        for _ in 0..<5 {
            let script =
                #"before=$(grep ^read_bytes /proc/$$/io); "$@"; echo "$before"; grep ^read_bytes /proc/$$/io"#
            let result = try run("/bin/sh", ["-c", script, "sh"] + command + mode)
            let numbers = result.out.split(separator: "\n").filter { $0.hasPrefix("read_bytes: ") }
                .compactMap { Double($0.dropFirst("read_bytes: ".count)) }
            try #require(result.code == 0 && numbers.count == 2, "\(result.out) \(result.err)")
            // No direct reads on this disk: the page cache answers, and the kernel counts nothing.
            guard result.out.contains("(direct)") else { return }
            let columns = try world.columns(of: "c.csv")
            counted = (columns["bytes"]?.reduce(0, +) ?? 0, columns["reads"]?.reduce(0, +) ?? 0)
            least = min(least, numbers[1] - numbers[0])
            if least == counted.bytes { break }
        }
        #expect(counted.bytes > 1e6 && counted.reads >= 150)
        #expect(
            abs(least - counted.bytes) <= 4096 * counted.reads,
            "the kernel counts \(least), sonde \(counted.bytes)")
    }

    @Test func damageIsNamedAndEndsWithOne() throws {
        let world = try World()
        let path = world.file("index/segments.bin")
        var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        bytes[4096 * 3 + 17] ^= 4
        try bytes.write(to: URL(fileURLWithPath: path))
        let verified = try sonde(["verify", world.file("index"), "-q"])
        #expect(verified.code == 1 && verified.out.contains("the page at offset 12288 fails its checksum"))
        let searched = try sonde([
            "search", "--index", world.file("index"), "--queries", world.file("query.fbin"), "--out",
            world.file("a.bin"),
            "--nprobe", "40", "-q",
        ])
        #expect(searched.code == 1 && searched.errorLine?.contains("offset 12288") == true, "\(searched.err)")
        #expect(!world.scratch.names.contains { $0.hasPrefix("a.bin") })
    }

    @Test func requestsThatMeanNothingEndWithOneLine() throws {
        let world = try World()
        let before = world.scratch.names
        let search = ["search", "--index", world.file("index"), "--queries", world.file("query.fbin"), "-q"]
        let measure = [
            "measure", "--index", world.file("index"), "--queries", world.file("query.fbin"), "--truth",
            world.file("truth.bin"), "-q",
        ]
        let build = ["build", "--base", world.file("base.fbin"), "-q"]
        let cases: [([String], Int32, String)] = [
            (search + ["--out", world.file("a.bin"), "--nprobe", "1", "-k", "0"], 2, "k must be"),
            (search + ["--out", world.file("a.bin"), "--nprobe", "1", "-k", "4001"], 1, "4000"),
            (search + ["--out", world.file("a.bin"), "--nprobe", "0"], 2, "nprobe"),
            (search + ["--out", world.file("a.bin")], 1, "--nprobe"),
            (search + ["--out", world.file("a.bin"), "--nprobe", "1", "--first", "151"], 1, "151"),
            (search + ["--out", world.file("none/a.bin"), "--nprobe", "1"], 1, "none/a.bin"),
            (
                search + [
                    "--out", world.file("a.bin"), "--counters", world.file("none/c.csv"), "--nprobe", "1",
                ], 1, "none/c.csv"
            ),
            (
                search + [
                    "--out", world.file("a.bin"), "--nprobe", "1", "-k", "101", "--truth",
                    world.file("truth.bin"),
                ], 1, "100 neighbours"
            ),
            (measure + ["--json", world.file("none/m.json")], 1, "none/m.json"),
            (measure + ["--values", "0"], 1, "nprobe"), (measure + ["--values", "1.5"], 2, "whole"),
            (measure + ["--values", "1e300"], 2, "values"), (measure + ["-k", "1,101"], 1, "101"),
            (build + ["--index", world.file("index")], 1, "exists"),
            (build + ["--index", "/proc/index"], 1, "/proc"),
            (build + ["--index", world.file("new"), "--partitions", "4001"], 1, "4000"),
            (build + ["--index", world.file("new"), "--first", "4001"], 1, "4001"),
            (build + ["--index", world.file("new"), "--heads", "0.1", "--metric", "ip"], 1, "ip"),
            (build + ["--index", world.file("new"), "--metric", "hamming"], 2, "metric"),
            (
                [
                    "truth", "--base", world.file("base.fbin"), "--queries", world.file("query.fbin"),
                    "--out", world.file("none/t.bin"), "-q",
                ], 1, "none/t.bin"
            ),
            (
                [
                    "truth", "--base", world.file("base.fbin"), "--queries", world.file("query.fbin"), "-k",
                    "4001", "--out", world.file("t.bin"), "-q",
                ], 1, "4001"
            ),
        ]
        for (arguments, code, word) in cases {
            let result = try sonde(arguments)
            #expect(result.code == code, "\(arguments): \(result.err)")
            #expect(result.errorLine?.contains(word) == true, "\(arguments): \(result.err)")
            #expect(result.out.isEmpty, "\(arguments): \(result.out)")
        }
        #expect(world.scratch.names == before)
    }

    /// A build that is killed leaves nothing under the index's name.
    @Test func aKilledBuildIsNoIndex() throws {
        let scratch = try Scratch()
        _ = try sonde(["synth", "--out", scratch.file("b.u8bin"), "--count", "60000", "--dim", "64", "-q"])
        let process = Process()
        process.executableURL = productDirectory.appendingPathComponent("sonde")
        process.arguments = [
            "build", "--base", scratch.file("b.u8bin"), "--index", scratch.file("index"), "-q",
        ]
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        while process.isRunning && !scratch.names.contains(where: { $0 == ".index.building" }) {
            usleep(1000)
        }
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        try #require(process.terminationReason == .uncaughtSignal)
        #expect(!scratch.names.contains("index"))
        #expect(
            try sonde([
                "build", "--base", scratch.file("b.u8bin"), "--index", scratch.file("index"), "--resume",
                "-q",
            ]).code == 0)
        #expect(scratch.names == ["b.u8bin", "index"])
        #expect(try sonde(["verify", scratch.file("index"), "-q"]).code == 0)
    }
}
