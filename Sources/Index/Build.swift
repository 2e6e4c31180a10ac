// The stages of a build, in order: sample -> partition -> order -> assign -> group and write -> publish.
// Every stage streams the base, is bounded by the memory asked for, and depends only on its inputs and the
// seed. Everything is written to a sibling directory that becomes the index with one rename.

import Foundation
import Router
import Storage
import Vectors

/// What a build made.
public struct BuildReport: Sendable {
    public var count: Int
    public var partitions: Int
    public var records: Int
    public var replication: Double
    public var indexByteCount: UInt64
    public var residentByteCount: Int
    /// Seconds by stage, in order.
    public var stages: [(name: String, seconds: Double)]

    /// One line for people.
    public var summary: String {
        let total = stages.reduce(0.0) { $0 + $1.seconds }
        let parts = stages.map { "\($0.name) " + String(format: "%.1f", $0.seconds) }.joined(separator: ", ")
        return "\(count) vectors in \(partitions) partitions, replication "
            + String(format: "%.3f", replication) + ", \(indexByteCount) bytes on disk, "
            + "\(residentByteCount) resident; " + String(format: "%.1f s", total) + " (\(parts))"
    }
}

/// Builds an index directory from a file of vectors.
///
///     let report = try IndexBuilder(base: file, directory: "photos.sonde", parameters: .init()).build()
public final class IndexBuilder {
    let base: VectorFile
    let directory: String
    let parameters: BuildParameters
    let progress: Progress
    let space: RoutingSpace
    private var stages: [(name: String, seconds: Double)] = []
    /// Vectors that partitions were learned from.
    var sampled: Int?
    private var idRange: IdRange?

    /// Vectors of the whole base, of which `base` may hold some.
    var wholeCount: Int { parameters.wholeCount ?? base.count }

    /// Pages with room for the ids of the whole base: those of all its shards are of one kind.
    func layout() throws(StorageError) -> PageLayout {
        let greatest = max(idRange?.greatest ?? UInt64(max(wholeCount, 1) - 1), parameters.greatestId)
        return try PageLayout(
            dimension: base.dimension, elementType: base.elementType,
            idByteCount: VectorIds.byteCount(greatest: greatest))
    }

    public init(base: VectorFile, directory: String, parameters: BuildParameters, progress: Progress = .none)
    {
        self.base = base
        self.directory = directory
        self.parameters = parameters
        self.progress = progress
        space = RoutingSpace(metric: parameters.metric, baseType: base.elementType)
    }

    /// Builds and publishes.
    ///
    /// - Throws: `IndexError.invalid` for parameters that mean nothing, `StorageError` for anything that
    ///   reading or writing meets, an existing `directory` among it. Nothing is left behind then.
    public func build() throws -> BuildReport {
        try validate()
        idRange = try parameters.ids.validated(
            count: base.count, memoryByteCount: parameters.memoryByteCount)
        let layout = try layout()
        let target = try AtomicDirectory.create(path: directory)
        do {
            let files = IndexFiles(directory: target.temporaryPath)
            let partitioning = try partition()
            let router = stage("index centroids") {
                partitioning.router
                    ?? CentroidIndex(
                        centroids: partitioning.centroids, beta: partitioning.beta, seed: parameters.seed,
                        threads: parameters.threads)
            }
            let assignment = try stage("assign") {
                try AssignStage(builder: self, centroids: partitioning.centroids, heads: partitioning.heads)
                    .run(spillPath: target.temporaryPath + "/assignment.tmp")
            }
            let (table, digest) = try stage("write") {
                try Grouping(
                    builder: self, layout: layout, assignment: assignment, centroids: partitioning.centroids,
                    temporaryDirectory: target.temporaryPath
                ).write(segmentsPath: files.segments)
            }
            return try publish(
                target, files: files, router: router, heads: partitioning.heads, cells: partitioning.cells,
                table: table, segmentsDigest: digest)
        } catch {
            target.discard()
            throw error
        }
    }

    func validate() throws(IndexError) {
        let count = base.count
        if count == 0 { throw .invalid("\(base.path) holds no vectors") }
        try validateSharing()
        if let partitions = parameters.partitions, partitions < 1 || partitions > count {
            throw .invalid("partitions must be from 1 to the \(count) vectors, found \(partitions)")
        }
        if let share = parameters.headShare {
            if !(share > 0 && share <= 0.5) {
                throw .invalid("heads must be over 0 and at most 0.5, found \(share)")
            }
            if parameters.partitions != nil {
                throw .invalid("give either partitions or heads: heads are the partitions")
            }
            if parameters.metric == .ip {
                throw .invalid(
                    "heads need a metric in which they can be scored resident: l2 or cosine, not ip")
            }
        }
        if case .closure(let replicas, let eps1) = parameters.duplication {
            if replicas < 1 || replicas > 64 {
                throw .invalid("replicas must be from 1 to 64, found \(replicas)")
            }
            if !(eps1 >= 0) { throw .invalid("eps1 must be 0 or more, found \(eps1)") }
        }
        if case .soar(let lambda) = parameters.duplication, !(lambda >= 0 && lambda.isFinite) {
            throw .invalid("lambda must be 0 or more, found \(lambda)")
        }
        if let cells = parameters.subSegments {
            if cells < 2 || cells > 1 << 20 {
                throw .invalid("sub-segments must be from 2 to \(1 << 20), found \(cells)")
            }
            if parameters.headShare != nil {
                throw .invalid("heads have no sub-segments: each list is a few pages")
            }
            if let router = parameters.router, router.predictor.kind != .lira {
                throw .invalid("sub-segments are read by a lira router, or by distance without training")
            }
        }
        if parameters.threads < 1 {
            throw .invalid("threads must be at least 1, found \(parameters.threads)")
        }
        if parameters.iterations < 1 {
            throw .invalid("iterations must be at least 1, found \(parameters.iterations)")
        }
        if let pages = parameters.pagesMaximum, pages < 1 || pages > 1 << 30 {
            throw .invalid("pages-max must be from 1 to \(1 << 30), found \(pages)")
        }
        if let router = parameters.router {
            try router.predictor.validate()
            if let learn = router.learn,
                learn.dimension != base.dimension || learn.elementType != base.elementType
            {
                throw .invalid(
                    "\(learn.path) holds \(learn.elementType.name) of \(learn.dimension) dimensions, \(base.path) "
                        + "\(base.elementType.name) of \(base.dimension)")
            }
        }
        if let sample = parameters.sampleCount, sample < 1 {
            throw .invalid("sample must be at least 1, found \(sample)")
        }
    }

    /// Runs a stage and notes its seconds.
    func stage<Result>(_ name: String, _ body: () throws -> Result) rethrows -> Result {
        let start = monotonicNanoseconds()
        defer { stages.append((name, Double(monotonicNanoseconds() - start) / 1e9)) }
        return try body()
    }

    // Publication.

    private func publish(
        _ target: AtomicDirectory, files: IndexFiles, router: CentroidIndex, heads: [UInt32]?,
        cells: CellGroups?,
        table: SegmentTable, segmentsDigest: FileDigest
    ) throws -> BuildReport {
        var manifest = Manifest(
            metric: parameters.metric.name, elementType: base.elementType.name, dimension: base.dimension,
            count: base.count, partitions: table.count, records: table.recordCount,
            build: describe(heads: heads),
            files: [IndexFiles.segmentsName: segmentsDigest])
        if let idRange, idRange.kind == .external || idRange.least > 0 { manifest.ids = idRange }
        if let shard = parameters.shard, let plan = parameters.plan {
            manifest.shard = ShardIdentity(plan: plan.identity, number: shard.index, count: shard.count)
        }
        var sections = router.encode() + (cells?.encode(parent: nil) ?? [])
        var residentByteCount = router.residentByteCount
        if let training = parameters.router {
            let written = try DiskIndex(
                path: target.temporaryPath, manifest: manifest, table: table, centroids: router,
                headIds: heads,
                cells: cells, device: Devices.open(path: files.segments))
            let trained = try stage("train") { try written.trainRouter(training, progress: progress) }
            sections = try trained.sections()
            residentByteCount =
                trained.router.residentByteCount
                + trained.posteriors.reduce(0) { $0 + $1.residentByteCount }
            manifest.build.merge(training.predictor.description) { $1 }
        }
        if let heads { sections.append((IndexFiles.headIdsTag, IndexFiles.encode(headIds: heads))) }
        manifest.files[IndexFiles.tableName] = try table.write(path: files.table)
        manifest.files[IndexFiles.routerName] = try TaggedFile.write(path: files.router, sections: sections)
        try stage("publish") {
            try manifest.write(path: files.manifest)
            try target.publish()
        }
        return BuildReport(
            count: base.count, partitions: table.count, records: table.recordCount,
            replication: Double(table.recordCount + (heads?.count ?? 0)) / Double(base.count),
            indexByteCount: manifest.totalByteCount,
            residentByteCount: residentByteCount + table.residentByteCount + (heads?.count ?? 0) * 4,
            stages: stages)
    }

    func describe(heads: [UInt32]?) -> [String: String] {
        var build = [
            "duplicate": parameters.duplication.name, "seed": String(parameters.seed),
            "iterations": String(parameters.iterations), "router": "distance",
        ]
        if let share = parameters.headShare { build["heads"] = String(share) }
        if let sampled { build["sample"] = String(sampled) }
        if let plan = parameters.plan { build["plan"] = plan.identity }
        if let pages = parameters.pagesMaximum { build["pages-max"] = String(pages) }
        if let cells = parameters.subSegments { build["sub-segments"] = String(cells) }
        switch parameters.duplication {
        case .none: break
        case .closure(let replicas, let eps1):
            build["replicas"] = String(replicas)
            build["eps1"] = String(eps1)
        case .soar(let lambda): build["lambda"] = String(lambda)
        }
        return build
    }
}
