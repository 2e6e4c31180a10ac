// The ids of vectors: where a build or an exact search takes them from. Records hold the ids themselves, so that a
// search has nothing to translate.

import Storage

/// Where the ids of a base's vectors come from.
public enum VectorIds: Sendable {
    /// Positions: the first vector has the id `first`, each next one the next.
    case positions(first: UInt64)
    /// A file with an id for each vector, in their order.
    case file(IdFile)
    /// Those of the vectors that a build does not leave out, from the kept one `start` on.
    indirect case kept(of: VectorIds, LeftOut, start: Int)

    /// The same ids without those of these rows, which rise.
    public func leavingOut(_ rows: [Int]) -> VectorIds {
        rows.isEmpty ? self : .kept(of: self, LeftOut(rows), start: 0)
    }

    /// Ids of consecutive vectors.
    package struct Chunk {
        let first: UInt64
        let listed: [UInt64]?

        package subscript(row: Int) -> UInt64 { listed?[row] ?? first + UInt64(row) }
    }

    /// The ids of these rows of the base.
    package func read(_ rows: Range<Int>) throws(StorageError) -> Chunk {
        switch self {
        case .positions(let first): Chunk(first: first + UInt64(rows.lowerBound), listed: nil)
        case .file(let file): Chunk(first: 0, listed: try file.read(rows))
        case .kept(let all, let leftOut, let start):
            Chunk(first: 0, listed: try Self.read(rows, of: all, leftOut, start: start))
        }
    }

    private static func read(
        _ rows: Range<Int>, of all: VectorIds, _ leftOut: LeftOut, start: Int
    ) throws(StorageError) -> [UInt64] {
        var ids: [UInt64] = []
        ids.reserveCapacity(rows.count)
        while ids.count < rows.count {
            let place = leftOut.place(of: start + rows.lowerBound + ids.count)
            let count = min(place.run, rows.count - ids.count)
            let chunk = try all.read(place.row..<place.row + count)
            for row in 0..<count { ids.append(chunk[row]) }
        }
        return ids
    }

    /// The same ids without those of the rows outside of `rows`.
    package func range(_ rows: Range<Int>) -> VectorIds {
        switch self {
        case .positions(let first): .positions(first: first + UInt64(rows.lowerBound))
        case .file(let file): .file(file.range(rows))
        case .kept(let all, let leftOut, let start):
            .kept(of: all, leftOut, start: start + rows.lowerBound)
        }
    }

    /// Checks the ids of `count` vectors: as many as there are, none twice.
    ///
    /// A file is read several times where its ids do not fit a quarter of the memory: each pass holds those
    /// of one residue class.
    public func validated(count: Int, memoryByteCount: Int) throws -> IdRange {
        switch self {
        case .positions(let first):
            let (greatest, overflow) = first.addingReportingOverflow(UInt64(max(count, 1) - 1))
            guard !overflow, greatest < .max else {
                throw IndexError.invalid(
                    "first-id must leave room for \(count) ids of 64 bits, found \(first)")
            }
            return IdRange(kind: .positions, least: first, greatest: greatest)
        case .kept(.positions(let first), let leftOut, let start):
            let last = leftOut.place(of: start + max(count, 1) - 1).row
            let (greatest, overflow) = first.addingReportingOverflow(UInt64(last))
            guard !overflow, greatest < .max else {
                throw IndexError.invalid("first-id must leave room for ids of 64 bits, found \(first)")
            }
            return IdRange(
                kind: .external, least: first + UInt64(leftOut.place(of: start).row), greatest: greatest)
        case .file, .kept:
            if let file, file.count != count + (leftOut?.count ?? 0) {
                throw IndexError.invalid(
                    "\(file.path) holds \(file.count) ids, the base \(count + (leftOut?.count ?? 0)) vectors")
            }
            let held = max(1 << 16, memoryByteCount / 4 / 8)
            let passes = UInt64((count + held - 1) / held)
            var (least, greatest) = (UInt64.max, UInt64(0))
            for pass in 0..<max(passes, 1) {
                var ids: [UInt64] = []
                ids.reserveCapacity(count / Int(max(passes, 1)) + 1)
                var first = 0
                while first < count {
                    let end = min(count, first + 1 << 16)
                    let chunk = try read(first..<end)
                    for id in (0..<end - first).map({ chunk[$0] }) {
                        (least, greatest) = (min(least, id), max(greatest, id))
                        if passes <= 1 || Self.mixed(id) % passes == pass { ids.append(id) }
                    }
                    first = end
                }
                ids.sort()
                if let twice = zip(ids, ids.dropFirst()).first(where: { $0 == $1 })?.0 {
                    throw IndexError.invalid(
                        "\(file?.path ?? "the base") gives the id \(twice) to two vectors; an id names one")
                }
            }
            return IdRange(kind: .external, least: least, greatest: greatest)
        }
    }

    /// The file that they come from.
    package var file: IdFile? {
        switch self {
        case .positions: nil
        case .file(let file): file
        case .kept(let all, _, _): all.file
        }
    }

    /// What a build leaves out.
    package var leftOut: LeftOut? {
        if case .kept(_, let leftOut, _) = self { leftOut } else { nil }
    }

    /// Ids of users often share a residue; mixed ones do not.
    package static func mixed(_ id: UInt64) -> UInt64 { (id &* 0x9e37_79b9_7f4a_7c15) >> 32 }

    /// Bytes of an id in records where none is greater: 4, or 8 where 32 bits hold it no more (all ones mark
    /// an empty slot).
    package static func byteCount(greatest: UInt64) -> Int { greatest < UInt64(UInt32.max) ? 4 : 8 }
}

extension TruthFile {
    /// Puts ids in the place of the positions that an exact search answers with.
    ///
    /// - Parameters:
    ///   - ids: those of the base that was searched.
    ///   - count: its vectors.
    public mutating func rename(_ source: VectorIds, count: Int, memoryByteCount: Int) throws {
        _ = try source.validated(count: count, memoryByteCount: memoryByteCount)
        switch source {
        case .positions(first: 0): return
        case .positions(let first):
            for place in ids.indices where ids[place] != Self.noId { ids[place] += first }
        case .file, .kept:
            // By stretches of the file that fit the memory: it is read once, forwards.
            let positions = ids
            let stretch = max(1 << 16, memoryByteCount / 4 / 16)
            for first in stride(from: 0, to: count, by: stretch) {
                let rows = first..<min(count, first + stretch)
                let part = try source.read(rows)
                for (place, position) in positions.enumerated()
                where position != Self.noId && rows.contains(Int(position)) {
                    ids[place] = part[Int(position) - first]
                }
            }
        }
    }
}
