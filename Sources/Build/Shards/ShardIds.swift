// Whether shards that are to be joined name the same vector: external ids of different shards are free, so that nothing
// but reading them tells. Ids go by their residues into files of which each fits the memory; there equal ones meet.
// Called by a merge before it writes anything; pages are checked as they are read.

import Index
import Storage
import Vectors

/// The ids of a shard as its files hold them.
struct ShardIds {
    /// The shard's directory.
    let path: String
    /// Its segments.bin.
    let segments: String
    let table: SegmentTable
    let range: IdRange
}

/// Looks for ids that several shards hold.
struct ShardIdCheck {
    /// Working memory at most, but for the tables that the shards bring.
    var memoryByteCount = 2 << 30
    var progress = JobProgress.none

    /// What a shard is read through at a time, at most.
    private static let windowByteCount = 8 << 20
    /// Files at most; so many ids that they do not suffice would need more memory.
    private static let bucketMaximum = 1024
    private static let bufferByteCounts = 4096...1 << 18

    /// Refuses ids that more than one shard holds. A shard may hold an id several times (replicas). Shards whose ranges
    /// of ids meet no other's are not read.
    ///
    /// - Parameter temporary: a path for the temporary file of this number, which is gone afterwards.
    /// - Throws: `IndexError.doubledId`, `IndexError.memoryTooSmall` where the memory is too little, `StorageError` from
    ///   reading and writing and for a damaged page.
    func run(_ shards: [ShardIds], temporary: (Int) -> String) throws {
        let contested = Self.contested(shards)
        guard !contested.isEmpty else { return }
        let records = contested.reduce(0) { $0 + $1.table.recordCount }
        // Sorting takes as much again at most; the rest is the window, the buffers and what hashing makes uneven.
        let held = max(1, memoryByteCount / 4 / 8)
        let count = (records + held - 1) / held
        guard count <= Self.bucketMaximum else {
            let least = records / Self.bucketMaximum * 32 + 32
            throw IndexError.memoryTooSmall(
                "a memory of \(memoryByteCount) bytes is too little to compare \(records) ids: "
                    + "\(least) are the least", given: memoryByteCount, least: least)
        }
        try SpillFile.allow(open: count, in: contested[0].path)
        let buffer = memoryByteCount / 8 / count / 4096 * 4096
        let buckets = try (0..<count).map {
            try IdBucket(
                path: temporary($0), shards: contested.count,
                bufferByteCount: min(
                    max(buffer, Self.bufferByteCounts.lowerBound), Self.bufferByteCounts.upperBound))
        }
        defer { for bucket in buckets { bucket.spill.remove() } }
        try collect(contested, into: buckets, records: records)
        for (number, bucket) in buckets.enumerated() {
            if let (id, first, second) = try bucket.doubled() {
                throw IndexError.doubledId(id, contested[first].path, contested[second].path)
            }
            bucket.spill.remove()
            progress(stage: "compare ids", done: number + 1, total: buckets.count)
        }
    }

    /// The shards whose range of ids meets another's.
    private static func contested(_ shards: [ShardIds]) -> [ShardIds] {
        let order = shards.indices.filter { shards[$0].table.recordCount > 0 }.sorted {
            (shards[$0].range.least, $0) < (shards[$1].range.least, $1)
        }
        var isContested = [Bool](repeating: false, count: shards.count)
        // Of the shards that begin before, the one that ends last meets whatever any of them meets.
        var widest: Int?
        for shard in order {
            if let before = widest, shards[before].range.greatest >= shards[shard].range.least {
                isContested[before] = true
                isContested[shard] = true
            }
            if widest.map({ shards[$0].range.greatest < shards[shard].range.greatest }) ?? true {
                widest = shard
            }
        }
        return shards.indices.filter { isContested[$0] }.map { shards[$0] }
    }

    private func collect(_ shards: [ShardIds], into buckets: [IdBucket], records: Int) throws {
        let window = min(Self.windowByteCount, memoryByteCount / 8)
        var done = 0
        for (number, shard) in shards.enumerated() {
            let reader = try SegmentReader(
                path: shard.segments, table: shard.table, bufferByteCount: window)
            let layout = shard.table.layout
            for partition in 0..<shard.table.count {
                reader.begin(partition: partition)
                for _ in 0..<Int(shard.table[partition].unitCount) {
                    let unit = try reader.nextUnit()
                    for slot in 0..<layout.recordCount(unit: unit) {
                        let id = layout.id(unit: unit, slot: slot)
                        let place = Int(VectorIds.mixed(id) % UInt64(buckets.count))
                        try buckets[place].add(id, of: number)
                    }
                }
                done += Int(shard.table[partition].recordCount)
                progress(stage: "read ids", done: done, total: records)
            }
        }
    }
}

/// Ids of some residues, shard after shard.
private final class IdBucket {
    let spill: SpillFile
    private var counts: [Int]

    init(path: String, shards: Int, bufferByteCount: Int) throws(StorageError) {
        // In place of what a run that was killed may have left.
        spill = try SpillFile(keeping: path, continuing: nil, bufferByteCount: bufferByteCount)
        counts = [Int](repeating: 0, count: shards)
    }

    func add(_ id: UInt64, of shard: Int) throws(StorageError) {
        var id = id
        try spill.append(&id, count: 8)
        counts[shard] += 1
    }

    /// The least id that two shards hold, and the first two of them.
    func doubled() throws(StorageError) -> (id: UInt64, first: Int, second: Int)? {
        try spill.rewind()
        var ids: [UInt64] = []
        ids.reserveCapacity(counts.reduce(0, +))
        for count in counts {
            // What a shard holds several times counts once.
            let start = ids.count
            for _ in 0..<count { ids.append(try next()) }
            ids[start...].sort()
            var end = start
            for place in start..<ids.count where place == start || ids[place] != ids[end - 1] {
                ids[end] = ids[place]
                end += 1
            }
            ids.removeSubrange(end...)
        }
        // Sorted stretches: merging them is all that is left.
        ids.sort()
        guard let id = zip(ids, ids.dropFirst()).first(where: { $0 == $1 })?.0 else { return nil }
        let holders = try holders(of: id)
        return (id, holders[0], holders[1])
    }

    private func holders(of id: UInt64) throws(StorageError) -> [Int] {
        try spill.rewind()
        var found: [Int] = []
        for (shard, count) in counts.enumerated() {
            for _ in 0..<count {
                let isHeld = try next() == id
                if isHeld && found.last != shard { found.append(shard) }
            }
        }
        return found
    }

    private func next() throws(StorageError) -> UInt64 {
        var id: UInt64 = 0
        try spill.read(into: &id, count: 8)
        return id
    }
}
