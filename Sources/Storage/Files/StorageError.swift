// What can go wrong with files and devices. One type for the room: which file, where in it, what was
// expected and what was found, so that one printed line is enough to act on.

import Glibc

/// An error of reading or writing a file, or of what a file says.
public struct StorageError: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Kind: Sendable, Equatable {
        /// The kernel refused a call.
        case systemCall(name: String, errno: Int32)
        /// The file ends too early.
        case truncated
        /// Bytes are not what was written.
        case corrupt
        /// Written by a newer format.
        case unsupportedVersion
        /// The header contradicts itself or the file's size.
        case badHeader
        /// A value that no file may hold or no caller may ask for.
        case invalidValue
        /// The target is there already.
        case exists
        /// The file is not there.
        case missing
        /// The device has too little room for what is to be written.
        case noSpace
        /// Well-formed, but nothing that this program handles.
        case unsupported
        /// A file of vectors or neighbours whose name does not tell what it holds.
        case unnamedFormat
        /// A number that the type it is wanted in does not hold exactly.
        case inexact
    }

    /// What a caller can ask for instead. The commands tell which option asks for it.
    public enum Remedy: Sendable, Equatable {
        /// Begin the job anew.
        case beginAnew
        /// Go on with the unfinished job, or begin it anew.
        case goOnOrBeginAnew
        /// Give the job more memory.
        case moreMemory
        /// Give as much memory as the job was begun with, or begin it anew.
        case memoryOrBeginAnew
        /// Ask beforehand what is needed.
        case forecast
        /// Give fewer queries at a time.
        case split
        /// Join the parts of a result first.
        case joinParts
        /// Give what a shard of a batch has written.
        case writeParts
    }

    public let kind: Kind
    public let path: String
    /// What is wrong, as the middle of a sentence.
    public let detail: String
    /// Byte offset in the file.
    public let offset: UInt64?
    public let expected: String?
    public let found: String?
    /// What to do about it.
    public let advice: String?
    /// The same for a program, where asking again with other parameters helps.
    public let remedy: Remedy?

    public init(
        _ kind: Kind, path: String, detail: String, offset: UInt64? = nil, expected: String? = nil,
        found: String? = nil, advice: String? = nil, remedy: Remedy? = nil
    ) {
        self.kind = kind
        self.path = path
        self.detail = detail
        self.offset = offset
        self.expected = expected
        self.found = found
        self.advice = advice
        self.remedy = remedy
    }

    /// A call that failed with `errno`.
    public static func systemCall(
        _ name: String, path: String, errno code: Int32, offset: UInt64? = nil
    ) -> StorageError {
        let advice: String? =
            switch code {
            case ENOSPC, EDQUOT: "free space on the device or write elsewhere"
            case EACCES, EPERM, EROFS: "check the permissions of the file and its directory"
            case EMFILE, ENFILE: "raise the limit of open files (ulimit -n)"
            case EIO: "the device failed; check the kernel's log"
            default: nil
            }
        return StorageError(
            .systemCall(name: name, errno: code), path: path,
            detail: "\(name) failed: \(String(cString: strerror(code)))", offset: offset, advice: advice)
    }

    /// A file or a read that ended before it should: `expected` and `found` are byte counts.
    public static func truncated(
        path: String, offset: UInt64, expected: UInt64, found: UInt64
    ) -> StorageError {
        StorageError(
            .truncated, path: path, detail: "ends too early", offset: offset, expected: "\(expected) bytes",
            found: "\(found)")
    }

    static func checksum(path: String, what: String, offset: UInt64, expected: UInt32, found: UInt32)
        -> StorageError
    {
        StorageError(
            .corrupt, path: path, detail: "\(what) fails its checksum", offset: offset,
            expected: Checksum.text(expected), found: Checksum.text(found))
    }

    static func version(path: String, offset: UInt64?, known: UInt32, found: UInt64) -> StorageError {
        StorageError(
            .unsupportedVersion, path: path, detail: "has a format version that this sonde does not know",
            offset: offset, expected: "\(known)", found: "\(found)",
            advice: "read it with the sonde that wrote it, or build it again")
    }

    /// One line: path, what, where, expected, found, advice.
    public var description: String {
        var text = "\(path): \(detail)"
        if let offset { text += " at offset \(offset)" }
        switch (expected, found) {
        case (let expected?, let found?): text += ": expected \(expected), found \(found)"
        case (let expected?, nil): text += ": expected \(expected)"
        case (nil, let found?): text += ": found \(found)"
        case (nil, nil): break
        }
        if let advice { text += "; \(advice)" }
        return text
    }
}
