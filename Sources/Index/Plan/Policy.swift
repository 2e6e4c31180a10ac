// From a router's candidates to what is read. A policy is a value chosen at search time; it never changes
// what an index is.

import Glibc
import Router
import Storage

/// What reading a segment costs: the denominator of its gain.
public enum ReadCost: Sendable, Equatable {
    /// Records of the segment.
    case vectors
    /// Bytes of the segment on the device.
    case bytes
    /// One for each segment.
    case reads
    /// Microseconds by a model of the device.
    case time(DeviceModel)

    /// The name in the command line: "vectors", "bytes", "reads", "time".
    public var name: String {
        switch self {
        case .vectors: "vectors"
        case .bytes: "bytes"
        case .reads: "reads"
        case .time: "time"
        }
    }

    /// The cost of one segment.
    @inline(__always)
    package func of(_ entry: SegmentEntry, unitByteCount: Int) -> Float {
        switch self {
        case .vectors: Float(entry.recordCount)
        case .bytes: Float(Int(entry.unitCount) * unitByteCount)
        case .reads: 1
        case .time(let model): model.microseconds(byteCount: Int(entry.unitCount) * unitByteCount)
        }
    }
}

/// When to stop reading. Only partitions that hold records count: one without any is neither read nor counted.
public enum Policy: Sendable, Equatable {
    /// The first `nprobe` partitions of the route that hold something.
    case nprobe(Int)
    /// SPANN's query pruning (Chen et al. 2021, section 3.3) on squared distances: partitions whose centroid
    /// is within (1 + eps2) times the distance of the nearest one, at most `nprobe` of them.
    case eps2(Float, nprobe: Int)
    /// Partitions in order while their records sum to no more than this; at least one.
    case vectorBudget(Int)
    /// By gain until the probabilities of what is read sum to this.
    case mass(Float)
    /// Every partition whose probability over its cost exceeds lambda, and at least the one of the highest
    /// gain. The least mean cost for a mean recall when probabilities are calibrated (docs/explain/gain.md).
    case gain(Float)
    /// LIRA's: every partition whose own probability exceeds sigma, and at least the likeliest.
    case sigma(Float)

    /// Every unit of pages whose records' probabilities, by their codes, sum to more than lambda, and at least the one
    /// that is worth most: an index with a code of every record (docs/explain/pages.md).
    case pages(Float)

    /// The name used in tables: "nprobe", "eps2", "budget-vectors", "mass", "gain", "sigma", "pages".
    public var name: String {
        switch self {
        case .nprobe: "nprobe"
        case .eps2: "eps2"
        case .vectorBudget: "budget-vectors"
        case .mass: "mass"
        case .gain: "gain"
        case .sigma: "sigma"
        case .pages: "pages"
        }
    }

    /// The value that a sweep varies.
    public var parameter: Double {
        switch self {
        case .nprobe(let count): Double(count)
        case .eps2(let eps2, _): Double(eps2)
        case .vectorBudget(let records): Double(records)
        case .mass(let mass): Double(mass)
        case .gain(let lambda): Double(lambda)
        case .sigma(let sigma): Double(sigma)
        case .pages(let lambda): Double(lambda)
        }
    }

    /// Whether partitions are read until enough are, likely or not.
    var countsPartitions: Bool {
        switch self {
        case .nprobe, .eps2, .vectorBudget: true
        case .mass, .gain, .sigma, .pages: false
        }
    }

    /// How many candidates the router has to name, of `partitions` that hold `records` in all.
    package func candidateLimit(partitions: Int, records: Int) -> Int {
        switch self {
        case .nprobe(let count), .eps2(_, let count): min(count, partitions)
        // Counted in records or probability: partitions may be small, so ask for plenty, and for twice as many
        // as hold the budget in the mean.
        case .vectorBudget(let budget):
            Int(
                min(
                    Double(partitions),
                    max(4096, 2 * Double(budget) * Double(partitions) / Double(max(records, 1)))))
        case .mass, .gain, .sigma, .pages: min(partitions, 4096)
        }
    }

    /// Whether `route` names too few partitions that hold something for a policy that counts them: some that do not
    /// were among those that the router was asked for.
    func wantsMore(than route: Route, table: SegmentTable) -> Bool {
        switch self {
        case .nprobe(let count):
            return !route.holds(count, of: table)
        case .eps2(let eps2, let count):
            guard let last = route.distances.last, let nearest = route.nearestHolding(of: table) else {
                return true
            }
            return last <= (1 + eps2) * nearest && !route.holds(count, of: table)
        case .vectorBudget(let budget):
            var sum = 0
            for partition in route.partitions {
                sum += Int(table[Int(partition)].recordCount)
                if sum > budget { return false }
            }
            return true
        case .mass, .gain, .sigma, .pages: return false
        }
    }

    /// Refuses values that mean nothing.
    func validate() throws(IndexError) {
        switch self {
        case .nprobe(let count):
            if count < 1 { throw .outOfRange("nprobe", allowed: "at least 1", found: "\(count)") }
        case .eps2(let eps2, let count):
            if !(eps2 >= 0 && eps2.isFinite) {
                throw .outOfRange("eps2", allowed: "0 or more", found: "\(eps2)")
            }
            if count < 1 { throw .outOfRange("nprobe", allowed: "at least 1", found: "\(count)") }
        case .vectorBudget(let records):
            if records < 1 { throw .outOfRange("budget-vectors", allowed: "at least 1", found: "\(records)") }
        case .mass(let mass):
            if !(mass > 0 && mass <= 1) {
                throw .outOfRange("mass", allowed: "over 0 and at most 1", found: "\(mass)")
            }
        case .gain(let lambda):
            if !(lambda >= 0) { throw .outOfRange("gain", allowed: "0 or more", found: "\(lambda)") }
        case .sigma(let sigma):
            if !(sigma >= 0 && sigma < 1) {
                throw .outOfRange("sigma", allowed: "from 0 to below 1", found: "\(sigma)")
            }
        case .pages(let lambda):
            if !(lambda >= 0) { throw .outOfRange("page-gain", allowed: "0 or more", found: "\(lambda)") }
        }
    }
}

extension Route {
    /// Whether at least `count` of the candidates hold records.
    fileprivate func holds(_ count: Int, of table: SegmentTable) -> Bool {
        if self.count < count { return false }
        var left = count
        for partition in partitions where table[Int(partition)].recordCount > 0 {
            left -= 1
            if left <= 0 { return true }
        }
        return false
    }

    /// The least distance of a candidate that holds records; nil where none does.
    fileprivate func nearestHolding(of table: SegmentTable) -> Float? {
        var least: Float?
        for (position, partition) in partitions.enumerated() where table[Int(partition)].recordCount > 0 {
            least = min(least ?? .infinity, distances[position])
        }
        return least
    }
}

extension Policy {
    /// Sigmas from the likeliest partition alone to nearly all, evenly in their logits.
    public static var sigmaLadder: [Policy] {
        (0..<48).map { .sigma(1 / (1 + expf(-4 + Float($0) * 0.28))) }
    }

    /// Page thresholds from reading what surely holds a neighbour to what hardly may.
    public static var pagesLadder: [Policy] { (0..<64).map { .pages(expf(3 - 12 * Float($0) / 63)) } }

    /// Gain thresholds from reading the best partition alone to reading nearly everything.
    public static func gainLadder(for table: SegmentTable, cost: ReadCost, count: Int) -> [Policy] {
        let entries = (0..<table.count).map { table[$0] }.filter { $0.recordCount > 0 }
        let sum = entries.reduce(Float(0)) { $0 + cost.of($1, unitByteCount: table.layout.unitByteCount) }
        let mean = sum / Float(max(entries.count, 1))
        return (0..<count).map { .gain(expf(-13 * Float($0) / Float(max(count - 1, 1))) * 0.5 / mean) }
    }
}

/// Chooses what to read for one query; owns the memory that ordering by gain needs.
struct ReadChooser {
    private let policy: Policy
    private let cost: ReadCost
    private let table: SegmentTable
    private let unitByteCount: Int
    /// The least logarithm of what any segment with records costs.
    private let leastLogCost: Float
    /// Logarithm of the gain of each candidate, and candidates by falling gain.
    private var logGains: [Float] = []
    private var order: [Int32] = []

    init(policy: Policy, cost: ReadCost, table: SegmentTable) {
        self.policy = policy
        self.cost = cost
        self.table = table
        unitByteCount = table.layout.unitByteCount
        var least = Float.infinity
        if case .gain = policy {
            for partition in 0..<table.count where table[partition].recordCount > 0 {
                least = min(least, cost.of(table[partition], unitByteCount: unitByteCount))
            }
        }
        leastLogCost = logf(least)
    }

    /// Appends the positions in `route` of the partitions to read.
    mutating func choose(from route: Route, into chosen: inout [Int32]) {
        switch policy {
        case .nprobe(let count):
            chooseHolding(count, from: route, within: .infinity, into: &chosen)
        case .eps2(let eps2, let count):
            // The nearest centroid need not be the likeliest partition of a learned router.
            guard let nearest = route.nearestHolding(of: table) else { return }
            chooseHolding(count, from: route, within: (1 + eps2) * nearest, into: &chosen)
        case .vectorBudget(let budget):
            var sum = 0
            for (index, partition) in route.partitions.enumerated() {
                let records = Int(table[Int(partition)].recordCount)
                if records == 0 { continue }
                if sum > 0 && sum + records > budget { return }
                sum += records
                chosen.append(Int32(index))
            }
        case .mass(let mass):
            orderByGain(route)
            // What is said of partitions that hold nothing is said of none.
            var sum: Float = 0
            for position in order where !holds(route.partitions[Int(position)]) {
                sum += expf(route.logProbabilities[Int(position)]) * mass
            }
            for position in order where holds(route.partitions[Int(position)]) {
                chosen.append(position)
                sum += expf(route.logProbabilities[Int(position)])
                if sum >= mass { return }
            }
        case .gain(let lambda):
            chooseGains(above: lambda, from: route, into: &chosen)
        // Chosen by PageChooser, which sees records.
        case .pages: return
        case .sigma(let sigma):
            let limit = logf(sigma)
            var hasLikeliest = false
            for position in 0..<route.count
            where (!hasLikeliest || route.logProbabilities[position] > limit)
                && holds(route.partitions[position])
            {
                chosen.append(Int32(position))
                hasLikeliest = true
            }
        }
    }

    @inline(__always)
    private func holds(_ partition: UInt32) -> Bool { table[Int(partition)].recordCount > 0 }

    /// Of the first `count` candidates that hold something those whose centroid is within `limit`.
    private func chooseHolding(
        _ count: Int, from route: Route, within limit: Float, into chosen: inout [Int32]
    ) {
        var left = count
        for position in 0..<route.count where holds(route.partitions[position]) {
            if left == 0 { return }
            left -= 1
            if route.distances[position] <= limit { chosen.append(Int32(position)) }
        }
    }

    /// The first of several rounds: what is worth `factor` times the threshold, the rest when more is known.
    mutating func chooseFirstRound(factor: Float, from route: Route, into chosen: inout [Int32]) {
        if case .gain(let lambda) = policy {
            chooseGains(above: lambda * factor, from: route, into: &chosen)
        } else {
            choose(from: route, into: &chosen)
        }
    }

    /// A later round: of the candidates at `positions`, those whose posterior gain exceeds the threshold.
    func chooseLaterRound(
        positions: [Int32], logProbabilities: [Float], route: Route, into chosen: inout [Int32]
    ) {
        guard case .gain(let lambda) = policy else { return }
        let limit = logf(lambda)
        for (index, position) in positions.enumerated()
        where logGain(logProbabilities[index], partition: route.partitions[Int(position)]) > limit {
            chosen.append(position)
        }
    }

    private func chooseGains(above lambda: Float, from route: Route, into chosen: inout [Int32]) {
        let limit = logf(lambda)
        var (best, bestGain, found) = (-1, -Float.infinity, false)
        for position in 0..<route.count {
            // Routes fall in probability: from some place on even the cheapest segment would not be worth it.
            let most = route.logProbabilities[position] - leastLogCost
            if best >= 0 && most <= limit && (found || most <= bestGain) { break }
            let gain = logGain(route.logProbabilities[position], partition: route.partitions[position])
            if best < 0 || gain > bestGain { (best, bestGain) = (position, gain) }
            if gain > limit {
                chosen.append(Int32(position))
                found = true
            }
        }
        if !found && best >= 0 { chosen.append(Int32(best)) }
    }

    @inline(__always)
    private func logGain(_ logProbability: Float, partition: UInt32) -> Float {
        let entry = table[Int(partition)]
        // An empty partition costs nothing and holds nothing.
        return entry.recordCount == 0
            ? -Float.infinity : logProbability - logf(cost.of(entry, unitByteCount: unitByteCount))
    }

    private mutating func computeGains(_ route: Route) {
        logGains.removeAll(keepingCapacity: true)
        for position in 0..<route.count {
            logGains.append(logGain(route.logProbabilities[position], partition: route.partitions[position]))
        }
    }

    private mutating func orderByGain(_ route: Route) {
        computeGains(route)
        order.removeAll(keepingCapacity: true)
        for position in 0..<route.count { order.append(Int32(position)) }
        order.sort { a, b in
            let (x, y) = (logGains[Int(a)], logGains[Int(b)])
            return x == y ? a < b : x > y
        }
    }
}
