// The decision between rounds: what was found changes what is still worth reading.

import Glibc
import Router
import Storage
import Vectors

/// Chooses the reads of every round but the first; owned by one worker.
package final class LaterRounds {
    /// The first round reads what is worth this many times the threshold (docs/explain/rounds.md: of 2, 4 and 8,
    /// 4 fetched least at recall@1 0.80 to 0.95).
    static let firstRoundFactor: Float = 4
    /// Unread candidates that the posterior is asked for, the likeliest first. Of a thousand none beyond was ever chosen
    /// at recalls up to 0.97 (docs/results/query-time.md).
    package static let candidateDepth = 128

    private let index: DiskIndex
    private let model: PosteriorModel
    private let scratch: PosteriorModel.Scratch
    private let scale: FoundScale
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
        scale = FoundScale(metric: index.metric, elementType: index.elementType, ceiling: model.ceiling)
    }

    /// The state needs the ten best distances, whatever k is.
    var heapCapacity: Int { max(k, PosteriorState.depth) }

    /// Appends the positions of the route that are still worth their cost, `found` being the best so far.
    ///
    /// - Parameter query: the row that was asked, of the index's element type.
    func choose(
        query: UnsafeRawPointer, route: Route, isRead: [Bool], found: [Neighbour], chooser: ReadChooser,
        into chosen: inout [Int32]
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
        let squared = scale.squared(of: query, dimension: index.dimension)
        let state = PosteriorState(
            best: squared(nearest.distance), tenth: squared(tenth.distance), massRead: massRead,
            readCount: reads, leastSoft: leastSoft)
        model.logProbabilities(state, candidates, scratch: scratch, into: &logProbabilities)
        chooser.chooseLaterRound(
            positions: positions, logProbabilities: logProbabilities, route: route, into: &chosen)
    }
}

/// From a metric's distances to what stands for squared ones of routing space: they are never negative, and ratios of
/// them mean something.
package struct FoundScale {
    let metric: Metric
    let ceiling: Float?
    private let product: Distance

    /// - Parameter ceiling: the length of about the longest vectors under inner product.
    package init(metric: Metric, elementType: ElementType, ceiling: Float?) {
        self.metric = metric
        self.ceiling = ceiling
        product = Distance(metric: .ip, elementType: elementType)
    }

    /// A line: what a distance becomes for one query.
    package struct Line {
        let offset: Float
        let factor: Float

        @inline(__always)
        package func callAsFunction(_ distance: Float) -> Float { offset + factor * distance }
    }

    /// Twice a cosine distance is the squared distance of unit vectors. Under inner product the same is said of vectors
    /// of the ceiling's length, in units of it: 2 - 2 q.x / (|q| ceiling); plain products would all be negative, and
    /// cut off at zero they would say nothing of what was found.
    package func squared(of query: UnsafeRawPointer, dimension: Int) -> Line {
        switch metric {
        case .l2: return Line(offset: 0, factor: 1)
        case .cosine: return Line(offset: 0, factor: 2)
        case .ip:
            guard let ceiling else { return Line(offset: 0, factor: 1) }
            let length = (-product.pair(query, query, dimension: dimension)).squareRoot()
            return Line(offset: 2, factor: length > 0 ? 2 / (length * ceiling) : 0)
        }
    }
}

extension DiskIndex {
    /// What the posterior sees of a candidate.
    package func posteriorCandidate(_ route: Route, _ position: Int) -> PosteriorCandidate {
        let records = table[Int(route.partitions[position])].recordCount
        return PosteriorCandidate(
            logProbability: route.logProbabilities[position],
            soft: -(route.logProbabilities[position] + route.logNormaliser) / route.beta,
            centroidDistance: route.distances[position], logRecords: logf(max(Float(records), 1)))
    }
}
