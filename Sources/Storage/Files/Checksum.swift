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
        let crc = try file.checksum(at: 0, byteCount: file.byteCount, progress: progress)
        return FileDigest(byteCount: file.byteCount, crc32c: crc)
    }

    /// Refuses a file whose first `byteCount` bytes are not these; what follows them is not looked at.
    ///
    /// - Throws: kind `missing`, `truncated` or `corrupt`, with the advice to begin anew.
    public func check(path: String, progress: (UInt64) -> Void = { _ in }) throws(StorageError) {
        let advice = "what an unfinished build has left is damaged: begin anew"
        let file: InputFile
        do {
            file = try InputFile(path: path)
        } catch {
            guard error.kind == .missing else { throw error }
            throw StorageError(
                .missing, path: path, detail: "there is no such file", advice: advice, remedy: .beginAnew)
        }
        guard file.byteCount >= byteCount else {
            throw StorageError(
                .truncated, path: path, detail: "ends too early", offset: file.byteCount,
                expected: "\(byteCount) bytes", found: "\(file.byteCount)", advice: advice, remedy: .beginAnew
            )
        }
        let found = try file.checksum(at: 0, byteCount: byteCount, progress: progress)
        guard found == crc32c else {
            throw StorageError(
                .corrupt, path: path, detail: "is not what the journal tells of: its checksum differs",
                expected: Checksum.text(crc32c), found: Checksum.text(found), advice: advice,
                remedy: .beginAnew)
        }
    }
}

extension InputFile {
    /// The checksum of a part of the file; `progress` hears the bytes done so far.
    func checksum(
        at offset: UInt64, byteCount: UInt64, progress: (UInt64) -> Void = { _ in }
    ) throws(StorageError) -> UInt32 {
        let buffer = Scratch(1 << 18)
        var (done, crc) = (UInt64(0), UInt32(0))
        while done < byteCount {
            let count = Int(min(UInt64(buffer.count), byteCount - done))
            try read(at: offset + done, into: buffer.bytes, count: count)
            crc = Checksum.crc32c(buffer.raw, count: count, continuing: crc)
            done += UInt64(count)
            progress(done)
        }
        return crc
    }
}
