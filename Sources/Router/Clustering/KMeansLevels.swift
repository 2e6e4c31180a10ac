// k-means of many partitions: rows are put into about sqrt(partitions) groups, and each group is divided on its own.

import Vectors

extension KMeans {
    /// Two levels: sqrt(wanted) groups, each divided into a number of partitions in proportion to its rows.
    func twoLevels<Failure: Error>(
        _ rows: VectorMatrix, _ wanted: Int, _ meter: Meter, _ milestones: Milestones<Failure>
    ) throws(Failure) -> VectorMatrix {
        let (home, count) = try homes(rows, wanted, milestones)
        let order = CountingOrder(home, partitionCount: count)
        let sizes = (0..<count).map { order.size($0) }
        let shares = Self.shares(of: wanted, sizes: sizes)
        var starts = [0]
        for share in shares { starts.append(starts.last! + share) }
        let means = VectorMatrix(count: starts.last!, dimension: rows.dimension, elementType: .f32)
        let firsts = starts
        let done = KeptGroups(means: means, starts: starts)
        try milestones.forEach(.groups) { done.take($0, $1) }
        let work = { (group: Int) in iterations * sizes[group] / count }
        meter.add(done.groups.reduce(0) { $0 + work($1) })
        // The largest first, so that no thread is left alone with one.
        let sequence = (0..<count).filter { shares[$0] > 0 && !done.groups.contains($0) }.sorted {
            (sizes[$0] * shares[$0], $1) > (sizes[$1] * shares[$1], $0)
        }
        // Threads wait for one another only where something may be kept.
        let batch = milestones.isKept ? 16 * threads : max(1, sequence.count)
        for first in stride(from: 0, to: sequence.count, by: batch) {
            let some = Array(sequence[first..<min(sequence.count, first + batch)])
            Workers.forEach(count: some.count, threads: threads) { index in
                let group = some[index]
                let members = rows.gather(Array(order.rows[order.starts[group]..<order.starts[group + 1]]))
                var sub = KMeans(partitions: shares[group], seed: seed ^ UInt64(group + 1) << 20, threads: 1)
                sub.iterations = iterations
                sub.flatLimit = Int.max
                var lloyd = Lloyd(rows: members, means: sub.seeds(members, shares[group]), threads: 1)
                lloyd.run(iterations: sub.iterations, tolerance: sub.tolerance)
                means.row(firsts[group]).copyMemory(from: lloyd.means.bytes, byteCount: lloyd.means.byteCount)
                meter.add(iterations * members.count / count)
            }
            done.add(some)
            if milestones.isDue() { try milestones.keep(.groups, done.part, done.give(), false) }
        }
        return means
    }

    /// The group of each row of an upper level, and the number of groups.
    private func homes<Failure: Error>(
        _ rows: VectorMatrix, _ wanted: Int, _ milestones: Milestones<Failure>
    ) throws(Failure) -> (partitions: [UInt32], count: Int) {
        if var kept = try milestones.last(.homes)?.reader, let count = try? kept.integer(UInt64.self),
            let homes = try? kept.numbers(rows.count), (try? kept.finish()) != nil,
            count <= rows.count, homes.allSatisfy({ $0 < count })
        {
            return (homes, Int(count))
        }
        let groupCount = groupCount(wanted)
        var random = SeededRandom(seed: seed, stream: 1)
        let sampled = random.sample(groupCount * 256, below: rows.count)
        var top = KMeans(partitions: groupCount, seed: seed, threads: threads)
        top.iterations = iterations
        let groups = try top.train(rows.gather(sampled), milestones, steps: (.upperPart, .upper)).centroids
        let homes = NearestCentroids(scanning: groups).assign(rows, threads: threads).partitions
        try milestones.keepWhole(.homes, part: 0) {
            var writer = SectionWriter()
            writer.append(UInt64(groups.count))
            writer.append(homes)
            return writer.bytes
        }
        return (homes, groups.count)
    }

    /// Divides `total` in proportion to `sizes` by largest remainder; no share exceeds its size, and
    /// what has a size has at least one.
    static func shares(of total: Int, sizes: [Int]) -> [Int] {
        let sum = sizes.reduce(0, +)
        precondition(total <= sum)
        var shares = sizes.map {
            $0 == 0 ? 0 : max(1, min($0, Int(Double(total) * Double($0) / Double(sum))))
        }
        var missing = total - shares.reduce(0, +)
        // Adds where a partition would be largest, takes where it would stay smallest.
        while missing != 0 {
            var chosen = -1
            for index in sizes.indices {
                if missing > 0 {
                    guard shares[index] < sizes[index] else { continue }
                    if chosen < 0 || sizes[index] * shares[chosen] > sizes[chosen] * shares[index] {
                        chosen = index
                    }
                } else {
                    guard shares[index] > 1 else { continue }
                    if chosen < 0 || sizes[index] * shares[chosen] < sizes[chosen] * shares[index] {
                        chosen = index
                    }
                }
            }
            if chosen < 0 { break }
            shares[chosen] += missing > 0 ? 1 : -1
            missing += missing > 0 ? -1 : 1
        }
        return shares
    }
}

/// Groups of an upper level that are divided, with the means of each in its place.
private final class KeptGroups {
    private let means: VectorMatrix
    private let starts: [Int]
    /// All that are divided.
    private(set) var groups = Set<Int>()
    /// The number of the next milestone.
    private(set) var part = 0
    private var fresh: [Int] = []

    init(means: VectorMatrix, starts: [Int]) {
        self.means = means
        self.starts = starts
    }

    func add(_ some: [Int]) {
        fresh += some
        groups.formUnion(some)
    }

    /// The groups that no milestone holds yet, as bytes.
    func give() -> [UInt8] {
        var writer = SectionWriter()
        writer.append(UInt64(fresh.count))
        writer.append(fresh.map { UInt32($0) })
        for group in fresh { writer.append(means.gather(starts[group]..<starts[group + 1])) }
        fresh = []
        part += 1
        return writer.bytes
    }

    /// Takes back what `give` gave; nothing where it is of other groups.
    func take(_ part: Int, _ bytes: [UInt8]) {
        self.part = max(self.part, part + 1)
        guard var reader = Milestones<Never>.reader(bytes), let count = try? reader.count(bytesEach: 4),
            let found = try? reader.numbers(count), found.allSatisfy({ $0 < starts.count - 1 }),
            reader.remaining
                == found.reduce(0, { $0 + (starts[Int($1) + 1] - starts[Int($1)]) * means.rowByteCount })
        else { return }
        for group in found.map({ Int($0) }) {
            let target = UnsafeMutableRawBufferPointer(
                start: means.row(starts[group]),
                count: (starts[group + 1] - starts[group]) * means.rowByteCount)
            guard (try? reader.read(into: target)) != nil else { return }
            groups.insert(group)
        }
    }
}
