// Outputs by command line: devices, FIFOs and symlinks, outputs that are inputs, two writers of one file.

import Foundation
import Testing

@Suite struct OutputCommandTests {
    private let scratch: Scratch

    init() throws { scratch = try smallIndex() }

    private func file(_ name: String) -> String { scratch.file(name) }

    /// Every command that writes files: its name, the option, an extension, the other arguments.
    private var writers: [(name: String, option: String, ending: String, arguments: [String])] {
        let asked = ["--index", file("index"), "--queries", file("query.u8bin")]
        let search = ["search"] + asked + ["--nprobe", "3", "-q"]
        let measure =
            ["measure"] + asked + ["--truth", file("truth.bin"), "--values", "1,3", "-k", "1,10", "-q"]
        let truth = [
            "truth", "--base", file("base.u8bin"), "--queries", file("query.u8bin"), "-k", "10", "-q",
        ]
        return [
            ("search", "--out", "bin", search), ("search", "--out", "csv", search),
            ("counters", "--counters", "csv", search), ("csv", "--csv", "csv", measure),
            ("plot of a measurement", "--plot", "svg", measure),
            ("batch", "--out", "ivecs", ["batch"] + asked + ["--nprobe", "3", "-q"]),
            ("truth", "--out", "npy", truth),
            ("synth", "--out", "fbin", ["synth", "--count", "300", "--dim", "8", "--dtype", "f32", "-q"]),
            ("convert", "--out", "npy", ["convert", file("query.u8bin"), "-q"]),
            ("plot", "--out", "svg", ["plot", file("m.json")]),
        ]
    }

    @Test func whatIsNoRegularFileIsWrittenInPlace() throws {
        for (name, option, ending, arguments) in writers {
            let (plain, null, fifo) = (
                file("plain.\(ending)"), file("null.\(ending)"), file("fifo.\(ending)")
            )
            let (link, target, got) = (file("link.\(ending)"), file("target.\(ending)"), file("got"))
            defer { for path in [plain, null, fifo, link, target, got] { unlink(path) } }
            try succeed(arguments + [option, plain])
            // Seconds differ from run to run; what depends on them is not compared.
            let isSame = !["counters", "csv", "plot of a measurement"].contains(name)
            let expected = try Data(contentsOf: URL(fileURLWithPath: plain))
            func expect(_ path: String, _ what: String) throws {
                let found = try Data(contentsOf: URL(fileURLWithPath: path))
                #expect(isSame ? found == expected : !found.isEmpty, "\(name), \(what)")
            }
            symlink("/dev/null", null)
            try succeed(arguments + [option, null])
            var status = stat()
            #expect(stat("/dev/null", &status) == 0 && status.st_mode & S_IFMT == S_IFCHR, "\(name)")
            mkfifo(fifo, 0o600)
            let command = productDirectory.appendingPathComponent("sonde").path
            let script = #"cat "$0" > "$1" & shift; "$@" && wait"#
            let read = try run(
                "/bin/bash", ["-c", script, fifo, got, command] + arguments + [option, fifo])
            #expect(read.code == 0, "\(name): \(read.err)")
            try expect(got, "FIFO")
            #expect(lstat(fifo, &status) == 0 && status.st_mode & S_IFMT == S_IFIFO, "\(name)")
            try Data("old".utf8).write(to: URL(fileURLWithPath: target))
            symlink("target.\(ending)", link)
            try succeed(arguments + [option, link])
            #expect(lstat(link, &status) == 0 && status.st_mode & S_IFMT == S_IFLNK, "\(name)")
            try expect(target, "symlink")
        }
    }

    @Test func noOutputDestroysAnInput() throws {
        let asked = ["--index", file("index"), "--queries", file("query.u8bin")]
        let before = try ["base.u8bin", "query.u8bin", "truth.bin", "m.json", "index/segments.bin"].map {
            ($0, try scratch.bytes($0))
        }
        link(file("truth.bin"), file("second.bin"))
        symlink("base.u8bin", file("link.u8bin"))
        let search = ["search"] + asked + ["--nprobe", "3", "--truth", file("truth.bin")]
        let cases: [[String]] = [
            search + ["--out", file("truth.bin")], search + ["--out", file("second.bin")],
            search + ["--counters", file("query.u8bin")],
            search + ["--out", file("index/segments.bin")], search + ["--out", file("index/new")],
            search + ["--out", file("o"), "--counters", file("o")],
            ["measure"] + asked + [
                "--truth", file("truth.bin"), "--csv", file("truth.bin"),
            ],
            ["batch"] + asked + ["--nprobe", "3", "--out", file("query.u8bin")],
            [
                "truth", "--base", file("base.u8bin"), "--queries", file("query.u8bin"), "--out",
                file("link.u8bin"),
            ],
            ["plot", file("m.json"), "--out", file("m.json")],
            ["plot", "name=" + file("m.json"), "--out", file("m.json")],
            ["convert", file("base.u8bin"), "--out", file("link.u8bin")],
            ["train", "--index", file("index"), "--out", file("index")],
            ["train", "--index", file("index"), "--out", file("new"), "--checkpoint", file("index")],
            ["train", "--index", file("index"), "--out", file("new"), "--checkpoint", file("index/state")],
            ["train", "--index", file("index"), "--out", file("new"), "--checkpoint", file("new")],
        ]
        for arguments in cases {
            let result = try sonde(arguments)
            #expect(result.code != 0 && result.errorLine != nil, "\(arguments): \(result.err)")
            for (name, bytes) in before { #expect(try scratch.bytes(name) == bytes, "\(arguments)") }
        }
        #expect(!scratch.names.contains { $0.hasSuffix(".part") || $0.hasSuffix(".building") })
    }

    @Test func aSecondWriterIsRefused() throws {
        let part = file("v.u8bin.part")
        let descriptor = open(part, O_RDWR | O_CREAT, 0o600)
        #expect(flock(descriptor, LOCK_EX) == 0)
        let arguments = ["synth", "--out", file("v.u8bin"), "--count", "100", "--dim", "4", "-q"]
        let refused = try sonde(arguments)
        #expect(refused.code == 1 && refused.errorLine?.contains("another process") == true, "\(refused.err)")
        #expect(scratch.names.contains("v.u8bin.part") && !scratch.names.contains("v.u8bin"))
        close(descriptor)
        try succeed(arguments)
    }

    @Test func whatCannotBePrintedIsAFailure() throws {
        let command = productDirectory.appendingPathComponent("sonde").path
        for end in [">/dev/full", ">&-"] {
            for arguments in [["inspect", file("index")], ["--help"], ["--version"]] {
                let script = "\"$0\" \"$@\" " + end
                let result = try run("/bin/bash", ["-c", script, command] + arguments)
                #expect(result.code == 1 && result.errorLine?.contains("standard output") == true, "\(end)")
            }
        }
    }

    @Test func theKindOfDeviceStandsInEveryOutput() throws {
        let asked = ["--index", file("index"), "--queries", file("query.u8bin"), "-q"]
        let probing = asked + ["--nprobe", "3"]
        let measure = ["measure"] + asked + ["--values", "3", "--truth", file("truth.bin"), "-k", "1,10"]
        let command = productDirectory.appendingPathComponent("sonde").path
        for arguments in [
            ["inspect", file("index")], ["verify", file("index"), "-q"], measure,
            ["search"] + probing + ["--truth", file("truth.bin")],
            ["batch"] + probing + ["--out", file("b.bin")],
        ] {
            let result = try run("/usr/bin/env", ["SONDE_RING=off", command] + arguments)
            #expect(
                result.code == 0 && result.out.contains("direct by threads"), "\(arguments): \(result.out)")
        }
        let written = try run(
            "/usr/bin/env",
            ["SONDE_RING=off", command] + measure + ["--csv", file("d.csv"), "--json", file("d.json")])
        #expect(written.code == 0, "\(written.err)")
        for name in ["d.csv", "d.json"] {
            #expect(String(decoding: try scratch.bytes(name), as: UTF8.self).contains("direct by threads"))
        }
    }
}

/// A base, queries, their truth, an index and a measurement.
func smallIndex() throws -> Scratch {
    let scratch = try Scratch(in: productDirectory)
    func file(_ name: String) -> String { scratch.file(name) }
    try succeed([
        "synth", "--out", file("base.u8bin"), "--count", "2000", "--dim", "16", "--clusters", "20",
        "--queries",
        file("query.u8bin"), "--query-count", "40", "--learn", file("learn.u8bin"), "--learn-count", "400",
        "-q",
    ])
    try succeed(["build", "--base", file("base.u8bin"), "--index", file("index"), "--partitions", "20", "-q"])
    try succeed([
        "truth", "--base", file("base.u8bin"), "--queries", file("query.u8bin"), "-k", "10", "--out",
        file("truth.bin"), "-q",
    ])
    try succeed([
        "measure", "--index", file("index"), "--queries", file("query.u8bin"), "--truth", file("truth.bin"),
        "--values", "1,3", "-k", "1,10", "-q", "--json", file("m.json"),
    ])
    return scratch
}
