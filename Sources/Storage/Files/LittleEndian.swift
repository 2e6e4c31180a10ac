// Fixed-width little-endian integers in raw memory, at any alignment.

extension UnsafeRawPointer {
    func u16(_ offset: Int) -> UInt16 {
        UInt16(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }
    func u32(_ offset: Int) -> UInt32 {
        UInt32(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }
    func u64(_ offset: Int) -> UInt64 {
        UInt64(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    /// Whether the bytes at `offset` are those of `text`.
    func holds(_ text: StaticString, at offset: Int) -> Bool {
        (0..<text.utf8CodeUnitCount).allSatisfy {
            self.load(fromByteOffset: offset + $0, as: UInt8.self) == text.utf8Start[$0]
        }
    }
}

extension UnsafeMutableRawPointer {
    func put(_ value: UInt16, at offset: Int) {
        storeBytes(of: value.littleEndian, toByteOffset: offset, as: UInt16.self)
    }
    func put(_ value: UInt32, at offset: Int) {
        storeBytes(of: value.littleEndian, toByteOffset: offset, as: UInt32.self)
    }
    func put(_ value: UInt64, at offset: Int) {
        storeBytes(of: value.littleEndian, toByteOffset: offset, as: UInt64.self)
    }

    func put(_ text: StaticString, at offset: Int) {
        (self + offset).copyMemory(from: text.utf8Start, byteCount: text.utf8CodeUnitCount)
    }
}

/// Zeroed memory that is freed with its owner: where headers and tables are put together or taken apart.
final class Scratch {
    let bytes: UnsafeMutableRawPointer
    let count: Int

    init(_ count: Int) {
        self.count = count
        bytes = .allocate(byteCount: max(count, 8), alignment: 64)
        bytes.initializeMemory(as: UInt8.self, repeating: 0, count: max(count, 8))
    }

    deinit { bytes.deallocate() }

    var raw: UnsafeRawPointer { UnsafeRawPointer(bytes) }
}
