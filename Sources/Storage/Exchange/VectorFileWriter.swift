// Files of vectors, written row by row in every format that is read.

import Vectors

/// Streams rows into a file that gets its name when it is finished.
public final class VectorFileWriter {
    public let path: String
    public let format: VectorFileFormat
    public let dimension: Int
    public let elementType: ElementType
    /// Rows appended so far.
    public private(set) var count = 0
    private let file: OutputFile

    /// - Parameter format: nil for the one that the extension names.
    /// - Throws: kind `unsupported` where the format does not hold the element type.
    public init(
        path: String, format: VectorFileFormat? = nil, dimension: Int, elementType: ElementType
    ) throws(StorageError) {
        guard let format = format ?? VectorFileFormat(path: path) else {
            throw VectorFileFormat.unknown(path: path)
        }
        if let held = format.elementType, held != elementType {
            throw StorageError(
                .unsupported, path: path, detail: "\(format.rawValue) files do not hold these numbers",
                expected: held.name, found: elementType.name)
        }
        guard dimension > 0, dimension <= PageLayout.dimensionMaximum else {
            throw StorageError(
                .invalidValue, path: path, detail: "no vector has this dimension",
                expected: "1 to \(PageLayout.dimensionMaximum)", found: "\(dimension)")
        }
        self.path = path
        self.format = format
        self.dimension = dimension
        self.elementType = elementType
        file = try OutputFile(path: path, atomically: true)
        try file.append(header)
    }

    /// Appends `rows` of a matrix of the same dimension and element type; nil: all of them.
    public func append(_ matrix: VectorMatrix, rows: Range<Int>? = nil) throws(StorageError) {
        precondition(matrix.dimension == dimension && matrix.elementType == elementType)
        let rows = rows ?? 0..<matrix.count
        precondition(rows.lowerBound >= 0 && rows.upperBound <= matrix.count)
        try append(matrix.row(rows.lowerBound), count: rows.count)
    }

    /// Appends rows that lie back to back.
    public func append(_ rows: UnsafeRawPointer, count more: Int) throws(StorageError) {
        let rowByteCount = dimension * elementType.byteCount
        if format.rowPrefixByteCount == 0 {
            try file.append(rows, count: more * rowByteCount)
        } else {
            var prefix = UInt32(dimension).littleEndian
            for row in 0..<more {
                try file.append(&prefix, count: 4)
                try file.append(rows + row * rowByteCount, count: rowByteCount)
            }
        }
        count += more
    }

    /// Completes the header and gives the file its name.
    public func finish() throws(StorageError) {
        if format != .npy && format.rowPrefixByteCount == 0 && count > Int(UInt32.max) {
            throw StorageError(
                .unsupported, path: path, detail: "\(format.rawValue) files count rows in 32 bits",
                expected: "at most \(UInt32.max)", found: "\(count)")
        }
        let header = header
        if !header.isEmpty {
            let bytes = Scratch(header.count)
            for (index, byte) in header.enumerated() {
                bytes.bytes.storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
            }
            try file.overwriteStart(bytes.bytes, count: header.count)
        }
        try file.finish()
    }

    private var header: [UInt8] {
        switch format {
        case .fvecs, .bvecs:
            return []
        case .npy:
            return NumpyHeader.encode(count: count, dimension: dimension, elementType: elementType)
        case .fbin, .u8bin, .i8bin, .f16bin:
            let bytes = Scratch(8)
            bytes.bytes.put(UInt32(truncatingIfNeeded: count), at: 0)
            bytes.bytes.put(UInt32(dimension), at: 4)
            return Array(UnsafeRawBufferPointer(start: bytes.bytes, count: 8))
        }
    }
}
