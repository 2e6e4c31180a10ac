// Records against a query: the innermost loop of search. Works on raw pages where the read put them.

import Router
import Storage
import Vectors

/// Scans segments for one query at a time; owns the tile of distances that it needs.
package struct SegmentScanner: ~Copyable {
    private let layout: PageLayout
    private let distance: Distance
    private let hasReplicas: Bool
    private let distances: UnsafeMutablePointer<Float>
    private let kept: UnsafeMutablePointer<UInt32>

    package init(layout: PageLayout, metric: Metric, hasReplicas: Bool) {
        self.layout = layout
        self.hasReplicas = hasReplicas
        distance = Distance(metric: metric, elementType: layout.elementType)
        distances = .allocate(capacity: layout.recordsPerUnit)
        kept = .allocate(capacity: layout.recordsPerUnit)
    }

    deinit {
        distances.deallocate()
        kept.deallocate()
    }

    /// Scores every record of some units and offers the near ones to `heap`; ids in `seen` are skipped, new
    /// ones added.
    ///
    /// - Parameters:
    ///   - units: units of the segment of `partition` that follow one another, from number `firstUnit` on.
    ///   - recordCount: their records; all units but a segment's last are full.
    /// - Returns: nil, or the byte offset within `units` of the first that is damaged or not the one of its place;
    ///   nothing of such a unit is scored.
    package func scan(
        units: UnsafeRawPointer, partition: Int, firstUnit: Int, recordCount: Int, query: UnsafeRawPointer,
        heap: borrowing TopK, seen: SeenIds?
    ) -> Int? {
        var unit = units
        var number = firstUnit
        var left = recordCount
        while left > 0 {
            guard layout.verify(unit: unit, partition: partition, unitNumber: number) else {
                return unit - units
            }
            let count = min(left, layout.recordsPerUnit)
            distance.rows(
                query, unit + layout.vectorsOffset, count: count, dimension: layout.dimension, into: distances
            )
            let vectors = unit + layout.vectorsOffset
            if let seen {
                for slot in 0..<count {
                    let id = layout.id(unit: unit, slot: slot)
                    if seen.insert(id), distances[slot] <= heap.bound {
                        heap.push(
                            id: id, distance: distances[slot], residual: residual(slot, query, vectors))
                    }
                }
            } else {
                let passed = Distance.selectAtMost(heap.bound, of: distances, count: count, into: kept)
                for position in 0..<passed {
                    let slot = Int(kept[position])
                    let id = layout.id(unit: unit, slot: slot)
                    if hasReplicas {
                        heap.pushDistinct(
                            id: id, distance: distances[slot], residual: residual(slot, query, vectors))
                    } else {
                        heap.push(
                            id: id, distance: distances[slot], residual: residual(slot, query, vectors))
                    }
                }
            }
            left -= count
            unit += layout.unitByteCount
            number += 1
        }
        return nil
    }

    @inline(__always)
    private func residual(_ slot: Int, _ query: UnsafeRawPointer, _ vectors: UnsafeRawPointer) -> Int32 {
        distance.residual(
            of: distances[slot], query, vectors + slot * layout.rowByteCount, dimension: layout.dimension)
    }
}

/// The ids that a query has met, for counting distinct vectors and scoring replicas once. Open addressing;
/// emptied by moving to the next stamp.
package final class SeenIds {
    private var keys: UnsafeMutablePointer<UInt64>
    private var stamps: UnsafeMutablePointer<UInt32>
    private var mask: Int
    private var stamp: UInt32 = 1
    private(set) var count = 0

    init() {
        let capacity = 1024
        keys = .allocate(capacity: capacity)
        stamps = .allocate(capacity: capacity)
        stamps.initialize(repeating: 0, count: capacity)
        mask = capacity - 1
    }

    deinit {
        keys.deallocate()
        stamps.deallocate()
    }

    func removeAll() {
        count = 0
        stamp &+= 1
        if stamp == 0 {
            stamps.initialize(repeating: 0, count: mask + 1)
            stamp = 1
        }
    }

    /// Makes room for `total` ids in all. Called between rounds, never within a scan.
    func reserve(_ total: Int) {
        guard total * 2 > mask + 1 else { return }
        var capacity = mask + 1
        while capacity < total * 2 { capacity *= 2 }
        let (oldKeys, oldStamps, oldCapacity) = (keys, stamps, mask + 1)
        keys = .allocate(capacity: capacity)
        stamps = .allocate(capacity: capacity)
        stamps.initialize(repeating: 0, count: capacity)
        mask = capacity - 1
        count = 0
        for place in 0..<oldCapacity where oldStamps[place] == stamp { _ = insert(oldKeys[place]) }
        oldKeys.deallocate()
        oldStamps.deallocate()
    }

    /// Whether the id is met for the first time. There must be room (`reserve`).
    @inline(__always)
    func insert(_ id: UInt64) -> Bool {
        var place = Int(truncatingIfNeeded: (id &* 0x9e37_79b9_7f4a_7c15) >> 32) & mask
        while stamps[place] == stamp {
            if keys[place] == id { return false }
            place = (place &+ 1) & mask
        }
        stamps[place] = stamp
        keys[place] = id
        count &+= 1
        return true
    }
}

extension DiskIndex {
    /// Pages of format 1 that are whole each can still be those of another place, of an older index, or of another one:
    /// the table's checksum over the pages' own tells, where a segment is read whole. Since format 2 each page tells by
    /// itself.
    func refuseStray(segment: UnsafeRawPointer, partition: Int) throws(IndexError) {
        guard layout.binding == nil else { return }
        let entry = table[partition]
        let found = SegmentWriter.checksum(segment: segment, unitCount: Int(entry.unitCount), layout: layout)
        guard found == entry.checksum else {
            throw .straySegment(path: device.path, partition: partition, offset: entry.offset)
        }
    }
}
