// Neighbours written query by query, in whatever format the name asks for, so that nobody has to hold those
// of all queries: what a search of any size writes through.

/// A file of neighbours being written in the order of the queries; its name appears with `finish`.
public final class NeighbourWriter {
    private enum Target {
        /// Ids and distances each in a stretch of their own.
        case placed(ResultWriter)
        /// Rows one after the other.
        case rows(OutputFile)
    }

    public let path: String
    public let count: Int
    public let k: Int
    private let format: NeighbourFormat
    private let target: Target
    private var written = 0
    private var isFinished = false
    private var bytes: [UInt8] = []

    /// Begins the file at `path` for `count` queries with `k` neighbours each.
    ///
    /// - Throws: kind `unsupported` for a name that is of no format, and for ids up to `greatestId` where the
    ///   format has no room for them.
    public init(path: String, count: Int, k: Int, greatestId: UInt64) throws(StorageError) {
        try NeighbourFormat.requireRoom(forIdsUpTo: greatestId, path: path)
        format = try NeighbourFormat.writing(path: path)
        (self.path, self.count, self.k) = (path, count, k)
        switch format {
        case .bigAnn, .ivecs, .ids64:
            target = .placed(
                try ResultWriter(
                    path: path, count: count, k: k, headerByteCount: format.headerByteCount,
                    idByteCount: format.idByteCount, isIvecs: format == .ivecs))
        case .npy, .csv, .jsonl:
            let file = try OutputFile(path: path, atomically: true)
            try file.append(format.header(count: count, k: k))
            target = .rows(file)
        }
    }

    deinit {
        if !isFinished, case .placed(let writer) = target { writer.discard() }
    }

    /// Appends the neighbours of the next queries.
    public func append(_ neighbours: TruthFile) throws(StorageError) {
        precondition(neighbours.k == k && written + neighbours.count <= count)
        switch target {
        case .placed(let writer):
            let distances = neighbours.distances ?? [Float](repeating: .nan, count: neighbours.count * k)
            try neighbours.ids.withUnsafeBufferPointer { (ids) throws(StorageError) in
                try distances.withUnsafeBufferPointer { (distances) throws(StorageError) in
                    guard let ids = ids.baseAddress, let distances = distances.baseAddress else { return }
                    try writer.append(ids: ids, distances: distances, queries: neighbours.count)
                }
            }
        case .rows(let file):
            for query in 0..<neighbours.count {
                neighbours.encode(query: query, as: format, number: written + query, to: &bytes)
                if bytes.count > 1 << 18 { try flush(to: file) }
            }
            try flush(to: file)
        }
        written += neighbours.count
    }

    private func flush(to file: OutputFile) throws(StorageError) {
        try file.append(bytes)
        bytes.removeAll(keepingCapacity: true)
    }

    /// Brings everything to the device and gives the file its name; all queries must be there.
    public func finish() throws(StorageError) {
        precondition(written == count)
        switch target {
        case .placed(let writer):
            try writer.finish(header: format.header(count: count, k: k))
            try writer.publish()
        case .rows(let file): try file.finish()
        }
        isFinished = true
    }
}
