// How well a policy probes: how many partitions it reads, how many it had to, and how many of those that it read held
// nothing (the reports of LIRA, arXiv 2503.23409: nprobe, the long tail, the optimal nprobe, the waste).

import Router
import Storage
import Vectors

/// What a policy probed for the k nearest of some queries.
public struct ProbingReport: Sendable, Equatable {
    public var k: Int
    /// Queries by the number of partitions that were read: `probed[n]` read n.
    public var probed: [Int]
    /// Queries by the least number of partitions that hold all their k nearest: the long tail. With replicas the number
    /// that taking the fullest partition first arrives at.
    public var needed: [Int]
    /// Mean share of the partitions read that held none of the k nearest.
    public var waste: Double
    /// Mean share of the k nearest whose partition was read.
    public var recall: Double

    public var meanProbed: Double { Self.mean(probed) }
    /// The optimal nprobe: what an oracle would read.
    public var meanNeeded: Double { Self.mean(needed) }

    private static func mean(_ histogram: [Int]) -> Double {
        let count = histogram.reduce(0, +)
        return histogram.enumerated().reduce(0.0) { $0 + Double($1.offset * $1.element) }
            / Double(max(count, 1))
    }
}

extension DiskIndex {
    /// Routes every query, applies the policy, and compares what it reads with where the true neighbours live. Nothing
    /// is read for the queries; where vectors live is read once, from the whole index.
    ///
    /// - Throws: `IndexError.invalid` for a truth that does not reach to `k`, `StorageError` from reading.
    public func probing(
        queries: VectorMatrix, truth: TruthFile, k: Int, policy: Policy, cost: ReadCost = .vectors,
        threads: Int
    ) throws -> ProbingReport {
        try validate(truth: truth, queryCount: queries.count, k: k)
        try policy.validate()
        let (homes, numbers) = (try homes(), try numbers())
        var chooser = ReadChooser(policy: policy, cost: cost, table: table)
        var positions: [Int32] = []
        var read = [Bool](repeating: false, count: partitionCount)
        var report = ProbingReport(k: k, probed: [], needed: [], waste: 0, recall: 0)
        for (query, route) in routes(of: queries, policy: policy, threads: threads).enumerated() {
            positions.removeAll(keepingCapacity: true)
            chooser.choose(from: route, into: &positions)
            let probed = positions.map { Int(route.partitions[Int($0)]) }.filter { table[$0].recordCount > 0 }
            for partition in probed { read[partition] = true }
            var holding: Set<Int> = []
            var lists: [ArraySlice<UInt32>] = []
            var found = 0
            for rank in 0..<k {
                let id = truth.id(query: query, rank: rank)
                guard id != TruthFile.noId, let number = numbers.number(of: id) else { continue }
                let home = homes[number]
                guard !home.isEmpty else { continue }
                lists.append(home)
                if home.contains(where: { read[Int($0)] }) { found += 1 }
                for partition in home { holding.insert(Int(partition)) }
            }
            Self.count(probed.count, in: &report.probed)
            Self.count(Self.cover(lists), in: &report.needed)
            let idle = probed.reduce(0) { $0 + (holding.contains($1) ? 0 : 1) }
            report.waste += Double(idle) / Double(max(probed.count, 1)) / Double(max(queries.count, 1))
            report.recall += Double(found) / Double(k) / Double(max(queries.count, 1))
            for partition in probed { read[partition] = false }
        }
        return report
    }

    private static func count(_ value: Int, in histogram: inout [Int]) {
        while histogram.count <= value { histogram.append(0) }
        histogram[value] += 1
    }

    /// Partitions that meet every list, the one in most lists first.
    private static func cover(_ lists: [ArraySlice<UInt32>]) -> Int {
        var open = lists
        var taken = 0
        while !open.isEmpty {
            var counts: [UInt32: Int] = [:]
            for list in open { for partition in list { counts[partition, default: 0] += 1 } }
            guard let best = counts.max(by: { ($0.value, $1.key) < ($1.value, $0.key) })?.key else { break }
            open.removeAll { $0.contains(best) }
            taken += 1
        }
        return taken
    }
}
