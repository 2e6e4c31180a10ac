// Headers of vector files: what each format says about its rows, checked against the size of the file
// before a single row is read.

import Vectors

/// The formats of vector files, named by their usual extensions.
public enum VectorFileFormat: String, Sendable, CaseIterable {
    /// uint32 n, uint32 d, then n rows of d floats (big-ann-benchmarks).
    case fbin
    /// The same with bytes.
    case u8bin
    /// The same with signed bytes.
    case i8bin
    /// The same with half floats.
    case f16bin
    /// Each row: int32 d, then d floats (TexMex).
    case fvecs
    /// Each row: int32 d, then d bytes.
    case bvecs
    /// NumPy's array of two dimensions, C order, `<f4`, `<f2`, `|u1` or `|i1`; `<f8` where its numbers are converted.
    case npy

    /// By the path's extension; an extension further to the left counts where the last one says nothing
    /// ("base.1B.u8bin.crop_nb_1000000").
    public init?(path: String) {
        for part in Directory.name(of: path).split(separator: ".").dropFirst().reversed() {
            if let format = VectorFileFormat(rawValue: part.lowercased()) {
                self = format
                return
            }
        }
        return nil
    }

    /// The one element type that the format holds; nil for npy, which holds any.
    public var elementType: ElementType? {
        switch self {
        case .fbin, .fvecs: .f32
        case .f16bin: .f16
        case .u8bin, .bvecs: .u8
        case .i8bin: .i8
        case .npy: nil
        }
    }

    /// Bytes before the numbers of each row.
    var rowPrefixByteCount: Int { self == .fvecs || self == .bvecs ? 4 : 0 }

    /// "fbin, u8bin, ..." for messages.
    static var names: String { allCases.map(\.rawValue).joined(separator: ", ") }

    static func unknown(path: String) -> StorageError {
        StorageError(
            .unnamedFormat, path: path, detail: "its name tells no format of vectors", expected: names,
            advice: "rename it, or say what it holds")
    }
}

/// What a header says.
struct VectorFileHeader {
    var numbers: StoredNumbers
    var count: Int
    var dimension: Int
    /// Where row 0 starts, prefix included.
    var dataOffset: UInt64
    /// Whole rows that are there, where the file may end before its header says: as a download that was broken off
    /// does.
    var present: Int?

    /// - Parameter partial: whether the file may hold fewer rows than its header claims; then `present` tells how many.
    static func read(
        _ file: InputFile, format: VectorFileFormat, partial: Bool
    ) throws(StorageError) -> VectorFileHeader {
        var header =
            switch format {
            case .fbin, .u8bin, .i8bin, .f16bin:
                try readBigAnn(file, numbers: StoredNumbers(format.elementType ?? .f32))
            case .fvecs, .bvecs: try readVecs(file, format: format)
            case .npy: try NumpyHeader.read(file)
            }
        let stride = UInt64(format.rowPrefixByteCount + header.dimension * header.numbers.byteCount)
        if partial {
            let there = file.byteCount < header.dataOffset ? 0 : (file.byteCount - header.dataOffset) / stride
            header.present = min(header.count, Int(clamping: there))
        } else if format.rowPrefixByteCount == 0 {
            try header.checkSize(file)
        } else if file.byteCount % stride != 0 {
            throw .truncated(
                path: file.path, offset: UInt64(header.count) * stride, expected: stride,
                found: file.byteCount % stride)
        }
        return header
    }

    private static func readBigAnn(
        _ file: InputFile, numbers: StoredNumbers
    ) throws(StorageError) -> VectorFileHeader {
        let start = try head(file, count: 8)
        let header = VectorFileHeader(
            numbers: numbers, count: Int(start.raw.u32(0)), dimension: Int(start.raw.u32(4)), dataOffset: 8)
        try header.checkDimension(file, at: 4)
        return header
    }

    private static func readVecs(
        _ file: InputFile, format: VectorFileFormat
    ) throws(StorageError) -> VectorFileHeader {
        let start = try head(file, count: 4)
        var header = VectorFileHeader(
            numbers: StoredNumbers(format.elementType ?? .f32), count: 0,
            dimension: Int(Int32(bitPattern: start.raw.u32(0))), dataOffset: 0)
        try header.checkDimension(file, at: 0)
        header.count = Int(file.byteCount / UInt64(4 + header.dimension * header.numbers.byteCount))
        return header
    }

    /// The first `count` bytes, which every file of the format has.
    static func head(_ file: InputFile, count: Int) throws(StorageError) -> Scratch {
        guard file.byteCount >= UInt64(count) else {
            throw .truncated(path: file.path, offset: 0, expected: UInt64(count), found: file.byteCount)
        }
        let start = Scratch(count)
        try file.read(at: 0, into: start.bytes, count: count)
        return start
    }

    func checkDimension(_ file: InputFile, at offset: UInt64) throws(StorageError) {
        guard dimension > 0, dimension <= PageLayout.dimensionMaximum else {
            throw StorageError(
                .badHeader, path: file.path, detail: "claims a dimension that no vector has", offset: offset,
                expected: "1 to \(PageLayout.dimensionMaximum)", found: "\(dimension)")
        }
    }

    /// Rows back to back must fill the file exactly.
    private func checkSize(_ file: InputFile) throws(StorageError) {
        let rowByteCount = UInt64(dimension * numbers.byteCount)
        let (data, overflow) = UInt64(count).multipliedReportingOverflow(by: rowByteCount)
        let (size, overflow2) = data.addingReportingOverflow(dataOffset)
        guard !overflow, !overflow2, size == file.byteCount else {
            let expected = overflow || overflow2 ? "more than 2^64" : "\(size)"
            let isShort = overflow || overflow2 || size > file.byteCount
            let there = file.byteCount < dataOffset ? 0 : (file.byteCount - dataOffset) / rowByteCount
            throw StorageError(
                isShort ? .truncated : .badHeader, path: file.path,
                detail: "its header claims \(count) vectors of \(dimension) \(numbers.name), "
                    + "which its size contradicts",
                offset: 0, expected: "\(expected) bytes", found: "\(file.byteCount)",
                advice: isShort && there > 0
                    ? "the first \(there) are there: fetch the rest, or ask for no more than those" : nil)
        }
    }
}

/// The header of npy files, versions 1 to 3: a Python dictionary in a fixed order of nothing.
enum NumpyHeader {
    private static let byteCountMaximum = 1 << 16
    /// What is written: versions of NumPy differ in padding, all read this.
    static let writtenByteCount = 128

    static func read(_ file: InputFile) throws(StorageError) -> VectorFileHeader {
        let (text, textOffset, textByteCount) = try text(of: file)
        return try parse(text, textOffset: textOffset, textByteCount: textByteCount, file: file)
    }

    /// An array of two dimensions in C order, of numbers of any type.
    static func readArray(_ file: InputFile) throws(StorageError) -> (
        type: String?, count: Int, width: Int, dataOffset: UInt64, textOffset: UInt64
    ) {
        let (text, textOffset, textByteCount) = try text(of: file)
        let shape = value(of: "shape", in: text) ?? ""
        let sizes = shape.filter { $0 != "(" && $0 != ")" }.split(separator: ",").map {
            Int($0.filter { $0 != " " })
        }
        guard sizes.count == 2, let count = sizes[0], let width = sizes[1], count >= 0, width >= 0,
            value(of: "fortran_order", in: text) == "False"
        else {
            throw StorageError(
                .unsupported, path: file.path, detail: "is no array of two dimensions in C order",
                offset: UInt64(textOffset), expected: "shape (queries, k), fortran_order False", found: shape,
                advice: "save it with numpy.ascontiguousarray")
        }
        return (
            value(of: "descr", in: text)?.filter { $0 != "'" && $0 != "\"" }, count, width,
            UInt64(textOffset + textByteCount), UInt64(textOffset)
        )
    }

    /// The dictionary, and where it lies.
    private static func text(of file: InputFile) throws(StorageError) -> (String, Int, Int) {
        let start = try VectorFileHeader.head(file, count: 12)
        guard start.raw.load(as: UInt8.self) == 0x93, start.raw.holds("NUMPY", at: 1) else {
            throw StorageError(
                .badHeader, path: file.path, detail: "is no npy file", offset: 0, expected: "\\x93NUMPY")
        }
        let major = start.raw.load(fromByteOffset: 6, as: UInt8.self)
        guard (1...3).contains(major) else {
            throw StorageError(
                .unsupportedVersion, path: file.path,
                detail: "has an npy version that this sonde does not know",
                offset: 6, expected: "1 to 3", found: "\(major)")
        }
        let textOffset = major == 1 ? 10 : 12
        let textByteCount = major == 1 ? Int(start.raw.u16(8)) : Int(start.raw.u32(8))
        guard textByteCount <= byteCountMaximum else {
            throw StorageError(
                .badHeader, path: file.path, detail: "claims a header that is too long", offset: 8,
                expected: "at most \(byteCountMaximum) bytes", found: "\(textByteCount)")
        }
        let all = try VectorFileHeader.head(file, count: textOffset + textByteCount)
        let text = String(
            decoding: UnsafeRawBufferPointer(start: all.raw + textOffset, count: textByteCount), as: UTF8.self
        )
        return (text, textOffset, textByteCount)
    }

    private static func parse(
        _ text: String, textOffset: Int, textByteCount: Int, file: InputFile
    ) throws(StorageError) -> VectorFileHeader {
        func bad(_ detail: String, expected: String, found: String?) -> StorageError {
            StorageError(
                .unsupported, path: file.path, detail: detail, offset: UInt64(textOffset), expected: expected,
                found: found,
                advice: "save the array with numpy.ascontiguousarray as float32, float16, uint8 or int8")
        }
        let type = value(of: "descr", in: text)?.filter { $0 != "'" && $0 != "\"" }
        let numbers: StoredNumbers
        switch type {
        case "<f4": numbers = .f32
        case "<f2": numbers = .f16
        case "<f8": numbers = .f64
        case "|u1", "<u1": numbers = .u8
        case "|i1", "<i1": numbers = .i8
        default:
            throw bad("holds numbers of another type", expected: "<f4, <f2, <f8, |u1 or |i1", found: type)
        }
        let order = value(of: "fortran_order", in: text)
        guard order == "False" else {
            throw bad("does not lie in C order", expected: "fortran_order False", found: order)
        }
        let shape = value(of: "shape", in: text) ?? ""
        let sizes = shape.filter { $0 != "(" && $0 != ")" }.split(separator: ",").map {
            Int($0.filter { $0 != " " })
        }
        guard sizes.count == 2, let count = sizes[0], let dimension = sizes[1], count >= 0 else {
            throw bad("is no array of two dimensions", expected: "shape (n, d)", found: shape)
        }
        let header = VectorFileHeader(
            numbers: numbers, count: count, dimension: dimension,
            dataOffset: UInt64(textOffset + textByteCount))
        try header.checkDimension(file, at: UInt64(textOffset))
        return header
    }

    /// The text behind a key, up to the comma that ends it; commas inside of parentheses do not.
    private static func value(of key: String, in text: String) -> String? {
        let characters = Array(text)
        for quote in ["'", "\""] {
            let wanted = Array(quote + key + quote)
            guard characters.count > wanted.count else { continue }
            for start in 0..<characters.count - wanted.count
            where characters[start..<start + wanted.count].elementsEqual(wanted) {
                var depth = 0
                var value = ""
                for character in characters[(start + wanted.count)...].drop(while: { $0 == " " || $0 == ":" })
                {
                    if depth == 0 && (character == "," || character == "}") { break }
                    if character == "(" { depth += 1 }
                    if character == ")" { depth -= 1 }
                    value.append(character)
                }
                return String(
                    value.drop(while: { $0 == " " }).reversed().drop(while: { $0 == " " }).reversed())
            }
        }
        return nil
    }

    /// A header of `writtenByteCount` bytes, whatever the count, so that it can be rewritten at the end.
    static func encode(count: Int, dimension: Int, elementType: ElementType) -> [UInt8] {
        let type =
            switch elementType {
            case .f32: "<f4"
            case .f16: "<f2"
            case .u8: "|u1"
            case .i8: "|i1"
            }
        return encode(count: count, dimension: dimension, type: type)
    }

    /// The same for numbers of a type by NumPy's name.
    static func encode(count: Int, dimension: Int, type: String) -> [UInt8] {
        let text = "{'descr': '\(type)', 'fortran_order': False, 'shape': (\(count), \(dimension)), }"
        let padding = writtenByteCount - 10 - text.utf8.count - 1
        let length = UInt16(writtenByteCount - 10)
        return [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(length & 0xff), UInt8(length >> 8)]
            + Array(text.utf8)
            + [UInt8](repeating: 0x20, count: padding) + [0x0a]
    }
}
