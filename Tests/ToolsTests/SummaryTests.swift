// What search, batch and train tell and leave, and published methods by name.

import Foundation
import Testing

@Suite struct SummaryTests {
    private let scratch: Scratch

    init() throws {
        scratch = try Scratch()
        try succeed([
            "synth", "--out", scratch.file("b.fbin"), "--dtype", "f32", "--count", "3000", "--dim", "16",
            "--queries", scratch.file("q.fbin"), "--query-count", "100", "--learn", scratch.file("l.fbin"),
            "--learn-count", "400", "-q",
        ])
    }

    private func build(_ name: String, _ more: [String]) throws -> CommandResult {
        try sonde(["build", "--base", scratch.file("b.fbin"), "--index", scratch.file(name), "-q"] + more)
    }

    @Test(arguments: ["search", "batch"])
    func aSummaryIsShortLinesOrJSON(command: String) throws {
        try #require(build("i", ["--partitions", "30"]).code == 0)
        try succeed([
            "truth", "--base", scratch.file("b.fbin"), "--queries", scratch.file("q.fbin"), "-k", "10",
            "--out",
            scratch.file("t"), "-q",
        ])
        let ask = [
            command, "--index", scratch.file("i"), "--queries", scratch.file("q.fbin"), "--nprobe", "4",
            "--truth", scratch.file("t"), "--out", scratch.file("o"), "-q",
        ]
        let lines = try succeed(ask).split(separator: "\n")
        #expect(lines.count >= 5 && lines.allSatisfy { $0.count <= 120 }, "\(lines)")
        #expect(lines.contains { $0.hasPrefix("recall@10 0.") || $0.hasPrefix("recall@10 1.") })
        #expect(lines[0].contains("kernels "))
        let object = try #require(
            try JSONSerialization.jsonObject(with: Data(succeed(ask + ["--json"]).utf8)) as? [String: Any])
        #expect(
            Set(object.keys).isSuperset(of: [
                "queries", "k", "policy", "parameter", "seconds", "queries_per_second", "device", "kernels",
                "threads", "resident_bytes", "recall", "invalid_queries",
            ]))
        #expect(object["queries"] as? Int == 100)
        if command == "search" {
            let means = try #require(object["a_query"] as? [String: Any])
            #expect(
                Set(means.keys) == [
                    "vectors", "cached", "distinct", "segments", "pages", "bytes", "reads", "rounds",
                    "route_us",
                    "wait_us", "scan_us",
                ])
        } else {
            #expect(Set(object.keys).isSuperset(of: ["waves", "reads", "bytes", "comparisons"]))
        }
    }

    @Test(arguments: ["kmeans", "spann", "soar", "storage-nn", "lira"])
    func methodsAreBuiltAndMeasuredByName(method: String) throws {
        var more = ["--method", method]
        if method != "spann" { more += ["--partitions", "16"] }
        if ["storage-nn", "lira"].contains(method) {
            more += ["--learn", scratch.file("l.fbin"), "--epochs", "1"]
        }
        let built = try build("i", more)
        #expect(built.code == 0, "\(built.err)")
        #expect(try succeed(["inspect", scratch.file("i")]).contains("method=\(method)"))
        try succeed([
            "truth", "--base", scratch.file("b.fbin"), "--queries", scratch.file("q.fbin"), "-k", "10",
            "--out",
            scratch.file("t"), "-q",
        ])
        let table = try succeed([
            "measure", "--index", scratch.file("i"), "--queries", scratch.file("q.fbin"), "--truth",
            scratch.file("t"), "-k", "10", "--first", "20", "--method", method, "-q",
        ])
        let policy = [
            "kmeans": "nprobe", "soar": "nprobe", "spann": "eps2", "storage-nn": "budget-vectors",
            "lira": "sigma",
        ]
        #expect(table.contains("| \(policy[method] ?? "?")"), "\(table)")
    }

    /// What a killed training has left is refused, taken up, or begun anew, as in every other command.
    @Test func aTrainingGoesOnAsABuildDoes() throws {
        try #require(build("i", ["--partitions", "16"]).code == 0)
        func train(_ more: [String]) throws -> CommandResult {
            try sonde(
                [
                    "train", "--index", scratch.file("i"), "--out", scratch.file("o"), "--router",
                    "prototypes",
                    "--prototypes", "2", "--learn", scratch.file("l.fbin"), "-q",
                ] + more)
        }
        #expect(try train([]).code == 0)
        let whole = try scratch.bytes("o/router.bin")
        try FileManager.default.removeItem(atPath: scratch.file("o"))
        let process = Process()
        process.executableURL = productDirectory.appendingPathComponent("sonde")
        process.arguments = [
            "train", "--index", scratch.file("i"), "--out", scratch.file("o"), "--router", "prototypes",
            "--prototypes", "2", "--learn", scratch.file("l.fbin"), "-q",
        ]
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        while process.isRunning, !FileManager.default.fileExists(atPath: scratch.file(".o.building/journal"))
        {
            usleep(200)
        }
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        // It may have been quick.
        guard !FileManager.default.fileExists(atPath: scratch.file("o")) else { return }
        let refused = try train([])
        #expect(
            refused.code == 1 && refused.errorLine?.contains("--resume") == true
                && refused.errorLine?.contains("--restart") == true, "\(refused.err)")
        let other = try train(["--resume", "--epochs", "3"])
        #expect(other.code == 1 && other.errorLine?.contains("differs") == true, "\(other.err)")
        #expect(try train(["--resume"]).code == 0)
        #expect(try scratch.bytes("o/router.bin") == whole)
        #expect(!scratch.names.contains(".o.building"))
    }
}
