// Labels that were found before: the neighbours of a block of queries as a checkpoint keeps them.

import Index
import Storage
import Vectors

extension DiskIndex {
    /// What the neighbours of a block of queries hang on.
    func labelIdentity(queries: VectorMatrix, k: Int, nprobe: Int, stage: String) -> String {
        let checksum = Checksum.crc32c(queries.bytes, count: queries.byteCount)
        return [
            "neighbours: \(k) among \(nprobe) partitions", "of: \(stage)", "version: 1",
            "segments: \(segmentsIdentity ?? "none")",
            "queries: \(queries.count) \(Checksum.text(checksum))",
        ].joined(separator: "\n")
    }
}

extension TruthFile {
    /// The ids and distances of some queries.
    func encoded(queries: Range<Int>) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(queries.count * k * 12)
        for query in queries {
            for rank in 0..<k {
                let distance = distance(query: query, rank: rank)
                withUnsafeBytes(of: id(query: query, rank: rank).littleEndian) {
                    bytes.append(contentsOf: $0)
                }
                withUnsafeBytes(of: distance.bitPattern.littleEndian) { bytes.append(contentsOf: $0) }
            }
        }
        return bytes
    }

    /// Takes back what `encoded` gave; false where it is not of as many.
    mutating func set(encoded bytes: [UInt8], queries: Range<Int>) -> Bool {
        guard bytes.count == queries.count * k * 12 else { return false }
        bytes.withUnsafeBytes { raw in
            for place in 0..<queries.count * k {
                let id = UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: place * 12, as: UInt64.self))
                guard id != TruthFile.noId else { continue }
                let bits = UInt32(
                    littleEndian: raw.loadUnaligned(fromByteOffset: place * 12 + 8, as: UInt32.self))
                set(
                    query: queries.lowerBound + place / k, rank: place % k, id: id,
                    distance: Float(bitPattern: bits))
            }
        }
        return true
    }
}
