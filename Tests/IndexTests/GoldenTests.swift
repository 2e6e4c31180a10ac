// An index so small that every byte of it can be written down: two vectors of three bytes in one partition.
// A change of any of these bytes is a new format version.

import Build
import Foundation
import Index
import Learn
import Storage
import TestSupport
import Testing
import Vectors

struct GoldenTests {
    private func little(_ values: [UInt32]) -> [UInt8] {
        values.flatMap { value in withUnsafeBytes(of: value.littleEndian) { Array($0) } }
    }

    private func checksum(_ bytes: [UInt8]) -> UInt32 {
        bytes.withUnsafeBytes { Checksum.crc32c($0.baseAddress!, count: $0.count) }
    }

    @Test func everyByteOfAnIndexIsKnown() throws {
        let directory = try TemporaryDirectory()
        let rows = VectorMatrix(count: 2, dimension: 3, elementType: .u8)
        for (place, value) in [UInt8(1), 2, 3, 3, 4, 5].enumerated() {
            rows.bytes.storeBytes(of: value, toByteOffset: place, as: UInt8.self)
        }
        let base = try Fixture.write(rows, to: directory.file("base.npy"))
        var parameters = BuildParameters()
        parameters.partitions = 1
        _ = try IndexBuilder(base: base, directory: directory.file("index"), parameters: parameters).build()
        let files = try contents(of: directory.file("index")).mapValues { Array($0) }
        #expect(files.keys.sorted() == ["manifest.json", "router.bin", "segments.bin", "segments.table"])

        // What decides the segments: of each vector the checksum of its bytes and its id, one record, partition 0, and
        // the squared distance from the centroid.
        let list = [[UInt8(1), 2, 3, 0], [3, 4, 5, 1]].flatMap { row in
            little([checksum(row + [UInt8](repeating: 0, count: 7))]) + [1]
                + little([0, Float(3).bitPattern])
        }
        let id = IndexId(
            of: JobIdentity([
                ("version of the build", "4"), ("vectors", "2 of 3 u8"), ("bytes of an id", "4"),
                ("assignment", "26 bytes, \(Checksum.text(checksum(list)))"), ("pages-max", "none"),
            ]))
        #expect(id.description == "b65a848416cbdd5fdb42b5f0d1fa8bf8")
        let idWords = little(
            stride(from: 24, through: 0, by: -8).map { place in
                UInt32(id.description.dropFirst(place).prefix(8), radix: 16) ?? 0
            })

        // A page: ids of 584 slots, vectors of two of them, zeros; its checksum, and that of the index, partition 0 and
        // unit 0.
        let bytes =
            little([0, 1]) + [UInt8](repeating: 0xff, count: 582 * 4) + [1, 2, 3, 3, 4, 5]
            + [UInt8](repeating: 0, count: 4092 - 2342)
        let page = bytes + little([checksum(bytes) ^ checksum(idWords + little([0, 0]))])
        #expect(files["segments.bin"] == page)

        // Element type u8, dimension 3, ids of 4 bytes, one segment, 584 records in a unit of one page, the index's id;
        // then offset, units, records, checksum of the unit's, and the square root of 3 as radius.
        func tableOf(_ version: UInt32, _ id: [UInt8], _ page: [UInt8]) -> [UInt8] {
            let entry = little([0, 0, 1, 2, checksum(Array(page[4092...])), Float(3).squareRoot().bitPattern])
            var head = Array("SONDESTB".utf8) + little([version, 2, 3, 4, 1, 0, 584, 4096])
            head += id + little([checksum(entry)])
            return head + little([checksum(head)]) + entry
        }
        let table = tableOf(2, idWords, page)
        #expect(files["segments.table"] == table)

        // Format 1, kind scan, element type u8, dimension 3, beta 7/3, one centroid: the mean.
        let centroid =
            little([1]) + [0, 2, 0, 0] + little([3, (Float(7) / 3).bitPattern, 1, 0]) + [2, 3, 4]
        var router = Array("SONDERTR".utf8) + little([1, 1]) + Array("centroid".utf8)
        router += little([64, 0, 27, 0, checksum(centroid), 0])
        router += little([checksum(router)])
        router +=
            [UInt8](repeating: 0, count: 64 - router.count) + centroid + [UInt8](repeating: 0, count: 37)
        #expect(files["router.bin"] == router)

        let manifest = """
            {
              "build" : {
                "duplicate" : "none",
                "iterations" : "20",
                "router" : "distance",
                "sample" : "2",
                "seed" : "1"
              },
              "checksum" : "ac1fc6cf",
              "count" : 2,
              "dimension" : 3,
              "elementType" : "u8",
              "files" : {
                "router.bin" : {
                  "byteCount" : 128,
                  "crc32c" : \(checksum(router))
                },
                "segments.bin" : {
                  "byteCount" : 4096,
                  "crc32c" : \(checksum(page))
                },
                "segments.table" : {
                  "byteCount" : 88,
                  "crc32c" : \(checksum(table))
                }
              },
              "formatVersion" : 1,
              "index" : "\(id)",
              "job" : "267-58efe288",
              "metric" : "l2",
              "partitions" : 1,
              "records" : 2
            }

            """
        #expect(String(decoding: files["manifest.json"] ?? [], as: UTF8.self) == manifest)

        // Format 1 has neither places nor ids.
        let first = directory.file("first")
        try Format1.write(index: directory.file("index"), to: first)
        let old = try contents(of: first).mapValues { Array($0) }
        let oldPage = bytes + little([checksum(bytes)])
        #expect(old["segments.bin"] == oldPage)
        #expect(
            old["segments.table"] == tableOf(1, [UInt8](repeating: 0, count: 16), oldPage))
    }

    @Test func headIdsLieInTheRouterFile() throws {
        let fixture = try Fixture(count: 500)
        try fixture.build("index", .l2, .heads)
        let index = try fixture.open()
        let sections = try TaggedFile.read(path: index.path + "/router.bin")
        #expect(sections["headids"] == little(try #require(index.headIds)))
        // The centroids are the heads themselves.
        let rows = try fixture.base.readAll()
        let centroids = index.centroids.centroids()
        for (partition, id) in (index.headIds ?? []).enumerated() {
            #expect(memcmp(centroids.row(partition), rows.row(Int(id)), rows.rowByteCount) == 0)
        }
    }
}
