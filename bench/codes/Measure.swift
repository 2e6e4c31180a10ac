// One family at one size: trained, every vector coded, queries asked by table bytes as a search does.

import Foundation
import Router
import Vectors

/// Lines of a table in a file, each added as it is measured.
struct CodeTable {
    static let header =
        "data,vectors,lists,family,bytes,seed,queries,error weight,r10,r20,r40,r80,1@1,mean squared loss,"
        + "training s,coding s,KiB of codebook\n"
    let path: String
    private var text: String

    init(path: String, header: String = Self.header) throws {
        self.path = path
        text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? header
    }

    func has(_ key: String) -> Bool { text.contains("\n" + key + ",") }

    mutating func add(_ key: String, _ lines: [String]) throws {
        for line in lines {
            text += "\(key),\(line)\n"
            print("\(key),\(line)")
        }
        try text.write(toFile: path, atomically: true, encoding: .utf8)
    }
}

struct CodeMeasure {
    /// Lists that a query looks into, and candidates that are told of.
    static let probes = 64
    static let depths = [10, 20, 40, 80]
    /// What the lost squared distance counts for in an estimate.
    static let errorWeights: [Float] = [0, 0.25, 0.5, 0.75, 1]

    let data: CodeData
    let quantiser: ProductQuantiser
    let training: Double
    let coding: Double
    /// By record.
    let codes: [UInt8]
    /// By record: |r|^2 + 2 <c - m, r>, and the squared loss.
    let constants: [Float]
    let losses: [Float]
    let mean: [Float]

    init(_ data: CodeData, _ family: CodeFamily, codeByteCount: Int, seed: UInt64) {
        self.data = data
        var random = SeededRandom(seed: seed, stream: 9)
        let sample = data.residuals(random.sample(ProductQuantiser.trainingRows, below: data.base.count))
        var start = ContinuousClock.now
        let begun = processorSeconds()
        let quantiser = Self.trained(data, family, sample, codeByteCount: codeByteCount, seed: seed)
        let trained = processorSeconds()
        training = start.duration(to: .now) / .seconds(1)
        self.quantiser = quantiser
        start = .now
        let dimension = data.base.dimension
        var mean = [Float](repeating: 0, count: dimension)
        for list in 0..<data.lists.count {
            for column in 0..<dimension {
                mean[column] += data.lists.floatRow(list)[column] / Float(data.lists.count)
            }
        }
        self.mean = mean
        let center = mean
        let count = data.base.count
        var codes = [UInt8](repeating: 0, count: count * codeByteCount)
        var constants = [Float](repeating: 0, count: count)
        var losses = constants
        let encoder = quantiser.encoder
        codes.withUnsafeMutableBufferPointer { codes in
            constants.withUnsafeMutableBufferPointer { constants in
                losses.withUnsafeMutableBufferPointer { losses in
                    // Each block writes its own stretch.
                    nonisolated(unsafe) let (codes, constants, losses) = (codes, constants, losses)
                    Workers.forEachBlock(count: count, blockSize: 256, threads: data.threads) { _, range in
                        let residuals = data.residuals(range.map { UInt32($0) })
                        let found = encoder.encode(residuals)
                        var decoded = [Float](repeating: 0, count: dimension)
                        for (index, record) in range.enumerated() {
                            let code = found[index * codeByteCount..<(index + 1) * codeByteCount]
                            for (space, byte) in code.enumerated() {
                                codes[record * codeByteCount + space] = byte
                            }
                            encoder.decode(code, into: &decoded)
                            let centroid = data.lists.floatRow(Int(data.homes[record]))
                            let whole = residuals.floatRow(index)
                            var (constant, loss) = (0.0, 0.0)
                            decoded.withUnsafeBufferPointer { decoded in
                                for column in 0..<dimension {
                                    let r = Double(decoded[column])
                                    constant += r * (r + 2 * Double(centroid[column] - center[column]))
                                    let lost = Double(whole[column]) - r
                                    loss += lost * lost
                                }
                            }
                            constants[record] = Float(constant)
                            losses[record] = Float(loss)
                        }
                    }
                }
            }
        }
        (self.codes, self.constants, self.losses) = (codes, constants, losses)
        coding = start.duration(to: .now) / .seconds(1)
        // Others on the machine disturb these less than a clock.
        FileHandle.standardError.write(
            Data(
                String(
                    format: "%@, %d bytes: processor seconds of training %.1f, of coding %.1f\n",
                    family.rawValue, codeByteCount, trained - begun, processorSeconds() - trained
                ).utf8))
    }

    private static func trained(
        _ data: CodeData, _ family: CodeFamily, _ rows: VectorMatrix, codeByteCount: Int, seed: UInt64
    ) -> ProductQuantiser {
        guard family == .rpq, let examples = data.examples else {
            return ProductQuantiser.train(
                family, rows: rows, codeByteCount: codeByteCount, seed: seed, threads: data.threads)
        }
        var options = data.options
        (options.training.seed, options.training.threads) = (seed, data.threads)
        let begun = ContinuousClock.now
        let trainer = RoutingCodesTrainer.fromBestStart(
            rows: rows, codeByteCount: codeByteCount, examples: examples, options: options)
        trainer.train {
            let report = $0.report
            FileHandle.standardError.write(
                Data(
                    String(
                        format: "rpq %d bytes: epoch %d, loss %.4f, held out %.4f (%.4f before), %.0f s\n",
                        codeByteCount, report.trainLosses.count, report.trainLosses.last ?? 0,
                        report.heldOutLosses.last ?? 0, report.heldOutStart,
                        begun.duration(to: .now) / .seconds(1)
                    ).utf8))
        }
        return trainer.quantiser
    }

    /// A line a query set and weight of the loss.
    func lines() -> [String] {
        let loss = losses.reduce(0.0) { $0 + Double($1) } / Double(losses.count)
        var order = [[UInt32]](repeating: [], count: data.lists.count)
        for (record, home) in data.homes.enumerated() { order[Int(home)].append(UInt32(record)) }
        return data.queries.flatMap { set in
            let found = found(of: set.rows, order: order)
            return Self.errorWeights.enumerated().map { place, weight in
                var shares = [Int](repeating: 0, count: Self.depths.count)
                var first = 0
                for query in 0..<set.rows.count {
                    let best = found[query][place]
                    let truth = set.truth[query * set.depth..<query * set.depth + 10]
                    first += best.first == truth.first ? 1 : 0
                    for (index, depth) in Self.depths.enumerated() {
                        let named = Set(best.prefix(depth))
                        shares[index] += truth.count { named.contains($0) }
                    }
                }
                let numbers = shares.map { String(format: "%.4f", Double($0) / Double(set.rows.count * 10)) }
                return "\(set.name),\(weight)," + numbers.joined(separator: ",")
                    + String(
                        format: ",%.4f,%.5g,%.1f,%.1f,%d", Double(first) / Double(set.rows.count), loss,
                        training, coding, quantiser.residentByteCount / 1024)
            }
        }
    }

    /// By query and weight: the records with the least estimates, least first.
    private func found(of queries: VectorMatrix, order: [[UInt32]]) -> [[[UInt32]]] {
        let rows = queries.converted(to: .f32)
        let near = NearestCentroids(scanning: data.lists).nearest(Self.probes, rows, threads: data.threads)
        let size = quantiser.codeByteCount
        nonisolated(unsafe) var results = [[[UInt32]]](repeating: [], count: rows.count)
        let lock = NSLock()
        Workers.forEachBlock(count: rows.count, blockSize: 16, threads: data.threads) { _, range in
            var tables = ProductQuantiser.Tables(quantiser)
            var centred = mean
            for query in range {
                for column in centred.indices {
                    centred[column] = rows.floatRow(query)[column] - mean[column]
                }
                tables.fill(quantiser, query: centred)
                var heaps = Self.errorWeights.map { _ in Nearest(capacity: Self.depths[3]) }
                for place in query * near.k..<(query + 1) * near.k where near.partitions[place] != .max {
                    let distance = near.distances[place] - 2 * tables.offset
                    codes.withUnsafeBufferPointer { codes in
                        for record in order[Int(near.partitions[place])] {
                            let code = codes.baseAddress! + Int(record) * size
                            var sum = 0
                            for space in 0..<size { sum += Int(tables.bytes[space << 8 | Int(code[space])]) }
                            let estimate =
                                distance + constants[Int(record)] - 2 * tables.step * Float(sum)
                            for (index, weight) in Self.errorWeights.enumerated() {
                                heaps[index].offer(estimate + weight * losses[Int(record)], record)
                            }
                        }
                    }
                }
                let best = heaps.map(\.records)
                lock.withLock { results[query] = best }
            }
        }
        return results
    }
}

/// Processor seconds of this process, all threads.
func processorSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}

/// The records of the least distances, kept in order by insertion: few are ever taken.
struct Nearest {
    private let capacity: Int
    private var kept: [(distance: Float, record: UInt32)] = []
    private var limit = Float.infinity

    init(capacity: Int) { self.capacity = capacity }

    mutating func offer(_ distance: Float, _ record: UInt32) {
        guard distance < limit else { return }
        var place = kept.count
        while place > 0, kept[place - 1].distance > distance { place -= 1 }
        kept.insert((distance, record), at: place)
        if kept.count > capacity { kept.removeLast() }
        if kept.count == capacity { limit = kept[capacity - 1].distance }
    }

    var records: [UInt32] { kept.map(\.record) }
}
