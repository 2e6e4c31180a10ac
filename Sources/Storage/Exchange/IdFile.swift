// Ids that a user gives to vectors: one unsigned number of 64 bits a vector, flat, or behind the header of
// big-ann's vector files (u64bin).

/// A file of ids, or a range of them. Safe to share between threads.
public final class IdFile: Sendable {
    public let path: String
    public let count: Int
    private let file: InputFile
    private let dataOffset: UInt64

    /// Opens the file; its size must be that of whole ids, and that of its header where it has one.
    public static func open(path: String) throws(StorageError) -> IdFile {
        let file = try InputFile(path: path)
        try refuseText(file)
        guard path.lowercased().hasSuffix(".u64bin") else {
            guard file.byteCount % 8 == 0 else {
                throw .truncated(
                    path: path, offset: file.byteCount / 8 * 8, expected: 8, found: file.byteCount % 8)
            }
            return IdFile(file: file, dataOffset: 0, count: Int(file.byteCount / 8))
        }
        let head = try VectorFileHeader.head(file, count: 8)
        let (count, width) = (UInt64(head.raw.u32(0)), head.raw.u32(4))
        guard width == 1, file.byteCount == 8 + count * 8 else {
            throw StorageError(
                .badHeader, path: path, detail: "its header is not that of one id a vector", offset: 0,
                expected: "n, 1 and n ids: \(8 + count * 8) bytes",
                found: "\(count), \(width), \(file.byteCount) bytes"
            )
        }
        return IdFile(file: file, dataOffset: 8, count: Int(count))
    }

    /// Names or numbers in writing, and NumPy's header, are no ids.
    private static func refuseText(_ file: InputFile) throws(StorageError) {
        let count = Int(min(file.byteCount, 64))
        let start = Scratch(max(count, 8))
        try file.read(at: 0, into: start.bytes, count: count)
        let bytes = UnsafeRawBufferPointer(start: start.bytes, count: count)
        let isWriting = count > 0 && bytes.allSatisfy { (0x20...0x7e).contains($0) || (9...13).contains($0) }
        let isNumpy = count >= 6 && start.raw.load(as: UInt8.self) == 0x93 && start.raw.holds("NUMPY", at: 1)
        guard
            isNumpy
                || isWriting && (file.byteCount % 8 != 0 || bytes.contains(10) || file.path.hasSuffix(".txt"))
        else { return }
        throw StorageError(
            .unsupported, path: file.path, detail: isNumpy ? "is an npy file" : "is text",
            expected: "an unsigned number of 64 bits for each vector, little-endian",
            advice: isNumpy
                ? "write it without a header: numpy.load(F).astype('<u8').tofile(G)"
                : "ids are numbers: keep names beside them, in the order of the vectors, and write numbers as "
                    + "numpy.loadtxt(F, dtype='<u8').tofile(G)")
    }

    private init(file: InputFile, dataOffset: UInt64, count: Int) {
        self.file = file
        self.dataOffset = dataOffset
        self.count = count
        path = file.path
    }

    /// The ids of these positions as a file of their own; nothing is copied or opened.
    public func range(_ positions: Range<Int>) -> IdFile {
        precondition(positions.lowerBound >= 0 && positions.upperBound <= count)
        return IdFile(
            file: file, dataOffset: dataOffset + UInt64(positions.lowerBound) * 8, count: positions.count)
    }

    /// A checksum of all ids: tells files apart, whatever their names.
    public func fingerprint() throws(StorageError) -> UInt32 {
        try file.checksum(at: dataOffset, byteCount: UInt64(count) * 8)
    }

    /// The ids of these positions.
    ///
    /// - Throws: kind `invalidValue` for an id of all ones, which marks empty places everywhere.
    public func read(_ positions: Range<Int>) throws(StorageError) -> [UInt64] {
        precondition(positions.lowerBound >= 0 && positions.upperBound <= count)
        let bytes = Scratch(positions.count * 8)
        let start = dataOffset + UInt64(positions.lowerBound) * 8
        try file.read(at: start, into: bytes.bytes, count: positions.count * 8)
        let ids = (0..<positions.count).map { bytes.raw.u64($0 * 8) }
        if let place = ids.firstIndex(of: .max) {
            throw StorageError(
                .invalidValue, path: path, detail: "holds an id that marks empty places",
                offset: start + UInt64(place) * 8, expected: "at most \(UInt64.max - 1)",
                found: "\(UInt64.max)")
        }
        return ids
    }
}
