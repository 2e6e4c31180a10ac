// Files as others name and leave them: other formats, other types, half a download.

import Foundation
import Testing

/// Writes rows of bytes or floats under big-ann's header.
private func write(
    _ scratch: Scratch, _ name: String, _ rows: [[Float]], bytes: Bool = false, claimed: Int? = nil
) throws {
    var data = Data()
    for number in [UInt32(claimed ?? rows.count), UInt32(rows[0].count)] {
        withUnsafeBytes(of: number.littleEndian) { data.append(contentsOf: $0) }
    }
    for number in rows.joined() {
        if bytes {
            data.append(UInt8(number))
        } else {
            withUnsafeBytes(of: number.bitPattern.littleEndian) { data.append(contentsOf: $0) }
        }
    }
    try data.write(to: URL(fileURLWithPath: scratch.file(name)))
}

private func rows(_ count: Int, _ dimension: Int = 8) -> [[Float]] {
    (0..<count).map { row in (0..<dimension).map { Float((row * 31 + $0 * 17) % 251) } }
}

@Suite struct ConvertTests {
    @Test func vectorsGoThroughEveryFormatAndComeBack() throws {
        let scratch = try Scratch()
        try write(scratch, "a.fbin", rows(50))
        var last = "a.fbin"
        for next in ["b.npy", "c.u8bin", "d.bvecs", "e.f16bin", "f.fvecs", "g.fbin"] {
            try succeed(["convert", scratch.file(last), "--out", scratch.file(next), "-q"])
            last = next
        }
        #expect(try scratch.bytes("g.fbin") == scratch.bytes("a.fbin"))
    }

    @Test func doublesAreReadAndRoundedOnlyWhereAsked() throws {
        let scratch = try Scratch()
        let head = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2), }"
        var data = Data([0x93] + Array("NUMPY".utf8) + [1, 0, 118, 0] + Array(head.utf8))
        data.append(Data(repeating: 0x20, count: 128 - data.count))
        for number in [1.0, 2, 3, 0.1] {
            withUnsafeBytes(of: number.bitPattern.littleEndian) { data.append(contentsOf: $0) }
        }
        try data.write(to: URL(fileURLWithPath: scratch.file("a.npy")))
        let command = ["convert", scratch.file("a.npy"), "--out", scratch.file("b.fbin"), "-q"]
        let refused = try sonde(command)
        #expect(
            refused.code == 1 && refused.err.contains("row 1, column 1") && refused.err.contains("--lossy"))
        #expect(!FileManager.default.fileExists(atPath: scratch.file("b.fbin")))
        try succeed(command + ["--lossy"])
        try write(scratch, "c.fbin", [[1, 2], [3, 0.1]])
        #expect(try scratch.bytes("b.fbin") == scratch.bytes("c.fbin"))
    }

    @Test func queriesOfAnotherTypeAreTakenWhereTheyAreExact() throws {
        let scratch = try Scratch()
        try write(scratch, "a.u8bin", rows(60), bytes: true)
        try write(scratch, "q.fbin", Array(rows(60)[..<5]))
        try write(scratch, "r.fbin", [[0.5, 0, 0, 0, 0, 0, 0, 0]])
        try succeed(["build", "--base", scratch.file("a.u8bin"), "--index", scratch.file("i"), "-q"])
        let search = [
            "search", "--index", scratch.file("i"), "--nprobe", "8", "-k", "3", "--out", scratch.file("o"),
        ]
        try succeed(search + ["--queries", scratch.file("q.fbin")])
        try succeed([
            "batch", "--index", scratch.file("i"), "--nprobe", "8", "-k", "3", "--out", scratch.file("p"),
            "-q",
            "--queries", scratch.file("q.fbin"),
        ])
        #expect(try scratch.bytes("o") == scratch.bytes("p"))
        let refused = try sonde(search + ["--queries", scratch.file("r.fbin")])
        #expect(refused.code == 1 && refused.err.contains("0.5") && refused.err.contains("sonde convert"))
    }

    @Test func theFirstRowsOfABrokenDownloadAreEnough() throws {
        let scratch = try Scratch()
        try write(scratch, "a.fbin", rows(40), claimed: 1000)
        let build = ["build", "--base", scratch.file("a.fbin"), "--index", scratch.file("i"), "-q"]
        let refused = try sonde(build)
        #expect(refused.code == 1 && refused.err.contains("the first 40 are there"))
        #expect(try sonde(build + ["--first", "41"]).code == 1)
        try succeed(build + ["--first", "40"])
        #expect(try succeed(["inspect", scratch.file("i")]).contains("40 x 8 f32"))
        try succeed([
            "truth", "--base", scratch.file("a.fbin"), "--first", "40", "--queries", scratch.file("a.fbin"),
            "--first-queries", "3", "-k", "2", "--out", scratch.file("t"), "-q",
        ])
    }

    @Test func formatNamesWhatANameDoesNotTell() throws {
        let scratch = try Scratch()
        try write(scratch, "a.bin", rows(40), bytes: true)
        let build = ["build", "--base", scratch.file("a.bin"), "--index", scratch.file("i"), "-q"]
        let refused = try sonde(build)
        #expect(refused.code == 1 && refused.err.contains("--format"))
        try succeed(build + ["--format", "u8bin"])
        try succeed([
            "search", "--index", scratch.file("i"), "--queries", scratch.file("a.bin"), "--format", "u8bin",
            "--nprobe", "1", "-k", "1", "--out", scratch.file("o"),
        ])
    }

    @Test(arguments: ["cosine", "l2"])
    func invalidVectorsAreLeftOutAndNeverReturned(metric: String) throws {
        let scratch = try Scratch()
        var base = rows(60).map { $0.map { $0 + 1 } }
        base[7] = [Float](repeating: metric == "cosine" ? 0 : .nan, count: 8)
        base[30][2] = .infinity
        try write(scratch, "a.fbin", base)
        let build = [
            "build", "--base", scratch.file("a.fbin"), "--index", scratch.file("i"), "--metric", metric, "-q",
        ]
        #expect(try sonde(build).code == 1)
        #expect(try succeed(build + ["--skip-invalid"]).contains("2 invalid vectors left out"))
        #expect(try succeed(["inspect", scratch.file("i")]).contains("skipped-invalid=2"))
        try succeed(["verify", scratch.file("i"), "-q"])
        // Queries that are the last vectors find them under their positions.
        try write(scratch, "q.fbin", [base[59], base[8]])
        let search = [
            "--index", scratch.file("i"), "--nprobe", "100", "--queries", scratch.file("q.fbin"), "--out",
            scratch.file("o"),
        ]
        try succeed(["search", "-k", "58"] + search)
        let ids = try scratch.bytes("o").dropFirst(8).prefix(2 * 58 * 4)
        let numbers = stride(from: ids.startIndex, to: ids.endIndex, by: 4).map { place in
            (0..<4).reduce(0) { $0 | Int(ids[place + $1]) << (8 * $1) }
        }
        #expect(numbers[0] == 59 && numbers[58] == 8)
        #expect(Set(numbers[..<58]) == Set(0..<60).subtracting([7, 30]))
    }

    @Test func aBadQueryIsAnsweredEmptyWhereAsked() throws {
        let scratch = try Scratch()
        let base = rows(60).map { $0.map { $0 + 1 } }
        try write(scratch, "a.fbin", base)
        try write(
            scratch, "q.fbin",
            [base[3], [Float](repeating: 0, count: 8), [.nan] + base[4].dropFirst(), base[5]])
        try succeed([
            "build", "--base", scratch.file("a.fbin"), "--index", scratch.file("i"), "--metric", "cosine",
            "-q",
        ])
        let rest = [
            "--index", scratch.file("i"), "--queries", scratch.file("q.fbin"), "--nprobe", "4", "-k", "2",
            "-q",
        ]
        #expect(try sonde(["search", "--out", scratch.file("o")] + rest).code == 1)
        for command in ["search", "batch"] {
            let text = try succeed(
                [command, "--out", scratch.file(command), "--on-bad-query", "empty"] + rest)
            #expect(text.contains("2 bad queries answered empty"))
        }
        let bytes = try scratch.bytes("search")
        #expect(try bytes == scratch.bytes("batch"))
        #expect(bytes[16..<32].allSatisfy { $0 == 0xff } && bytes[8] == 3 && bytes[32] == 5)
    }
}
