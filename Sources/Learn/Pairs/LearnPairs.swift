// What a predictor learns from, made with the index itself: queries of a learn set (or drawn from the base),
// their neighbours by a batch sweep over the nearest partitions, and the share of them that is right.

import Index
import Router
import Storage
import Vectors

/// Where training queries come from.
public struct LearnParameters: Sendable {
    /// Queries taken from the learn file, at most; nil: all of it.
    public var learnCount: Int?
    /// Base vectors as queries, each left out wherever its neighbours are counted.
    public var syntheticCount = 0
    /// Neighbours kept of each query.
    public var neighbourCount = 10
    /// Partitions searched for them; nil: chosen so that about one label in a hundred may be wrong.
    public var nprobe: Int?
    /// Share of the learn queries held out for calibration and stopping, and the most that are.
    public var heldOutShare = 0.1
    public var heldOutMaximum = 20_000
    public var seed: UInt64 = 1
    public var threads = 2
    public var memoryByteCount = 2 << 30

    public init() {}

    package func heldOutCount(of count: Int) -> Int {
        min(heldOutMaximum, max(32, Int(Double(count) * heldOutShare)))
    }
}

/// Pairs, how far their labels can be trusted, and the queries that were kept back from both.
public struct LearnPairs: Sendable {
    public let pairs: TrainingPairs
    /// Queries as the base has them (for exact distances); rows of `pairs.queries` are the same in routing space.
    public let queries: VectorMatrix
    /// The base vectors that these were made from, by number; empty where none was.
    let sources: [UInt32]
    /// Share of nearest-neighbour labels that are right, measured exactly on a sample.
    public let labelAccuracy: Double
    /// Queries that no training, no factor and no stopping has seen: they set thresholds and check them.
    let kept: KeptQueries
}

/// Queries without labels: some of a learn file, or made from the base.
struct KeptQueries: Sendable {
    let queries: VectorMatrix
    /// The base vectors that they were made from, by number; empty where they are of a learn file.
    let sources: [UInt32]

    var areMade: Bool { !sources.isEmpty }
}

/// Queries to learn from: those made from the base stand first, those of a learn file last.
struct LearnQueries {
    var queries: VectorMatrix
    /// The base vector that each was made from, by number, or `noSource`; empty where all are of a learn file.
    var sources: [UInt32]
    let learnCount: Int

    static let noSource = UInt32.max

    /// Takes away the last `wanted`, of one origin.
    mutating func keepBack(_ wanted: Int) -> KeptQueries {
        let count = learnCount > 0 ? min(wanted, learnCount) : wanted
        let first = queries.count - count
        let kept = KeptQueries(
            queries: queries.gather(first..<queries.count),
            sources: learnCount > 0 ? [] : Array(sources[first...]))
        queries = queries.gather(0..<first)
        sources = Array(sources.prefix(first))
        if sources.allSatisfy({ $0 == Self.noSource }) { sources = [] }
        return kept
    }
}

extension DiskIndex {
    /// Labels the queries of a learn file and synthetic ones. Synthetic queries stand first: what is held out
    /// is from the learn file where there is one.
    ///
    /// - Parameter checkpoints: where labels are kept, a block of queries at a time; nil: nowhere.
    public func learnPairs(
        learn: VectorFile?, parameters: LearnParameters, checkpoints: TrainingCheckpoints? = nil,
        progress: JobProgress = .none
    ) throws -> LearnPairs {
        var asked = try learnQueries(
            learn: learn, parameters: parameters, checkpoints: checkpoints, progress: progress)
        let held = parameters.heldOutCount(of: asked.queries.count)
        let kept = asked.keepBack(held / 2)
        let nprobe = parameters.nprobe ?? defaultLabelProbes
        let depth = neighbourLimit(parameters.neighbourCount, hasSources: !asked.sources.isEmpty)
        let labels = try labels(
            of: asked.queries, sources: asked.sources, k: depth, nprobe: nprobe, parameters: parameters,
            checkpoints: checkpoints, stage: "label", progress: progress)
        let accuracy = try labelAccuracy(
            of: asked, distances: labels.nearestDistances, parameters: parameters, nprobe: nprobe,
            progress: progress)
        return LearnPairs(
            pairs: TrainingPairs(
                queries: space.queries(from: asked.queries), neighbours: labels.numbers,
                neighbourCount: depth,
                heldOutCount: held - held / 2),
            queries: asked.queries, sources: asked.sources, labelAccuracy: accuracy, kept: kept)
    }

    /// The same with neighbours that were found before: `labels` of the first queries of the learn file, in order.
    public func learnPairs(
        learn: VectorFile, labels: TruthFile, parameters: LearnParameters, progress: JobProgress = .none
    ) throws -> LearnPairs {
        var parameters = parameters
        parameters.learnCount = min(learn.count, labels.count, parameters.learnCount ?? .max)
        parameters.syntheticCount = 0
        let depth = neighbourLimit(parameters.neighbourCount, hasSources: false)
        guard labels.k >= depth else {
            throw IndexError.otherTruth(
                "the labels hold \(labels.k) neighbours a query, \(depth) are needed: compute as many")
        }
        var asked = try learnQueries(
            learn: learn, parameters: parameters, checkpoints: nil, progress: progress)
        let held = parameters.heldOutCount(of: asked.queries.count)
        let kept = asked.keepBack(held / 2)
        let (count, numbers) = (asked.queries.count, try numbers())
        var neighbours: [UInt32] = []
        neighbours.reserveCapacity(count * depth)
        for query in 0..<count {
            for rank in 0..<depth {
                let id = labels.id(query: query, rank: rank)
                guard id != TruthFile.noId else {
                    throw IndexError.otherTruth(
                        "the labels name \(rank) neighbours of query \(query), \(depth) are needed: compute them "
                            + "for all \(self.count) vectors")
                }
                guard let number = numbers.number(of: id) else {
                    throw IndexError.otherTruth(
                        "the labels name vector \(id) for query \(query), which \(path) does not hold")
                }
                neighbours.append(UInt32(number))
            }
        }
        return LearnPairs(
            pairs: TrainingPairs(
                queries: space.queries(from: asked.queries), neighbours: neighbours, neighbourCount: depth,
                heldOutCount: held - held / 2),
            queries: asked.queries, sources: [],
            labelAccuracy: labels.distances == nil
                ? .nan
                : try labelAccuracy(
                    of: asked, distances: (0..<count).map { labels.distance(query: $0, rank: 0) },
                    parameters: parameters, nprobe: 0, progress: progress),
            kept: kept)
    }

    private func learnQueries(
        learn: VectorFile?, parameters: LearnParameters, checkpoints: TrainingCheckpoints?,
        progress: JobProgress
    ) throws -> LearnQueries {
        var parts: [VectorMatrix] = []
        var sources: [UInt32] = []
        if parameters.syntheticCount > 0 {
            let made = try madeQueries(parameters)
            parts.append(made.queries)
            sources = made.sources
        }
        var learnCount = 0
        if let learn {
            try requireSameKind(learn)
            learnCount = min(learn.count, parameters.learnCount ?? learn.count)
            let rows = try learn.rows(0..<learnCount)
            try refuseLengths(rows, metric: metric) { "query \($0) of \(learn.path)" }
            if learnCount > 0 { parts.append(rows) }
            if !sources.isEmpty {
                sources += [UInt32](repeating: LearnQueries.noSource, count: learnCount)
            }
        }
        let count = parts.reduce(0) { $0 + $1.count }
        guard let queries = VectorMatrix.joined(parts), count >= Self.leastQueries else {
            throw IndexError.tooFewQueries(
                "training needs at least \(Self.leastQueries) queries, found \(count): \(learnCount) of a learn "
                    + "file and \(count - learnCount) made from the \(self.count) vectors of \(path)",
                given: count,
                least: Self.leastQueries)
        }
        return LearnQueries(queries: queries, sources: sources, learnCount: learnCount)
    }

    private static let leastQueries = 64

    /// How many neighbours every query has.
    func neighbourLimit(_ wanted: Int, hasSources: Bool) -> Int {
        max(1, min(wanted, count - (hasSources ? 1 : 0)))
    }

    private func requireSameKind(_ file: VectorFile) throws(IndexError) {
        guard file.dimension == dimension, file.elementType == elementType else {
            throw .unlikeVectors(
                "\(file.path) holds \(file.elementType.name) of \(file.dimension) dimensions, the index "
                    + "\(elementType.name) of \(dimension)", expected: kind, found: file.kind)
        }
    }

    /// Enough partitions that nearly all nearest neighbours are met (measured: 64 of 1000 give .997).
    private var defaultLabelProbes: Int {
        min(partitionCount, max(8, Int(2 * Double(partitionCount).squareRoot())))
    }

    /// The k nearest of each query among the `nprobe` nearest partitions, by sweeps over blocks of queries
    /// that fit the memory. They are named by their numbers, which training counts by.
    ///
    /// - Parameter checkpoints: keep the answers of each block; blocks are then no larger than they need be.
    func nearest(
        of queries: VectorMatrix, k: Int, nprobe: Int, threads: Int, memoryByteCount: Int,
        checkpoints: TrainingCheckpoints? = nil, stage: String, progress: JobProgress
    ) throws -> TruthFile {
        let numbers = try numbers()
        var answers = TruthFile(count: queries.count, k: k)
        let cost = 160 + k * 24 + nprobe * 20
        var block = max(1024, memoryByteCount / 4 / cost)
        if let checkpoints {
            // A sweep reads most of the index: each record that it reads should meet as many queries as hide that.
            block = min(block, max(256, checkpoints.queriesARecord * partitionCount / max(1, nprobe)))
        }
        var first = 0
        while first < queries.count {
            let end = min(queries.count, first + block)
            let part = first == 0 && end == queries.count ? queries : queries.gather(first..<end)
            let start = first
            first = end
            let kept = checkpoints.map { _ in labelIdentity(queries: part, k: k, nprobe: nprobe, stage: stage)
            }
            var isKept = false
            if let kept {
                try checkpoints?.restore(kept) {
                    isKept = answers.set(encoded: $0, queries: start..<end)
                    return isKept
                }
            }
            if isKept {
                progress(stage: stage, done: end, total: queries.count)
                continue
            }
            let chosen = nearestPartitions(of: part, count: nprobe, threads: threads)
            let sweep = BatchSweep(index: self, queries: part, k: k, threads: threads)
            let (begin, total) = (start, queries.count)
            _ = try sweep.sweep(SweepLists(chosen: chosen, partitionCount: partitionCount)) { done, groups in
                let share = Double(done) / Double(max(groups, 1))
                progress(stage: stage, done: begin + Int(share * Double(end - begin)), total: total)
            }
            let found = sweep.takeAnswers(k: k)
            for query in 0..<part.count {
                for rank in 0..<k {
                    let id = found.id(query: query, rank: rank)
                    guard id != TruthFile.noId else { continue }
                    let number = try numbers.require(id)
                    answers.set(
                        query: start + query, rank: rank, id: UInt64(number),
                        distance: found.distance(query: query, rank: rank))
                }
            }
            if let kept { try checkpoints?.store(answers.encoded(queries: start..<end), identity: kept) }
        }
        return answers
    }

    /// The nearest partitions of each query by centroid: in no order where all are wanted, as a search finds them
    /// where they are too many to be looked at by every query.
    func nearestPartitions(of queries: VectorMatrix, count: Int, threads: Int) -> [[UInt32]] {
        if count >= partitionCount {
            return [[UInt32]](repeating: Array(0..<UInt32(partitionCount)), count: queries.count)
        }
        if centroids.kind != .scan {
            return routes(of: queries, router: centroids, limit: count, threads: threads).map(\.partitions)
        }
        let lists = NearestCentroids(scanning: centroids.centroids())
            .nearest(count, space.queries(from: queries), threads: threads)
        return (0..<queries.count).map { query in
            Array(
                lists.partitions[query * lists.k..<(query + 1) * lists.k].filter { $0 != NearestLists.none })
        }
    }

    /// How many labels of a sample are right, by a sweep over all partitions.
    private func labelAccuracy(
        of asked: LearnQueries, distances: [Float], parameters: LearnParameters, nprobe: Int,
        progress: JobProgress
    ) throws -> Double {
        if nprobe >= partitionCount { return 1 }
        let count = min(200, asked.queries.count)
        let sample = (0..<count).map { $0 * asked.queries.count / count }
        let exact = try exactNeighbours(
            of: asked.queries.gather(sample.map { UInt32($0) }),
            sources: asked.sources.isEmpty ? [] : sample.map { asked.sources[$0] }, k: 1,
            threads: parameters.threads, stage: "check labels", progress: progress)
        let right = sample.indices.reduce(0) {
            $0 + (exact.nearestDistances[$1] == distances[sample[$1]] ? 1 : 0)
        }
        return Double(right) / Double(count)
    }
}
