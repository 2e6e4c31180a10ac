// `sonde build` without settings: what it makes, and that a search then answers for a recall.

import Foundation
import Testing

@Suite struct DefaultBuildTests {
    @Test func aBuildWithoutSettingsCanBeAskedForARecall() throws {
        let scratch = try Scratch()
        let (base, queries) = (scratch.file("base.u8bin"), scratch.file("q.u8bin"))
        func run(_ arguments: [String]) throws -> String {
            let result = try sonde(arguments + ["-q"])
            #expect(result.code == 0, "\(arguments): \(result.err)")
            return result.out
        }
        _ = try run([
            "synth", "--out", base, "--count", "1100", "--dim", "16", "--queries", queries, "--query-count",
            "40",
        ])
        let plain = try run(["build", "--base", base, "--index", scratch.file("plain")])
        #expect(plain.contains("132 partitions, centroids: at most") && plain.contains("of 1048576"))
        let coded = try run([
            "build", "--base", base, "--index", scratch.file("coded"), "--codes", "4", "--synthetic", "600",
            "--partitions", "20",
        ])
        #expect(coded.contains("20 partitions, a code of 4 B for every record"))
        for index in ["plain", "coded"] {
            _ = try run([
                "search", "--index", scratch.file(index), "--queries", queries, "-k", "10", "--recall",
                "0.95",
                "--out", scratch.file(index + ".out"),
            ])
            let inspected = try sonde(["inspect", scratch.file(index)])
            #expect(inspected.out.contains("of 1048576 promised"), "\(inspected.err)")
        }
    }

    @Test func codesGoWithNoOtherRouter() throws {
        for other in [
            ["--router", "distance"], ["--prototypes", "4"], ["--heads", "0.1"], ["--duplicate", "closure"],
        ] {
            let result = try sonde(["build", "--base", "b", "--index", "i", "--codes", "8"] + other)
            #expect(result.code == 2, "\(other)")
        }
        for size in ["0%", "101%", "x%"] {
            #expect(try sonde(["build", "--base", "b", "--index", "i", "--resident", size]).code == 2)
        }
        #expect(try sonde(["build", "--base", "b", "--index", "i", "--codes", "0"]).code == 2)
    }

    @Test func aShareOfTheBaseIsABudget() throws {
        let scratch = try Scratch()
        let base = scratch.file("base.u8bin")
        #expect(try sonde(["synth", "--out", base, "--count", "600", "--dim", "32", "-q"]).code == 0)
        let result = try sonde([
            "build", "--base", base, "--index", scratch.file("index"), "--resident", "90%", "--codes", "none",
            "-q",
        ])
        #expect(
            result.code == 0 && result.out.contains("resident bytes of 17280"), "\(result.out)\(result.err)")
    }
}
