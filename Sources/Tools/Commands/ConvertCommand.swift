// sonde convert: files of vectors and of neighbours from one layout into another.

import ArgumentParser
import Build
import Foundation
import Index
import Learn
import Storage
import Vectors

struct ConvertCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "convert", abstract: "Copy a file of vectors, or of neighbours, into another format.",
        discussion: """
            Vectors: fbin, f16bin, u8bin, i8bin, fvecs, bvecs and npy (float64 is read, too), in memory that does \
            not grow with the file. Neighbours (truth and results): the big-ann layout, ivecs, ids64 and whatever else \
            `sonde search --out` writes; they are taken for such by the names, or by --neighbours. The extensions \
            say what is what.
            """)

    @Argument(help: "File to read.")
    var input: String

    @Option(help: "File to write; its extension is its format.")
    var out: String

    @Option(help: "Format of the vectors that are read, where the name does not tell it.")
    var format: VectorFileFormat?

    @Option(help: "Format of the vectors that are written, where the name does not tell it.")
    var outFormat: VectorFileFormat?

    @Option(help: "Type of the numbers that are written (default: what the format holds, or the input's).")
    var dtype: ElementName?

    @Flag(
        help:
            "Round numbers that the type does not hold to the nearest that it holds (at most its largest); else the first one is refused."
    )
    var lossy = false

    @Flag(help: "Both files hold neighbours, whatever their names.")
    var neighbours = false

    @Option(
        help: "Only the first N vectors, which may be all that is there of a file that was not fetched whole."
    )
    var first: Int?

    @Option(help: "Leave out the first N vectors.")
    var skip: Int = 0

    @Flag(name: .shortAndLong, help: "No progress on stderr.")
    var quiet = false

    private static let neighbourExtensions: Set<String> = ["ivecs", "ids64", "ibin", "csv", "jsonl"]

    private var isOfNeighbours: Bool {
        neighbours
            || [input, out].contains {
                Self.neighbourExtensions.contains(URL(fileURLWithPath: $0).pathExtension.lowercased())
            }
    }

    func validate() throws {
        if let first, first < 0 { throw ValidationError("--first must be 0 or more, found \(first)") }
        if skip < 0 { throw ValidationError("--skip must be 0 or more, found \(skip)") }
        if isOfNeighbours
            && (format != nil || outFormat != nil || dtype != nil || lossy || first != nil || skip != 0)
        {
            throw ValidationError(
                "--format, --out-format, --dtype, --lossy, --first and --skip are of vectors")
        }
    }

    func run() throws {
        try requireOutputs(files: [out], inputs: [input])
        guard !isOfNeighbours else {
            let truth = try TruthFile.read(path: input)
            try truth.write(path: out)
            print("\(truth.count) queries with \(truth.k) neighbours each")
            return
        }
        guard let target = outFormat ?? VectorFileFormat(path: out) else {
            throw CommandFailure(
                "\(out): its name tells no format of vectors: give --out-format F or another name")
        }
        let stored = try VectorFile.open(path: input, format: format, first: first, skip: skip, as: .f32)
        let type = dtype?.value ?? target.elementType ?? stored.storedNumbers.elementType ?? .f32
        let file = stored.converted(to: type, rounds: lossy)
        let writer = try VectorFileWriter(
            path: out, format: target, dimension: file.dimension, elementType: type)
        let chunk = VectorMatrix(
            count: max(1, min(file.count, (4 << 20) / file.rowByteCount)), dimension: file.dimension,
            elementType: type)
        let progress = quiet ? JobProgress.none : ProgressDisplay().progress
        var row = 0
        while row < file.count {
            let count = min(chunk.count, file.count - row)
            // What cannot be searched can be copied.
            try file.read(rows: row..<row + count, into: chunk, checkFinite: false)
            try writer.append(chunk, rows: 0..<count)
            row += count
            progress(stage: "convert", done: row, total: file.count)
        }
        try writer.finish()
        let from = stored.storedNumbers.name
        print(
            "\(file.count) vectors of \(file.dimension) \(type.name)"
                + (from == type.name ? "" : ", from \(from)\(lossy ? ", rounded where needed" : ", exactly")")
        )
    }
}
