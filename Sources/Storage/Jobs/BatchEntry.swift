// What the journal of a batch says of each finished block.

/// How far a batch has come: `position` in its answers, and the checksum of the queries answered.
///
///     0   u64  queries finished
///     8   u32  CRC-32C of those queries
///     12  u32, u32  CRC-32C of the answers' two stretches
public struct BatchEntry: JournalEntry {
    public var position: ResultWriter.Position
    public var queryChecksum: UInt32

    public init(position: ResultWriter.Position = .init(), queryChecksum: UInt32 = 0) {
        self.position = position
        self.queryChecksum = queryChecksum
    }

    public init(decoding bytes: UnsafeRawPointer) {
        position = .init(finished: bytes.u64(0), checksums: [bytes.u32(12), bytes.u32(16)])
        queryChecksum = bytes.u32(8)
    }

    public func encode(into bytes: UnsafeMutableRawPointer) {
        bytes.put(position.finished, at: 0)
        bytes.put(queryChecksum, at: 8)
        bytes.put(position.checksums[0], at: 12)
        bytes.put(position.checksums[1], at: 16)
    }

    public var isCommit: Bool { true }

    public func follows(_ previous: BatchEntry?) -> Bool {
        position.finished > previous?.position.finished ?? 0
    }
}
