// From a router's candidates to what is read. A policy is a value chosen at search time; it never changes
// what an index is.

import Router
import Storage

/// When to stop reading.
public enum Policy: Sendable, Equatable {
    /// The nearest `nprobe` partitions.
    case nprobe(Int)
    /// SPANN's query pruning (Chen et al. 2021, section 3.3) on squared distances: partitions whose centroid
    /// is within (1 + eps2) times the distance of the nearest one, at most `nprobe` of them.
    case eps2(Float, nprobe: Int)
    /// Partitions in order while their records sum to no more than this; at least one.
    case vectorBudget(Int)

    /// The name used in tables: "nprobe", "eps2", "budget-vectors".
    public var name: String {
        switch self {
        case .nprobe: "nprobe"
        case .eps2: "eps2"
        case .vectorBudget: "budget-vectors"
        }
    }

    /// The value that a sweep varies.
    public var parameter: Double {
        switch self {
        case .nprobe(let count): Double(count)
        case .eps2(let eps2, _): Double(eps2)
        case .vectorBudget(let records): Double(records)
        }
    }

    /// How many candidates the router has to name.
    func candidateLimit(partitions: Int) -> Int {
        switch self {
        case .nprobe(let count), .eps2(_, let count): min(count, partitions)
        // A budget is counted in records: partitions may be small, so ask for plenty.
        case .vectorBudget: min(partitions, 4096)
        }
    }

    /// Refuses values that mean nothing.
    func validate() throws(IndexError) {
        switch self {
        case .nprobe(let count):
            if count < 1 { throw .invalid("nprobe must be at least 1, found \(count)") }
        case .eps2(let eps2, let count):
            if !(eps2 >= 0) { throw .invalid("eps2 must be 0 or more, found \(eps2)") }
            if count < 1 { throw .invalid("nprobe must be at least 1, found \(count)") }
        case .vectorBudget(let records):
            if records < 1 { throw .invalid("budget-vectors must be at least 1, found \(records)") }
        }
    }

    /// Appends the partitions to read, in the order of the route.
    func choose(from route: Route, table: SegmentTable, into chosen: inout [UInt32]) {
        switch self {
        case .nprobe(let count):
            chosen.append(contentsOf: route.partitions.prefix(count))
        case .eps2(let eps2, let count):
            guard let nearest = route.distances.first else { return }
            let limit = (1 + eps2) * nearest
            for index in 0..<min(count, route.count) where route.distances[index] <= limit {
                chosen.append(route.partitions[index])
            }
        case .vectorBudget(let budget):
            var sum = 0
            for partition in route.partitions {
                sum += Int(table[Int(partition)].recordCount)
                if sum > budget && !chosen.isEmpty { return }
                chosen.append(partition)
            }
        }
    }
}
