// Which vectors get further records, and where: what planners answer, the account tries and the rewriter
// carries out.

import Index
import Router
import Storage
import Vectors

/// A vector and a partition for it.
public struct Placement: Sendable, Hashable {
    /// The vector's number (`DiskIndex.numbers`): its id, where ids are positions from 0 on.
    public var id: UInt32
    public var partition: UInt32

    public init(id: UInt32, partition: UInt32) {
        self.id = id
        self.partition = partition
    }
}

/// Changes to where vectors live.
public struct Placements: Sendable, Equatable {
    /// A further record of the vector in the partition.
    public var copies: [Placement]
    /// The partition becomes the vector's only home: all records that it has are dropped. At most one move a
    /// vector; copies of a moved vector come on top of its new home.
    public var moves: [Placement]

    public init(copies: [Placement] = [], moves: [Placement] = []) {
        self.copies = copies
        self.moves = moves
    }

    public var isEmpty: Bool { copies.isEmpty && moves.isEmpty }

    /// This plan and then another one, drawn up for the homes that this one makes.
    public func followed(by next: Placements) -> Placements {
        if next.moves.isEmpty { return Placements(copies: copies + next.copies, moves: moves) }
        let moved = Set(next.moves.map(\.id))
        return Placements(
            copies: copies.filter { !moved.contains($0.id) } + next.copies,
            moves: moves.filter { !moved.contains($0.id) } + next.moves)
    }
}

extension Placements {
    /// This plan without what would fill a partition beyond `recordsMaximum`: earlier placements go first.
    public func within(recordsMaximum: Int, homes: Homes, partitionCount: Int) -> Placements {
        var counts = homes.recordCounts(partitionCount: partitionCount)
        let keptMoves = moves.filter { move in
            let old = homes[Int(move.id)]
            guard old.contains(move.partition) || counts[Int(move.partition)] < recordsMaximum else {
                return false
            }
            for partition in old { counts[Int(partition)] -= 1 }
            counts[Int(move.partition)] += 1
            return true
        }
        let moved = Set(keptMoves)
        let keptCopies = copies.filter { copy in
            guard counts[Int(copy.partition)] < recordsMaximum, !moved.contains(copy),
                !homes[Int(copy.id)].contains(copy.partition)
            else { return false }
            counts[Int(copy.partition)] += 1
            return true
        }
        return Placements(copies: keptCopies, moves: keptMoves)
    }
}

extension Homes {
    /// Where vectors live once the plan is carried out; present homes first, nothing twice.
    public func applying(_ plan: Placements) -> Homes {
        let none = UInt32.max
        var moved = [UInt32](repeating: none, count: plan.moves.isEmpty ? 0 : count)
        for move in plan.moves { moved[Int(move.id)] = move.partition }
        let copies = PlacementLists(plan.copies, count: count)
        var lists = (starts: [UInt32(0)], partitions: [UInt32]())
        lists.starts.reserveCapacity(count + 1)
        lists.partitions.reserveCapacity(partitions.count + plan.copies.count)
        for id in 0..<count {
            let first = lists.partitions.count
            if !moved.isEmpty && moved[id] != none {
                lists.partitions.append(moved[id])
            } else {
                lists.partitions.append(contentsOf: self[id])
            }
            for partition in copies[id] where !lists.partitions[first...].contains(partition) {
                lists.partitions.append(partition)
            }
            lists.starts.append(UInt32(lists.partitions.count))
        }
        return Homes(starts: lists.starts, partitions: lists.partitions)
    }
}

/// Partitions by vector, as a plan names them.
struct PlacementLists {
    private let starts: [UInt32]
    private let partitions: [UInt32]

    init(_ placements: [Placement], count: Int) {
        if placements.isEmpty {
            (starts, partitions) = ([], [])
            return
        }
        var starts = [UInt32](repeating: 0, count: count + 1)
        for placement in placements { starts[Int(placement.id) + 1] += 1 }
        for id in 0..<count { starts[id + 1] += starts[id] }
        var next = starts
        var partitions = [UInt32](repeating: 0, count: placements.count)
        for placement in placements {
            partitions[Int(next[Int(placement.id)])] = placement.partition
            next[Int(placement.id)] += 1
        }
        (self.starts, self.partitions) = (starts, partitions)
    }

    subscript(id: Int) -> ArraySlice<UInt32> {
        starts.isEmpty ? [] : partitions[Int(starts[id])..<Int(starts[id + 1])]
    }
}

extension SegmentTable {
    /// The table that segments of so many records would have, before they are written: for accounts.
    public static func expected(layout: PageLayout, recordCounts: [Int]) -> SegmentTable {
        var offset: UInt64 = 0
        let entries = recordCounts.map { records in
            let entry = SegmentEntry(
                offset: offset, unitCount: UInt32(layout.unitCount(records: records)),
                recordCount: UInt32(records), checksum: 0, radius: 0)
            offset += UInt64(layout.byteCount(records: records))
            return entry
        }
        return SegmentTable(layout: layout, entries: entries)
    }
}

extension Homes {
    /// The segment table of these homes, as the rewriter would write it.
    public func expectedTable(for index: DiskIndex) -> SegmentTable {
        SegmentTable.expected(
            layout: index.layout, recordCounts: recordCounts(partitionCount: index.partitionCount))
    }
}
