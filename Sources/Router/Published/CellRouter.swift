// Partitions that need not be read whole: each is divided into cells, a second level of clusters whose segments lie
// side by side. A router of partitions says where to look; within a partition the query's distances to the cells'
// centroids say which of them (LIRA's internal index, arXiv 2503.23409, with cells in the place of a graph).

import CKernels
import Glibc
import Vectors

/// How cells are grouped into partitions.
public struct CellGroups: Sendable {
    /// Centroids of the partitions, as a router of partitions takes them.
    public let parents: CentroidIndex
    /// Cells of partition p: `starts[p] ..< starts[p + 1]`, numbered through.
    public let starts: [UInt32]

    public init(parents: CentroidIndex, starts: [UInt32]) {
        precondition(starts.count == parents.partitionCount + 1 && starts[0] == 0)
        self.parents = parents
        self.starts = starts
    }

    public var cellCount: Int { Int(starts[starts.count - 1]) }

    /// The partition of every cell.
    public var parentOfCell: [UInt32] {
        (0..<starts.count - 1).flatMap { parent in
            [UInt32](repeating: UInt32(parent), count: Int(starts[parent + 1] - starts[parent]))
        }
    }

    /// Where vectors live by partition, from where they live by cell.
    public func parentHomes(_ homes: Homes) -> Homes {
        let parents = parentOfCell
        var lists = (starts: [UInt32(0)], partitions: [UInt32]())
        lists.starts.reserveCapacity(homes.count + 1)
        lists.partitions.reserveCapacity(homes.partitions.count)
        for vector in 0..<homes.count {
            let first = lists.partitions.count
            for cell in homes[vector] where !lists.partitions[first...].contains(parents[Int(cell)]) {
                lists.partitions.append(parents[Int(cell)])
            }
            lists.starts.append(UInt32(lists.partitions.count))
        }
        return Homes(starts: lists.starts, partitions: lists.partitions)
    }
}

/// From a query to cells: the probability of the partition times the cell's share of it. Immutable.
public final class CellRouter: LearnedRouter {
    public let groups: CellGroups
    /// Centroids of the cells.
    public let cells: CentroidIndex
    /// Says which partitions.
    public let parent: any LearnedRouter
    private let rows: VectorMatrix

    /// Cells of less likely partitions are not looked at: no policy reads them at any recall that is asked for.
    private static let floor: Float = -9.2

    public init(groups: CellGroups, cells: CentroidIndex, parent: any LearnedRouter) {
        precondition(
            groups.cellCount == cells.partitionCount && parent.partitionCount == groups.parents.partitionCount
        )
        self.groups = groups
        self.cells = cells
        self.parent = parent
        rows = cells.centroids()
    }

    public var partitionCount: Int { cells.partitionCount }
    public var residentByteCount: Int {
        parent.residentByteCount + cells.residentByteCount + groups.starts.count * 4
    }

    final class Scratch: RouterScratch {
        let parent: RouterScratch
        var route = Route()
        let distance: Distance
        let distances: UnsafeMutablePointer<Float>
        let logProbabilities: UnsafeMutablePointer<Float>
        var order: [UInt32] = []

        init(_ router: CellRouter) {
            parent = router.parent.makeScratch()
            distance = Distance(metric: .l2, elementType: router.cells.elementType)
            distances = .allocate(capacity: router.partitionCount)
            logProbabilities = .allocate(capacity: router.partitionCount)
        }

        deinit {
            distances.deallocate()
            logProbabilities.deallocate()
        }
    }

    public func makeScratch() -> RouterScratch { Scratch(self) }

    public func route(
        _ query: UnsafeRawPointer, limit: Int, scratch anyScratch: RouterScratch, into route: inout Route
    ) {
        guard let scratch = anyScratch as? Scratch else { preconditionFailure("scratch of another router") }
        parent.route(
            query, limit: groups.parents.partitionCount, scratch: scratch.parent, into: &scratch.route)
        scratch.order.removeAll(keepingCapacity: true)
        let (distances, logProbabilities) = (scratch.distances, scratch.logProbabilities)
        for position in 0..<scratch.route.count
        where position == 0 || scratch.route.logProbabilities[position] > Self.floor {
            let partition = Int(scratch.route.partitions[position])
            let first = Int(groups.starts[partition])
            let count = Int(groups.starts[partition + 1]) - first
            if count == 0 { continue }
            scratch.distance.rows(
                query, rows.row(first), count: count, dimension: rows.dimension, into: distances + first)
            for cell in first..<first + count { logProbabilities[cell] = -cells.beta * distances[cell] }
            let normaliser =
                sonde_log_sum_exp(logProbabilities + first, count) - scratch.route.logProbabilities[position]
            for cell in first..<first + count {
                logProbabilities[cell] -= normaliser
                scratch.order.append(UInt32(cell))
            }
        }
        scratch.order.sort { a, b in
            let (x, y) = (logProbabilities[Int(a)], logProbabilities[Int(b)])
            return x == y ? a < b : x > y
        }
        route.removeAll()
        route.beta = cells.beta
        route.logNormaliser = 0
        for cell in scratch.order.prefix(limit) {
            route.partitions.append(cell)
            route.distances.append(distances[Int(cell)])
            route.logProbabilities.append(logProbabilities[Int(cell)])
        }
    }
}

/// Section "cells": format u32, starts (u64 count, u32 each), then the sections of the partitions' router: u32 count,
/// and of each u32 bytes of tag, tag, u64 bytes, bytes. The cells' centroids are the index's own sections.
extension CellGroups {
    public static let section = "cells"
    private static let format: UInt32 = 1

    /// The sections that hold the groups and, where there is one, the router of partitions.
    public func encode(parent: (any LearnedRouter)?) -> [(tag: String, bytes: [UInt8])] {
        var writer = SectionWriter()
        writer.append(Self.format)
        writer.append(UInt64(starts.count))
        writer.append(starts)
        let inner = parent?.encode() ?? parents.encode()
        writer.append(UInt32(inner.count))
        for (tag, bytes) in inner {
            writer.append(UInt32(tag.utf8.count))
            writer.append(Array(tag.utf8))
            writer.append(UInt64(bytes.count))
            writer.append(bytes)
        }
        return [(Self.section, writer.bytes)]
    }

    /// The groups that `sections` hold, and the sections of their partitions' router; nil where they hold none.
    public static func decode(
        _ sections: any SectionSource, cellCount: Int
    ) throws(RouterError) -> (groups: CellGroups, parent: any SectionSource)? {
        guard sections.byteCount(ofSection: section) != nil else { return nil }
        var reader = try SectionReader(section, in: sections)
        let found = try reader.integer(UInt32.self)
        guard found == format else { throw reader.failure("format \(found), this program reads \(format)") }
        let count = try reader.count(bytesEach: 4)
        let starts = try reader.numbers(count)
        guard starts.count >= 2, starts[0] == 0, Int(starts[starts.count - 1]) == cellCount,
            zip(starts, starts.dropFirst()).allSatisfy({ $0 <= $1 })
        else { throw reader.failure("starts that do not rise to \(cellCount)") }
        var inner = NestedSections(source: sections, section: section)
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let tagSize = Int(try reader.integer(UInt32.self))
            let tag = String(decoding: try reader.bytes(count: tagSize, each: 1), as: UTF8.self)
            let size = try reader.count(bytesEach: 1)
            inner.ranges[tag] = try reader.skip(size)
        }
        try reader.finish()
        let parents = try CentroidIndex(decoding: inner)
        guard parents.partitionCount == starts.count - 1 else {
            throw reader.failure("\(parents.partitionCount) partitions, starts of \(starts.count - 1)")
        }
        return (CellGroups(parents: parents, starts: starts), inner)
    }
}

extension CellRouter {
    public func encode() -> [(tag: String, bytes: [UInt8])] { cells.encode() + groups.encode(parent: parent) }
}
