// Partitions learned once for many builds (`sonde plan`): the centroids in their order, in a directory of
// their own. Every shard of a base that is built on the same plan has the same partitions, so that shards can
// be merged. What assigns a vector (its nearest centroids, closure, SOAR) looks at that vector alone.

import Foundation
import Index
import Learn
import Router
import Storage
import Vectors

/// Learned partitions, from memory or a plan directory.
///
///     try SharedPartitions.learn(base: sample, parameters: parameters, directory: "photos.plan")
///     var parameters = BuildParameters()
///     try SharedPartitions.read(path: "photos.plan").apply(to: &parameters)
public struct SharedPartitions: Sendable {
    public let path: String
    /// What tells this plan from others: checksums of its manifest and centroids.
    public let identity: String
    public let metric: Metric
    public let elementType: ElementType
    public let dimension: Int
    /// Vectors of the base that it is for.
    public let count: Int
    /// Partitions (cells, where partitions are divided).
    public var partitionCount: Int { centroids.partitionCount }
    let centroids: CentroidIndex
    let cells: CellGroups?
    /// What decided the partitions, as an index's manifest keeps it.
    private let build: [String: String]

    static let manifestName = "plan.json"

    /// What learning made.
    public struct Report: Sendable {
        public var plan: SharedPartitions
        public var sampled: Int
        public var seconds: Double

        /// One line for people.
        public var summary: String {
            "\(plan.path): \(plan.partitionCount) partitions for \(plan.count) vectors, learned from \(sampled) in "
                + String(format: "%.1f s", seconds) + "; plan \(plan.identity)"
        }
    }

    /// Learns partitions as `IndexBuilder` does with the same parameters, and publishes the directory.
    ///
    /// - Parameters:
    ///   - start: what to do with an unfinished plan that an earlier run has left.
    ///   - unit: how much work a kill may cost.
    ///   - afterUnit: as in `IndexBuilder`.
    /// - Throws: `outOfRange` or `invalid` for parameters that mean nothing or belong to a build, `storage` from
    ///   reading and writing, an existing `directory` among it: nothing is left behind then that was not there before.
    ///   `unfinished` where it can be gone on with, `unread` where it is done.
    @discardableResult
    public static func learn(
        base: VectorFile, parameters: BuildParameters, directory: String, progress: JobProgress = .none,
        start: AtomicDirectory.Start = .fresh, unit: WorkUnit = WorkUnit(),
        afterUnit: ((String, Int) throws -> Void)? = nil
    ) throws(IndexError) -> Report {
        try IndexError.door {
            try learnOrGoOn(
                base: base, parameters: parameters, directory: directory, progress: progress, start: start,
                unit: unit, afterUnit: afterUnit)
        }
    }

    private static func learnOrGoOn(
        base: VectorFile, parameters: BuildParameters, directory: String, progress: JobProgress,
        start: AtomicDirectory.Start, unit: WorkUnit, afterUnit: ((String, Int) throws -> Void)?
    ) throws -> Report {
        let begun = monotonicNanoseconds()
        guard parameters.headShare == nil, parameters.router == nil, parameters.plan == nil,
            parameters.shard == nil, parameters.copyRule == .none
        else {
            throw IndexError.invalid(
                "a plan decides partitions only: heads, copies and routers belong to builds and training")
        }
        let builder = IndexBuilder(
            base: base, directory: directory, parameters: parameters, progress: progress)
        try builder.validate()
        if builder.wholeCount < base.count {
            throw IndexError.outOfRange(
                "count", allowed: "at least the \(base.count) vectors of \(base.path)",
                found: "\(builder.wholeCount)")
        }
        builder.unit = unit
        func identity() throws -> JobIdentity {
            JobIdentity(try builder.identity().entries + [("plan for", "\(builder.wholeCount) vectors")])
        }
        let worked = try BuildJob.run(
            directory, start: start, identity: identity(), base: base.path, progress: progress,
            afterUnit: afterUnit
        ) { job in
            if !job.hasReached(.publish) { try write(job, builder) }
            try job.target.publish()
        }
        let plan =
            worked
            ? try FinishedJob.reading(directory) { try read(path: directory) } : try read(path: directory)
        return Report(
            plan: plan, sampled: plan.sampled ?? base.count,
            seconds: Double(monotonicNanoseconds() - begun) / 1e9)
    }

    /// The whole directory, which has not its name yet.
    private static func write(_ job: BuildJob, _ builder: IndexBuilder) throws {
        if !job.hasReached(.partition) {
            try builder.keep(try builder.partition(job.milestones(builder.unit)), in: job)
        }
        let kept = try builder.keptPartitions(job)
        builder.sampled = kept.sampled
        let manifestPath = job.target.file(manifestName)
        for path in [job.files.router, manifestPath] { try Directory.removeTree(path) }
        let digest = try TaggedFile.write(
            path: job.files.router, sections: kept.router.encode() + (kept.cells?.encode(parent: nil) ?? []))
        var build = builder.describe(heads: nil)
        builder.noteLeftOut(partitions: kept.router.partitionCount, in: &build)
        build["duplicate"] = nil
        build["router"] = nil
        var manifest = Manifest(
            metric: builder.parameters.metric.name, elementType: builder.base.elementType.name,
            dimension: builder.base.dimension, count: builder.wholeCount,
            partitions: kept.router.partitionCount, records: 0, build: build,
            files: [IndexFiles.routerName: digest])
        manifest.job = job.digest
        try builder.refuseChangedBase(job)
        try job.finish(
            .publish, position: 1,
            files: [(.router, digest), (.plan, try manifest.write(path: manifestPath))])
    }

    /// Opens a plan directory and checks it.
    ///
    /// - Throws: `storage` where a file is missing, damaged or of an unknown version, `inconsistent` where the files do
    ///   not fit each other.
    public static func read(path: String) throws(IndexError) -> SharedPartitions {
        try IndexError.door { try open(path: path) }
    }

    private static func open(path: String) throws -> SharedPartitions {
        let file = path + "/" + manifestName
        let manifest: Manifest
        do {
            manifest = try Manifest.read(path: file)
        } catch {
            guard error.kind == .missing else { throw error }
            throw StorageError(
                .missing, path: file, detail: "there is no plan", advice: "`sonde plan` makes plans")
        }
        let routerPath = IndexFiles(directory: path).router
        let digest = try FileDigest.of(path: routerPath)
        guard digest == manifest.files[IndexFiles.routerName] else {
            throw IndexError.inconsistent(
                path: routerPath,
                detail:
                    "is not the file that \(manifestName) names (checksum \(Checksum.text(digest.crc32c)))")
        }
        let sections = try TaggedFile.read(path: routerPath)
        let centroids = try CentroidIndex(decoding: sections)
        let cells = try CellGroups.decode(sections, cellCount: centroids.partitionCount)?.groups
        let fits = { (space: RoutingSpace) in
            centroids.partitionCount == manifest.partitions
                && centroids.dimension == space.dimension(of: manifest.dimension)
                && centroids.elementType == space.elementType
        }
        guard let metric = Metric(name: manifest.metric),
            let elementType = ElementType(name: manifest.elementType),
            fits(RoutingSpace(metric: metric, baseType: elementType, longest: centroids.longest))
        else {
            throw IndexError.inconsistent(path: file, detail: "does not fit the centroids beside it")
        }
        return SharedPartitions(
            path: path, identity: "\(manifest.checksum)-\(Checksum.text(digest.crc32c))", metric: metric,
            elementType: elementType, dimension: manifest.dimension, count: manifest.count,
            centroids: centroids, cells: cells, build: manifest.build)
    }

    /// Makes these partitions those of a build: sets the plan and all parameters that it decides.
    public func apply(to parameters: inout BuildParameters) throws(IndexError) {
        guard let seed = build["seed"].flatMap({ UInt64($0) }),
            let iterations = build["iterations"].flatMap({ Int($0) })
        else {
            throw .inconsistent(path: path + "/" + Self.manifestName, detail: "names no seed or iterations")
        }
        parameters.plan = self
        parameters.metric = metric
        parameters.partitions = nil
        parameters.sampleCount = nil
        parameters.seed = seed
        parameters.iterations = iterations
        parameters.pagesMaximum = build["pages-max"].flatMap { Int($0) }
        parameters.subSegments = build["sub-segments"].flatMap { Int($0) }
    }

    /// Makes a build that of one shard.
    ///
    /// - Parameters:
    ///   - base: the whole base that the plan is for; with `holdsOwnRows` only the shard's rows.
    ///   - ids: those of the vectors of `base`.
    /// - Returns: the rows to build.
    public func apply(
        to parameters: inout BuildParameters, shard: Shard, base: VectorFile, holdsOwnRows: Bool
    ) throws(IndexError) -> VectorFile {
        guard shard.count >= 1, (0..<shard.count).contains(shard.index) else {
            throw .invalid("there is no shard \(shard.index) of \(shard.count)")
        }
        try apply(to: &parameters)
        parameters.shard = shard
        // The whole base decides how wide ids are; where it is out of sight, merging widens them.
        if case .positions(let first) = parameters.ids {
            parameters.greatestId = holdsOwnRows ? UInt64(count - 1) : first.addingClamped(count - 1)
        }
        if holdsOwnRows { return base }
        guard base.count == count else {
            throw .notWholeBase(
                "\(base.path) holds \(base.count) vectors, the plan \(path) is for \(count): give the whole base, "
                    + "or say that the file holds the shard's own rows", expected: count, found: base.count)
        }
        let rows = shard.range(of: count)
        if rows.isEmpty {
            throw .invalid("shard \(shard.index) of \(shard.count) of \(count) vectors is empty")
        }
        parameters.ids = parameters.ids.range(rows)
        return base.range(rows)
    }

    /// Partitions, where they are divided those that are.
    var partitionsWanted: Int { cells?.parents.partitionCount ?? partitionCount }

    /// Vectors that the partitions were learned from.
    var sampled: Int? { build["sample"].flatMap { Int($0) } }

    var partitioning: IndexBuilder.Partitioning {
        IndexBuilder.Partitioning(
            centroids: centroids.centroids(), beta: centroids.beta, heads: nil, cells: cells,
            router: centroids)
    }
}

extension UInt64 {
    /// The sum, or the largest number where that is beyond it.
    fileprivate func addingClamped(_ other: Int) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(UInt64(other))
        return overflow ? .max : sum
    }
}

extension IndexBuilder {
    /// What of ids, plans and shards decides the bytes of an index, by name; nothing where there is none.
    func sharingIdentity() throws -> [(name: String, value: String)] {
        var entries: [(name: String, value: String)] = []
        switch parameters.ids {
        case .positions(first: 0): break
        case .positions(let first): entries.append(("first id", "\(first)"))
        case .file, .kept:
            if let file = parameters.ids.file {
                entries.append(("ids", "\(Checksum.text(try file.fingerprint())) (\(file.count))"))
            }
            if let rows = parameters.ids.leftOut { entries.append(("vectors left out", "\(rows.count)")) }
        }
        if let plan = parameters.plan { entries.append(("plan", plan.identity)) }
        if let shard = parameters.shard { entries.append(("shard", "\(shard.index) of \(shard.count)")) }
        return entries
    }

    /// Refuses what ids, plans and shards do not go together with.
    func validateSharing() throws(IndexError) {
        if parameters.headShare != nil {
            guard case .positions(first: 0) = parameters.ids else {
                throw .invalid("heads are kept by their positions in the base: leave out ids and first-id")
            }
        }
        guard let plan = parameters.plan else {
            if parameters.shard != nil { throw .invalid("a shard needs the plan that all shards share") }
            return
        }
        if plan.dimension != base.dimension || plan.elementType != base.elementType {
            throw .unlikeVectors(
                "\(base.path) holds \(base.elementType.name) of \(base.dimension) dimensions, the plan "
                    + "\(plan.path) is for \(plan.elementType.name) of \(plan.dimension)",
                expected: VectorKind(dimension: plan.dimension, elementType: plan.elementType),
                found: base.kind)
        }
        if plan.metric != parameters.metric {
            throw .invalid("the plan \(plan.path) is for \(plan.metric.name), not \(parameters.metric.name)")
        }
        if parameters.headShare != nil {
            throw .invalid("heads are partitions of their own: leave out the plan")
        }
        guard parameters.shard != nil else { return }
        if parameters.router != nil {
            throw .invalid("a shard's router would know the shard only: merge first, then `sonde train`")
        }
        if parameters.pagesMaximum != nil && parameters.copyRule != .none {
            throw .invalid(
                "which copies a plan's pages-max drops is decided over whole partitions, which a shard does not see: "
                    + "leave out one of the two")
        }
    }
}
