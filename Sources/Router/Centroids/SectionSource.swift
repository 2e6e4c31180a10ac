// Where the sections of a router are read from. Large ones are read in pieces straight into what is made of them, so
// that no copy of a section stands beside it while an index is opened.

import Vectors

/// Sections by tag.
public protocol SectionSource: Sendable {
    /// Bytes of a section; nil where there is none.
    func byteCount(ofSection tag: String) -> Int?
    /// Reads `target.count` bytes from `offset` of a section that holds them.
    func read(section tag: String, at offset: Int, into target: UnsafeMutableRawBufferPointer) throws
}

/// Sections in memory.
extension Dictionary: SectionSource where Key == String, Value == [UInt8] {
    public func byteCount(ofSection tag: String) -> Int? { self[tag]?.count }

    public func read(section tag: String, at offset: Int, into target: UnsafeMutableRawBufferPointer) {
        guard let bytes = self[tag] else { preconditionFailure("section \(tag) is not there") }
        bytes.withUnsafeBytes { target.copyMemory(from: .init(rebasing: $0[offset..<offset + target.count])) }
    }
}

/// Sections that lie within a section of another source.
struct NestedSections: SectionSource {
    let source: any SectionSource
    let section: String
    /// Where each lies in `section`.
    var ranges: [String: Range<Int>] = [:]

    func byteCount(ofSection tag: String) -> Int? { ranges[tag]?.count }

    func read(section tag: String, at offset: Int, into target: UnsafeMutableRawBufferPointer) throws {
        guard let range = ranges[tag] else { preconditionFailure("section \(tag) is not there") }
        try source.read(section: section, at: range.lowerBound + offset, into: target)
    }
}

/// Reads the bytes of a section in order.
struct SectionReader {
    let section: String
    private let source: any SectionSource
    private let byteCount: Int
    private var position = 0

    init(_ section: String, in source: any SectionSource) throws(RouterError) {
        self.section = section
        self.source = source
        guard let byteCount = source.byteCount(ofSection: section) else {
            throw RouterError(section: section, problem: "missing")
        }
        self.byteCount = byteCount
    }

    var remaining: Int { byteCount - position }

    func failure(_ problem: String) -> RouterError { RouterError(section: section, problem: problem) }

    /// Passes over `count` bytes and says where they lie.
    mutating func skip(_ count: Int) throws(RouterError) -> Range<Int> {
        guard count >= 0, count <= byteCount - position else {
            throw failure("ends at byte \(byteCount), \(count) more expected at \(position)")
        }
        position += count
        return position - count..<position
    }

    /// Fills `target` with the next bytes.
    mutating func read(into target: UnsafeMutableRawBufferPointer) throws(RouterError) {
        let range = try skip(target.count)
        guard !range.isEmpty else { return }
        do {
            try source.read(section: section, at: range.lowerBound, into: target)
        } catch {
            throw failure("cannot be read: \(error)")
        }
    }

    mutating func integer<T: FixedWidthInteger>(_ type: T.Type) throws(RouterError) -> T {
        var value: T = 0
        let result: Result<Void, RouterError> = withUnsafeMutableBytes(of: &value) { bytes in
            Result { () throws(RouterError) in try read(into: bytes) }
        }
        try result.get()
        return T(littleEndian: value)
    }

    /// A count of things of which each takes at least `bytesEach` of the bytes that are left.
    mutating func count(bytesEach: Int) throws(RouterError) -> Int {
        let value = try integer(UInt64.self)
        guard value <= UInt64(byteCount - position) / UInt64(bytesEach) else {
            throw failure("counts \(value) things of \(bytesEach) bytes in \(byteCount - position) bytes")
        }
        return Int(value)
    }

    mutating func float() throws(RouterError) -> Float { Float(bitPattern: try integer(UInt32.self)) }

    mutating func numbers(_ count: Int) throws(RouterError) -> [UInt32] { try array(count, of: 0, "numbers") }

    mutating func floats(_ count: Int) throws(RouterError) -> [Float] { try array(count, of: 0, "numbers") }

    mutating func halves(_ count: Int) throws(RouterError) -> [UInt16] { try array(count, of: 0, "numbers") }

    /// `count` things of `each` bytes.
    mutating func bytes(count: Int, each: Int) throws(RouterError) -> [UInt8] {
        guard count >= 0, count <= byteCount / max(1, each) else { throw failure("counts \(count) things") }
        return try array(count * each, of: 0, "bytes")
    }

    /// Fixed-width values as they lie in memory; every processor that sonde runs on is little endian.
    private mutating func array<T: BitwiseCopyable>(_ count: Int, of zero: T, _ what: String)
        throws(RouterError)
        -> [T]
    {
        guard count >= 0, count <= byteCount / MemoryLayout<T>.size else {
            throw failure("counts \(count) \(what)")
        }
        // Bounds are checked before memory is taken for what a damaged count claims.
        guard count * MemoryLayout<T>.size <= byteCount - position else {
            _ = try skip(count * MemoryLayout<T>.size)
            return []
        }
        var found: Result<Void, RouterError> = .success(())
        let values = [T](unsafeUninitializedCapacity: count) { buffer, used in
            found = Result { () throws(RouterError) in
                try read(
                    into: UnsafeMutableRawBufferPointer(
                        start: buffer.baseAddress, count: count * MemoryLayout<T>.size))
            }
            if case .failure = found { buffer.initialize(repeating: zero) }
            used = count
        }
        try found.get()
        return values
    }

    mutating func matrix(
        count: Int, dimension: Int, elementType: ElementType, inHugePages: Bool = false
    ) throws(RouterError) -> VectorMatrix {
        let rowSize = dimension * elementType.byteCount
        guard count >= 0, count <= byteCount / max(1, rowSize) else {
            throw failure("counts \(count) rows")
        }
        guard count * rowSize <= byteCount - position else {
            _ = try skip(count * rowSize)
            return VectorMatrix(count: 0, dimension: dimension, elementType: elementType)
        }
        let matrix = VectorMatrix(
            count: count, dimension: dimension, elementType: elementType, inHugePages: inHugePages)
        try read(into: UnsafeMutableRawBufferPointer(start: matrix.bytes, count: matrix.byteCount))
        return matrix
    }

    func finish() throws(RouterError) {
        guard position == byteCount else {
            throw failure("\(byteCount - position) bytes too many")
        }
    }
}
