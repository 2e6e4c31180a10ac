// One data set at one number of partitions: the index, the labelled learn queries, and a way to turn a
// router into a row of the table.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import Vectors

/// A line of progress, written at once: runs take an hour and are watched through files.
func say(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }

/// A data set on disk and the query sets that are asked of it.
struct DataSet {
    var name: String
    var base: String
    var learn: String
    var queries: [(name: String, queries: String, truth: String)]
    var metric: Metric
    var partitions: [Int]
    /// Small partitions, for copies that save pages.
    var fine: [Int]
    /// Learn queries used unless a row says otherwise; the last rows of the learn file are never among them.
    var pairs: Int
    /// Rows at the end of the learn file that are asked as queries: the setting of the paper, where queries
    /// come from what training saw.
    var heldRows: Int
    var learnSizes: [Int]
    /// Numbers of partitions at which routers for the k nearest are compared, and their learn queries.
    var topK: [Int]
    var topKPairs: Int
    var noises: [Float]
    /// Bytes of coded prototypes: about one for eight dimensions, and 16 everywhere.
    var codeByteCounts: [Int]

    static func known(in directory: String) -> [DataSet] {
        let sift = directory + "/sift-photos-1M/"
        let text = directory + "/text-minilm-100k/"
        return [
            DataSet(
                name: "sift", base: sift + "base.u8bin", learn: sift + "learn.u8bin",
                queries: [("query", sift + "query.u8bin", sift + "truth.bin")], metric: .l2,
                partitions: [1000, 256, 4000], fine: [16_000, 64_000, 160_000], pairs: 400_000,
                heldRows: 10_000,
                learnSizes: [20_000, 200_000, 1_990_000], topK: [64, 1000, 4000], topKPairs: 120_000,
                noises: [4, 12], codeByteCounts: [16]),
            DataSet(
                name: "text", base: text + "base.f16bin", learn: text + "learn.f16bin",
                queries: [
                    ("query", text + "query.f16bin", text + "truth.bin"),
                    ("query-ood", text + "query-ood.f16bin", text + "truth-ood.bin"),
                ], metric: .cosine, partitions: [400, 100, 1600], fine: [], pairs: 57_000, heldRows: 3_000,
                learnSizes: [6_000, 20_000], topK: [64, 400], topKPairs: 57_000, noises: [0.01, 0.03],
                codeByteCounts: [16, 48]),
        ]
    }
}

extension DataSet {
    /// The same with the held rows of the learn file as a further query set; made once, kept in `out`.
    func withHeldRows(in out: String) throws -> DataSet {
        let learn = try VectorFile.open(path: learn)
        let stem = "\(out)/\(name)-learn-held"
        let suffix = URL(fileURLWithPath: self.learn).pathExtension
        if !FileManager.default.fileExists(atPath: stem + ".truth.bin") {
            let rows = try learn.rows(learn.count - heldRows..<learn.count)
            let writer = try VectorFileWriter(
                path: "\(stem).\(suffix)", dimension: rows.dimension, elementType: rows.elementType)
            try writer.append(rows)
            try writer.finish()
            let search = ExactSearch(
                k: 100, metric: metric, threads: Workers.processorCount, memoryByteCount: 2 << 30)
            try search.run(
                base: VectorFile.open(path: base), queries: VectorFile.open(path: "\(stem).\(suffix)")
            ).write(path: stem + ".truth.bin")
        }
        var extended = self
        extended.queries.append(("learn-held", "\(stem).\(suffix)", stem + ".truth.bin"))
        return extended
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
        try FileManager.default.contentsOfDirectory(atPath: directory).filter { $0.hasSuffix(".json") }
            .sorted()
            .map {
                try JSONDecoder().decode(
                    Row.self, from: Data(contentsOf: URL(fileURLWithPath: directory + "/" + $0)))
            }
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
    /// Which methods are wanted.
    let only: (String) -> Bool
    private var indexes: [String: DiskIndex] = [:]
    private var homes: [String: Homes] = [:]
    private var learned: [String: LearnPairs] = [:]
    private var model: DeviceModel?

    init(
        data: DataSet, partitions: Int, seed: UInt64, out: String, cache: RowCache, threads: Int,
        only: @escaping (String) -> Bool = { _ in true }
    ) {
        self.data = data
        self.partitions = partitions
        self.seed = seed
        self.out = out
        self.cache = cache
        self.threads = threads
        self.only = only
    }

    /// The index without copies, or with those of a build-time copy rule.
    func index(_ copyRule: CopyRule = .none) throws -> DiskIndex {
        if let index = indexes[copyRule.name.rawValue] { return index }
        let path = self.path(copyRule.name.rawValue)
        try FileManager.default.createDirectory(atPath: out + "/indexes", withIntermediateDirectories: true)
        if !FileManager.default.fileExists(atPath: path) {
            var parameters = BuildParameters()
            parameters.metric = data.metric
            parameters.partitions = partitions
            parameters.copyRule = copyRule
            parameters.seed = seed
            parameters.threads = threads
            _ = try IndexBuilder(
                base: VectorFile.open(path: data.base), directory: path, parameters: parameters
            ).build()
        }
        let index = try DiskIndex(path: path)
        indexes[copyRule.name.rawValue] = index
        return index
    }

    /// Homes of the index without copies, or with those of a build-time copy rule.
    func homes(_ copyRule: CopyRule = .none) throws -> Homes {
        if let held = homes[copyRule.name.rawValue] { return held }
        let made = try index(copyRule).homes()
        homes[copyRule.name.rawValue] = made
        return made
    }

    /// Where an index that a row makes for itself stands while it is measured.
    func path(_ name: String) -> String { "\(out)/indexes/\(data.name)-\(partitions)-\(name)-\(seed)" }

    /// The device of the whole table, timed once and kept, so that modelled times compare.
    func deviceModel() throws -> DeviceModel {
        if let model { return model }
        let path = out + "/device-model.json"
        let made: DeviceModel
        if let kept = FileManager.default.contents(atPath: path) {
            made = try JSONDecoder().decode(DeviceModel.self, from: kept)
        } else {
            made = try DeviceModel.calibrate(on: index())
            try JSONEncoder().encode(made).write(to: URL(fileURLWithPath: path), options: .atomic)
        }
        model = made
        return made
    }

    func learnParameters(_ count: Int, depth: Int = 10) -> LearnParameters {
        var parameters = LearnParameters()
        parameters.neighbourCount = depth
        parameters.learnCount = count
        parameters.threads = threads
        parameters.heldOutMaximum = 20_000
        parameters.heldOutShare = 0.1
        return parameters
    }

    /// Neighbours of learn queries. They do not depend on partitions, so they are kept beside the rows.
    func labels(_ count: Int, depth: Int = 10) throws -> TruthFile {
        let path = "\(out)/labels-\(data.name)-\(count)\(depth == 10 ? "" : "-\(depth)").bin"
        if FileManager.default.fileExists(atPath: path) { return try TruthFile.read(path: path) }
        let made = try index().learnPairs(
            learn: VectorFile.open(path: data.learn), parameters: learnParameters(count, depth: depth))
        say("labels of \(count) learn queries: share right \(made.labelAccuracy)")
        let labels = TruthFile(
            count: made.queries.count, k: made.pairs.neighbourCount,
            ids: made.pairs.neighbours.map { UInt64($0) },
            distances: nil)
        try labels.write(path: path)
        return labels
    }

    /// Labelled learn queries.
    func pairs(_ count: Int, depth: Int = 10) throws -> LearnPairs {
        let key = "\(count), \(depth)"
        if let held = learned[key] { return held }
        let made = try index().learnPairs(
            learn: VectorFile.open(path: data.learn), labels: labels(count, depth: depth),
            parameters: learnParameters(count, depth: depth))
        learned[key] = made
        return made
    }

    func isFinished(_ method: String) -> Bool {
        data.queries.allSatisfy { cache.has("\(data.name)-\($0.name)-\(partitions)-\(method)-\(seed)") }
    }

    /// Adds the rows of one method for every query set, unless they are finished.
    func row(_ method: String, _ make: () throws -> Candidate) throws {
        if isFinished(method) || !only(method) { return }
        let start = ContinuousClock.now
        let candidate = try make()
        let seconds = start.duration(to: .now) / .seconds(1)
        for set in data.queries {
            let queries = try VectorFile.open(path: set.queries).readAll()
            let truth = try TruthFile.read(path: set.truth)
            let row = Row(
                dataSet: data.name, queries: set.name, partitions: partitions, method: method, seed: seed,
                replication: candidate.index.replication, residentByteCount: candidate.residentByteCount,
                indexByteCount: Int(candidate.index.manifest.totalByteCount), seconds: seconds,
                note: candidate.note,
                points: try candidate.points(
                    queries: queries, truth: truth, model: deviceModel(), threads: threads))
            try cache.store(row)
            let at = row.cost(k: 1, recall: 0.9) { $0.vectors } ?? .nan
            let at10 = row.cost(k: 10, recall: 0.95) { $0.vectors } ?? .nan
            say(
                String(
                    format: "%@: %.0f at recall@1 0.90, %.0f at recall@10 0.95 (%.0f s)", row.key, at, at10,
                    seconds))
        }
    }
}

/// An index, a router and the policies to try.
struct Candidate {
    enum Sweep {
        case nprobe
        case eps2
        case gain(ReadCost)
        case mass
        case sigma
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

    func points(queries: VectorMatrix, truth: TruthFile, model: DeviceModel, threads: Int) throws
        -> [FetchPoint]
    {
        if case .rounds(let rounds, let posteriors) = sweep {
            return try searched(
                queries: queries, truth: truth, model: model, rounds: rounds, posteriors: posteriors,
                threads: threads)
        }
        let routes = index.routes(of: queries, router: router, threads: threads)
        let account = FetchAccount(
            index: index, routes: routes, neighbours: truth.ids.map { UInt32($0) }, depth: truth.k,
            homes: homes, model: model,
            threads: threads)
        switch sweep {
        case .nprobe:
            let ladder = [
                1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128, 192, 256,
                384,
            ]
            return account.points(ladder.filter { $0 <= index.partitionCount }.map { .nprobe($0) })
        case .eps2:
            return account.points((0..<40).map { .eps2(Float($0) * 0.025, nprobe: 256) })
        case .gain(let cost):
            return account.points(account.lambdaLadder(cost: cost), cost: cost)
        case .sigma: return account.points(Policy.sigmaLadder)
        case .mass:
            return account.points((0..<48).map { .mass(1 - exp2(-Float($0) * 0.25)) })
        case .rounds: return []
        }
    }

    private func searched(
        queries: VectorMatrix, truth: TruthFile, model: DeviceModel, rounds: Int,
        posteriors: [PosteriorModel],
        threads: Int
    ) throws -> [FetchPoint] {
        let memory = try MemoryDevice(contentsOf: index.path + "/segments.bin")
        let trial = index.with(router: router, posteriors: posteriors, device: memory)
        var points: [FetchPoint] = []
        // Strict thresholds first; the ladder ends where the highest recall of the table is passed, for what
        // comes then reads most of the index.
        for (k, enough) in [(1, 0.991), (10, 0.951)] {
            for policy in Policy.gainLadder(for: index.table, cost: .vectors, count: 14).dropFirst() {
                var parameters = SearchParameters(k: k, policy: policy, threads: threads, inFlight: 4)
                parameters.rounds = rounds
                let result = try trial.search(queries, parameters: parameters)
                let n = Double(queries.count)
                let recall = Recall.mean(of: result.answers, against: truth, k: k, metric: index.metric)
                func mean(_ value: (QueryCounters) -> UInt64) -> Double {
                    result.counters.reduce(0.0) { $0 + Double(value($1)) } / n
                }
                points.append(
                    FetchPoint(
                        policy: policy.name, parameter: policy.parameter,
                        recall: [String(k): recall],
                        vectors: mean(\.vectors), segments: mean(\.segments), pages: mean(\.pages),
                        reads: mean(\.reads),
                        microseconds: mean(\.reads) * Double(model.fixedMicroseconds)
                            + mean(\.bytes) * Double(model.microsecondsPerByte)))
                if recall > enough { break }
            }
        }
        return points
    }
}
