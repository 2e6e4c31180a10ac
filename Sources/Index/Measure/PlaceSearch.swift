// Which places pages belong to by their own checksums: where segments.table, which says it, is damaged, and where pages
// lie in each other's places.

import Storage

/// Follows the places of units in file order, and finds those of units that are elsewhere.
struct PlaceSearch {
    private let id: IndexId?
    private let partitionCount: Int
    /// The place that the next unit has if it is of the same segment as the one before.
    private var (partition, unitNumber) = (0, 0)
    /// Units since the last one whose place was found.
    private var missed = 0
    /// Places that are still tried for units that are not where they belong.
    private var trialsLeft = 1 << 28

    /// Units of one segment that may be damaged in a row before the next segment has to be found.
    private static let unitReach = 8
    /// Empty partitions in a row.
    private static let partitionReach = 1024

    /// - Parameter id: the index's; nil where places are not in the checksums: then any will do.
    init(id: IndexId?, partitionCount: Int) {
        (self.id, self.partitionCount) = (id, partitionCount)
    }

    /// Notes a unit of which nothing is known.
    mutating func miss() { missed += 1 }

    /// Whether a unit's checksum is that of the next place, or of one that follows where units were missed before it.
    mutating func accept(_ checksum: UInt32) -> Bool {
        guard let id else { return checksum == 0 }
        let skipped = min(missed, Self.unitReach)
        func accepts(_ partition: Int, from first: Int) -> Int? {
            (first...first + skipped).first {
                id.checksum(partition: partition, unitNumber: $0) == checksum
            }
        }
        let end = min(partitionCount, partition + 1 + Self.partitionReach + missed)
        for candidate in partition..<max(partition, end) {
            guard let found = accepts(candidate, from: candidate == partition ? unitNumber : 0) else {
                continue
            }
            (partition, unitNumber, missed) = (candidate, found + 1, 0)
            return true
        }
        miss()
        return false
    }

    /// The place of a unit that lies in another's, where the table has one of this checksum.
    mutating func place(of checksum: UInt32, in table: SegmentTable) -> (partition: Int, unitNumber: Int)? {
        guard let id = table.layout.binding else { return nil }
        for partition in 0..<table.count {
            let units = Int(table[partition].unitCount)
            trialsLeft -= units
            if trialsLeft < 0 { return nil }
            for unit in 0..<units where id.checksum(partition: partition, unitNumber: unit) == checksum {
                return (partition, unit)
            }
        }
        return nil
    }
}
