// The decision between rounds: what was found changes what is still worth reading.

import Glibc
import Router
import Storage
import Vectors

/// Chooses the reads of every round but the first; owned by one worker.
final class LaterRounds {
    /// The first round reads what is worth this many times the threshold (docs/explain/rounds.md: of 2, 4 and 8,
    /// 4 fetched least at recall@1 0.80 to 0.95).
    static let firstRoundFactor: Float = 4
    /// Unread candidates that the posterior is asked for, the likeliest first. Of a thousand none beyond was ever chosen
    /// at recalls up to 0.97 (docs/results/query-time.md).
    static let candidateDepth = 128

    private let index: DiskIndex
    private let model: PosteriorModel
    private let scratch: PosteriorModel.Scratch
    /// From the metric's distances to squared ones of routing space.
    private let distanceScale: Float
    private var candidates: [PosteriorCandidate] = []
    private var positions: [Int32] = []
    private var logProbabilities: [Float] = []
    private let k: Int

    /// nil where the index has no posterior.
    init?(index: DiskIndex, k: Int) {
        guard let models = index.posteriors, let nearest = models.first else { return nil }
        self.index = index
        self.k = k
        model = k == 1 ? nearest : models[models.count - 1]
        scratch = PosteriorModel.Scratch(model: model, capacity: Self.candidateDepth)
        distanceScale = index.metric == .cosine ? 2 : 1
    }

    /// The state needs the ten best distances, whatever k is.
    var heapCapacity: Int { max(k, PosteriorState.depth) }

    /// Appends the positions of the route that are still worth their cost, `found` being the best so far.
    func choose(
        route: Route, isRead: [Bool], found: [Neighbour], chooser: PlanChooser, into chosen: inout [Int32]
    ) {
        guard let nearest = found.first else { return }
        var massRead: Float = 0
        var reads = 0
        candidates.removeAll(keepingCapacity: true)
        positions.removeAll(keepingCapacity: true)
        for position in 0..<route.count {
            if isRead[position] {
                massRead += expf(route.logProbabilities[position])
                reads += 1
            } else if positions.count < Self.candidateDepth {
                positions.append(Int32(position))
                candidates.append(index.posteriorCandidate(route, position))
            }
        }
        // Routes fall in probability.
        let leastSoft = index.posteriorCandidate(route, 0).soft
        let tenth = found[min(found.count, PosteriorState.depth) - 1]
        let state = PosteriorState(
            best: nearest.distance * distanceScale, tenth: tenth.distance * distanceScale, massRead: massRead,
            readCount: reads, leastSoft: leastSoft)
        model.logProbabilities(state, candidates, scratch: scratch, into: &logProbabilities)
        chooser.chooseLaterRound(
            positions: positions, logProbabilities: logProbabilities, route: route, into: &chosen)
    }
}

extension DiskIndex {
    /// What the posterior sees of a candidate.
    func posteriorCandidate(_ route: Route, _ position: Int) -> PosteriorCandidate {
        let records = table[Int(route.partitions[position])].recordCount
        return PosteriorCandidate(
            logProbability: route.logProbabilities[position],
            soft: -(route.logProbabilities[position] + route.logNormaliser) / route.beta,
            centroidDistance: route.distances[position], logRecords: logf(max(Float(records), 1)))
    }
}
