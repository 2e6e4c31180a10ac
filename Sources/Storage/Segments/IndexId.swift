// Which index a page belongs to. Every page's checksum is bound to it and to the page's place, so that a page that is
// read alone tells whether it is the one that was asked for.

/// The 16 bytes that tell the segments of an index from those of any other.
public struct IndexId: Sendable, Hashable, CustomStringConvertible {
    /// On disk.
    public static let byteCount = 16

    private let high: UInt64
    private let low: UInt64
    /// CRC-32C of the bytes; that of every place goes on from it.
    private let checksum: UInt32

    private init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
        let bytes = Scratch(Self.byteCount)
        bytes.bytes.put(low, at: 0)
        bytes.bytes.put(high, at: 8)
        checksum = Checksum.crc32c(bytes.raw, count: Self.byteCount)
    }

    /// The id of the segments that all this decides: the same wherever and whenever they are written. FNV-1a of 128
    /// bits over the identity's text.
    public init(of identity: JobIdentity) {
        let prime = UInt128(1) << 88 | 0x13b
        var hash: UInt128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d
        for byte in identity.encoded { hash = (hash ^ UInt128(byte)) &* prime }
        self.init(high: UInt64(truncatingIfNeeded: hash >> 64), low: UInt64(truncatingIfNeeded: hash))
    }

    /// The id that 16 bytes hold.
    init(decoding bytes: UnsafeRawPointer) { self.init(high: bytes.u64(8), low: bytes.u64(0)) }

    /// Writes 16 bytes.
    func encode(into bytes: UnsafeMutableRawPointer) {
        bytes.put(low, at: 0)
        bytes.put(high, at: 8)
    }

    /// The id whose `description` this is.
    public init?(_ text: String) {
        guard text.utf8.count == 32, text.allSatisfy(\.isHexDigit),
            let high = UInt64(text.prefix(16), radix: 16), let low = UInt64(text.suffix(16), radix: 16)
        else { return nil }
        self.init(high: high, low: low)
    }

    /// 32 hexadecimal digits.
    public var description: String {
        func digits(_ value: UInt64) -> String {
            let text = String(value, radix: 16)
            return String(repeating: "0", count: 16 - text.count) + text
        }
        return digits(high) + digits(low)
    }

    /// The checksum of a place: CRC-32C of the id, the partition and the unit's number in its segment. Two units of one
    /// partition, and the same unit of two, never have the same; others do by a chance of 2^-32.
    public func checksum(partition: Int, unitNumber: Int) -> UInt32 {
        var place =
            UInt64(UInt32(truncatingIfNeeded: partition)) | UInt64(UInt32(truncatingIfNeeded: unitNumber))
            << 32
        place = place.littleEndian
        return Checksum.crc32c(&place, count: 8, continuing: checksum)
    }
}
