// Neighbours of queries: the truth that recall is measured against, and the answers of a search. In memory
// a table of ids and distances; on disk the layout that the extension names (NeighbourFormat).

import Glibc

/// The k neighbours of each of `count` queries, the nearest first.
public struct TruthFile: Sendable, Equatable {
    /// Marks a place that nothing filled.
    public static let noId = UInt64.max

    /// Queries.
    public let count: Int
    public let k: Int
    /// `count * k` ids, row by row.
    public var ids: [UInt64]
    /// As many distances; nil where the file holds ids only.
    public var distances: [Float]?

    /// Places that nothing has filled yet, at infinite distance.
    public init(count: Int, k: Int) {
        self.init(
            count: count, k: k, ids: [UInt64](repeating: Self.noId, count: count * k),
            distances: [Float](repeating: .infinity, count: count * k))
    }

    public init(count: Int, k: Int, ids: [UInt64], distances: [Float]?) {
        precondition(count >= 0 && k >= 0 && ids.count == count * k)
        precondition(distances.map { $0.count == count * k } ?? true)
        self.count = count
        self.k = k
        self.ids = ids
        self.distances = distances
    }

    public func id(query: Int, rank: Int) -> UInt64 { ids[query * k + rank] }

    /// The distance, or NaN where the file holds none.
    public func distance(query: Int, rank: Int) -> Float { distances?[query * k + rank] ?? .nan }

    /// Fills a place. The distance is dropped where there are only ids.
    public mutating func set(query: Int, rank: Int, id: UInt64, distance: Float) {
        ids[query * k + rank] = id
        distances?[query * k + rank] = distance
    }

    /// Reads a file in the layout that its first bytes or its name tell; whether distances are there is told
    /// by its size. Ids of 64 bits under big-ann's header are recognised.
    public static func read(path: String) throws(StorageError) -> TruthFile {
        let file = try InputFile(path: path)
        switch try NeighbourFormat.reading(file) {
        case .ivecs: return try readIvecs(file)
        case .ids64: return try readWide(file)
        case .npy: return try readNumpy(file)
        case .bigAnn, .csv, .jsonl:
            let start = try VectorFileHeader.head(file, count: 8)
            return try readTable(
                file, format: .bigAnn, count: UInt64(start.raw.u32(0)), k: UInt64(start.raw.u32(4)))
        }
    }

    /// Writes the file in the layout that the extension names (ivecs and npy hold no distances); the name
    /// appears when everything is written.
    ///
    /// - Throws: kind `unsupported` for a name that is of no format, and for ids that the layout has no room
    ///   for.
    public func write(path: String) throws(StorageError) {
        guard count <= Int(UInt32.max), k <= Int(Int32.max) else {
            throw StorageError(
                .unsupported, path: path, detail: "truth files count queries and neighbours in 32 bits")
        }
        let format = try NeighbourFormat.writing(path: path)
        let greatest = ids.reduce(0) { $1 == Self.noId ? $0 : max($0, $1) }
        try NeighbourFormat.requireRoom(forIdsUpTo: greatest, path: path)
        let file = try OutputFile(path: path, atomically: true)
        try file.append(format.header(count: count, k: k))
        switch format {
        case .ivecs:
            for query in 0..<count {
                var width = UInt32(k).littleEndian
                try file.append(&width, count: 4)
                try append(ids: query * k..<(query + 1) * k, to: file)
            }
        case .bigAnn: try append(ids: 0..<ids.count, to: file)
        case .ids64:
            for id in ids {
                var id = id.littleEndian
                try file.append(&id, count: 8)
            }
        case .npy, .csv, .jsonl:
            var bytes: [UInt8] = []
            for query in 0..<count {
                encode(query: query, as: format, number: query, to: &bytes)
                if bytes.count > 1 << 18 {
                    try file.append(bytes)
                    bytes.removeAll(keepingCapacity: true)
                }
            }
            try file.append(bytes)
        }
        if format == .bigAnn || format == .ids64, let distances {
            for distance in distances {
                var bits = distance.bitPattern.littleEndian
                try file.append(&bits, count: 4)
            }
        }
        try file.finish()
    }

    /// Appends a query's neighbours as a row of npy, csv or jsonl, under the number `number`.
    func encode(query: Int, as format: NeighbourFormat, number: Int, to bytes: inout [UInt8]) {
        let range = query * k..<(query + 1) * k
        let filled = ids[range].prefix { $0 != Self.noId }.count
        switch format {
        case .csv:
            for rank in 0..<filled {
                let distance = distances.map { "\($0[range.lowerBound + rank])" } ?? ""
                bytes.append(
                    contentsOf: "\(number),\(rank),\(ids[range.lowerBound + rank]),\(distance)\n".utf8)
            }
        case .jsonl:
            let names = ids[range].prefix(filled).map { "\($0)" }.joined(separator: ",")
            var line = "{\"query\":\(number),\"ids\":[\(names)]"
            if let distances {
                let texts = distances[range].prefix(filled).map { "\($0)" }
                line += ",\"distances\":[\(texts.joined(separator: ","))]"
            }
            bytes.append(contentsOf: (line + "}\n").utf8)
        case .npy:
            for id in ids[range] { withUnsafeBytes(of: id.littleEndian) { bytes.append(contentsOf: $0) } }
        case .bigAnn, .ivecs, .ids64: break
        }
    }

    /// Whether the name asks for ivecs: ids only.
    public static func isIvecs(_ path: String) -> Bool { NeighbourFormat(path: path) == .ivecs }

    /// Ids in 32 bits; the mark of places that nothing filled becomes that of 32 bits.
    private func append(ids range: Range<Int>, to file: OutputFile) throws(StorageError) {
        for place in range {
            var id = UInt32(truncatingIfNeeded: ids[place]).littleEndian
            try file.append(&id, count: 4)
        }
    }

    private static func widened(_ id: UInt32) -> UInt64 { id == .max ? noId : UInt64(id) }

    private static func readWide(_ file: InputFile) throws(StorageError) -> TruthFile {
        let head = try VectorFileHeader.head(file, count: NeighbourFormat.ids64.headerByteCount)
        guard head.raw.holds(NeighbourFormat.wideMagic, at: 0) else {
            throw StorageError(
                .badHeader, path: file.path, detail: "is no file of neighbours with ids of 64 bits",
                offset: 0,
                expected: "\(NeighbourFormat.wideMagic)")
        }
        guard head.raw.u32(8) == NeighbourFormat.wideVersion else {
            throw .version(
                path: file.path, offset: 8, known: NeighbourFormat.wideVersion, found: UInt64(head.raw.u32(8))
            )
        }
        let checksum = Checksum.crc32c(head.raw, count: 28)
        guard checksum == head.raw.u32(28) else {
            throw .checksum(
                path: file.path, what: "the header", offset: 28, expected: head.raw.u32(28), found: checksum)
        }
        return try readTable(file, format: .ids64, count: head.raw.u64(16), k: UInt64(head.raw.u32(12)))
    }

    /// Ids of all queries, then the distances where the file's size says that they are there.
    private static func readTable(
        _ file: InputFile, format: NeighbourFormat, count: UInt64, k: UInt64
    ) throws(StorageError) -> TruthFile {
        let (head, width) = (UInt64(format.headerByteCount), UInt64(format.idByteCount))
        let (places, overflow) = count.multipliedReportingOverflow(by: k)
        let data = file.byteCount - head
        let holdsDistances = !overflow && data / (width + 4) == places && data % (width + 4) == 0
        guard holdsDistances || (!overflow && data / width == places && data % width == 0) else {
            throw StorageError(
                overflow || data / width < places ? .truncated : .badHeader, path: file.path,
                detail: "its header claims \(k) neighbours of \(count) queries, which its size contradicts",
                offset: 0,
                expected: overflow || places > 1 << 59
                    ? "far more"
                    : "\(head + places * (width + 4)) bytes with distances or \(head + places * width) without",
                found: "\(file.byteCount)")
        }
        let body = Scratch(Int(data))
        try file.read(at: head, into: body.bytes, count: Int(data))
        let total = Int(places)
        if format == .bigAnn && holdsDistances && isWide(body, places: total) {
            return TruthFile(
                count: Int(count), k: Int(k), ids: (0..<total).map { body.raw.u64($0 * 8) }, distances: nil)
        }
        let ids = (0..<total).map { format == .ids64 ? body.raw.u64($0 * 8) : widened(body.raw.u32($0 * 4)) }
        let first = total * Int(width)
        let distances =
            holdsDistances && total > 0
            ? (0..<total).map { Float(bitPattern: body.raw.u32(first + $0 * 4)) }
            : holdsDistances ? [] : nil
        return TruthFile(count: Int(count), k: Int(k), ids: ids, distances: distances)
    }

    /// Whether what has the size of ids of 32 bits and distances is ids of 64: every second word of those is
    /// zero (or all ones, of the mark -1), which no row of different ids and their distances is.
    private static func isWide(_ body: Scratch, places: Int) -> Bool {
        guard places >= 4 else { return false }
        return (0..<places).allSatisfy {
            let (low, high) = (body.raw.u32($0 * 8), body.raw.u32($0 * 8 + 4))
            return high == 0 || (high == .max && low == .max)
        }
    }

    private static func readNumpy(_ file: InputFile) throws(StorageError) -> TruthFile {
        let array = try NumpyHeader.readArray(file)
        let width: Int
        switch array.type {
        case "<i4", "<u4": width = 4
        case "<i8", "<u8": width = 8
        default:
            throw StorageError(
                .unsupported, path: file.path, detail: "holds numbers that are no ids",
                offset: array.textOffset,
                expected: "<i4, <u4, <i8 or <u8", found: array.type ?? "nothing",
                advice: "save the array of ids (not the distances) as int64")
        }
        let (count, k) = (array.count, array.width)
        let (places, overflow) = count.multipliedReportingOverflow(by: k)
        guard k > 0, !overflow, places <= 1 << 50, file.byteCount == array.dataOffset + UInt64(places * width)
        else {
            throw StorageError(
                .badHeader, path: file.path,
                detail: "its header claims \(k) ids of \(count) queries, which its size contradicts",
                offset: array.textOffset, found: "\(file.byteCount) bytes")
        }
        let body = Scratch(places * width)
        try file.read(at: array.dataOffset, into: body.bytes, count: places * width)
        let isSigned = array.type == "<i4" || array.type == "<i8"
        let ids = (0..<places).map { place -> UInt64 in
            let id = width == 8 ? body.raw.u64(place * 8) : UInt64(body.raw.u32(place * 4))
            // Negative numbers and all ones mark places that nothing fills.
            let sign: UInt64 = width == 8 ? 1 << 63 : 1 << 31
            if isSigned && id & sign != 0 { return noId }
            return width == 4 && id == UInt64(UInt32.max) ? noId : id
        }
        return TruthFile(count: count, k: k, ids: ids, distances: nil)
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
        var ids: [UInt64] = []
        ids.reserveCapacity(count * k)
        for query in 0..<count {
            let at = query * Int(row)
            guard all.raw.u32(at) == UInt32(k) else {
                throw StorageError(
                    .badHeader, path: file.path, detail: "query \(query) has another number of neighbours",
                    offset: UInt64(at), expected: "\(k)", found: "\(Int32(bitPattern: all.raw.u32(at)))")
            }
            for rank in 1...k { ids.append(widened(all.raw.u32(at + rank * 4))) }
        }
        return TruthFile(count: count, k: k, ids: ids, distances: nil)
    }
}
