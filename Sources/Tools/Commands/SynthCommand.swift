// sonde synth: made-up vectors with recall curves like those of real ones.

import ArgumentParser
import Build
import Index
import Learn
import Storage
import Vectors

struct SynthCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "synth", abstract: "Make clustered, heavy-tailed vectors from a seed.",
        discussion: """
            Row i depends only on the seed, the options and i: a longer file begins with the rows of a shorter \
            one, and the bytes are the same on any number of threads. Queries and learn vectors are other draws \
            from the same distribution. The format follows the file's extension.
            """)

    @Option(help: "File to write: .u8bin, .fbin, .f16bin, .i8bin, .fvecs, .bvecs or .npy.")
    var out: String

    @Option(help: "Vectors to make.")
    var count: Int

    @Option(help: "Numbers a vector.")
    var dim: Int

    @Option(help: "Type of a number.")
    var dtype: ElementName = .u8

    @Option(help: "Seed.")
    var seed: UInt64 = 1

    @Option(help: "Clusters that the vectors are drawn from.")
    var clusters: Int = 512

    @Option(help: "File of queries to write as well.")
    var queries: String?

    @Option(help: "Queries to make (default: 10000).")
    var queryCount: Int?

    @Option(help: "File of learn vectors to write as well.")
    var learn: String?

    @Option(help: "Learn vectors to make (default: 100000).")
    var learnCount: Int?

    @OptionGroup var threads: ThreadOption

    @OptionGroup var quiet: QuietOption

    func validate() throws {
        if queryCount != nil && queries == nil { throw ValidationError("--query-count is of --queries FILE") }
        if learnCount != nil && learn == nil { throw ValidationError("--learn-count is of --learn FILE") }
        for (name, value) in [
            ("count", count), ("query-count", queryCount ?? 1), ("learn-count", learnCount ?? 1),
        ]
        where !(1...(1 << 40)).contains(value) {
            throw ValidationError("--\(name) must be at least 1, found \(value)")
        }
        if !(1...65536).contains(dim) { throw ValidationError("--dim must be from 1 to 65536, found \(dim)") }
        if !(1...(1 << 20)).contains(clusters) {
            throw ValidationError("--clusters must be from 1 to 1048576, found \(clusters)")
        }
        if clusters * dim > 1 << 28 {
            throw ValidationError(
                "--clusters times --dim must be at most \(1 << 28), found \(clusters * dim)")
        }
    }

    func run() throws {
        try requireOutputs(files: [out, learn, queries], inputs: [])
        // Every file is opened before the first row is made: a wrong path shows at once.
        var files = [(draw: Synth.Draw.base, count: count, writer: try writer(out))]
        if let learn { files.append((.learn, learnCount ?? 100_000, try writer(learn))) }
        if let queries { files.append((.query, queryCount ?? 10_000, try writer(queries))) }
        let synth = try Synth(
            SynthParameters(dimension: dim, elementType: dtype.value, seed: seed, clusters: clusters))
        let progress = quiet.progress
        for file in files {
            try synth.write(
                file.draw, count: file.count, into: file.writer, threads: threads.threads, progress: progress)
        }
    }

    private func writer(_ path: String) throws -> VectorFileWriter {
        try VectorFileWriter(path: path, dimension: dim, elementType: dtype.value)
    }
}
