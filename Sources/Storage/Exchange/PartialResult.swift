// The answers of one shard of a job: a range of its queries, and what the job is. Shards are joined into one
// result when all are there, are of one job, and are whole.
//
//     0   8 bytes  SONDEPRT
//     8   u32      format version: 1, or 2 where ids take 8 bytes
//     12  u32      b, bytes of the identity
//     16  u64      queries of the job
//     24  u64      first query of this part
//     32  u64      queries of this part
//     40  u32      k
//     44  u32      CRC-32C of the ids
//     48  u32      CRC-32C of the distances
//     52  u32      CRC-32C of bytes 0 to 51 and the identity
//     56  b bytes  the identity, then zeros up to a multiple of 64
//     ..  ids (u32; version 2: u64), then distances (f32), k a query

/// What a part of a result says of itself.
public struct PartialResult: Sendable, Equatable {
    /// That of ids of 4 bytes; ids of 8 are one version on.
    public static let formatVersion: UInt32 = 1
    private static let wideFormatVersion: UInt32 = 2
    private static let headByteCount = 56

    public var identity: JobIdentity
    /// Queries of the whole job, and those of this part.
    public var total: Int
    public var range: Range<Int>
    public var k: Int
    /// 4 or 8.
    public var idByteCount: Int
    /// Checksums of ids and distances.
    public var checksums: [UInt32]

    public init(
        identity: JobIdentity, total: Int, range: Range<Int>, k: Int, idByteCount: Int = 4,
        checksums: [UInt32] = [0, 0]
    ) {
        self.identity = identity
        self.total = total
        self.range = range
        self.k = k
        self.idByteCount = idByteCount
        self.checksums = checksums
    }

    /// Bytes before the ids.
    public var headerByteCount: Int { Self.aligned(Self.headByteCount + identity.encoded.count) }

    /// The header as bytes.
    public var header: [UInt8] {
        let text = identity.encoded
        let head = Scratch(headerByteCount)
        head.bytes.put("SONDEPRT", at: 0)
        head.bytes.put(idByteCount == 8 ? Self.wideFormatVersion : Self.formatVersion, at: 8)
        head.bytes.put(UInt32(text.count), at: 12)
        head.bytes.put(UInt64(total), at: 16)
        head.bytes.put(UInt64(range.lowerBound), at: 24)
        head.bytes.put(UInt64(range.count), at: 32)
        head.bytes.put(UInt32(k), at: 40)
        head.bytes.put(checksums[0], at: 44)
        head.bytes.put(checksums[1], at: 48)
        for (place, byte) in text.enumerated() {
            head.bytes.storeBytes(of: byte, toByteOffset: Self.headByteCount + place, as: UInt8.self)
        }
        head.bytes.put(Self.checksum(head.raw, identityByteCount: text.count), at: 52)
        return Array(UnsafeRawBufferPointer(start: head.bytes, count: head.count))
    }

    /// Reads and checks the header of a part; its answers are not looked at.
    public static func read(path: String) throws(StorageError) -> PartialResult {
        let file = try InputFile(path: path)
        guard file.byteCount >= UInt64(headByteCount) else {
            throw .truncated(path: path, offset: 0, expected: UInt64(headByteCount), found: file.byteCount)
        }
        let start = Scratch(headByteCount)
        try file.read(at: 0, into: start.bytes, count: headByteCount)
        guard start.raw.holds("SONDEPRT", at: 0) else {
            throw StorageError(
                .badHeader, path: path, detail: "is no part of a result", offset: 0, expected: "SONDEPRT",
                advice: "parts are what a shard of a batch writes", remedy: .writeParts)
        }
        let version = start.raw.u32(8)
        guard version == formatVersion || version == wideFormatVersion else {
            throw .version(path: path, offset: 8, known: wideFormatVersion, found: UInt64(version))
        }
        let idByteCount = version == wideFormatVersion ? 8 : 4
        let textByteCount = Int(min(start.raw.u32(12), 1 << 16))
        let headerByteCount = aligned(headByteCount + textByteCount)
        guard file.byteCount >= UInt64(headerByteCount) else {
            throw .truncated(path: path, offset: 0, expected: UInt64(headerByteCount), found: file.byteCount)
        }
        let head = Scratch(headerByteCount)
        try file.read(at: 0, into: head.bytes, count: headerByteCount)
        let found = checksum(head.raw, identityByteCount: textByteCount)
        guard found == head.raw.u32(52) else {
            throw .checksum(
                path: path, what: "the header", offset: 52, expected: head.raw.u32(52), found: found)
        }
        let (total, first, count) = (head.raw.u64(16), head.raw.u64(24), head.raw.u64(32))
        let k = UInt64(head.raw.u32(40))
        let limit = UInt64(UInt32.max)
        guard total <= limit, first <= total, count <= total - first,
            file.byteCount == UInt64(headerByteCount) + count * k * UInt64(idByteCount + 4)
        else {
            throw StorageError(
                .badHeader, path: path, detail: "its size is not that of its \(count) queries", offset: 16,
                expected: "a range of \(total) queries with \(k) neighbours each",
                found: "\(file.byteCount) bytes")
        }
        let identity = JobIdentity(
            decoding: UnsafeRawBufferPointer(start: head.raw + headByteCount, count: textByteCount))
        return PartialResult(
            identity: identity, total: Int(total), range: Int(first)..<Int(first + count), k: Int(k),
            idByteCount: idByteCount, checksums: [head.raw.u32(44), head.raw.u32(48)])
    }

    /// Joins all parts of a job, in any order, into the file at `out`; memory does not grow with them.
    ///
    /// - Returns: queries and neighbours a query.
    @discardableResult
    public static func merge(_ paths: [String], out: String) throws(StorageError) -> (count: Int, k: Int) {
        var parts: [(path: String, part: PartialResult)] = []
        for path in paths { parts.append((path, try read(path: path))) }
        parts.sort {
            ($0.part.range.lowerBound, $0.part.range.count) < ($1.part.range.lowerBound, $1.part.range.count)
        }
        guard let (firstPath, first) = parts.first else {
            throw StorageError(.invalidValue, path: out, detail: "there are no parts to join")
        }
        for (path, part) in parts {
            let difference =
                first.identity.difference(from: part.identity)
                ?? (first.total == part.total
                    ? nil : (name: "number of queries", here: "\(first.total)", there: "\(part.total)"))
            if let difference {
                throw StorageError(
                    .invalidValue, path: path,
                    detail: "is of another job than \(firstPath): its \(difference.name) differs",
                    expected: difference.here, found: difference.there)
            }
        }
        try refuseGaps(parts, total: first.total)
        try NeighbourFormat.requirePlaced(path: out)
        let format = NeighbourFormat(path: out)
        for (path, part) in parts where part.idByteCount > format.idByteCount {
            throw StorageError(
                .unsupported, path: out, detail: "its layout keeps ids in 32 bits; \(path) holds ids of 64",
                advice: "give it a name that ends in .ids64")
        }
        let file = try OutputFile(path: out, atomically: true)
        try file.append(format.header(count: first.total, k: first.k))
        for stretch in 0..<2 {
            for (path, part) in parts { try part.copy(path, stretch: stretch, to: file, format: format) }
        }
        try file.finish()
        return (first.total, first.k)
    }

    private static func refuseGaps(_ parts: [(path: String, part: PartialResult)], total: Int)
        throws(StorageError)
    {
        var end = 0
        for (path, part) in parts {
            if part.range.lowerBound < end && !part.range.isEmpty {
                throw StorageError(
                    .invalidValue, path: path, detail: "repeats queries of another part",
                    expected: "queries from \(end) on", found: "queries from \(part.range.lowerBound) on")
            }
            if part.range.lowerBound > end {
                throw StorageError(
                    .missing, path: path, detail: "comes after queries that no part holds",
                    expected: "a part with queries \(end) to \(part.range.lowerBound - 1)")
            }
            end = max(end, part.range.upperBound)
        }
        guard end == total else {
            throw StorageError(
                .missing, path: parts.last?.path ?? "",
                detail: "is the last part, but not the end of the job",
                expected: "a part with queries \(end) to \(total - 1)")
        }
    }

    /// Copies ids (stretch 0) or distances (1) in the format of the result, or only checks what it leaves out.
    private func copy(_ path: String, stretch: Int, to target: OutputFile, format: NeighbourFormat)
        throws(StorageError)
    {
        let file = try InputFile(path: path)
        let width = stretch == 0 ? idByteCount : 4
        let rowByteCount = k * width
        let start =
            UInt64(headerByteCount) + UInt64(stretch) * UInt64(range.count) * UInt64(k * idByteCount)
        let rowsAtOnce = max(1, (1 << 20) / max(rowByteCount, 1))
        let buffer = Scratch(rowsAtOnce * rowByteCount)
        var (row, crc) = (0, UInt32(0))
        while row < range.count {
            let rows = min(rowsAtOnce, range.count - row)
            try file.read(
                at: start + UInt64(row) * UInt64(rowByteCount), into: buffer.bytes,
                count: rows * rowByteCount)
            crc = Checksum.crc32c(buffer.raw, count: rows * rowByteCount, continuing: crc)
            switch (format, stretch) {
            case (.ivecs, 0):
                var prefix = UInt32(k).littleEndian
                for index in 0..<rows {
                    try target.append(&prefix, count: 4)
                    try target.append(buffer.raw + index * rowByteCount, count: rowByteCount)
                }
            case (.ivecs, _): break
            case (.ids64, 0) where idByteCount == 4:
                for place in 0..<rows * k {
                    let id = buffer.raw.u32(place * 4)
                    var wide = (id == .max ? UInt64.max : UInt64(id)).littleEndian
                    try target.append(&wide, count: 8)
                }
            default: try target.append(buffer.raw, count: rows * rowByteCount)
            }
            row += rows
        }
        guard crc == checksums[stretch] else {
            throw .checksum(
                path: path, what: stretch == 0 ? "the ids" : "the distances", offset: start,
                expected: checksums[stretch], found: crc)
        }
    }

    private static func aligned(_ count: Int) -> Int { (count + 63) / 64 * 64 }

    private static func checksum(_ head: UnsafeRawPointer, identityByteCount: Int) -> UInt32 {
        Checksum.crc32c(
            head + headByteCount, count: identityByteCount, continuing: Checksum.crc32c(head, count: 52))
    }
}
