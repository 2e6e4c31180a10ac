// The promises of the command line: exit codes, one line an error, help.

import Foundation
import Testing

@Suite struct UsageTests {
    @Test(arguments: [
        ["bogus"], ["synth"], ["synth", "--out", "x.u8bin", "--count", "0", "--dim", "4"],
        ["synth", "--out", "x.u8bin", "--count", "many", "--dim", "4"],
        ["synth", "--out", "x.u8bin", "--count", "1", "--dim", "4", "--threads", "0"],
        ["synth", "--out", "x.u8bin", "--count", "1", "--dim", "4", "--memory", "2QiB"],
        ["synth", "--out", "x.u8bin", "--count", "1", "--dim", "4", "--dtype", "f64"],
        ["build"], ["search"], ["batch"], ["measure"], ["truth"], ["inspect"], ["verify"], ["plot"],
    ])
    func wrongUsageEndsWithTwoAndOneLine(arguments: [String]) throws {
        let result = try sonde(arguments)
        #expect(result.code == 2)
        #expect(result.errorLine != nil, "\(result.err)")
        #expect(result.out.isEmpty)
    }

    @Test func failureEndsWithOneAndOneLine() throws {
        let scratch = try Scratch()
        let missing = scratch.file("missing")
        for arguments in [
            ["inspect", missing], ["verify", missing], ["plot", missing, "--out", scratch.file("p.svg")],
            [
                "truth", "--base", missing + ".fbin", "--queries", missing + ".fbin", "--out",
                scratch.file("t.bin"),
            ],
            ["build", "--base", missing + ".fbin", "--index", scratch.file("index")],
        ] {
            let result = try sonde(arguments)
            #expect(result.code == 1, "\(arguments)")
            #expect(result.errorLine?.contains(missing) == true, "\(arguments): \(result.err)")
        }
        #expect(scratch.names.isEmpty)
    }

    @Test func helpAndVersionAreNoErrors() throws {
        for arguments in [["--help"], ["--version"], ["synth", "--help"], ["help", "measure"], []] {
            let result = try sonde(arguments)
            #expect(result.code == 0)
            #expect(!result.out.isEmpty)
            #expect(result.err.isEmpty)
        }
    }

    @Test(arguments: [
        (["serch"], "'search'"), (["biuld", "--base", "x"], "'build'"),
        (["search", "--indx", "i"], "'--index'"),
        (["build", "--base", "b", "--idnex", "i"], "'--index'"),
    ])
    func whatWasMeantIsSaid(arguments: [String], meant: String) throws {
        let result = try sonde(arguments)
        #expect(result.code == 2)
        #expect(result.errorLine?.contains("did you mean \(meant)") == true, "\(result.err)")
    }

    @Test func aNegativeNumberIsAValue() throws {
        let result = try sonde([
            "search", "--index", "i", "--queries", "q.fbin", "--nprobe", "1", "--out", "o", "-k", "-1",
        ])
        #expect(result.code != 0 && !result.err.contains("Missing value"), "\(result.err)")
    }

    @Test func missingParentsOfAnIndexAreMade() throws {
        let scratch = try Scratch()
        try succeed([
            "synth", "--out", scratch.file("a.u8bin"), "--count", "300", "--dim", "8", "--query-count", "9",
            "--queries", scratch.file("q.u8bin"), "-q",
        ])
        let index = scratch.file("new/deep/index")
        try succeed(["build", "--base", scratch.file("a.u8bin"), "--index", index, "-q"])
        // A cache is chosen by as many queries as there are.
        try succeed([
            "search", "--index", index, "--queries", scratch.file("q.u8bin"), "--nprobe", "1", "--out",
            scratch.file("o"), "--cache", "64KiB", "--cache-learn", scratch.file("q.u8bin"),
        ])
        let lost = try sonde([
            "search", "--index", index, "--queries", scratch.file("q.u8bin"), "--nprobe", "1", "--out",
            scratch.file("nowhere/o"),
        ])
        #expect(lost.code == 1 && lost.err.contains("nowhere"), "\(lost.err)")
    }

    @Test func idsInWritingAreToldFromIds() throws {
        let scratch = try Scratch()
        try succeed(["synth", "--out", scratch.file("a.u8bin"), "--count", "4", "--dim", "8", "-q"])
        try Data("one\ntwo\nthree\nfour\n".utf8).write(to: URL(fileURLWithPath: scratch.file("names.txt")))
        let result = try sonde([
            "build", "--base", scratch.file("a.u8bin"), "--index", scratch.file("i"), "--ids",
            scratch.file("names.txt"), "-q",
        ])
        #expect(result.code == 1 && result.err.contains("is text"), "\(result.err)")
    }

    @Test func whatAKilledShardHasLeftIsNoPart() throws {
        let scratch = try Scratch()
        for name in ["part-1", "part-2.part"] {
            try Data("x".utf8).write(to: URL(fileURLWithPath: scratch.file(name)))
        }
        let result = try sonde([
            "batch", "--out", scratch.file("o"), "--merge", scratch.file("part-1"),
            scratch.file("part-2.part"),
        ])
        #expect(result.code == 1 && result.err.contains("did not finish"), "\(result.err)")
    }

    /// An index without thresholds cannot declare a recall: that is said, with what to do.
    @Test func aSearchWithoutPolicyOrThresholdsIsRefused() throws {
        let scratch = try Scratch()
        try succeed([
            "synth", "--out", scratch.file("a.u8bin"), "--count", "300", "--dim", "8", "--query-count", "9",
            "--queries", scratch.file("q.u8bin"), "-q",
        ])
        try succeed([
            "build", "--base", scratch.file("a.u8bin"), "--index", scratch.file("i"), "--heads", "0.1", "-q",
        ])
        let result = try sonde([
            "search", "--index", scratch.file("i"), "--queries", scratch.file("q.u8bin"), "--out",
            scratch.file("o"),
        ])
        #expect(result.code == 1 && result.err.contains("no thresholds"), "\(result.err)")
        #expect(result.err.contains("--nprobe"))
    }
}
