// Options about the ids of base vectors, shared by build and truth.

import ArgumentParser
import Build
import Index
import Learn
import Storage

struct IdOptions: ParsableArguments {
    @Option(
        help:
            "Ids of the base file's vectors: flat little-endian u64, or .u64bin with a header (n, 1). Answers give them."
    )
    var ids: String?

    @Option(help: "Id of the first vector; each next one has the next (default 0).")
    var firstId: UInt64?

    func validate() throws {
        if ids != nil && firstId != nil {
            throw ValidationError("--ids and --first-id are two ways to say the same: give one")
        }
    }

    /// The ids of the vectors of `file`, which is a range of the file at `path`.
    func ids(of file: VectorFile, path: String) throws -> VectorIds {
        guard let ids else { return .positions(first: firstId ?? 0) }
        let opened = try IdFile.open(path: ids)
        let whole = file.claimedCount
        // Ids of a file that was not fetched whole may be as few as the rows that are there.
        guard opened.count == whole || opened.count == file.firstRow + file.count else {
            throw CommandFailure("\(ids) holds \(opened.count) ids, \(path) holds \(whole) vectors")
        }
        return .file(opened.range(file.firstRow..<file.firstRow + file.count))
    }
}
