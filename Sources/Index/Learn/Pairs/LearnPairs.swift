// What a predictor learns from, made with the index itself: queries of a learn set (or drawn from the base),
// their neighbours by a batch sweep over the nearest partitions, and the share of them that is right.

import Router
import Storage
import Vectors

/// Where training queries come from.
public struct LearnParameters: Sendable {
    /// Queries taken from the learn file, at most; nil: all of it.
    public var learnCount: Int?
    /// Queries made from base vectors: leave-one-out, pulled towards a neighbour and blurred.
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

    func heldOutCount(of count: Int) -> Int {
        min(heldOutMaximum, max(32, Int(Double(count) * heldOutShare)))
    }
}

/// Pairs, and how far their labels can be trusted.
public struct LearnPairs: Sendable {
    public let pairs: TrainingPairs
    /// Queries as the base has them (for exact distances); rows of `pairs.queries` are the same in routing space.
    public let queries: VectorMatrix
    /// Share of nearest-neighbour labels that are right, measured exactly on a sample.
    public let labelAccuracy: Double
}

extension DiskIndex {
    /// Labels the queries of a learn file and synthetic ones. Synthetic queries stand first: what is held out
    /// is from the learn file where there is one.
    ///
    /// - Parameter checkpoints: where labels are kept, a block of queries at a time; nil: nowhere.
    public func learnPairs(
        learn: VectorFile?, parameters: LearnParameters, checkpoints: TrainingCheckpoints? = nil,
        progress: Progress = .none
    ) throws -> LearnPairs {
        var parts: [VectorMatrix] = []
        if parameters.syntheticCount > 0 {
            parts.append(try syntheticQueries(parameters, checkpoints: checkpoints, progress: progress))
        }
        if let learn {
            try requireSameKind(learn)
            let count = min(learn.count, parameters.learnCount ?? learn.count)
            parts.append(try learn.rows(0..<count))
        }
        guard let queries = VectorMatrix.joined(parts), queries.count >= 64 else {
            throw IndexError.invalid(
                "training needs at least 64 queries: give a learn file or synthetic queries")
        }
        let nprobe = parameters.nprobe ?? defaultLabelProbes
        let truth = try nearest(
            of: queries, k: parameters.neighbourCount, nprobe: nprobe, threads: parameters.threads,
            memoryByteCount: parameters.memoryByteCount, checkpoints: checkpoints, stage: "label",
            progress: progress)
        let accuracy = try labelAccuracy(
            queries: queries, labels: truth, parameters: parameters, nprobe: nprobe, progress: progress)
        return LearnPairs(
            pairs: TrainingPairs(
                queries: space.queries(from: queries),
                neighbours: truth.ids.map { UInt32(truncatingIfNeeded: $0) },
                neighbourCount: parameters.neighbourCount,
                heldOutCount: parameters.heldOutCount(of: queries.count)),
            queries: queries, labelAccuracy: accuracy)
    }

    /// The same with neighbours that were found before: `labels` of the first queries of the learn file, in order.
    public func learnPairs(
        learn: VectorFile, labels: TruthFile, parameters: LearnParameters, progress: Progress = .none
    ) throws -> LearnPairs {
        try requireSameKind(learn)
        let count = min(learn.count, labels.count, parameters.learnCount ?? .max)
        guard labels.k >= parameters.neighbourCount, count >= 64 else {
            throw IndexError.invalid(
                "labels hold \(labels.k) neighbours of \(count) queries; more are needed")
        }
        let (queries, numbers) = (try learn.rows(0..<count), try numbers())
        var neighbours: [UInt32] = []
        neighbours.reserveCapacity(count * parameters.neighbourCount)
        for query in 0..<count {
            for rank in 0..<parameters.neighbourCount {
                let id = labels.id(query: query, rank: rank)
                guard let number = numbers.number(of: id) else {
                    throw IndexError.invalid(
                        "the labels name vector \(id) for query \(query), which \(path) does not hold")
                }
                neighbours.append(UInt32(number))
            }
        }
        return LearnPairs(
            pairs: TrainingPairs(
                queries: space.queries(from: queries), neighbours: neighbours,
                neighbourCount: parameters.neighbourCount, heldOutCount: parameters.heldOutCount(of: count)),
            queries: queries,
            labelAccuracy: labels.distances == nil
                ? .nan
                : try labelAccuracy(
                    queries: queries, labels: labels, parameters: parameters, nprobe: 0, progress: progress))
    }

    private func requireSameKind(_ file: VectorFile) throws(IndexError) {
        guard file.dimension == dimension, file.elementType == elementType else {
            throw .invalid(
                "\(file.path) holds \(file.elementType.name) of \(file.dimension) dimensions, the index "
                    + "\(elementType.name) of \(dimension)")
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
        checkpoints: TrainingCheckpoints? = nil, stage: String, progress: Progress
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
            _ = try sweep.sweep(SweepPlan(chosen: chosen, partitionCount: partitionCount)) { done, groups in
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

    /// Pairs of a query and a partition that the check of labels looks at, at most.
    private static let checkedPairs = 1 << 24

    /// How many labels of a sample are right, by a sweep over all partitions.
    private func labelAccuracy(
        queries: VectorMatrix, labels: TruthFile, parameters: LearnParameters, nprobe: Int,
        progress: Progress
    ) throws -> Double {
        if nprobe >= partitionCount { return 1 }
        let count = min(200, queries.count, max(16, Self.checkedPairs / partitionCount))
        let sample = (0..<count).map { $0 * queries.count / count }
        let exact = try nearest(
            of: queries.gather(sample.map { UInt32($0) }), k: 1, nprobe: partitionCount,
            threads: parameters.threads,
            memoryByteCount: parameters.memoryByteCount, stage: "check labels", progress: progress)
        var right = 0
        for (place, query) in sample.enumerated()
        where exact.distance(query: place, rank: 0) == labels.distance(query: query, rank: 0) { right += 1 }
        return Double(right) / Double(count)
    }

    /// Queries in the image of the base: a base vector pulled a random way towards its nearest neighbour
    /// and blurred by noise of the scale of their distance, so that its neighbourhood is that of a query
    /// from outside.
    private func syntheticQueries(
        _ parameters: LearnParameters, checkpoints: TrainingCheckpoints?, progress: Progress
    ) throws -> VectorMatrix {
        var random = SeededRandom(seed: parameters.seed, stream: 77)
        let seeds = try sampleRecords(count: parameters.syntheticCount, random: &random)
        let neighbours = try nearest(
            of: seeds.vectors, k: 2, nprobe: min(partitionCount, 8), threads: parameters.threads,
            memoryByteCount: parameters.memoryByteCount, checkpoints: checkpoints,
            stage: "synthetic queries", progress: progress)
        let floats = seeds.vectors.converted(to: .f32)
        let moved = VectorMatrix(count: floats.count, dimension: dimension, elementType: .f32)
        for row in 0..<floats.count {
            // The nearest other than itself; its distance sets the scale.
            let rank = neighbours.id(query: row, rank: 0) == UInt64(seeds.ids[row]) ? 1 : 0
            let distance = neighbours.distance(query: row, rank: rank)
            let scale = metric == .l2 && distance.isFinite ? max(distance, 0).squareRoot() : 0.3
            let spread = Float(random.uniform()) * scale / Float(dimension).squareRoot()
            for column in 0..<dimension {
                moved.floatRow(row)[column] = floats.floatRow(row)[column] + spread * Float(random.gaussian())
            }
        }
        return moved.converted(to: elementType)
    }
}
