// The trials of a resident plan: measurements on prefixes of one sample, kept as they come in.

import Foundation
import Index
import Vectors

/// A router with a number of partitions.
struct PlanCandidate: Hashable, Sendable {
    var partitions: Int
    var router: PlannedRouter
}

/// Measures candidates; neighbours and partitionings are shared by routers, and whatever an earlier run of the same plan
/// has measured is not measured again.
final class ResidentBench {
    private let makeSample: () throws -> ResidentSample
    private let trials: PlanTrials?
    private let identity: String
    private let count: Int
    private let progress: JobProgress
    /// Work of the whole plan at most, and of what is done.
    private let total: Double
    private var work: PlanWork
    private var done = 0.0
    private var kept: [String: SampledCost?]
    private var made: ResidentSample?
    private var neighbours: [Int: [UInt32]] = [:]
    private var partitionings: [[Int]: ResidentSample.Partitioned] = [:]

    /// Steps that progress is told in.
    private static let steps = 1000

    /// - Parameter sample: called once there is a trial to make.
    init(
        work: PlanWork, total: Double, trials: PlanTrials?, identity: String, progress: JobProgress,
        sample: @escaping () throws -> ResidentSample
    ) throws {
        (self.work, self.total, count) = (work, total, work.count)
        (self.trials, self.identity, self.progress) = (trials, identity, progress)
        makeSample = sample
        kept = try trials?.restore(identity) ?? [:]
    }

    /// What a candidate fetches on so many rows; nil where it does not reach the recall.
    func cost(of candidate: PlanCandidate, count: Int) throws -> SampledCost? {
        let key = "\(count) \(candidate.partitions) \(candidate.router.name)"
        let took = work.add(candidate.router, partitions: candidate.partitions, rows: count)
        defer {
            done += took
            progress(
                stage: "plan", done: min(Self.steps - 1, Int(done / total * Double(Self.steps))),
                total: Self.steps)
        }
        if let known = kept[key] { return known }
        let found = try sample().cost(of: candidate.router, in: partitioned(candidate, count: count))
        kept[key] = .some(found)
        try trials?.store(kept, identity: identity)
        return found
    }

    /// Tells that nothing more is tried.
    func finish() { progress(stage: "plan", done: Self.steps, total: Self.steps) }

    private func sample() throws -> ResidentSample {
        if let made { return made }
        let sample = try makeSample()
        made = sample
        return sample
    }

    private func partitioned(_ candidate: PlanCandidate, count: Int) throws -> ResidentSample.Partitioned {
        let sample = try sample()
        let key = [count, candidate.partitions]
        if let known = partitionings[key] { return known }
        let known = neighbours[count] ?? sample.neighbours(count: count)
        neighbours[count] = known
        let partitioned = sample.partitioned(
            count: count, partitions: work.partitions(of: candidate, rows: count),
            whole: (
                min(self.count, max(256 * candidate.partitions, 4 << 20)), candidate.partitions
            ), neighbours: known)
        partitionings[key] = partitioned
        return partitioned
    }

    /// What a candidate fetches in samples of growing size, from `first` rows to all that are there.
    func growth(of candidate: PlanCandidate, from first: Int) throws -> ResidentPlanner.Growth {
        ResidentPlanner.Growth(
            points: try work.growthRows(from: first).compactMap { count in
                try cost(of: candidate, count: count).map { (count, $0) }
            })
    }
}
