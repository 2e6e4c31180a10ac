// How training numbers the vectors of an index whose ids are not their positions.

import Storage

/// Numbers of an index's vectors, from 0 on: what training, planning and verification count by, whatever the
/// ids are. Ids in rising order have rising numbers.
public struct VectorNumbers: Sendable {
    public let count: Int
    private let first: UInt64
    /// All ids in rising order where they are not one after the other.
    private let sorted: [UInt64]?
    private let path: String

    /// Ids one after the other.
    init(first: UInt64, count: Int, path: String) {
        (self.first, self.count, self.path) = (first, count, path)
        sorted = nil
    }

    /// External ids: 8 bytes of memory a vector.
    init(sorted: [UInt64], path: String) {
        (first, count, self.path) = (0, sorted.count, path)
        self.sorted = sorted
    }

    /// The number of the vector with this id; nil where there is none.
    public func number(of id: UInt64) -> Int? {
        guard let sorted else {
            return id >= first && id - first < UInt64(count) ? Int(id - first) : nil
        }
        var (low, high) = (0, sorted.count)
        while low < high {
            let middle = (low + high) / 2
            if sorted[middle] < id { low = middle + 1 } else { high = middle }
        }
        return low < sorted.count && sorted[low] == id ? low : nil
    }

    /// The id of a vector.
    public func id(of number: Int) -> UInt64 { sorted?[number] ?? first + UInt64(number) }

    /// The number of a record's vector.
    package func require(_ id: UInt64) throws(IndexError) -> Int {
        guard let number = number(of: id) else {
            throw .inconsistent(
                path: path, detail: "a record names vector \(id), which manifest.json does not count")
        }
        return number
    }

    /// The numbers of records' vectors.
    package func require(_ ids: [UInt64]) throws(IndexError) -> [UInt32] {
        var numbers: [UInt32] = []
        numbers.reserveCapacity(ids.count)
        for id in ids {
            let number = try require(id)
            numbers.append(UInt32(number))
        }
        return numbers
    }
}

extension DiskIndex {
    /// The ids of the index's vectors.
    public var ids: IdRange {
        manifest.ids
            ?? IdRange(kind: .positions, least: 0, greatest: UInt64(max(count, 1) - 1))
    }

    /// Numbers for arrays by vector. Those of external ids are made by reading the whole index once and are kept
    /// with it, 8 bytes a vector; searching and batches never ask for them.
    ///
    /// - Throws: `IndexError.invalid` for 2^32 vectors and more, whose numbers training does not hold.
    public func numbers() throws -> VectorNumbers {
        guard manifest.records < Int(UInt32.max) else {
            throw IndexError.invalid(
                "\(path) holds \(manifest.records) records; training and plans number fewer than 2^32")
        }
        guard ids.kind == .external else {
            return VectorNumbers(first: ids.least, count: count, path: device.path)
        }
        if let cached = numbersCache.withLock({ $0 }) { return cached }
        let numbers = VectorNumbers(sorted: try collectIds(), path: device.path)
        numbersCache.withLock { $0 = numbers }
        return numbers
    }

    /// The ids of all vectors in rising order.
    private func collectIds() throws -> [UInt64] {
        var all: [UInt64] = []
        all.reserveCapacity(manifest.records)
        try forEachSegment { partition, segment in
            forEachRecord(of: partition, in: segment) { id, _ in all.append(id) }
        }
        all.sort()
        // Replicas carry their vector's id.
        if hasReplicas { all = all.reduce(into: []) { if $0.last != $1 { $0.append($1) } } }
        guard all.count == count, zip(all, all.dropFirst()).allSatisfy({ $0 < $1 }) else {
            throw IndexError.inconsistent(
                path: device.path, detail: "its records do not name \(count) different vectors")
        }
        return all
    }

    /// Refuses a result file whose layout has no room for the ids of this index.
    public func requireRoomForIds(in path: String) throws(StorageError) {
        try NeighbourFormat.requireRoom(forIdsUpTo: ids.greatest, path: path)
    }
}
