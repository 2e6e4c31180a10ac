// Where a batch's answers go, and what is left of a run that was killed: the file beside its name, the
// journal beside that. A batch of one block needs no journal; it has nothing to go on from.

import Storage
import Vectors

/// The output of one batch.
final class BatchOutput {
    /// nil: the output is written in place, and a kill costs all of it.
    private let journalPath: String?
    private let writer: ResultWriter
    private let format: NeighbourFormat
    private let shardQueries: VectorFile
    private let journalIdentity: JobIdentity
    /// The metric of the index where queries that mean nothing under it are answered empty.
    private let emptyMetric: Metric?
    private var journal: JobJournal<BatchEntry>?
    private var part: PartialResult?
    private var queryChecksum: UInt32 = 0
    /// Queries that the journal tells of.
    private var journalledCount: UInt64 = 0

    /// Queries whose answers are written.
    var finished: Int { Int(writer.position.finished) }

    /// Begins the output, or continues it where a journal of the same job is found.
    ///
    /// - Parameters:
    ///   - queries: those of the whole job.
    ///   - shardQueries: those answered here.
    init(
        path: String, index: DiskIndex, queries: VectorFile, shardQueries: VectorFile,
        parameters: BatchParameters
    ) throws {
        self.shardQueries = shardQueries
        let identity = try Self.identity(index: index, queries: queries, parameters: parameters.search)
        let k = parameters.search.k
        let range = parameters.shard?.range(of: queries.count)
        part = range.map {
            PartialResult(
                identity: identity, total: queries.count, range: $0, k: k,
                idByteCount: index.layout.idByteCount)
        }
        format = part == nil ? NeighbourFormat(path: path) : .bigAnn
        let layoutName: String? =
            switch format {
            case .ivecs: "ivecs"
            case .ids64: "ids64"
            case .bigAnn, .npy, .csv, .jsonl: nil
            }
        emptyMetric = parameters.search.answersInvalidEmpty ? index.metric : nil
        journalIdentity = JobIdentity(
            identity.entries + [
                (
                    "range of queries",
                    range.map { "\($0.lowerBound) to \($0.upperBound) as a part" }
                        ?? "all" + (layoutName.map { " as \($0)" } ?? "")
                )
            ])
        // First the lock: what another process works with is neither read nor removed.
        let claim = try ResultClaim(path)
        journalPath = claim.journalPath
        var last: BatchEntry?
        if let journalPath, JobJournals.exists(at: journalPath) {
            try Self.settle(parameters.start, path: path, journalPath: journalPath)
        }
        if let journalPath, JobJournals.exists(at: journalPath) {
            journal = try JobJournal(continuing: journalPath, identity: journalIdentity)
            last = journal?.entries.last
        }
        writer = try ResultWriter(
            path: path, count: shardQueries.count, k: k,
            headerByteCount: part?.headerByteCount ?? format.headerByteCount,
            idByteCount: part?.idByteCount ?? format.idByteCount, isIvecs: format == .ivecs,
            continuing: last?.position, claim: claim)
        if let last {
            journalledCount = last.position.finished
            try checkQueries(last)
        }
    }

    /// Refuses what an earlier run has left, or removes it, where it is not to be taken up.
    private static func settle(_ start: AtomicDirectory.Start, path: String, journalPath: String)
        throws(StorageError)
    {
        switch start {
        case .resume: return
        case .restart: try JobJournals.remove(at: journalPath)
        case .fresh:
            throw StorageError(
                .exists, path: path, detail: "an unfinished run of it has left \(journalPath)",
                advice: "go on with it, or begin anew", remedy: .goOnOrBeginAnew)
        }
    }

    /// Appends the answers of the next queries, whose vectors are `rows`.
    func append(
        ids: UnsafePointer<UInt64>, distances: UnsafePointer<Float>, queries: Int, rows: UnsafeRawPointer
    ) throws(StorageError) {
        queryChecksum = Checksum.crc32c(
            rows, count: queries * shardQueries.rowByteCount, continuing: queryChecksum)
        try writer.append(ids: ids, distances: distances, queries: queries)
    }

    /// Makes what was appended last: a kill costs only what comes after. The last block is published instead.
    func endBlock() throws(StorageError) {
        guard finished < shardQueries.count, let journalPath else { return }
        try writer.sync()
        let entry = BatchEntry(position: writer.position, queryChecksum: queryChecksum)
        if let journal {
            try journal.append([entry])
        } else {
            journal = try JobJournal(at: journalPath, identity: journalIdentity, first: [entry])
        }
        journalledCount = entry.position.finished
    }

    /// Gives the whole result its name.
    func publish() throws(StorageError) {
        part?.checksums = writer.position.checksums
        try writer.finish(
            header: part?.header ?? format.header(count: shardQueries.count, k: writer.k))
        // The journal tells that all is written before the file gets its name, and goes after it: whenever a kill
        // comes, the next run finds the answers in one place or the other.
        if let journal, !writer.isPublished, finished > Int(journalledCount) {
            try journal.append([BatchEntry(position: writer.position, queryChecksum: queryChecksum)])
            journalledCount = writer.position.finished
        }
        try writer.publish()
        if let journalPath { try JobJournals.remove(at: journalPath) }
    }

    /// Leaves what a later run can continue, and nothing else.
    func abandon() {
        // A journal that was written, though not all that follows succeeded, tells of answers that are there.
        if journal == nil, journalPath.map({ JobJournals.exists(at: $0) }) != true { writer.discard() }
    }

    /// The queries answered before must be those of the file now.
    private func checkQueries(_ entry: BatchEntry) throws {
        let size = shardQueries.rowByteCount
        let chunk = VectorMatrix(
            count: max(1, min(finished, (1 << 20) / size)), dimension: shardQueries.dimension,
            elementType: shardQueries.elementType)
        var row = 0
        while row < finished {
            let count = min(chunk.count, finished - row)
            try shardQueries.read(rows: row..<row + count, into: chunk, checkFinite: emptyMetric == nil)
            if let emptyMetric {
                for row in InvalidVectors.rows(of: chunk, count: count, metric: emptyMetric) {
                    InvalidVectors.replace(row, of: chunk)
                }
            }
            queryChecksum = Checksum.crc32c(chunk.bytes, count: count * size, continuing: queryChecksum)
            row += count
        }
        guard queryChecksum == entry.queryChecksum else {
            throw StorageError(
                .invalidValue, path: journalPath ?? writer.path,
                detail:
                    "is of another job: the first \(finished) queries of \(shardQueries.path) have changed",
                expected: Checksum.text(entry.queryChecksum), found: Checksum.text(queryChecksum),
                advice: "choose another output, or begin anew", remedy: .beginAnew)
        }
    }

    /// All that decides the answers. Threads, memory and blocks do not.
    private static func identity(
        index: DiskIndex, queries: VectorFile, parameters: SearchParameters
    ) throws(StorageError) -> JobIdentity {
        let policy: String =
            switch parameters.policy {
            case .nprobe(let count): "nprobe \(count)"
            case .eps2(let eps2, let count): "eps2 \(eps2), nprobe \(count)"
            case .vectorBudget(let records): "budget-vectors \(records)"
            case .mass(let mass): "mass \(mass)"
            case .gain(let lambda): "gain \(lambda)"
            case .sigma(let sigma): "sigma \(sigma)"
            case .pages(let lambda): "pages \(lambda)"
            }
        let cost: String =
            if case .time(let model) = parameters.cost { "time by \(model)" } else { parameters.cost.name }
        return JobIdentity([
            (
                "index",
                "\(index.manifest.checksum) (\(index.count) vectors, \(index.partitionCount) partitions)"
            ),
            (
                "queries",
                "\(Checksum.text(try queries.fingerprint())) (\(queries.count) of dimension \(queries.dimension), "
                    + "\(queries.elementType.name))"
            ),
            ("k", "\(parameters.k)"), ("policy", policy), ("cost", cost), ("rounds", "\(parameters.rounds)"),
        ])
    }
}
