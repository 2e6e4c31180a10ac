// One data set at one number of partitions: the index, the labelled learn queries, and a way to turn a
// router into a row of the table.

import Foundation
import Index
import Router
import Storage
import Vectors

/// A data set on disk and the query sets that are asked of it.
struct DataSet {
    var name: String
    var base: String
    var learn: String
    var queries: [(name: String, queries: String, truth: String)]
    var metric: Metric
    var partitions: [Int]
    /// Learn queries used unless a row says otherwise.
    var pairs: Int

    static func known(in directory: String) -> [DataSet] {
        let sift = directory + "/sift-photos-1M/"
        let text = directory + "/text-minilm-100k/"
        return [
            DataSet(
                name: "sift", base: sift + "base.u8bin", learn: sift + "learn.u8bin",
                queries: [("query", sift + "query.u8bin", sift + "truth.bin")], metric: .l2,
                partitions: [1000, 256, 4000], pairs: 400_000),
            DataSet(
                name: "text", base: text + "base.f16bin", learn: text + "learn.f16bin",
                queries: [
                    ("query", text + "query.f16bin", text + "truth.bin"),
                    ("query-ood", text + "query-ood.f16bin", text + "truth-ood.bin"),
                ], metric: .cosine, partitions: [400, 100, 1600], pairs: 60_000),
        ]
    }
}

/// A finished row: what one method costs, at every setting that was tried.
struct Row: Codable {
    var dataSet: String
    var queries: String
    var partitions: Int
    var method: String
    var seed: UInt64
    var replication: Double
    var residentByteCount: Int
    var indexByteCount: Int
    var seconds: Double
    var note: String
    var points: [FetchPoint]

    var key: String { "\(dataSet)-\(queries)-\(partitions)-\(method)-\(seed)" }

    func cost(k: Int, recall: Double, _ value: (FetchPoint) -> Double) -> Double? {
        FetchAccount.cost(of: points, k: k, recall: recall, value)
    }
}

/// Rows that are finished, one file each, so that a run that was stopped goes on.
struct RowCache {
    let directory: String

    init(directory: String) throws {
        self.directory = directory
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    }

    func path(_ key: String) -> String { directory + "/" + key + ".json" }

    func has(_ key: String) -> Bool { FileManager.default.fileExists(atPath: path(key)) }

    func store(_ row: Row) throws {
        try JSONEncoder().encode(row).write(to: URL(fileURLWithPath: path(row.key)), options: .atomic)
    }

    func all() throws -> [Row] {
        try FileManager.default.contentsOfDirectory(atPath: directory).filter { $0.hasSuffix(".json") }.sorted()
            .map { try JSONDecoder().decode(Row.self, from: Data(contentsOf: URL(fileURLWithPath: directory + "/" + $0))) }
    }
}

/// An index under test with everything that rows share.
final class Experiment {
    let data: DataSet
    let partitions: Int
    let seed: UInt64
    let out: String
    let cache: RowCache
    let threads: Int
    private var indexes: [String: DiskIndex] = [:]
    private var homes: [String: Homes] = [:]
    private var learned: [Int: LearnPairs] = [:]
    private var model: DeviceModel?

    init(data: DataSet, partitions: Int, seed: UInt64, out: String, cache: RowCache, threads: Int) {
        self.data = data
        self.partitions = partitions
        self.seed = seed
        self.out = out
        self.cache = cache
        self.threads = threads
    }

    /// The index without copies, or with those of a build-time duplication.
    func index(_ duplication: Duplication = .none) throws -> DiskIndex {
        if let index = indexes[duplication.name] { return index }
        let path = "\(out)/indexes/\(data.name)-\(partitions)-\(duplication.name)-\(seed)"
        try FileManager.default.createDirectory(atPath: out + "/indexes", withIntermediateDirectories: true)
        if !FileManager.default.fileExists(atPath: path) {
            var parameters = BuildParameters()
            parameters.metric = data.metric
            parameters.partitions = partitions
            parameters.duplication = duplication
            parameters.seed = seed
            parameters.threads = threads
            _ = try IndexBuilder(
                base: VectorFile.open(path: data.base), directory: path, parameters: parameters).build()
        }
        let index = try DiskIndex(path: path)
        indexes[duplication.name] = index
        return index
    }

    func homes(_ duplication: Duplication = .none) throws -> Homes {
        if let held = homes[duplication.name] { return held }
        let made = try index(duplication).homes()
        homes[duplication.name] = made
        return made
    }

    func deviceModel() throws -> DeviceModel {
        if let model { return model }
        let made = try DeviceModel.calibrate(on: index())
        model = made
        return made
    }

    /// Labelled learn queries; labels do not depend on partitions, so they are kept beside the rows.
    func pairs(_ count: Int) throws -> LearnPairs {
        if let held = learned[count] { return held }
        let index = try index()
        let labels = "\(out)/labels-\(data.name)-\(count).bin"
        var parameters = LearnParameters()
        parameters.learnCount = count
        parameters.threads = threads
        parameters.heldOutMaximum = 20_000
        parameters.heldOutShare = 0.1
        let file = try VectorFile.open(path: data.learn)
        let made: LearnPairs
        if FileManager.default.fileExists(atPath: labels) {
            made = try index.learnPairs(learn: file, labels: TruthFile.read(path: labels), parameters: parameters)
        } else {
            made = try index.learnPairs(learn: file, parameters: parameters)
            try TruthFile(
                count: made.queries.count, k: made.pairs.neighbourCount, ids: made.pairs.neighbours,
                distances: nil
            ).write(path: labels)
            print("labels of \(count) learn queries: share right \(made.labelAccuracy)")
        }
        learned[count] = made
        return made
    }

    /// Adds the rows of one method for every query set, unless they are finished.
    func row(_ method: String, _ make: () throws -> Candidate) throws {
        let keys = data.queries.map { "\(data.name)-\($0.name)-\(partitions)-\(method)-\(seed)" }
        if keys.allSatisfy({ cache.has($0) }) { return }
        let start = ContinuousClock.now
        let candidate = try make()
        let seconds = start.duration(to: .now) / .seconds(1)
        for set in data.queries {
            let queries = try VectorFile.open(path: set.queries).readAll()
            let truth = try TruthFile.read(path: set.truth)
            let row = Row(
                dataSet: data.name, queries: set.name, partitions: partitions, method: method, seed: seed,
                replication: candidate.index.replication, residentByteCount: candidate.residentByteCount,
                indexByteCount: Int(candidate.index.manifest.totalByteCount), seconds: seconds, note: candidate.note,
                points: try candidate.points(queries: queries, truth: truth, model: deviceModel(), threads: threads))
            try cache.store(row)
            let at = row.cost(k: 1, recall: 0.9) { $0.vectors } ?? .nan
            let at10 = row.cost(k: 10, recall: 0.95) { $0.vectors } ?? .nan
            print(String(format: "%@: %.0f at recall@1 0.90, %.0f at recall@10 0.95 (%.0f s)", row.key, at, at10, seconds))
        }
    }
}

/// An index, a router and the policies to try.
struct Candidate {
    enum Sweep {
        case nprobe
        case eps2
        case gain(ReadCost)
        /// Really searched, in memory: what later rounds read depends on what was found.
        case rounds(Int, [PosteriorModel])
    }
    var index: DiskIndex
    var router: any PartitionRouter
    var homes: Homes
    var sweep: Sweep
    var note = ""

    var residentByteCount: Int {
        router.residentByteCount + index.table.residentByteCount
    }

    func points(queries: VectorMatrix, truth: TruthFile, model: DeviceModel, threads: Int) throws -> [FetchPoint] {
        if case .rounds(let rounds, let posteriors) = sweep {
            return try searched(
                queries: queries, truth: truth, model: model, rounds: rounds, posteriors: posteriors, threads: threads)
        }
        let routes = index.routes(of: queries, router: router, threads: threads)
        let account = FetchAccount(
            index: index, routes: routes, neighbours: truth.ids, depth: truth.k, homes: homes, model: model,
            threads: threads)
        switch sweep {
        case .nprobe:
            let ladder = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384]
            return account.points(ladder.filter { $0 <= index.partitionCount }.map { .nprobe($0) })
        case .eps2:
            return account.points((0..<40).map { .eps2(Float($0) * 0.025, nprobe: 256) })
        case .gain(let cost):
            return account.points(account.lambdaLadder(cost: cost), cost: cost)
        case .rounds:
            return []
        }
    }

    private func searched(
        queries: VectorMatrix, truth: TruthFile, model: DeviceModel, rounds: Int, posteriors: [PosteriorModel],
        threads: Int
    ) throws -> [FetchPoint] {
        let memory = try MemoryDevice(contentsOf: index.path + "/segments.bin")
        let trial = index.with(router: router, posteriors: posteriors, device: memory)
        var points: [FetchPoint] = []
        for k in [1, 10] {
            for policy in Policy.gainLadder(for: index.table, cost: .vectors, count: 14).dropFirst() {
                var parameters = SearchParameters(k: k, policy: policy, threads: threads, inFlight: 4)
                parameters.rounds = rounds
                let result = try trial.search(queries, parameters: parameters)
                let n = Double(queries.count)
                func mean(_ value: (QueryCounters) -> UInt64) -> Double {
                    result.counters.reduce(0.0) { $0 + Double(value($1)) } / n
                }
                points.append(
                    FetchPoint(
                        policy: policy.name, parameter: policy.parameter,
                        recall: [
                            String(k): Recall.mean(of: result.answers, against: truth, k: k, metric: index.metric)
                        ],
                        vectors: mean(\.vectors), segments: mean(\.segments), pages: mean(\.pages),
                        reads: mean(\.reads),
                        microseconds: mean(\.reads) * Double(model.fixedMicroseconds)
                            + mean(\.bytes) * Double(model.microsecondsPerByte)))
            }
        }
        return points
    }
}
