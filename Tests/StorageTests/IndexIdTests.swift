// What binds a page to its place.

import Foundation
import Storage
import Testing
import Vectors

struct IndexIdTests {
    private let id = IndexId(of: JobIdentity([("base", "one")]))

    /// FNV-1a of 128 bits over "base: one" and a newline.
    @Test func idsAreThoseOfTheIdentity() {
        #expect(id.description == "ebbea41d6e9cae3b114176ba84953518")
        #expect(IndexId(id.description) == id)
        #expect(IndexId(of: JobIdentity([("base", "two")])) != id)
        for text in [
            "", "ebbea41d6e9cae3b114176ba8495351", "-bbea41d6e9cae3b114176ba84953518",
            "ebbea41d6e9cae3b114176ba849535180", "ebbea41d6e9cae3bg14176ba84953518",
        ] { #expect(IndexId(text) == nil, "\(text)") }
        let zero = String(repeating: "0", count: 32)
        #expect(IndexId(zero)?.description == zero)
    }

    @Test func aPlacesChecksumIsThatOfItsNumbers() {
        let bytes = little([UInt64(0x1141_76ba_8495_3518), 0xebbe_a41d_6e9c_ae3b])
        for (partition, unit) in [(0, 0), (7, 1), (1 << 31, 65_536)] {
            let all = bytes + little([UInt32(partition), UInt32(unit)])
            let checksum = all.withUnsafeBytes { Checksum.crc32c($0.baseAddress!, count: 24) }
            #expect(id.checksum(partition: partition, unitNumber: unit) == checksum)
        }
    }

    @Test func placesOfOnePartitionAndUnitsOfOneNumberDiffer() {
        #expect(Set((0..<5000).map { id.checksum(partition: 3, unitNumber: $0) }).count == 5000)
        #expect(Set((0..<5000).map { id.checksum(partition: $0, unitNumber: 3) }).count == 5000)
    }

    @Test func aUnitIsVerifiedAtItsPlaceOnly() throws {
        let layout = try PageLayout(dimension: 50, elementType: .u8, idByteCount: 4, binding: id)
        let rows = matrix(count: 40, dimension: 50, .u8)
        let unit = UnsafeMutableRawPointer.allocate(byteCount: layout.unitByteCount, alignment: 4096)
        defer { unit.deallocate() }
        func encode(_ layout: PageLayout) {
            layout.encode(
                ids: (0..<40).map { UInt64($0) }, rows: rows.bytes, count: 40, into: unit, partition: 9,
                unitNumber: 4)
        }
        encode(layout)
        #expect(layout.verify(unit: unit, partition: 9, unitNumber: 4))
        for (partition, number) in [(9, 3), (8, 4), (4, 9), (0, 0)] {
            #expect(!layout.verify(unit: unit, partition: partition, unitNumber: number))
        }
        let other = layout.bound(to: IndexId(of: JobIdentity([("base", "two")])))
        #expect(!other.verify(unit: unit, partition: 9, unitNumber: 4))
        #expect(!layout.bound(to: nil).verify(unit: unit, partition: 9, unitNumber: 4))
        // Bound to another place, it has the bytes that it would have been written with.
        for target in [other, layout.bound(to: nil), layout] {
            encode(layout)
            target.rebind(unit, from: layout, unitNumber: 4, partition: 9, unitNumber: 0)
            #expect(target.verify(unit: unit, partition: 9, unitNumber: 0))
            // What was damaged before stays damaged.
            encode(layout)
            unit.storeBytes(
                of: unit.load(fromByteOffset: 700, as: UInt8.self) ^ 1, toByteOffset: 700, as: UInt8.self)
            target.rebind(unit, from: layout, unitNumber: 4, partition: 9, unitNumber: 0)
            #expect(!target.verify(unit: unit, partition: 9, unitNumber: 0))
        }
    }
}
