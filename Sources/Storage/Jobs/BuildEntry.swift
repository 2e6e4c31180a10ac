// What the journal of a build says: of files, how many of their bytes are true, and of stages, how far they are.

/// An entry of a build's journal. What stands of files counts from the next `reached` on.
///
///     0   u32  kind: 1 file, 2 reached, 3 gone
///     4   u32  number of the file, or of the stage
///     8   u64  bytes of the file, or how far the stage has come
///     16  u32  file: CRC-32C of those bytes
public enum BuildEntry: JournalEntry {
    /// The first `digest.byteCount` bytes of a file are on the device and are part of the build.
    case file(UInt32, FileDigest)
    /// A file is not needed any more.
    case gone(UInt32)
    /// A stage has come so far.
    case reached(stage: UInt32, position: UInt64)
    /// Whatever a newer sonde may write; never written.
    case unknown

    public init(decoding bytes: UnsafeRawPointer) {
        switch bytes.u32(0) {
        case 1: self = .file(bytes.u32(4), FileDigest(byteCount: bytes.u64(8), crc32c: bytes.u32(16)))
        case 2: self = .reached(stage: bytes.u32(4), position: bytes.u64(8))
        case 3: self = .gone(bytes.u32(4))
        default: self = .unknown
        }
    }

    public func encode(into bytes: UnsafeMutableRawPointer) {
        switch self {
        case .file(let number, let digest):
            bytes.put(UInt32(1), at: 0)
            bytes.put(number, at: 4)
            bytes.put(digest.byteCount, at: 8)
            bytes.put(digest.crc32c, at: 16)
        case .reached(let stage, let position):
            bytes.put(UInt32(2), at: 0)
            bytes.put(stage, at: 4)
            bytes.put(position, at: 8)
        case .gone(let number):
            bytes.put(UInt32(3), at: 0)
            bytes.put(number, at: 4)
        case .unknown: break
        }
    }

    public var isCommit: Bool {
        if case .reached = self { true } else { false }
    }

    /// Stages come one after the other, and go forward.
    public func follows(_ previous: BuildEntry?) -> Bool {
        guard case .reached(let stage, let position) = self else { return false }
        guard case .reached(let before, let reached) = previous else { return true }
        return (stage, position) >= (before, reached)
    }
}
