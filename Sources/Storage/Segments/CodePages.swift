// codes.bin: the codes of all records where an index keeps them on the device. Blocks of partitions lie back to back, so
// that those of near partitions come with one read; zeros fill the last page. A checksum of each page stands in router.bin,
// by its number: a page of another place or of another index is not the one that it tells of.

/// The pages of codes.bin.
public enum CodePages {
    public static let byteCount = PageLayout.pageByteCount

    /// Bytes of the file that holds so many bytes of codes.
    public static func fileByteCount(of codes: Int) -> Int {
        (codes + byteCount - 1) / byteCount * byteCount
    }

    /// The checksum of a page.
    public static func checksum(_ page: UnsafeRawPointer) -> UInt32 {
        Checksum.crc32c(page, count: byteCount)
    }

    /// The checksums of the pages that codes fill.
    public static func checksums(of codes: UnsafeRawBufferPointer) -> [UInt32] {
        guard let base = codes.baseAddress else { return [] }
        return stride(from: 0, to: codes.count, by: byteCount).map { first in
            guard codes.count - first < byteCount else { return checksum(base + first) }
            let last = Scratch(byteCount)
            last.bytes.copyMemory(from: base + first, byteCount: codes.count - first)
            return checksum(last.bytes)
        }
    }

    /// Writes the file, which must not exist.
    @discardableResult
    package static func write(
        path: String, codes: UnsafeRawBufferPointer
    ) throws(StorageError) -> FileDigest {
        let file = try OutputFile(path: path, atomically: false)
        if let base = codes.baseAddress { try file.append(base, count: codes.count) }
        let padding = Scratch(byteCount)
        try file.append(padding.bytes, count: fileByteCount(of: codes.count) - codes.count)
        return try file.finish()
    }
}
