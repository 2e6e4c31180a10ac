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
}
