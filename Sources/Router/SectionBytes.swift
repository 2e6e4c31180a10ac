// Little-endian numbers into a section and out of it. A reader never goes past the end: it throws.

import Vectors

/// Collects the bytes of a section.
struct SectionWriter {
    private(set) var bytes: [UInt8] = []

    mutating func append<T: FixedWidthInteger>(_ value: T) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func append(_ value: Float) { append(value.bitPattern) }

    mutating func append(_ values: [UInt32]) {
        values.withUnsafeBytes { bytes.append(contentsOf: $0) }
    }

    mutating func append(_ values: [UInt8]) { bytes.append(contentsOf: values) }

    mutating func append(_ matrix: VectorMatrix) {
        bytes.append(contentsOf: UnsafeRawBufferPointer(start: matrix.bytes, count: matrix.byteCount))
    }
}

/// Reads the bytes of a section in order.
struct SectionReader {
    let section: String
    private let bytes: [UInt8]
    private var position = 0

    init(_ section: String, _ bytes: [UInt8]?) throws(RouterError) {
        self.section = section
        guard let bytes else { throw RouterError(section: section, problem: "missing") }
        self.bytes = bytes
    }

    func failure(_ problem: String) -> RouterError { RouterError(section: section, problem: problem) }

    private mutating func take(_ count: Int) throws(RouterError) -> Range<Int> {
        guard count >= 0, count <= bytes.count - position else {
            throw failure("ends at byte \(bytes.count), \(count) more expected at \(position)")
        }
        position += count
        return position - count..<position
    }

    mutating func integer<T: FixedWidthInteger>(_ type: T.Type) throws(RouterError) -> T {
        let range = try take(MemoryLayout<T>.size)
        return bytes.withUnsafeBytes {
            T(littleEndian: $0.loadUnaligned(fromByteOffset: range.lowerBound, as: T.self))
        }
    }

    /// A count of things of which each takes at least `bytesEach` of the bytes that are left.
    mutating func count(bytesEach: Int) throws(RouterError) -> Int {
        let value = try integer(UInt64.self)
        guard value <= UInt64(bytes.count - position) / UInt64(bytesEach) else {
            throw failure("counts \(value) things of \(bytesEach) bytes in \(bytes.count - position) bytes")
        }
        return Int(value)
    }

    mutating func float() throws(RouterError) -> Float { Float(bitPattern: try integer(UInt32.self)) }

    mutating func numbers(_ count: Int) throws(RouterError) -> [UInt32] {
        guard count >= 0, count <= bytes.count / 4 else { throw failure("counts \(count) numbers") }
        let range = try take(count * 4)
        return [UInt32](unsafeUninitializedCapacity: count) { buffer, used in
            bytes.withUnsafeBytes {
                UnsafeMutableRawBufferPointer(buffer).copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: $0[range]))
            }
            used = count
        }
    }

    /// `count` things of `each` bytes.
    mutating func bytes(count: Int, each: Int) throws(RouterError) -> [UInt8] {
        guard count >= 0, count <= bytes.count / max(1, each) else { throw failure("counts \(count) things") }
        return Array(bytes[try take(count * each)])
    }

    mutating func matrix(
        count: Int, dimension: Int, elementType: ElementType
    ) throws(RouterError) -> VectorMatrix {
        let rowSize = dimension * elementType.byteCount
        guard count >= 0, count <= bytes.count / max(1, rowSize) else {
            throw failure("counts \(count) rows")
        }
        let range = try take(count * rowSize)
        let matrix = VectorMatrix(count: count, dimension: dimension, elementType: elementType)
        bytes.withUnsafeBytes {
            matrix.bytes.copyMemory(from: $0.baseAddress! + range.lowerBound, byteCount: range.count)
        }
        return matrix
    }

    func finish() throws(RouterError) {
        guard position == bytes.count else {
            throw failure("\(bytes.count - position) bytes too many")
        }
    }
}
