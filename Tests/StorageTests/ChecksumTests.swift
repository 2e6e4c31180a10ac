import Storage
import Testing

struct ChecksumTests {
    /// Bit by bit, from the definition.
    private func reference(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        var crc = ~UInt32(0)
        for byte in bytes {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82f6_3b78 : crc >> 1 }
        }
        return ~crc
    }

    private func crc(_ bytes: ArraySlice<UInt8>, continuing: UInt32 = 0) -> UInt32 {
        bytes.withUnsafeBytes { Checksum.crc32c($0.baseAddress!, count: $0.count, continuing: continuing) }
    }

    @Test func theCheckValueOfCRC32C() {
        #expect(crc(Array("123456789".utf8)[...]) == 0xe306_9283)
    }

    @Test func allLengthsAndStartsAgreeWithTheDefinition() {
        let random = noise(9000)
        for length in [0, 1, 7, 8, 9, 63, 4079, 4080, 4081, 4092, 8159, 8160, 8161, 8999] {
            for start in 0..<2 where start + length <= random.count {
                #expect(crc(random[start..<start + length]) == reference(random[start..<start + length]))
            }
        }
    }

    @Test func aChecksumContinues() {
        let random = noise(5000)
        let whole = crc(random[...])
        for cut in [1, 8, 100, 4080, 4999] {
            #expect(crc(random[cut...], continuing: crc(random[..<cut])) == whole)
        }
    }

    @Test func eightDigits() {
        #expect(Checksum.text(0xab) == "000000ab")
        #expect(Checksum.text(.max) == "ffffffff")
    }
}
