// What an open index holds, by the kernel's count: a process that opened a large one against a process that opened a
// small one.

import Foundation
import Storage
import Testing

/// What `sonde inspect --process --json` tells.
private struct Inspected: Decodable {
    struct Process: Decodable {
        var beforeOpening: Int
        var afterOpening: Int
        var peak: Int
        var ownBeforeOpening: Int
        var ownAfterOpening: Int
    }
    var residentByteCount: Int
    var process: Process?
}

@Suite struct ResidentTests {
    private func inspect(_ path: String) throws -> (resident: Int, grown: Int, peak: Int) {
        let result = try sonde(["inspect", path, "--process", "--json"])
        #expect(result.code == 0, "\(result.err)")
        let report = try JSONDecoder().decode(Inspected.self, from: Data(result.out.utf8))
        let process = try #require(report.process)
        #expect(process.ownBeforeOpening < process.beforeOpening)
        #expect(process.ownAfterOpening > process.ownBeforeOpening)
        return (
            report.residentByteCount, process.afterOpening - process.beforeOpening,
            process.peak - process.beforeOpening
        )
    }

    /// Gives an index of 40 partitions and 24 dimensions a router with `count` codes of 16 bytes, all alike
    /// (docs/reference/format.md, "predict" and "proto").
    private func writeCodes(_ count: Int, to index: String) throws {
        var sections = try TaggedFile.read(path: index + "/router.bin")
        func bytes<T>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }
        var predictor = bytes(UInt32(2))
        predictor += [2, 0]
        predictor += bytes(UInt16(5))
        predictor += bytes(UInt32(40))
        for _ in 0..<2 { predictor += bytes(Float(1)) }
        sections["predict"] = predictor
        var codes = bytes(UInt64(40))
        codes += bytes(UInt64(count))
        codes += bytes(UInt32(24))
        for partition in 0...40 { codes += bytes(UInt32(count / 40 * partition)) }
        codes += bytes(Float(1))
        codes += [UInt8](repeating: 0, count: 24 * 4)
        for number in [24, 16] { codes += bytes(UInt32(number)) }
        codes += [UInt8](repeating: 0, count: 24 * 256 * 2 + count * 18)
        sections["proto"] = codes
        try FileManager.default.removeItem(atPath: index + "/router.bin")
        let digest = try TaggedFile.write(
            path: index + "/router.bin",
            sections: sections.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
        var manifest = try Manifest.read(path: index + "/manifest.json")
        manifest.files["router.bin"] = digest
        try FileManager.default.removeItem(atPath: index + "/manifest.json")
        try manifest.write(path: index + "/manifest.json")
    }

    @Test func anOpenIndexHoldsWhatItSays() throws {
        // Room for what the allocator rounds up, for pages of the program that only a large index touches, and for the
        // kernel's count, which it brings up to date some dozens of pages at a time for each processor.
        let margin = 2 << 20
        // Pieces that are read at a time, and what is kept of them by the allocator.
        let peakMargin = 4 << 20
        let scratch = try Scratch()
        for command in [
            [
                "synth", "--out", scratch.file("base.fbin"), "--count", "2000", "--dim", "24", "--dtype",
                "f32", "-q",
            ],
            [
                "build", "--base", scratch.file("base.fbin"), "--index", scratch.file("small"),
                "--partitions", "40", "-q",
            ],
            [
                "build", "--base", scratch.file("base.fbin"), "--index", scratch.file("large"),
                "--partitions", "40", "-q",
            ],
        ] {
            let result = try sonde(command)
            #expect(result.code == 0, "\(result.err)")
        }
        try writeCodes(40_000, to: scratch.file("small"))
        try writeCodes(1_600_000, to: scratch.file("large"))
        let (small, large) = (try inspect(scratch.file("small")), try inspect(scratch.file("large")))
        let promised = large.resident - small.resident
        let held = large.grown - small.grown
        #expect(promised == 1_560_000 * 18)
        #expect(held <= promised + margin, "\(held) bytes held, \(promised) counted")
        #expect(held >= promised - margin, "\(held) bytes held, \(promised) counted")
        #expect(
            large.peak - small.grown <= promised + peakMargin,
            "\(large.peak - small.grown) bytes at the peak, \(promised) counted")

        // The limit is looked at before the router is read.
        let refused = try sonde([
            "search", "--index", scratch.file("large"), "--queries", scratch.file("base.fbin"), "--nprobe",
            "1",
            "--out", scratch.file("out"), "--resident", "20MiB", "-q",
        ])
        #expect(refused.code == 1 && refused.errorLine?.contains("resident bytes") == true, "\(refused.err)")
    }

    @Test func aBuildPlansForItsBudget() throws {
        let scratch = try Scratch()
        for command in [
            [
                "synth", "--out", scratch.file("base.u8bin"), "--count", "4000", "--dim", "16", "--queries",
                scratch.file("q.u8bin"), "--query-count", "50", "-q",
            ],
            [
                "build", "--base", scratch.file("base.u8bin"), "--index", scratch.file("index"), "--resident",
                "64K",
                "--synthetic", "500", "-q",
            ],
        ] {
            let result = try sonde(command)
            #expect(result.code == 0, "\(result.err)")
            if command[0] == "build" {
                #expect(result.out.contains("resident bytes of 65536"))
            }
        }
        for command in ["search", "batch"] {
            let result = try sonde([
                command, "--index", scratch.file("index"), "--queries", scratch.file("q.u8bin"), "-k", "1",
                "--recall", "0.8", "--out", scratch.file(command), "-q",
            ])
            #expect(result.code == 0, "\(result.err)")
        }
        #expect(try scratch.bytes("search") == scratch.bytes("batch"))
        let without = try sonde([
            "search", "--index", scratch.file("index"), "--queries", scratch.file("q.u8bin"), "-k", "1",
            "--out",
            scratch.file("without"), "-q",
        ])
        #expect(without.code == 0 && without.err.contains("no policy given: recall 0.95"))
        let inspected = try sonde(["inspect", scratch.file("index"), "--process"])
        #expect(inspected.out.contains("of 65536 promised") && inspected.out.contains("process: "))
        // The planner's choices are not given beside it.
        #expect(
            try sonde(["build", "--base", "b", "--index", "i", "--resident", "1M", "--prototypes", "4"]).code
                == 2)
    }
}
