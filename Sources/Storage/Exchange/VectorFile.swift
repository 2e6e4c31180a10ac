// Files of vectors, read in stretches of rows: any part by pread, nothing kept, so that files larger than
// memory stream and threads share one open file.

import CKernels
import Vectors

/// A file of vectors, or a range of its rows, open for reading. Safe to share between threads.
public final class VectorFile: Sendable {
    public let path: String
    public let format: VectorFileFormat
    /// Rows of the file, or of the range of it that was asked for.
    public let count: Int
    public let dimension: Int
    public let elementType: ElementType
    /// The file's row that is row 0 here.
    public let firstRow: Int

    private let file: InputFile
    private let dataOffset: UInt64
    private let rowStride: Int
    private static let chunkByteCount = 1 << 20
    /// `gather` reads over gaps up to this size: cheaper than another call.
    private static let gapByteCount = 1 << 14

    /// Opens the file and checks its header against its size.
    ///
    /// - Parameters:
    ///   - format: nil for the one that the extension names.
    ///   - first: only so many rows; the file must have them.
    ///   - skip: from this row on.
    public static func open(
        path: String, format: VectorFileFormat? = nil, first: Int? = nil, skip: Int = 0
    ) throws(StorageError) -> VectorFile {
        guard let format = format ?? VectorFileFormat(path: path) else {
            throw VectorFileFormat.unknown(path: path)
        }
        let file = try InputFile(path: path)
        let header = try VectorFileHeader.read(file, format: format)
        guard skip >= 0, skip <= header.count, first.map({ $0 >= 0 && $0 <= header.count - skip }) ?? true
        else {
            throw StorageError(
                .invalidValue, path: path,
                detail: "holds \(header.count) vectors, fewer than were asked for",
                expected: first.map { "\($0) from row \(skip) on" } ?? "rows from \(skip) on",
                found: "\(max(0, header.count - max(0, skip)))")
        }
        return VectorFile(
            file: file, format: format, header: header, first: first ?? header.count - skip, skip: skip)
    }

    private init(file: InputFile, format: VectorFileFormat, header: VectorFileHeader, first: Int, skip: Int) {
        self.file = file
        path = file.path
        self.format = format
        count = first
        dimension = header.dimension
        elementType = header.elementType
        firstRow = skip
        rowStride = format.rowPrefixByteCount + header.dimension * header.elementType.byteCount
        dataOffset = header.dataOffset + UInt64(skip) * UInt64(rowStride)
    }

    public var rowByteCount: Int { dimension * elementType.byteCount }

    /// Size of the file on disk.
    public var fileByteCount: UInt64 { file.byteCount }

    /// A range of these rows as a file of its own; nothing is copied or opened.
    public func range(_ rows: Range<Int>) -> VectorFile {
        precondition(rows.lowerBound >= 0 && rows.upperBound <= count)
        let start = Int(dataOffset) - firstRow * rowStride
        let header = VectorFileHeader(
            elementType: elementType, count: count, dimension: dimension, dataOffset: UInt64(start))
        return VectorFile(
            file: file, format: format, header: header, first: rows.count, skip: firstRow + rows.lowerBound)
    }

    /// Reads `rows` into `matrix` from its row `at` on. The matrix has the file's dimension and element type.
    ///
    /// - Throws: kind `invalidValue` for a number that is not finite, by row and column of the file.
    public func read(
        rows: Range<Int>, into matrix: VectorMatrix, at: Int = 0, checkFinite: Bool = true
    ) throws(StorageError) {
        precondition(rows.lowerBound >= 0 && rows.upperBound <= count, "rows outside of the file")
        precondition(matrix.dimension == dimension && matrix.elementType == elementType)
        precondition(at >= 0 && at + rows.count <= matrix.count, "rows outside of the matrix")
        let rowsAtOnce = max(1, Self.chunkByteCount / rowStride)
        let scratch = format.rowPrefixByteCount == 0 ? nil : Scratch(min(rowsAtOnce, rows.count) * rowStride)
        var row = rows.lowerBound
        while row < rows.upperBound {
            let part = min(rowsAtOnce, rows.upperBound - row)
            let target = matrix.row(at + row - rows.lowerBound)
            if let scratch {
                try file.read(at: offset(ofRow: row), into: scratch.bytes, count: part * rowStride)
                try strip(scratch.raw, count: part, firstRow: row, into: target)
            } else {
                try file.read(at: offset(ofRow: row), into: target, count: part * rowStride)
            }
            // While the chunk is still in the cache.
            if checkFinite { try refuseNotFinite(target, count: part, firstRow: row) }
            row += part
        }
    }

    /// All rows in memory.
    public func readAll() throws(StorageError) -> VectorMatrix { try rows(0..<count) }

    /// These rows in memory.
    public func rows(_ range: Range<Int>) throws(StorageError) -> VectorMatrix {
        let matrix = VectorMatrix(count: range.count, dimension: dimension, elementType: elementType)
        try read(rows: range, into: matrix)
        return matrix
    }

    /// The rows of these numbers, which must rise; near ones come with one read.
    public func gather(_ sorted: [Int], checkFinite: Bool = true) throws(StorageError) -> VectorMatrix {
        let matrix = VectorMatrix(count: sorted.count, dimension: dimension, elementType: elementType)
        try gather(sorted[...], into: matrix, checkFinite: checkFinite)
        return matrix
    }

    /// The same into `matrix` from its row `at` on.
    public func gather(
        _ sorted: ArraySlice<Int>, into matrix: VectorMatrix, at: Int = 0, checkFinite: Bool = true
    ) throws(StorageError) {
        precondition(at >= 0 && at + sorted.count <= matrix.count, "rows outside of the matrix")
        let place = at - sorted.startIndex
        let scratch = Scratch(max(Self.chunkByteCount, rowStride))
        var start = sorted.startIndex
        while start < sorted.endIndex {
            let first = sorted[start]
            var end = start + 1
            while end < sorted.endIndex {
                precondition(sorted[end] > sorted[end - 1], "row numbers must rise")
                guard (sorted[end] - sorted[end - 1] - 1) * rowStride <= Self.gapByteCount,
                    (sorted[end] - first + 1) * rowStride <= scratch.count
                else { break }
                end += 1
            }
            let last = sorted[end - 1]
            precondition(first >= 0 && last < count, "rows outside of the file")
            try file.read(
                at: offset(ofRow: first), into: scratch.bytes, count: (last - first + 1) * rowStride)
            for index in start..<end {
                let from = scratch.raw + (sorted[index] - first) * rowStride
                try strip(from, count: 1, firstRow: sorted[index], into: matrix.row(place + index))
                if checkFinite {
                    try refuseNotFinite(matrix.row(place + index), count: 1, firstRow: sorted[index])
                }
            }
            start = end
        }
    }

    /// A checksum of up to 256 rows spread over these, and of how many there are: tells files apart without
    /// reading them whole.
    public func fingerprint() throws(StorageError) -> UInt32 {
        let sampled = min(count, 256)
        let rows = try gather((0..<sampled).map { $0 * count / sampled })
        let head = Scratch(16)
        head.bytes.put(UInt64(count), at: 0)
        head.bytes.put(UInt32(dimension), at: 8)
        head.bytes.put(UInt32(elementType.rawValue), at: 12)
        return Checksum.crc32c(
            rows.bytes, count: rows.byteCount, continuing: Checksum.crc32c(head.raw, count: 16))
    }

    /// What tells the file of these rows from another, or from itself before a change, without reading it whole:
    /// not its name, so that it may be moved.
    public func identity() throws(StorageError) -> [(name: String, value: String)] {
        let time = try file.modificationTime()
        return [
            ("base", "\(count) vectors of \(dimension) \(elementType.name) from row \(firstRow) on"),
            ("base's size", "\(file.byteCount) bytes"), ("base's time of modification", time),
            ("base's sample", Checksum.text(try fingerprint())),
        ]
    }

    /// The same rows, of which reading those of `rows` fails as a bad sector does; for tests, as `FaultyDevice` is.
    public func unreadable(_ rows: Range<Int>) throws(StorageError) -> VectorFile {
        let bytes = offset(ofRow: rows.lowerBound)..<offset(ofRow: rows.upperBound)
        let start = Int(dataOffset) - firstRow * rowStride
        return VectorFile(
            file: try InputFile(path: path, unreadable: bytes), format: format,
            header: VectorFileHeader(
                elementType: elementType, count: count, dimension: dimension, dataOffset: UInt64(start)),
            first: count, skip: firstRow)
    }

    private func offset(ofRow row: Int) -> UInt64 { dataOffset + UInt64(row) * UInt64(rowStride) }

    /// Copies the numbers of rows as they lie in the file; each row's own dimension must be the first one's.
    private func strip(
        _ from: UnsafeRawPointer, count: Int, firstRow row: Int, into target: UnsafeMutableRawPointer
    ) throws(StorageError) {
        let prefix = format.rowPrefixByteCount
        for index in 0..<count {
            let start = from + index * rowStride
            if prefix > 0 && start.u32(0) != UInt32(dimension) {
                throw StorageError(
                    .badHeader, path: path, detail: "row \(firstRow + row + index) has another dimension",
                    offset: offset(ofRow: row + index), expected: "\(dimension)",
                    found: "\(Int32(bitPattern: start.u32(0)))")
            }
            (target + index * rowByteCount).copyMemory(from: start + prefix, byteCount: rowByteCount)
        }
    }

    private func refuseNotFinite(
        _ rows: UnsafeRawPointer, count: Int, firstRow row: Int
    ) throws(StorageError) {
        guard elementType.isFloatingPoint else { return }
        let numbers = count * dimension
        let position = sonde_find_not_finite(sonde_element(UInt32(elementType.rawValue)), rows, numbers)
        guard position < numbers else { return }
        let (badRow, column) = (row + position / dimension, position % dimension)
        let isNaN: Bool =
            elementType == .f32
            ? Float(bitPattern: UnsafeRawPointer(rows).u32(position * 4)).isNaN
            : rows.u16(position * 2) & 0x3ff != 0
        throw StorageError(
            .invalidValue, path: path, detail: "row \(firstRow + badRow), column \(column)",
            offset: offset(ofRow: badRow)
                + UInt64(format.rowPrefixByteCount + column * elementType.byteCount),
            expected: "a finite number", found: isNaN ? "NaN" : "infinity",
            advice: "remove the vector or repair it; distances to it mean nothing")
    }
}
