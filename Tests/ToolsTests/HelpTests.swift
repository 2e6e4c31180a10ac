// What help shows: few options for everyone, under titles; all of them where they are asked for; and pages that say what
// the parser says.

import Foundation
import Testing

@Suite struct HelpTests {
    /// Options that a help text lists.
    private func options(_ help: String) -> [String] {
        help.split(separator: "\n").compactMap { line in
            line.firstMatch(of: /^  (?:-\w, )?(--?[a-z][\w-]*)/).map { String($0.1) }
        }
    }

    @Test func aBuildShowsThirtyOptionsAtMost() throws {
        let help = try succeed(["build", "--help"])
        let shown = options(help)
        #expect(shown.count <= 30, "\(shown)")
        for title in ["THE INDEX:", "CODES:", "ROUTER:", "COPIES:", "SHARDS:", "WORK:"] {
            #expect(help.contains("\n\(title)\n"), "\(title)")
        }
        let all = options(try succeed(["build", "--help-hidden"]))
        for name in ["--method", "--hidden", "--tower", "--eta", "--eps1", "--heads", "--sub-segments"] {
            #expect(all.contains(name) && !shown.contains(name), "\(name)")
        }
    }

    @Test(arguments: ["train", "search", "batch", "measure", "plan", "merge"])
    func optionsStandUnderTitles(command: String) throws {
        let help = try succeed([command, "--help"])
        #expect(help.contains("\nWORK:\n"))
        let rest = options(help.components(separatedBy: "\nOPTIONS:\n").last ?? "")
        #expect(rest == ["--version", "--help"])
    }

    @Test func thePagesSayWhatTheParserSays() throws {
        let root = LayeringTests.sources.deletingLastPathComponent()
        let result = try run(
            root.appendingPathComponent("scripts/reference").path,
            [productDirectory.appendingPathComponent("sonde").path, "--check"])
        #expect(result.code == 0, "\(result.err)")
    }

    @Test func anInstallationHoldsAllAndGoesWithoutATrace() throws {
        let scratch = try Scratch()
        let script = LayeringTests.sources.deletingLastPathComponent()
            .appendingPathComponent("scripts/install").path
        let binary = productDirectory.appendingPathComponent("sonde").path
        let put = try run(script, [scratch.path, binary])
        #expect(put.code == 0, "\(put.err)")
        for name in [
            "bin/sonde", "share/man/man1/sonde.1", "share/man/man1/sonde-build.1",
            "share/bash-completion/completions/sonde", "share/zsh/site-functions/_sonde",
            "share/fish/vendor_completions.d/sonde.fish", "share/doc/sonde/README.md",
        ] {
            #expect(try !scratch.bytes(name).isEmpty, "\(name)")
        }
        #expect(try run(script, ["--remove", scratch.path]).code == 0)
        let left = FileManager.default.enumerator(atPath: scratch.path)?.compactMap { $0 as? String } ?? []
        for name in left {
            var isDirectory: ObjCBool = false
            #expect(FileManager.default.fileExists(atPath: scratch.file(name), isDirectory: &isDirectory))
            #expect(isDirectory.boolValue, "\(name) is left")
        }
    }

    /// What decides nothing is refused by name, before any file is looked at.
    @Test(arguments: [
        ["build", "--router", "distance", "--hidden", "8"],
        ["build", "--router", "lira", "--prototypes", "3"],
        ["build", "--router", "subcentroids", "--epochs", "3"], ["build", "--eps1", "1"],
        ["build", "--duplicate", "closure", "--replication-max", "2"],
        ["build", "--duplicate", "soar", "--eta", "auto"], ["build", "--duplicate", "gain", "--lambda", "1"],
        ["build", "--duplicate", "lira", "--rounds", "2"], ["build", "--plan-recall", "0.8"],
        ["build", "--pairs", "100"],
        ["build", "--heads", "0.1", "--iterations", "3"], ["build", "--method", "lira", "--router", "lira"],
        ["build", "--method", "kmeans", "--codes", "8"], ["train", "--tower", "8"],
        ["train", "--router", "lira", "--refine"], ["train", "--router", "distance", "--targets", "5"],
        ["search", "--nprobe", "3", "--cost", "bytes"], ["batch", "--eps2", "3", "--cost", "bytes"],
        ["batch", "--merge", "a", "-k", "3"], ["measure", "--nprobe", "3"], ["measure", "--cost", "bytes"],
        ["measure", "--method", "spann", "--sweep", "eps2"],
    ])
    func whatDecidesNothingIsRefusedByName(arguments: [String]) throws {
        let needed: [String: [String]] = [
            "build": ["--base", "b.fbin", "--index", "i"], "train": ["--index", "i", "--out", "o"],
            "search": ["--index", "i", "--queries", "q.fbin", "--out", "o"],
            "batch": ["--index", "i", "--queries", "q.fbin", "--out", "o"],
            "measure": ["--index", "i", "--queries", "q.fbin", "--truth", "t"],
        ]
        let result = try sonde(arguments + (needed[arguments[0]] ?? []))
        #expect(result.code == 2 && result.errorLine?.contains("decide nothing") == true, "\(result.err)")
    }

    @Test(arguments: [
        ["search", "--memory", "1GiB"], ["measure", "--memory", "1GiB"], ["synth", "--memory", "1GiB"],
        ["verify", "--threads", "2"], ["verify", "--memory", "1GiB"], ["merge", "--threads", "2"],
    ])
    func optionsThatDidNothingAreGone(arguments: [String]) throws {
        let result = try sonde(arguments)
        #expect(result.code == 2 && result.errorLine?.contains("there is no option") == true, "\(result.err)")
    }

    @Test func oldNamesAreTaken() throws {
        let scratch = try Scratch()
        for arguments in [
            [
                "build", "--base", "b.fbin", "--index", scratch.file("i"), "--duplicate", "gain", "--recall",
                "0.8", "-k", "5",
            ],
            ["build", "--base", "b.fbin", "--index", scratch.file("i"), "--duplicate", "gain", "--rounds=2"],
            [
                "train", "--index", "none", "--out", scratch.file("o"), "--duplicate", "lira", "--plan-depth",
                "5",
            ],
        ] {
            let result = try sonde(arguments)
            // Understood: what is missing is the file.
            #expect(result.code == 1, "\(result.err)")
        }
    }
}
