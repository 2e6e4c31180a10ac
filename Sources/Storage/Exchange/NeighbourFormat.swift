// The layouts of files of neighbours (truth and results); the extension chooses. Two of them hold ids of 32
// bits, as other programs read them; the third is for indexes whose ids pass that.
//
//     ids64:  0   8 bytes  SONDENBR
//             8   u32      format version, 1
//             12  u32      k
//             16  u64      queries
//             24  u32      0
//             28  u32      CRC-32C of bytes 0 to 27
//             32  ids (u64), then distances (f32), k a query

/// How neighbours lie in a file.
public enum NeighbourFormat: Sendable, Equatable {
    /// uint32 n, uint32 k, n*k uint32 ids, n*k float distances (big-ann-benchmarks).
    case bigAnn
    /// For each query int32 k and k uint32 ids.
    case ivecs
    /// A header of 32 bytes, n*k uint64 ids, n*k float distances.
    case ids64

    static let wideVersion: UInt32 = 1
    static let wideMagic: StaticString = "SONDENBR"

    /// The format that the extension names: `ivecs`, `ids64`, and big-ann for all others.
    public init(path: String) {
        let name = path.lowercased()
        self = name.hasSuffix(".ivecs") ? .ivecs : name.hasSuffix(".ids64") ? .ids64 : .bigAnn
    }

    /// Bytes of an id, 4 or 8.
    public var idByteCount: Int { self == .ids64 ? 8 : 4 }

    /// The largest id that a file can hold; the one above marks places that nothing fills.
    public var idMaximum: UInt64 { self == .ids64 ? .max - 1 : UInt64(UInt32.max) - 1 }

    /// Bytes before the ids of the first query.
    public var headerByteCount: Int {
        switch self {
        case .bigAnn: 8
        case .ivecs: 0
        case .ids64: 32
        }
    }

    /// The header of a file of `count` queries with `k` neighbours each.
    public func header(count: Int, k: Int) -> [UInt8] {
        let bytes = Scratch(headerByteCount)
        switch self {
        case .bigAnn:
            bytes.bytes.put(UInt32(count), at: 0)
            bytes.bytes.put(UInt32(k), at: 4)
        case .ivecs: break
        case .ids64:
            bytes.bytes.put(Self.wideMagic, at: 0)
            bytes.bytes.put(Self.wideVersion, at: 8)
            bytes.bytes.put(UInt32(k), at: 12)
            bytes.bytes.put(UInt64(count), at: 16)
            bytes.bytes.put(Checksum.crc32c(bytes.raw, count: 28), at: 28)
        }
        return Array(UnsafeRawBufferPointer(start: bytes.bytes, count: headerByteCount))
    }

    /// Refuses a file at `path` for ids up to `greatest` where its layout has no room for them.
    public static func requireRoom(forIdsUpTo greatest: UInt64, path: String) throws(StorageError) {
        let format = NeighbourFormat(path: path)
        guard greatest > format.idMaximum else { return }
        throw StorageError(
            .unsupported, path: path, detail: "its layout keeps ids in 32 bits",
            expected: "ids of at most \(format.idMaximum)", found: "ids up to \(greatest)",
            advice: "give it a name that ends in .ids64")
    }
}
