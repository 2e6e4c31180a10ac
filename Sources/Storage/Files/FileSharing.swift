// A published index is never changed in place, so two indexes may share a file: a second name costs nothing.

import Glibc

/// Gives a file that is never changed a second name.
public enum FileSharing {
    /// Links `path` to `source`, or copies it where the file system refuses (another device, no links).
    /// `path` must not exist.
    ///
    /// - Throws: kind `corrupt` where a copy is not what `digest` says.
    public static func share(_ source: String, as path: String, digest: FileDigest) throws(StorageError) {
        if link(source, path) == 0 { return }
        let code = errno
        guard [EXDEV, EPERM, EMLINK, EOPNOTSUPP, ENOSYS].contains(code) else {
            throw code == EEXIST
                ? StorageError(.exists, path: path, detail: "exists already and is not overwritten")
                : StorageError.systemCall("link", path: source, errno: code)
        }
        try copy(source, as: path, digest: digest)
    }

    /// Copies `source` and compares what was copied with `digest`.
    static func copy(_ source: String, as path: String, digest: FileDigest) throws(StorageError) {
        let input = try InputFile(path: source)
        let output = try OutputFile(path: path, atomically: false, bufferByteCount: 4 << 20)
        var offset: UInt64 = 0
        while offset < input.byteCount {
            let count = Int(min(4 << 20, input.byteCount - offset))
            try input.read(at: offset, into: try output.reserve(count), count: count)
            offset += UInt64(count)
        }
        let copied = try output.finish()
        guard copied == digest else {
            throw StorageError(
                .corrupt, path: source, detail: "is not the file that its manifest describes",
                expected: "\(digest.byteCount) bytes, checksum \(Checksum.text(digest.crc32c))",
                found: "\(copied.byteCount) bytes, checksum \(Checksum.text(copied.crc32c))")
        }
    }
}
