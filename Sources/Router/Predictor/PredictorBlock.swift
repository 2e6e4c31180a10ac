// Many queries through a predictor at once: the candidates of a block are turned round (partition -> queries), so
// that a partition's prototypes are brought into the cache once for all queries that ask for them, and compared by
// the block kernel. Every query gets exactly what it gets alone.

import Vectors

extension Predictor {
    /// More partitions than this are seldom asked for twice in a block: then each query goes alone.
    private static let sharedPartitionLimit = 1 << 16

    public func routeBlock(
        _ queries: VectorMatrix, limit: Int, scratch anyScratch: RouterScratch, into routes: inout [Route]
    ) {
        guard let scratch = anyScratch as? PredictorScratch else {
            preconditionFailure("scratch of another router")
        }
        while routes.count < queries.count { routes.append(Route()) }
        guard partitionCount <= Self.sharedPartitionLimit else {
            for index in 0..<queries.count {
                route(queries.row(index), limit: limit, scratch: scratch, into: &routes[index])
            }
            return
        }
        let block = scratch.block
        for first in stride(from: 0, to: queries.count, by: CentroidIndex.blockSize) {
            let count = min(CentroidIndex.blockSize, queries.count - first)
            centroids.routeRows(
                queries.row(first), count: count, limit: candidateCount, scratch: scratch.centroids,
                into: &block.candidates, at: 0)
            if base == .prototypes, let prototypes {
                block.fillPrototypeLogits(prototypes, queries: queries, first: first, count: count)
            }
            for query in 0..<count {
                let candidates = block.candidates[query]
                if base == .prototypes {
                    scratch.logits.update(from: block.logits + query * block.stride, count: candidates.count)
                } else {
                    fillDistanceLogits(candidates, scratch: scratch)
                }
                correct(queries.row(first + query), candidates, scratch: scratch)
                finish(candidates, limit: limit, scratch: scratch, into: &routes[first + query])
            }
        }
    }
}

/// Working memory for a block of queries.
final class PredictorBlock {
    var candidates: [Route]
    /// Logits by query and candidate, before the network and the temperature.
    let logits: UnsafeMutablePointer<Float>
    /// Candidates of a query at most.
    let stride: Int
    private let queries: [PrototypeMixture.Scratch]
    private let dimension: Int
    private let type: ElementType
    private let gathered: UnsafeMutableRawPointer
    private let distances: UnsafeMutablePointer<Float>
    private let distanceStride: Int
    /// Events of a partition: `starts[p] ..< starts[p + 1]`; an event is a query's candidate.
    private var starts: [UInt32]
    private let events: UnsafeMutablePointer<UInt32>

    init(predictor: Predictor) {
        let size = CentroidIndex.blockSize
        candidates = [Route](repeating: Route(), count: size)
        stride = max(predictor.candidateCount, 1)
        dimension = predictor.centroids.dimension
        type = predictor.centroids.elementType
        logits = .allocate(capacity: size * stride)
        events = .allocate(capacity: size * stride)
        gathered = .allocate(byteCount: size * dimension * 4, alignment: 64)
        let mixture = predictor.base == .prototypes ? predictor.prototypes : nil
        queries =
            mixture.map { mixture in
                (0..<size).map { _ in
                    PrototypeMixture.Scratch(mixture, dimension: predictor.centroids.dimension)
                }
            } ?? []
        distanceStride = max(mixture?.codeByteCount == nil ? mixture?.largestPartition ?? 1 : 1, 1)
        distances = .allocate(capacity: size * distanceStride)
        starts = [UInt32](repeating: 0, count: predictor.partitionCount + 1)
    }

    deinit {
        logits.deallocate()
        events.deallocate()
        gathered.deallocate()
        distances.deallocate()
    }

    /// The logits of all candidates of `count` queries from row `first` on.
    func fillPrototypeLogits(
        _ prototypes: PrototypeMixture, queries rows: VectorMatrix, first: Int, count: Int
    ) {
        for query in 0..<count {
            prototypes.prepare(
                rows.row(first + query), type: type, dimension: dimension, scratch: queries[query])
        }
        turnRound(count)
        for partition in 0..<starts.count - 1 where starts[partition + 1] > starts[partition] {
            let asking = Int(starts[partition])..<Int(starts[partition + 1])
            switch prototypes.kept {
            case .rows(let kept):
                let begin = Int(prototypes.starts[partition])
                let size = Int(prototypes.starts[partition + 1]) - begin
                fill(kept, prototypes: begin..<begin + size, asking: asking)
            case .codes(let codes):
                for event in asking {
                    let (query, position) = place(events[event])
                    logits[query * stride + position] = prototypes.logit(
                        codes, partition: partition, distance: candidates[query].distances[position],
                        scratch: queries[query])
                }
            }
        }
    }

    /// One partition's prototypes against the queries that ask for it.
    private func fill(_ kept: PrototypeRows, prototypes: Range<Int>, asking: Range<Int>) {
        let rowByteCount = kept.centers.rowByteCount
        for (slot, event) in asking.enumerated() {
            (gathered + slot * rowByteCount).copyMemory(
                from: queries[place(events[event]).query].query, byteCount: rowByteCount)
        }
        if !prototypes.isEmpty {
            kept.distance.block(
                gathered, queries: asking.count, kept.centers.row(prototypes.lowerBound),
                count: prototypes.count,
                dimension: dimension, into: distances, outStride: distanceStride)
        }
        for (slot, event) in asking.enumerated() {
            let (query, position) = place(events[event])
            logits[query * stride + position] = kept.logit(
                first: prototypes.lowerBound, count: prototypes.count,
                distances: distances + slot * distanceStride)
        }
    }

    private func place(_ event: UInt32) -> (query: Int, position: Int) {
        Int(event).quotientAndRemainder(dividingBy: stride) as (Int, Int)
    }

    /// Sorts the candidates of all queries by partition, by counting.
    private func turnRound(_ count: Int) {
        starts.withUnsafeMutableBufferPointer { starts in
            starts.update(repeating: 0)
            for query in 0..<count {
                for partition in candidates[query].partitions { starts[Int(partition)] += 1 }
            }
            var sum: UInt32 = 0
            for partition in starts.indices {
                sum += starts[partition]
                starts[partition] = sum
            }
            for query in Swift.stride(from: count - 1, through: 0, by: -1) {
                let list = candidates[query].partitions
                for position in Swift.stride(from: list.count - 1, through: 0, by: -1) {
                    starts[Int(list[position])] -= 1
                    events[Int(starts[Int(list[position])])] = UInt32(query * self.stride + position)
                }
            }
        }
    }
}
