// Records of shards into joined segments: whole pages where they fall into place, else one by one.

import Index
import Storage
import Vectors

/// The copying of one merge, one partition at a time.
final class SegmentMerging {
    let layout: PageLayout
    let readers: [SegmentReader]
    private(set) var unitsCopied = 0
    private(set) var units = 0
    /// The partition's segments, by shard.
    private var entries: [SegmentEntry] = []
    // Where the next record comes from: the shard, its records that are not in `unit` yet, and the slots of
    // that, of which `filled` hold records.
    private var shard = -1
    private var left = 0
    private var unit: UnsafeRawPointer?
    private var slot = 0
    private var filled = 0

    init(layout: PageLayout, readers: [SegmentReader]) {
        self.layout = layout
        self.readers = readers
    }

    func run(
        _ job: BuildJob, unit: WorkUnit, progress: JobProgress
    ) throws -> (table: SegmentTable, digest: FileDigest) {
        let segments = try JournaledSegments(job, layout: layout)
        let writer = segments.writer
        let partitions = readers[0].table.count
        var meter = WorkMeter(unit)
        if segments.done > 0 { progress(stage: "merge", done: segments.done, total: partitions) }
        for partition in segments.done..<partitions {
            begin(partition)
            let before = writer.byteCount
            let entry = try writer.append(
                count: entries.reduce(0) { $0 + Int($1.recordCount) },
                radius: entries.reduce(0) { max($0, $1.radius) }
            ) { (unit, range, number) throws(StorageError) in
                try fill(unit, count: range.count, partition: partition, unitNumber: number)
            }
            try segments.note(entry)
            units += Int(entry.unitCount)
            progress(stage: "merge", done: partition + 1, total: partitions)
            if meter.ends(after: Int(writer.byteCount - before)) || partition + 1 == partitions {
                try segments.finish(position: partition + 1)
            }
        }
        return try writer.finish()
    }

    private func begin(_ partition: Int) {
        entries = readers.map { $0.table[partition] }
        for reader in readers { reader.begin(partition: partition) }
        (shard, left, unit, slot, filled) = (-1, 0, nil, 0, 0)
    }

    /// Fills a unit with the next records.
    private func fill(
        _ target: UnsafeMutableRawPointer, count: Int, partition: Int, unitNumber: Int
    ) throws(StorageError) {
        var done = 0
        while done < count {
            if slot == filled { try advance() }
            guard let unit else { break }
            let other = readers[shard].table.layout
            let part = min(count - done, filled - slot)
            // The same records in the same slots: the same bytes, but for the index and the place that the checksum names.
            if part == count && slot == 0 && filled == count && other.idByteCount == layout.idByteCount {
                target.copyMemory(from: unit, byteCount: layout.unitByteCount)
                layout.rebind(
                    target, from: other, unitNumber: readers[shard].unitNumber, partition: partition,
                    unitNumber: unitNumber)
                slot = part
                unitsCopied += 1
                return
            }
            layout.copy(part, from: unit, slot: slot, of: other, to: target, slot: done)
            slot += part
            done += part
        }
        layout.close(target, count: done, partition: partition, unitNumber: unitNumber)
    }

    /// Goes to the next unit that holds records. There is one: segments are as long as their entries say.
    private func advance() throws(StorageError) {
        while left == 0 {
            shard += 1
            left = Int(entries[shard].recordCount)
        }
        let reader = readers[shard]
        let next = try reader.nextUnit()
        let expected = min(left, reader.table.layout.recordsPerUnit)
        let found = reader.table.layout.recordCount(unit: next)
        guard found == expected else {
            throw StorageError(
                .corrupt, path: reader.path, detail: "a page does not hold what segments.table says",
                expected: "\(expected) records", found: "\(found)",
                advice: "run `sonde verify` on the shard and build it again")
        }
        (unit, slot, filled) = (next, 0, found)
        left -= found
    }
}
