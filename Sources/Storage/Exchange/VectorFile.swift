// Files of vectors, read in stretches of rows: any part by pread, nothing kept, so that files larger than
// memory stream and threads share one open file.

import CKernels
import Vectors

/// A file of vectors, or some of its rows, open for reading. Safe to share between threads.
public final class VectorFile: Sendable {
    public let path: String
    public let format: VectorFileFormat
    /// Rows of the file, or of those of it that were asked for.
    public let count: Int
    public let dimension: Int
    /// The type that rows are read as.
    public let elementType: ElementType
    /// The type that the file holds.
    public let storedNumbers: StoredNumbers
    /// Rows that the file's header claims, whatever was asked for.
    public let claimedCount: Int

    private let file: InputFile
    private let dataOffset: UInt64
    private let rowStride: Int
    /// Where the first row stands: the file's row, or among those that are not left out.
    private let start: Int
    private let skip: Int
    private let leftOut: LeftOut?
    private let conversion: NumberConversion?
    private static let chunkByteCount = 1 << 20
    /// `gather` reads over gaps up to this size: cheaper than another call.
    private static let gapByteCount = 1 << 14

    /// Opens the file and checks its header against its size. Where a number of rows is asked for, those have to be
    /// there, and what comes behind them is not looked at: a download that was broken off has its first rows.
    ///
    /// - Parameters:
    ///   - format: nil for the one that the name tells.
    ///   - first: only so many rows; the file must have them.
    ///   - atMost: the same, or as many as there are.
    ///   - skip: from this row on.
    ///   - type: what rows are read as; nil: what the file holds. Numbers that it does not hold are refused when they
    ///     are read (kind `inexact`), or rounded where `rounds` says so.
    public static func open(
        path: String, format: VectorFileFormat? = nil, first: Int? = nil, atMost: Int? = nil, skip: Int = 0,
        as type: ElementType? = nil, rounds: Bool = false
    ) throws(StorageError) -> VectorFile {
        guard let format = format ?? VectorFileFormat(path: path) else {
            throw VectorFileFormat.unknown(path: path)
        }
        let file = try InputFile(path: path)
        let header = try VectorFileHeader.read(file, format: format, partial: first != nil || atMost != nil)
        let present = header.present ?? header.count
        guard skip >= 0, skip <= present, first.map({ $0 >= 0 && $0 <= present - skip }) ?? true else {
            let claim = present < header.count ? " of \(header.count) that its header claims" : ""
            throw StorageError(
                .invalidValue, path: path,
                detail: "holds \(present) vectors\(claim), fewer than were asked for",
                expected: first.map { "\($0) from row \(skip) on" } ?? "rows from \(skip) on",
                found: "\(max(0, present - max(0, skip)))")
        }
        // Fewer may be asked for than are there, but none is passed over that a broken download lacks.
        if let atMost, first == nil, skip + max(0, atMost) > present, present < header.count {
            return try open(path: path, format: format, skip: skip, as: type, rounds: rounds)
        }
        guard let wanted = type ?? header.numbers.elementType else {
            throw StorageError(
                .unsupported, path: path, detail: "holds numbers of 64 bits", expected: "f32, f16, u8 or i8",
                found: "f64", advice: "convert it, or save the array as float32")
        }
        return VectorFile(
            file: file, format: format, header: header,
            rows: (skip, first ?? min(atMost.map { max(0, $0) } ?? .max, present - skip)), leftOut: nil,
            skip: skip, type: wanted, rounds: rounds)
    }

    /// `rows`: the first one and how many, among those that are not left out.
    private init(
        file: InputFile, format: VectorFileFormat, header: VectorFileHeader, rows: (start: Int, count: Int),
        leftOut: LeftOut?, skip: Int, type: ElementType, rounds: Bool
    ) {
        self.file = file
        path = file.path
        self.format = format
        (start, count) = rows
        dimension = header.dimension
        elementType = type
        storedNumbers = header.numbers
        claimedCount = header.count
        self.leftOut = leftOut
        self.skip = skip
        conversion =
            header.numbers.elementType == type
            ? nil : NumberConversion(from: header.numbers, to: type, rounds: rounds)
        rowStride = format.rowPrefixByteCount + header.dimension * header.numbers.byteCount
        dataOffset = header.dataOffset
    }

    /// The same file with other rows or another type.
    private func copy(
        file: InputFile? = nil, rows: (start: Int, count: Int)? = nil, leftOut: LeftOut? = nil,
        skip: Int? = nil,
        type: ElementType? = nil, rounds: Bool? = nil
    ) -> VectorFile {
        VectorFile(
            file: file ?? self.file, format: format,
            header: VectorFileHeader(
                numbers: storedNumbers, count: claimedCount, dimension: dimension, dataOffset: dataOffset),
            rows: rows ?? (start, count), leftOut: leftOut ?? self.leftOut, skip: skip ?? self.skip,
            type: type ?? elementType, rounds: rounds ?? conversion?.rounds ?? false)
    }

    public var rowByteCount: Int { dimension * elementType.byteCount }

    public var kind: VectorKind { VectorKind(dimension: dimension, elementType: elementType) }

    /// Size of the file on disk.
    public var fileByteCount: UInt64 { file.byteCount }

    /// The file's row that is row 0 here.
    public var firstRow: Int { fileRow(0) }

    /// The file's row that is row `row` here.
    public func fileRow(_ row: Int) -> Int { place(of: row).row }

    /// A range of these rows as a file of its own; nothing is copied or opened.
    public func range(_ rows: Range<Int>) -> VectorFile {
        precondition(rows.lowerBound >= 0 && rows.upperBound <= count)
        return copy(rows: (start + rows.lowerBound, rows.count))
    }

    /// These rows without some of them, whose numbers rise; nothing is copied or opened.
    public func leavingOut(_ rows: [Int]) -> VectorFile {
        guard !rows.isEmpty else { return self }
        precondition(leftOut == nil, "rows were left out already")
        return copy(rows: (0, count - rows.count), leftOut: LeftOut(rows), skip: start)
    }

    /// These rows as numbers of another type, refused when they are read where it does not hold them.
    public func converted(to type: ElementType, rounds: Bool = false) -> VectorFile {
        copy(type: type, rounds: rounds)
    }

    /// Reads `rows` into `matrix` from its row `at` on. The matrix has this dimension and element type.
    ///
    /// - Throws: kind `invalidValue` for a number that is not finite, by row and column of the file; `inexact` for one
    ///   that the type does not hold.
    public func read(
        rows: Range<Int>, into matrix: VectorMatrix, at: Int = 0, checkFinite: Bool = true
    ) throws(StorageError) {
        precondition(rows.lowerBound >= 0 && rows.upperBound <= count, "rows outside of the file")
        precondition(matrix.dimension == dimension && matrix.elementType == elementType)
        precondition(at >= 0 && at + rows.count <= matrix.count, "rows outside of the matrix")
        let rowsAtOnce = max(1, Self.chunkByteCount / rowStride)
        let isDirect = format.rowPrefixByteCount == 0 && conversion == nil
        let scratch = isDirect ? nil : Scratch(min(rowsAtOnce, rows.count) * rowStride)
        let lines = makeLines()
        var row = rows.lowerBound
        while row < rows.upperBound {
            let place = place(of: row)
            let part = min(rowsAtOnce, rows.upperBound - row, place.run)
            let target = matrix.row(at + row - rows.lowerBound)
            if let scratch {
                try file.read(at: offset(ofFileRow: place.row), into: scratch.bytes, count: part * rowStride)
                try unpack(scratch.raw, count: part, fileRow: place.row, into: target, lines)
            } else {
                try file.read(at: offset(ofFileRow: place.row), into: target, count: part * rowStride)
            }
            // While the chunk is still in the cache.
            if checkFinite { try refuseNotFinite(target, count: part, fileRow: place.row) }
            row += part
        }
    }

    /// All rows in memory.
    public func readAll(checkFinite: Bool = true) throws(StorageError) -> VectorMatrix {
        let matrix = VectorMatrix(count: count, dimension: dimension, elementType: elementType)
        try read(rows: 0..<count, into: matrix, checkFinite: checkFinite)
        return matrix
    }

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
        let lines = makeLines()
        var start = sorted.startIndex
        while start < sorted.endIndex {
            precondition(sorted[start] >= 0, "rows outside of the file")
            let first = fileRow(sorted[start])
            var (end, last) = (start + 1, first)
            while end < sorted.endIndex {
                precondition(sorted[end] > sorted[end - 1], "row numbers must rise")
                let next = fileRow(sorted[end])
                guard (next - last - 1) * rowStride <= Self.gapByteCount,
                    (next - first + 1) * rowStride <= scratch.count
                else { break }
                (end, last) = (end + 1, next)
            }
            precondition(sorted[end - 1] < count, "rows outside of the file")
            try file.read(
                at: offset(ofFileRow: first), into: scratch.bytes, count: (last - first + 1) * rowStride)
            for index in start..<end {
                let (row, target) = (fileRow(sorted[index]), matrix.row(place + index))
                try unpack(
                    scratch.raw + (row - first) * rowStride, count: 1, fileRow: row, into: target, lines)
                if checkFinite { try refuseNotFinite(target, count: 1, fileRow: row) }
            }
            start = end
        }
    }

    /// A checksum of up to 256 rows spread over these, and of how many there are: tells files apart without
    /// reading them whole.
    public func fingerprint() throws(StorageError) -> UInt32 {
        let sampled = min(count, 256)
        // What rows hold is for those to judge who use them.
        let rows = try gather((0..<sampled).map { $0 * count / sampled }, checkFinite: false)
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
        let bytes = offset(ofFileRow: fileRow(rows.lowerBound))..<offset(ofFileRow: fileRow(rows.upperBound))
        return copy(file: try InputFile(path: path, unreadable: bytes))
    }

    private func place(of row: Int) -> (row: Int, run: Int) {
        guard let leftOut else { return (start + row, Int.max) }
        let place = leftOut.place(of: start + row)
        return (skip + place.row, place.run)
    }

    private func offset(ofFileRow row: Int) -> UInt64 { dataOffset + UInt64(row) * UInt64(rowStride) }

    /// Room for a row as floats, twice.
    private func makeLines() -> Scratch? { conversion == nil ? nil : Scratch(2 * dimension * 4) }

    /// Copies the numbers of rows as they lie in the file, or converts them; each row's own dimension must be the first
    /// one's.
    private func unpack(
        _ from: UnsafeRawPointer, count: Int, fileRow row: Int, into target: UnsafeMutableRawPointer,
        _ lines: Scratch?
    ) throws(StorageError) {
        let prefix = format.rowPrefixByteCount
        for index in 0..<count {
            let start = from + index * rowStride
            if prefix > 0 && start.u32(0) != UInt32(dimension) {
                throw StorageError(
                    .badHeader, path: path, detail: "row \(row + index) has another dimension",
                    offset: offset(ofFileRow: row + index), expected: "\(dimension)",
                    found: "\(Int32(bitPattern: start.u32(0)))")
            }
            let (numbers, place) = (start + prefix, target + index * rowByteCount)
            guard let conversion, let lines else {
                place.copyMemory(from: numbers, byteCount: rowByteCount)
                continue
            }
            let line = lines.bytes.assumingMemoryBound(to: Float.self)
            let odd = conversion.convert(
                numbers, count: dimension, into: place, line: line, back: line + dimension)
            if let odd { throw inexact(odd.value, fileRow: row + index, column: odd.position) }
        }
    }

    private func inexact(_ value: Double, fileRow row: Int, column: Int) -> StorageError {
        StorageError(
            value.isFinite ? .inexact : .invalidValue, path: path,
            detail: "holds \(storedNumbers.name), and row \(row), column \(column) is no \(elementType.name)",
            offset: offset(ofFileRow: row)
                + UInt64(format.rowPrefixByteCount + column * storedNumbers.byteCount),
            expected: "a number that \(elementType.name) holds exactly", found: "\(value)")
    }

    private func refuseNotFinite(
        _ rows: UnsafeRawPointer, count: Int, fileRow row: Int
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
            .invalidValue, path: path, detail: "row \(badRow), column \(column)",
            offset: offset(ofFileRow: badRow)
                + UInt64(format.rowPrefixByteCount + column * storedNumbers.byteCount),
            expected: "a finite number", found: isNaN ? "NaN" : "infinity",
            advice: "remove the vector or repair it; distances to it mean nothing")
    }
}
