// Synthetic vectors: the same bytes for the same seed, whatever else differs; sensible values.

import Foundation
import Testing

@Suite struct SynthTests {
    @Test func theSameSeedGivesTheSameBytesOnAnyNumberOfThreads() throws {
        let scratch = try Scratch()
        for (name, threads, seed) in [("a", "1", "7"), ("b", "2", "7"), ("c", "2", "8")] {
            let result = try synth(
                scratch, name, count: 3000, ["--threads", threads, "--seed", seed])
            #expect(result.code == 0, "\(result.err)")
            #expect(result.err.isEmpty)
        }
        let first = try scratch.bytes("a.u8bin")
        #expect(try scratch.bytes("b.u8bin") == first)
        #expect(try scratch.bytes("c.u8bin") != first)
        #expect(try scratch.bytes("a-query.u8bin") == scratch.bytes("b-query.u8bin"))
        #expect(try scratch.bytes("a-learn.u8bin") == scratch.bytes("b-learn.u8bin"))
    }

    @Test func aLongerFileBeginsWithTheRowsOfAShorterOne() throws {
        let scratch = try Scratch()
        _ = try synth(scratch, "short", count: 1500, [])
        _ = try synth(scratch, "long", count: 2500, [])
        let short = try scratch.bytes("short.u8bin")
        let long = try scratch.bytes("long.u8bin")
        #expect(short.count == 8 + 1500 * 24)
        #expect(short.dropFirst(8) == long.dropFirst(8).prefix(1500 * 24))
    }

    @Test func baseLearnAndQueriesAreDifferentDraws() throws {
        let scratch = try Scratch()
        _ = try synth(scratch, "a", count: 2000, [])
        func rows(_ name: String) throws -> Set<Data> {
            let data = try scratch.bytes(name).dropFirst(8)
            return Set(
                stride(from: data.startIndex, to: data.endIndex, by: 24).map { Data(data[$0..<$0 + 24]) })
        }
        let base = try rows("a.u8bin")
        let learn = try rows("a-learn.u8bin")
        let query = try rows("a-query.u8bin")
        #expect(base.count > 1990)
        #expect(base.isDisjoint(with: query) && learn.isDisjoint(with: query))
    }

    @Test func bytesUseTheirRangeWithoutSaturating() throws {
        let scratch = try Scratch()
        _ = try synth(scratch, "a", count: 5000, [])
        let values = try scratch.bytes("a.u8bin").dropFirst(8)
        let saturated = values.filter { $0 == 0 || $0 == 255 }.count
        #expect(Double(saturated) < 0.002 * Double(values.count))
        #expect(values.contains { $0 < 40 } && values.contains { $0 > 215 })
    }

    @Test(arguments: [("f32", "fbin", 4), ("f16", "f16bin", 2), ("i8", "i8bin", 1), ("u8", "u8bin", 1)])
    func everyElementTypeIsWritten(dtype: String, ending: String, byteCount: Int) throws {
        let scratch = try Scratch()
        let result = try sonde([
            "synth", "--out", scratch.file("v.\(ending)"), "--count", "100", "--dim", "20", "--dtype", dtype,
            "--clusters", "16", "--quiet",
        ])
        #expect(result.code == 0, "\(result.err)")
        #expect(try scratch.bytes("v.\(ending)").count == 8 + 100 * 20 * byteCount)
    }

    @Test func aTypeThatTheFormatCannotHoldIsRefused() throws {
        let scratch = try Scratch()
        let result = try sonde([
            "synth", "--out", scratch.file("v.u8bin"), "--count", "10", "--dim", "4", "--dtype", "f32",
        ])
        #expect(result.code == 1)
        #expect(result.errorLine != nil, "\(result.err)")
        #expect(scratch.names.isEmpty)
    }

    private func synth(
        _ scratch: Scratch, _ name: String, count: Int, _ more: [String]
    ) throws -> CommandResult {
        try sonde(
            [
                "synth", "--out", scratch.file("\(name).u8bin"), "--count", "\(count)", "--dim", "24",
                "--dtype", "u8", "--clusters", "64", "--queries", scratch.file("\(name)-query.u8bin"),
                "--query-count", "200", "--learn", scratch.file("\(name)-learn.u8bin"), "--learn-count",
                "300",
                "--quiet",
            ] + more)
    }
}
