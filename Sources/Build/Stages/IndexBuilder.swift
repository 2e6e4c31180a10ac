// The stages of a build, in order: sample -> partition -> order -> assign -> group -> write -> train -> publish.
// Every stage streams the base, is bounded by the memory asked for, and depends only on its inputs and the
// seed. Everything is written to a sibling directory, with a journal of what is finished, and becomes the index with
// one rename: whoever is killed goes on from the last unit of work and ends with the same bytes.

import Foundation
import Index
import Learn
import Router
import Storage
import Vectors

/// What a build made.
public struct BuildReport: Sendable {
    public var count: Int
    public var partitions: Int
    /// Partitions that were asked for and would have held nothing.
    public var partitionsLeftOut = 0
    public var records: Int
    public var replication: Double
    public var indexByteCount: UInt64
    public var residentByteCount: Int
    /// Share of some vectors that are in the partition whose centroid is their nearest; nil where all are.
    public var nearestShare: Double?
    /// Seconds by stage, in order.
    public var stages: [(name: String, seconds: Double)]
    /// What is known of the recalls that can be declared, where a router was trained.
    public var promises: [String] = []

    /// A line for people, and one for each promise.
    public var summary: String {
        let total = stages.reduce(0.0) { $0 + $1.seconds }
        let parts = stages.map { "\($0.name) " + String(format: "%.1f", $0.seconds) }.joined(separator: ", ")
        let fewer =
            partitionsLeftOut > 0
            ? " (\(partitionsLeftOut) fewer than asked for: vectors repeat, and those would hold none)" : ""
        return "\(count) vectors in \(partitions) partitions\(fewer), replication "
            + String(format: "%.3f", replication) + ", \(indexByteCount) bytes on disk, "
            + "\(residentByteCount) resident"
            + (nearestShare.map { String(format: ", %.1f %% in their nearest partition", $0 * 100) } ?? "")
            + (stages.isEmpty ? "; finished before" : "; " + String(format: "%.1f s", total) + " (\(parts))")
            + promises.map { "\n" + $0 }.joined()
    }
}

extension BuildReport {
    /// What an index that was just built is.
    init(of index: DiskIndex, stages: [(name: String, seconds: Double)]) {
        count = index.count
        partitions = index.partitionCount
        partitionsLeftOut =
            index.manifest.build[IndexBuilder.leftOutName].flatMap { Int($0) }.map { max(0, $0) } ?? 0
        records = index.manifest.records
        replication = index.replication
        indexByteCount = index.manifest.totalByteCount
        residentByteCount = index.residentByteCount
        promises = index.policies?.promises ?? []
        nearestShare = index.manifest.build["assigned-nearest"].flatMap { Double($0) }
        self.stages = stages
    }
}

/// Builds an index directory from a file of vectors.
///
///     let report = try IndexBuilder(base: file, directory: "photos.sonde", parameters: .init()).build()
public final class IndexBuilder {
    let base: VectorFile
    let directory: String
    let parameters: BuildParameters
    let progress: JobProgress
    /// Where lengths count, known once there are partitions.
    var space: RoutingSpace
    /// What to do with an unfinished build that an earlier run has left.
    public var start = AtomicDirectory.Start.fresh
    /// How much work a kill may cost.
    public var unit = WorkUnit()
    /// Told of each unit of work that is finished, by stage and position. What it throws ends the build, which another
    /// run goes on with.
    public var afterUnit: ((String, Int) throws -> Void)?
    /// What was asked for, where a plan has decided the parameters since: by this a finished build is known again.
    public var request: JobIdentity?
    /// What a planned build does with this index afterwards: there has to be room for it.
    var copies: Retraining?
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

    public init(
        base: VectorFile, directory: String, parameters: BuildParameters, progress: JobProgress = .none
    ) {
        self.base = base
        self.directory = directory
        self.parameters = parameters
        self.progress = progress
        space = RoutingSpace(metric: parameters.metric, baseType: base.elementType)
    }

    /// Builds and publishes.
    ///
    /// - Throws: `outOfRange` or `invalid` for parameters that mean nothing, `storage` for anything that reading or
    ///   writing meets, an existing `directory` or another's unfinished build among it: nothing is left behind then
    ///   that was not there before. `unfinished` where the build can be gone on with, `unread` where it is done.
    public func build() throws(IndexError) -> BuildReport {
        try IndexError.door { try buildOrGoOn() }
    }

    private func buildOrGoOn() throws -> BuildReport {
        try prepare()
        let worked = try BuildJob.run(
            directory, start: start, identity: identity(), request: request, base: base.path,
            progress: progress, afterUnit: afterUnit
        ) { job in
            if !job.hasReached(.publish) { try write(job) }
            try stage("publish") {
                progress(stage: "publish", done: 0, total: 1)
                try job.target.publish()
                progress(stage: "publish", done: 1, total: 1)
            }
        }
        let report = { BuildReport(of: try DiskIndex(path: self.directory), stages: self.stages) }
        return worked ? try FinishedJob.reading(directory, report) : try report()
    }

    /// All stages up to a whole directory that has not its name yet.
    private func write(_ job: BuildJob) throws {
        try requireSpace(job, counts: nil)
        if !job.hasReached(.partition) {
            try keep(try partition(job.milestones(unit)), in: job)
        }
        let assignment = try stage("assign") { try AssignStage(builder: self, job: job).run() }
        try requireSpace(job, counts: assignment.counts)
        let (table, digest) = try stage("write") {
            try Grouping(
                builder: self, job: job, layout: layout().bound(to: assignment.indexId),
                assignment: assignment
            ).write()
        }
        try finish(job, table: table, segmentsDigest: digest, nearestShare: assignment.nearestShare)
    }

    /// Checks all that is asked for, ids included.
    func prepare() throws {
        try validate()
        idRange = try parameters.ids.validated(
            count: base.count, memoryByteCount: parameters.memoryByteCount)
    }

    func validate() throws(IndexError) {
        let count = base.count
        if count == 0 { throw .invalid("\(base.path) holds no vectors") }
        try validateSharing()
        if let partitions = parameters.partitions, partitions < 1 || partitions > count {
            throw .outOfRange("partitions", allowed: "from 1 to the \(count) vectors", found: "\(partitions)")
        }
        if let share = parameters.headShare {
            if !(share > 0 && share <= 0.5) {
                throw .outOfRange("heads", allowed: "over 0 and at most 0.5", found: "\(share)")
            }
            if parameters.partitions != nil {
                throw .invalid("give either partitions or heads: heads are the partitions")
            }
            if parameters.metric == .ip {
                throw .invalid(
                    "heads need a metric in which they can be scored resident: l2 or cosine, not ip")
            }
        }
        if parameters.copyRule.name.isPlanned {
            throw .invalid(
                "copies by \(parameters.copyRule.name.rawValue) are planned on an index that stands, not while it is built"
            )
        }
        if case .closure(let replicas, let eps1) = parameters.copyRule {
            if replicas < 1 || replicas > 64 {
                throw .outOfRange("replicas", allowed: "from 1 to 64", found: "\(replicas)")
            }
            if !(eps1 >= 0) { throw .outOfRange("eps1", allowed: "0 or more", found: "\(eps1)") }
        }
        if case .soar(let lambda) = parameters.copyRule, !(lambda >= 0 && lambda.isFinite) {
            throw .outOfRange("lambda", allowed: "0 or more", found: "\(lambda)")
        }
        if let cells = parameters.subSegments {
            if cells < 2 || cells > 1 << 20 {
                throw .outOfRange("sub-segments", allowed: "from 2 to \(1 << 20)", found: "\(cells)")
            }
            if parameters.headShare != nil {
                throw .invalid("heads have no sub-segments: each list is a few pages")
            }
            if let router = parameters.router, router.predictor.kind != .lira {
                throw .invalid("sub-segments are read by a lira router, or by distance without training")
            }
        }
        if parameters.threads < 1 {
            throw .outOfRange("threads", allowed: "at least 1", found: "\(parameters.threads)")
        }
        if parameters.iterations < 1 {
            throw .outOfRange("iterations", allowed: "at least 1", found: "\(parameters.iterations)")
        }
        if let pages = parameters.pagesMaximum, pages < 1 || pages > 1 << 30 {
            throw .outOfRange("pages-max", allowed: "from 1 to \(1 << 30)", found: "\(pages)")
        }
        if let router = parameters.router {
            try router.predictor.validate()
            if let learn = router.learn,
                learn.dimension != base.dimension || learn.elementType != base.elementType
            {
                throw .unlikeVectors(
                    "\(learn.path) holds \(learn.elementType.name) of \(learn.dimension) dimensions, \(base.path) "
                        + "\(base.elementType.name) of \(base.dimension)", expected: base.kind,
                    found: learn.kind)
            }
        }
        if let sample = parameters.sampleCount, sample < 1 {
            throw .outOfRange("sample", allowed: "at least 1", found: "\(sample)")
        }
    }

    /// Rows of a sample in routing space, which they decide where lengths count.
    func routingRows(ofSample rows: VectorMatrix) -> VectorMatrix {
        space = RoutingSpace(metric: parameters.metric, sampling: rows)
        return space.rows(from: rows)
    }

    /// Runs a stage and notes its seconds.
    func stage<Result>(_ name: String, _ body: () throws -> Result) rethrows -> Result {
        let start = monotonicNanoseconds()
        defer { stages.append((name, Double(monotonicNanoseconds() - start) / 1e9)) }
        return try body()
    }

    // The end: table, router, manifest.

    private func finish(
        _ job: BuildJob, table: SegmentTable, segmentsDigest: FileDigest, nearestShare: Double?
    ) throws {
        let partitions = try keptPartitions(job)
        let (router, heads) = (partitions.router, partitions.heads)
        sampled = partitions.sampled
        var manifest = Manifest(
            metric: parameters.metric.name, elementType: base.elementType.name, dimension: base.dimension,
            count: base.count, partitions: table.count, records: table.recordCount,
            build: describe(heads: heads),
            files: [IndexFiles.segmentsName: segmentsDigest])
        manifest.job = job.digest
        manifest.index = table.layout.binding?.description
        manifest.build["assigned-nearest"] = nearestShare.map { String($0) }
        noteLeftOut(partitions: table.count, in: &manifest.build)
        if let idRange, idRange.kind == .external || idRange.least > 0 { manifest.ids = idRange }
        if let shard = parameters.shard, let plan = parameters.plan {
            manifest.shard = ShardIdentity(plan: plan.identity, number: shard.index, count: shard.count)
        }
        var sections = router.encode() + (partitions.cells?.encode(parent: nil) ?? [])
        var residentByteCount = router.residentByteCount
        var codeBlocks: VectorMatrix?
        if var training = parameters.router {
            if !job.hasReached(.train) {
                training.predictor.checkpoints = job.trainingCheckpoints(unit)
                let written = try DiskIndex(
                    path: job.target.contentPath, manifest: manifest, table: table, centroids: router,
                    headIds: heads, cells: partitions.cells, device: Devices.open(path: job.files.segments))
                let trained = try stage("train") { try written.trainRouter(training, progress: progress) }
                sections = try trained.sections()
                residentByteCount = trained.residentByteCount
                codeBlocks = trained.codeBlocks
            }
            manifest.build.merge(training.description) { $1 }
        }
        if let heads { sections.append((IndexFiles.headIdsTag, IndexFiles.encode(headIds: heads))) }
        if !job.hasReached(.train) {
            residentByteCount += table.residentByteCount + (heads?.count ?? 0) * 4
            if let limit = parameters.residentByteCount, residentByteCount > limit {
                throw IndexError.overBudget(path: directory, resident: residentByteCount, limit: limit)
            }
            try Directory.removeTree(job.files.router)
            let digest = try TaggedFile.write(path: job.files.router, sections: sections)
            var finished: [(BuildJob.File, FileDigest)] = [(.router, digest)]
            try Directory.removeTree(job.files.codes)
            if let codeBlocks {
                finished.append((.codes, try codeBlocks.writeCodes(path: job.files.codes)))
            }
            try job.finish(.train, position: 1, files: finished)
        }
        try refuseChangedBase(job)
        for path in [job.files.table, job.files.manifest] { try Directory.removeTree(path) }
        let tableDigest = try table.write(path: job.files.table)
        manifest.files[IndexFiles.tableName] = tableDigest
        manifest.files[IndexFiles.routerName] = job.digest(.router)
        manifest.files[IndexFiles.codesName] = job.digest(.codes)
        try job.finish(
            .publish, position: 1,
            files: [(.table, tableDigest), (.manifest, try manifest.write(path: job.files.manifest))])
    }

    /// The base as it is now has to be the one that was read.
    func refuseChangedBase(_ job: BuildJob) throws {
        guard let difference = try JobIdentity(base.identity()).difference(from: job.identity),
            difference.name.hasPrefix("base")
        else { return }
        throw StorageError(
            .invalidValue, path: base.path, detail: "has changed while it was read: \(difference.name)",
            expected: difference.there, found: difference.here, advice: "build it again")
    }

    static let leftOutName = "partitions-left-out"

    /// Notes how many of the partitions that were asked for are not there, where they are learned here.
    func noteLeftOut(partitions: Int, in build: inout [String: String]) {
        guard parameters.headShare == nil, parameters.subSegments == nil, parameters.plan == nil,
            partitions < partitionsWanted
        else { return }
        build[Self.leftOutName] = String(partitionsWanted - partitions)
    }

    func describe(heads: [UInt32]?) -> [String: String] {
        var build = [
            "duplicate": parameters.copyRule.name.rawValue, "seed": String(parameters.seed),
            "iterations": String(parameters.iterations), "router": "distance",
        ]
        if let share = parameters.headShare { build["heads"] = String(share) }
        if let sampled { build["sample"] = String(sampled) }
        if let plan = parameters.plan { build["plan"] = plan.identity }
        if let pages = parameters.pagesMaximum { build["pages-max"] = String(pages) }
        if let cells = parameters.subSegments { build["sub-segments"] = String(cells) }
        build.merge(parameters.notes) { $1 }
        switch parameters.copyRule {
        case .closure(let replicas, let eps1):
            build["replicas"] = String(replicas)
            build["eps1"] = String(eps1)
        case .soar(let lambda): build["lambda"] = String(lambda)
        default: break
        }
        return build
    }
}
