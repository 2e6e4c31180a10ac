// Neighbours of queries: the truth that recall is measured against, and the answers of a search. In memory
// a table of ids and distances; on disk the layout of big-ann-benchmarks, or ivecs.

import Glibc

/// The k neighbours of each of `count` queries, the nearest first.
public struct TruthFile: Sendable, Equatable {
    /// Marks a place that nothing filled.
    public static let noId = UInt32.max

    /// Queries.
    public let count: Int
    public let k: Int
    /// `count * k` ids, row by row.
    public var ids: [UInt32]
    /// As many distances; nil where the file holds ids only.
    public var distances: [Float]?

    /// Places that nothing has filled yet, at infinite distance.
    public init(count: Int, k: Int) {
        self.init(
            count: count, k: k, ids: [UInt32](repeating: Self.noId, count: count * k),
            distances: [Float](repeating: .infinity, count: count * k))
    }

    public init(count: Int, k: Int, ids: [UInt32], distances: [Float]?) {
        precondition(count >= 0 && k >= 0 && ids.count == count * k)
        precondition(distances.map { $0.count == count * k } ?? true)
        self.count = count
        self.k = k
        self.ids = ids
        self.distances = distances
    }

    public func id(query: Int, rank: Int) -> UInt32 { ids[query * k + rank] }

    /// The distance, or NaN where the file holds none.
    public func distance(query: Int, rank: Int) -> Float { distances?[query * k + rank] ?? .nan }

    /// Fills a place. The distance is dropped where there are only ids.
    public mutating func set(query: Int, rank: Int, id: UInt32, distance: Float) {
        ids[query * k + rank] = id
        distances?[query * k + rank] = distance
    }

    /// Reads a file: ivecs by its extension, else uint32 n, uint32 k, n*k uint32 ids and, where the size
    /// says that they are there, n*k float distances.
    public static func read(path: String) throws(StorageError) -> TruthFile {
        let file = try InputFile(path: path)
        return try isIvecs(path) ? readIvecs(file) : readBigAnn(file)
    }

    /// Writes the file in the layout that the extension names (ivecs holds no distances); the name appears
    /// when everything is written.
    public func write(path: String) throws(StorageError) {
        guard count <= Int(UInt32.max), k <= Int(Int32.max) else {
            throw StorageError(
                .unsupported, path: path, detail: "truth files count queries and neighbours in 32 bits")
        }
        let file = try OutputFile(path: path, atomically: true)
        if Self.isIvecs(path) {
            for query in 0..<count {
                try Self.append([UInt32(k)], to: file)
                try Self.append(ids[query * k..<(query + 1) * k], to: file)
            }
        } else {
            try Self.append([UInt32(count), UInt32(k)], to: file)
            try Self.append(ids, to: file)
            if let distances {
                // By blocks: a copy of all the bit patterns would double the memory of a large result.
                var start = 0
                while start < distances.count {
                    let end = min(distances.count, start + 4096)
                    try Self.append(distances[start..<end].map(\.bitPattern), to: file)
                    start = end
                }
            }
        }
        try file.finish()
    }

    /// Whether the name asks for ivecs: ids only.
    public static func isIvecs(_ path: String) -> Bool { path.lowercased().hasSuffix(".ivecs") }

    private static func append(_ values: some Sequence<UInt32>, to file: OutputFile) throws(StorageError) {
        for value in values {
            var value = value.littleEndian
            try file.append(&value, count: 4)
        }
    }

    private static func readBigAnn(_ file: InputFile) throws(StorageError) -> TruthFile {
        let start = try VectorFileHeader.head(file, count: 8)
        let (count, k) = (UInt64(start.raw.u32(0)), UInt64(start.raw.u32(4)))
        let (places, data) = (count * k, file.byteCount - 8)
        let holdsDistances = data / 8 == places && data % 8 == 0
        guard holdsDistances || (data / 4 == places && data % 4 == 0) else {
            throw StorageError(
                data / 4 < places ? .truncated : .badHeader, path: file.path,
                detail: "its header claims \(k) neighbours of \(count) queries, which its size contradicts",
                offset: 0,
                expected: places > 1 << 60
                    ? "far more" : "\(8 + places * 8) bytes with distances or \(8 + places * 4) without",
                found: "\(file.byteCount)")
        }
        let body = Scratch(Int(data))
        try file.read(at: 8, into: body.bytes, count: Int(data))
        let total = Int(places)
        let ids = (0..<total).map { body.raw.u32($0 * 4) }
        let distances =
            holdsDistances && total > 0
            ? (0..<total).map { Float(bitPattern: body.raw.u32((total + $0) * 4)) }
            : holdsDistances ? [] : nil
        return TruthFile(count: Int(count), k: Int(k), ids: ids, distances: distances)
    }

    private static func readIvecs(_ file: InputFile) throws(StorageError) -> TruthFile {
        let start = try VectorFileHeader.head(file, count: 4)
        let k = Int(Int32(bitPattern: start.raw.u32(0)))
        guard k > 0 else {
            throw StorageError(
                .badHeader, path: file.path, detail: "claims no neighbours", offset: 0, expected: "1 or more",
                found: "\(k)")
        }
        let row = UInt64(4 + k * 4)
        guard file.byteCount % row == 0 else {
            throw .truncated(
                path: file.path, offset: file.byteCount / row * row, expected: row,
                found: file.byteCount % row)
        }
        let all = try file.readAll()
        let count = Int(file.byteCount / row)
        var ids: [UInt32] = []
        ids.reserveCapacity(count * k)
        for query in 0..<count {
            let at = query * Int(row)
            guard all.raw.u32(at) == UInt32(k) else {
                throw StorageError(
                    .badHeader, path: file.path, detail: "query \(query) has another number of neighbours",
                    offset: UInt64(at), expected: "\(k)", found: "\(Int32(bitPattern: all.raw.u32(at)))")
            }
            for rank in 1...k { ids.append(all.raw.u32(at + rank * 4)) }
        }
        return TruthFile(count: count, k: k, ids: ids, distances: nil)
    }
}
