// From codes to pages: every record that may be near gets a probability of being among the k nearest, a unit of pages is
// worth the sum over its records, and what is worth more than a threshold is read (docs/explain/pages.md).
//
// The probability of a record is Phi((tau - d) / (s sqrt(d))), d its distance by its code, s how estimates spread around
// the truth, tau the distance at which the probabilities of all sum to k: a soft k-th nearest, so that one rule serves
// every k.

import Glibc
import Router
import Storage
import Vectors

/// A unit of a partition's segment, as units are ordered in the file.
package struct UnitAddress: Comparable, Hashable, Sendable {
    private let raw: UInt64

    package init(partition: Int, unit: Int) { raw = UInt64(partition) << 32 | UInt64(unit) }

    package var partition: Int { Int(raw >> 32) }
    package var unit: Int { Int(raw & 0xffff_ffff) }

    package static func < (a: UnitAddress, b: UnitAddress) -> Bool { a.raw < b.raw }
}

/// Weighs the units that a query's neighbours may lie in; owned by one worker, allocates nothing after warm-up.
package final class PageChooser {
    private let codes: RecordCodes
    private let estimates: RecordEstimates
    private let elementType: ElementType
    private let recordsPerUnit: Int
    private var probabilities: [Float] = []

    /// Units with a record that was weighed, in the order of the route, and what each is worth.
    package private(set) var units: [UnitAddress] = []
    package private(set) var gains: [Float] = []

    /// Partitions whose codes a search of k looks at.
    package func partitionLimit(k: Int) -> Int { codes.model.partitionLimit(k: k) }

    package init(index: DiskIndex, codes: RecordCodes) {
        self.codes = codes
        estimates = RecordEstimates(codes)
        elementType = index.space.elementType
        recordsPerUnit = index.layout.recordsPerUnit
    }

    /// How many of a route's partitions are worth a look at their codes, where those have to be read: at least one. Each
    /// page of codes costs as much as a page of records, which has to be worth `lambda` neighbours.
    package func lookCount(_ route: Route, k: Int, above lambda: Float) -> Int {
        let most = min(route.count, codes.model.partitionLimit(k: k))
        let least = log(codes.model.lookShare * lambda)
        return route.logProbabilities.prefix(most).firstIndex { $0 < least }.map { max($0, 1) } ?? most
    }

    /// The records that may be near, by their codes.
    ///
    /// - Parameters:
    ///   - query: a row in routing space.
    ///   - route: the nearest partitions by centroid.
    ///   - k: the greatest that `weigh` will be asked for.
    ///   - blocks: where the codes of the route's partitions lie, by position; nil: all in memory.
    ///   - stops: whether partitions are left out once the last ones held nothing near, as a search of k does.
    package func estimate(
        _ query: UnsafeRawPointer, route: Route, k: Int, blocks: [UnsafeRawPointer?]? = nil,
        stops: Bool = true
    ) {
        let limit = min(codes.model.partitionLimit(k: k), blocks?.count ?? .max)
        if stops {
            estimates.find(
                query, type: elementType, route: route, partitions: limit,
                for: .init(k: k, spread: codes.model.spread(k: k)), blocks: blocks)
        } else {
            estimates.find(
                query, type: elementType, route: route, partitions: limit,
                wanted: RecordModel.candidateCount(k: k))
        }
    }

    /// Gives units what they are worth to a search of k.
    ///
    /// - Parameters:
    ///   - spread: nil: the model's.
    ///   - excluded: a record that is no answer.
    package func weigh(
        route: Route, k: Int, spread: Float? = nil, excluded: (partition: Int, slot: Int)? = nil
    ) {
        let count = estimates.count
        if probabilities.count < count {
            probabilities = [Float](repeating: 0, count: 2 * count)
        }
        if let excluded {
            for index in 0..<count
            where Int(estimates.slots[index]) == excluded.slot
                && Int(route.partitions[Int(estimates.positions[index])]) == excluded.partition
            {
                estimates.distances[index] = .infinity
            }
        }
        estimates.weigh(k: k, spread: spread ?? codes.model.spread(k: k), into: &probabilities)
        units.removeAll(keepingCapacity: true)
        gains.removeAll(keepingCapacity: true)
        for index in 0..<count {
            let unit = UnitAddress(
                partition: Int(route.partitions[Int(estimates.positions[index])]),
                unit: Int(estimates.slots[index]) / recordsPerUnit)
            // Candidates come by partition and slot: those of a unit stand together.
            if units.last == unit {
                gains[gains.count - 1] += probabilities[index]
            } else {
                units.append(unit)
                gains.append(probabilities[index])
            }
        }
    }

    /// The least estimate; infinite where no record was found.
    package var nearestEstimate: Float {
        var least = Float.infinity
        for index in 0..<estimates.count { least = min(least, estimates.distances[index]) }
        return least
    }

    /// The probability and the place of each record that was weighed.
    package func forEachRecord(
        of route: Route, _ body: (_ partition: Int, _ slot: Int, _ probability: Float) -> Void
    ) {
        for index in 0..<estimates.count where estimates.distances[index] < .infinity {
            body(
                Int(route.partitions[Int(estimates.positions[index])]), Int(estimates.slots[index]),
                probabilities[index])
        }
    }

    /// Appends the units that are worth more than lambda, in file order, and at least the one that is worth most; returns
    /// how many neighbours they are expected to hold.
    package func choose(above lambda: Float, into chosen: inout [UnitAddress]) -> Float {
        var (best, expected) = (-1, Float(0))
        for index in gains.indices {
            if gains[index] > lambda {
                chosen.append(units[index])
                expected += gains[index]
            }
            if best < 0 || gains[index] > gains[best] { best = index }
        }
        if chosen.isEmpty && best >= 0 {
            chosen.append(units[best])
            expected = gains[best]
        }
        chosen.sort()
        return expected
    }
}
