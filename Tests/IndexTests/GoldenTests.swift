// An index so small that every byte of it can be written down: two vectors of three bytes in one partition.
// A change of any of these bytes is a new format version.

import Build
import Foundation
import Index
import Learn
import Storage
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

        // A page: ids of 584 slots, vectors of two of them, zeros, checksum.
        var page = little([0, 1]) + [UInt8](repeating: 0xff, count: 582 * 4) + [1, 2, 3, 3, 4, 5]
        page += [UInt8](repeating: 0, count: 4092 - page.count)
        page += little([checksum(page)])
        #expect(files["segments.bin"] == page)

        // Element type u8, dimension 3, ids of 4 bytes, one segment, 584 records in a unit of one page;
        // then offset, units, records, checksum of the unit's, and the square root of 3 as radius.
        let entry = little([0, 0, 1, 2, checksum(Array(page[4092...])), Float(3).squareRoot().bitPattern])
        var table =
            Array("SONDESTB".utf8) + little([1, 2, 3, 4, 1, 0, 584, 4096, 0, 0, 0, 0, checksum(entry)])
        table += little([checksum(table)])
        #expect(files["segments.table"] == table + entry)

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
              "checksum" : "088eef04",
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
                  "crc32c" : \(checksum(table + entry))
                }
              },
              "formatVersion" : 1,
              "job" : "261-8f418e58",
              "metric" : "l2",
              "partitions" : 1,
              "records" : 2
            }

            """
        #expect(String(decoding: files["manifest.json"] ?? [], as: UTF8.self) == manifest)
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
