// The layouts of files of neighbours (truth and results); the extension chooses. bigAnn and ivecs hold ids of
// 32 bits, as other programs read them; ids64 is for indexes whose ids pass that. npy, csv and jsonl are
// for notebooks and tables.
//
//     ids64:  0   8 bytes  SONDENBR
//             8   u32      format version, 1
//             12  u32      k
//             16  u64      queries
//             24  u32      0
//             28  u32      CRC-32C of bytes 0 to 27
//             32  ids (u64), then distances (f32), k a query
//     npy:    an array of <i8, (queries, k): ids only, -1 where nothing fills a place
//     csv:    query,rank,id,distance; a line a neighbour
//     jsonl:  {"query": 0, "ids": [...], "distances": [...]}; a line a query

/// How neighbours lie in a file.
public enum NeighbourFormat: Sendable, Equatable {
    /// uint32 n, uint32 k, n*k uint32 ids, n*k float distances (big-ann-benchmarks).
    case bigAnn
    /// For each query int32 k and k uint32 ids.
    case ivecs
    /// A header of 32 bytes, n*k uint64 ids, n*k float distances.
    case ids64
    /// NumPy's array of ids.
    case npy
    /// A table of text.
    case csv
    /// A JSON object a line.
    case jsonl

    static let wideVersion: UInt32 = 1
    static let wideMagic: StaticString = "SONDENBR"

    /// Extensions that big-ann's layout goes by; so does a name without one.
    private static let bigAnnNames: Set<String> = [
        "", "bin", "ibin", "gt", "truth", "neighbours", "neighbors", "results", "result", "answers", "out",
        "part",
        "tmp",
    ]
    /// Extensions of other formats, which nobody means big-ann's layout by.
    private static let otherNames: Set<String> = [
        "json", "tsv", "txt", "hdf5", "h5", "npz", "parquet", "arrow", "feather", "pkl", "pickle", "mat",
        "pt", "gz",
        "zst", "zip", "tar", "xml", "xlsx", "fvecs", "bvecs", "fbin", "u8bin", "i8bin", "f16bin", "u64bin",
    ]

    private static func lastExtension(_ path: String) -> String {
        let name = Directory.name(of: path)
        guard let dot = name.lastIndex(of: "."), dot != name.startIndex else { return "" }
        return name[name.index(after: dot)...].lowercased()
    }

    private static func known(_ name: String) -> NeighbourFormat? {
        switch name {
        case "ivecs": .ivecs
        case "ids64": .ids64
        case "npy": .npy
        case "csv": .csv
        case "jsonl", "ndjson": .jsonl
        default: nil
        }
    }

    /// The format that the extension names: big-ann's for all that it does not know.
    public init(path: String) { self = Self.known(Self.lastExtension(path)) ?? .bigAnn }

    /// The format of a file to be written.
    ///
    /// - Throws: kind `unsupported` for an extension that names none: what is written under a name must be
    ///   what the name says.
    public static func writing(path: String) throws(StorageError) -> NeighbourFormat {
        let name = lastExtension(path)
        if let format = known(name) { return format }
        guard bigAnnNames.contains(name) || name.allSatisfy(\.isNumber) else {
            throw StorageError(
                .unsupported, path: path, detail: "its extension names no format of neighbours",
                expected: "bin (n, k, ids, distances), ivecs, ids64, npy, csv or jsonl", found: name,
                advice: "choose a name with one of those, or one without an extension (bin)")
        }
        return .bigAnn
    }

    /// The format of a file that is there: by its magic bytes, else by its name.
    static func reading(_ file: InputFile) throws(StorageError) -> NeighbourFormat {
        let name = lastExtension(file.path)
        if file.byteCount >= 8 {
            let head = try VectorFileHeader.head(file, count: 8)
            if head.raw.load(as: UInt8.self) == 0x93, head.raw.holds("NUMPY", at: 1) { return .npy }
            if head.raw.holds(wideMagic, at: 0) { return .ids64 }
            if head.raw.holds("SONDEPRT", at: 0) {
                throw StorageError(
                    .unsupported, path: file.path, detail: "is a part of a result",
                    advice: "join all parts first", remedy: .joinParts)
            }
        }
        let format = NeighbourFormat(path: file.path)
        guard !otherNames.contains(name), format != .csv, format != .jsonl else {
            throw StorageError(
                .unsupported, path: file.path,
                detail: "its extension names no format that neighbours are read from",
                expected: "bin (n, k, ids, distances), ivecs, ids64 or npy", found: name,
                advice: "convert it, or rename it where it is one of those")
        }
        return format
    }

    /// Refuses a name whose format is not written block by block, as long jobs do.
    public static func requirePlaced(path: String) throws(StorageError) {
        let format = try writing(path: path)
        switch format {
        case .bigAnn, .ivecs, .ids64: return
        case .npy, .csv, .jsonl:
            throw StorageError(
                .unsupported, path: path, detail: "a batch does not write this format",
                expected: "bin, ivecs or ids64", advice: "write one of those and convert it (sonde convert)")
        }
    }

    /// Bytes of an id, 4 or 8.
    public var idByteCount: Int {
        switch self {
        case .bigAnn, .ivecs: 4
        case .ids64, .npy, .csv, .jsonl: 8
        }
    }

    /// The largest id that a file can hold; the one above marks places that nothing fills.
    public var idMaximum: UInt64 {
        switch self {
        case .bigAnn, .ivecs: UInt64(UInt32.max) - 1
        case .npy: UInt64(Int64.max)
        case .ids64, .csv, .jsonl: .max - 1
        }
    }

    /// Bytes before the ids of the first query.
    public var headerByteCount: Int {
        switch self {
        case .bigAnn: 8
        case .ivecs, .csv, .jsonl: 0
        case .ids64: 32
        case .npy: NumpyHeader.writtenByteCount
        }
    }

    /// The header of a file of `count` queries with `k` neighbours each.
    public func header(count: Int, k: Int) -> [UInt8] {
        let bytes = Scratch(headerByteCount)
        switch self {
        case .bigAnn:
            bytes.bytes.put(UInt32(count), at: 0)
            bytes.bytes.put(UInt32(k), at: 4)
        case .ivecs, .jsonl: break
        case .csv: return Array("query,rank,id,distance\n".utf8)
        case .npy: return NumpyHeader.encode(count: count, dimension: k, type: "<i8")
        case .ids64:
            bytes.bytes.put(Self.wideMagic, at: 0)
            bytes.bytes.put(Self.wideVersion, at: 8)
            bytes.bytes.put(UInt32(k), at: 12)
            bytes.bytes.put(UInt64(count), at: 16)
            bytes.bytes.put(Checksum.crc32c(bytes.raw, count: 28), at: 28)
        }
        return Array(UnsafeRawBufferPointer(start: bytes.bytes, count: headerByteCount))
    }

    /// Refuses a file at `path` for ids up to `greatest` where its layout has no room for them, and a name
    /// that is of no format.
    public static func requireRoom(forIdsUpTo greatest: UInt64, path: String) throws(StorageError) {
        let format = try writing(path: path)
        guard greatest > format.idMaximum else { return }
        throw StorageError(
            .unsupported, path: path, detail: "its layout keeps ids in \(format == .npy ? 63 : 32) bits",
            expected: "ids of at most \(format.idMaximum)", found: "ids up to \(greatest)",
            advice: "give it a name that ends in .ids64")
    }
}
