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

    mutating func append(_ values: [Float]) {
        values.withUnsafeBytes { bytes.append(contentsOf: $0) }
    }

    mutating func append(_ values: [UInt8]) { bytes.append(contentsOf: values) }

    mutating func append(raw buffer: UnsafeRawBufferPointer) { bytes.append(contentsOf: buffer) }

    mutating func append(_ matrix: VectorMatrix) {
        bytes.append(contentsOf: UnsafeRawBufferPointer(start: matrix.bytes, count: matrix.byteCount))
    }
}
