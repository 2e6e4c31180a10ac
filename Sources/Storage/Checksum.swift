// CRC-32C over memory and over whole files: the one checksum of every format of sonde.

import CKernels

/// CRC-32C (Castagnoli), by the processor's instruction where there is one.
public enum Checksum {
    /// The checksum of `count` bytes, continued from the checksum of what came before them.
    public static func crc32c(_ bytes: UnsafeRawPointer, count: Int, continuing: UInt32 = 0) -> UInt32 {
        sonde_crc32c(continuing, bytes, count)
    }

    /// Eight hexadecimal digits, as manifests and messages show checksums.
    public static func text(_ value: UInt32) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 8 - digits.count) + digits
    }
}

/// Size and checksum of a whole file: what a manifest keeps of every other file.
public struct FileDigest: Sendable, Equatable, Codable {
    public var byteCount: UInt64
    public var crc32c: UInt32

    public init(byteCount: UInt64, crc32c: UInt32) {
        self.byteCount = byteCount
        self.crc32c = crc32c
    }

    /// Reads the whole file; `progress` hears the bytes done so far.
    public static func of(path: String, progress: (UInt64) -> Void = { _ in }) throws(StorageError)
        -> FileDigest
    {
        let file = try InputFile(path: path)
        let chunk = 1 << 20
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: chunk, alignment: 4096)
        defer { buffer.deallocate() }
        var (offset, crc) = (UInt64(0), UInt32(0))
        while offset < file.byteCount {
            let count = Int(min(UInt64(chunk), file.byteCount - offset))
            try file.read(at: offset, into: buffer, count: count)
            crc = Checksum.crc32c(buffer, count: count, continuing: crc)
            offset += UInt64(count)
            progress(offset)
        }
        return FileDigest(byteCount: offset, crc32c: crc)
    }
}
