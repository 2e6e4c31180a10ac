// Which vectors get a second record, and where. Planners that look at the geometry alone are here; those
// that ask the router and learned pairs are PaperCopies and GainPlanner. A planner
// only proposes: FetchAccount tries a plan, IndexRewriter carries it out.

import Index
import Router
import Storage
import Vectors

/// Plans second copies for one index.
public struct CopyPlanner: Sendable {
    public let index: DiskIndex
    /// Where vectors live now; a plan starts from there.
    public var homes: Homes
    /// Records (heads included) over vectors that no plan exceeds.
    public var replicationMaximum = 1.3
    public var threads = 2
    public var progress = JobProgress.none

    /// Nearest partitions of each vector that geometric planners choose from.
    static let geometricCandidates = 8
    /// Rows that a pass over the base holds at a time.
    private static let batchRows = 1 << 15

    public init(index: DiskIndex, homes: Homes) {
        self.index = index
        self.homes = homes
    }

    /// Records that may still be added.
    public var budget: Int {
        let heads = index.headIds?.count ?? 0
        return max(0, Int(replicationMaximum * Double(index.count)) - heads - homes.partitions.count)
    }

    /// The plan of a geometric planner.
    ///
    /// - Throws: `IndexError.noLearnFile` for a planner that wants pairs (see `paperRound`, `GainPlanner`).
    public func plan(_ plan: CopyRule) throws -> Placements {
        switch plan {
        case .none: Placements()
        case .closure(let replicas, let eps1):
            Placements(copies: try closure(replicas: replicas, eps1: eps1))
        case .soar(let lambda): Placements(copies: try soar(lambda: lambda))
        case .random(let seed): Placements(copies: try random(seed: seed))
        case .slots: Placements(copies: try slots())
        case .paper, .gain, .moves, .lira:
            throw IndexError.noLearnFile("copies by \(plan.name.rawValue) are planned from learned pairs")
        }
    }

    /// Free slots in the last unit of each segment, as vectors live now.
    public func freeSlots() -> [Int] {
        homes.recordCounts(partitionCount: index.partitionCount).map { records in
            index.layout.unitCount(records: records) * index.layout.recordsPerUnit - records
        }
    }

    // The planners.

    private func random(seed: UInt64) throws -> [Placement] {
        let candidates = try nearestPartitions(2)
        var random = SeededRandom(seed: seed, stream: 12)
        var order = Array(0..<UInt32(index.count))
        random.shuffle(&order)
        var left = budget
        var copies: [Placement] = []
        for id in order where left > 0 {
            for partition in candidates.of(Int(id)) where partition != NearestLists.none {
                guard !homes[Int(id)].isEmpty, !homes[Int(id)].contains(partition) else { continue }
                copies.append(Placement(id: id, partition: partition))
                left -= 1
                break
            }
        }
        return copies
    }

    private func slots() throws -> [Placement] {
        let candidates = try nearestPartitions(Self.geometricCandidates)
        var free = freeSlots()
        var offers: [(ratio: Float, placement: Placement)] = []
        for id in 0..<index.count {
            let home = homes[id]
            guard !home.isEmpty else { continue }
            let first = id * candidates.k
            let nearest = max(candidates.distances[first], .leastNormalMagnitude)
            for position in first..<first + candidates.k {
                let partition = candidates.partitions[position]
                guard partition != NearestLists.none, free[Int(partition)] > 0, !home.contains(partition)
                else { continue }
                offers.append(
                    (
                        candidates.distances[position] / nearest,
                        Placement(id: UInt32(id), partition: partition)
                    ))
            }
        }
        offers.sort { a, b in
            a.ratio == b.ratio
                ? (a.placement.id, a.placement.partition) < (b.placement.id, b.placement.partition)
                : a.ratio < b.ratio
        }
        var left = budget
        var copies: [Placement] = []
        for offer in offers where left > 0 && free[Int(offer.placement.partition)] > 0 {
            free[Int(offer.placement.partition)] -= 1
            left -= 1
            copies.append(offer.placement)
        }
        return copies
    }

    private func closure(replicas: Int, eps1: Float) throws -> [Placement] {
        let centroids = index.centroids.centroids()
        let closure = Closure(maximum: replicas, eps1: eps1)
        return try chosenByRows { rows, search in
            let candidates = search.nearest(min(64, centroids.count), rows, threads: threads)
            return closure.replicas(candidates, centroids: centroids, threads: threads)
        }
    }

    private func soar(lambda: Float) throws -> [Placement] {
        let centroids = index.centroids.centroids()
        return try chosenByRows { rows, search in
            let candidates = search.nearest(min(32, centroids.count), rows, threads: threads)
            return Soar(lambda: lambda).spill(rows, candidates, centroids: centroids, threads: threads)
        }
    }

    /// Copies by a rule that looks at one vector; where they are more than allowed, those nearest to their
    /// new partition by ratio of distances.
    private func chosenByRows(_ choose: (VectorMatrix, NearestCentroids) -> PartitionLists) throws
        -> [Placement]
    {
        var offers: [(ratio: Float, placement: Placement)] = []
        try forEachBatchWithSearch { ids, rows, search in
            let lists = choose(rows, search)
            for (row, id) in ids.enumerated() {
                let home = homes[Int(id)]
                for position in lists.starts[row]..<lists.starts[row + 1]
                where !home.contains(lists.partitions[position]) {
                    let ratio =
                        lists.distances[position]
                        / max(lists.distances[lists.starts[row]], .leastNormalMagnitude)
                    offers.append((ratio, Placement(id: id, partition: lists.partitions[position])))
                }
            }
        }
        if offers.count > budget {
            offers.sort { a, b in
                a.ratio == b.ratio
                    ? (a.placement.id, a.placement.partition) < (b.placement.id, b.placement.partition)
                    : a.ratio < b.ratio
            }
        }
        return offers.prefix(budget).map(\.placement)
    }

    // Passes over the base.

    /// The `k` nearest partitions of every vector by centroid. Holds 8 k bytes a vector.
    struct NearestTable {
        let k: Int
        var partitions: [UInt32]
        var distances: [Float]

        func of(_ id: Int) -> ArraySlice<UInt32> { partitions[id * k..<(id + 1) * k] }
    }

    func nearestPartitions(_ wanted: Int) throws -> NearestTable {
        let k = min(wanted, index.partitionCount)
        var nearest = NearestTable(
            k: k, partitions: [UInt32](repeating: NearestLists.none, count: index.count * k),
            distances: [Float](repeating: .infinity, count: index.count * k))
        try forEachBatchWithSearch { ids, rows, search in
            let lists = search.nearest(k, rows, threads: threads)
            for (row, id) in ids.enumerated() {
                for place in 0..<k {
                    nearest.partitions[Int(id) * k + place] = lists.partitions[row * k + place]
                    nearest.distances[Int(id) * k + place] = lists.distances[row * k + place]
                }
            }
        }
        return nearest
    }

    /// Calls `body` with every vector of the index that has records, once, as a row of routing space.
    public func forEachVector(_ body: (UInt32, UnsafeRawPointer) throws -> Void) throws {
        try forEachBatch { ids, rows in for (row, id) in ids.enumerated() { try body(id, rows.row(row)) } }
    }

    /// Calls `body` with the vectors of the index, each once, in routing space and batch by batch.
    func forEachBatchWithSearch(_ body: ([UInt32], VectorMatrix, NearestCentroids) throws -> Void) throws {
        let search = NearestCentroids(index.centroids.centroids(), seed: 1, threads: threads)
        try forEachBatch { ids, rows in try body(ids, rows, search) }
    }

    func forEachBatch(_ body: ([UInt32], VectorMatrix) throws -> Void) throws {
        var seen = [Bool](repeating: false, count: index.hasReplicas ? index.count : 0)
        var parts: [VectorMatrix] = []
        var ids: [UInt32] = []
        func flush() throws {
            guard let rows = VectorMatrix.joined(parts), !ids.isEmpty else { return }
            try body(ids, index.space.rows(from: rows))
            parts.removeAll()
            ids.removeAll(keepingCapacity: true)
        }
        let numbers = try index.numbers()
        try index.forEachSegment { partition, segment in
            let records = index.records(of: partition, in: segment)
            let numbered = try numbers.require(records.ids)
            if seen.isEmpty {
                parts.append(records.vectors)
                ids.append(contentsOf: numbered)
            } else {
                let fresh = numbered.indices.filter { !seen[Int(numbered[$0])] }
                for row in fresh { seen[Int(numbered[row])] = true }
                if !fresh.isEmpty {
                    parts.append(records.vectors.gather(fresh.map { UInt32($0) }))
                    ids.append(contentsOf: fresh.map { numbered[$0] })
                }
            }
            if ids.count >= Self.batchRows { try flush() }
            progress(stage: "plan", done: partition + 1, total: index.partitionCount)
        }
        try flush()
    }
}
