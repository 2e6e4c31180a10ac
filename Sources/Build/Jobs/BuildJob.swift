// A build under way as its files know it: which stages are finished, how far the one under way is, and which bytes of
// which temporary files are part of it. A unit of work counts once its files are on the device and the journal says so.

import Index
import Learn
import Router
import Storage
import Vectors

/// How much work a kill may cost: a unit ends after so many bytes of vectors, or so many seconds.
public struct WorkUnit: Sendable {
    public var byteCount = 256 << 20
    public var seconds = 5.0

    public init() {}

    /// Where work is not a stream of vectors, as in clustering, seconds alone count: as many, or less in proportion
    /// where fewer bytes are asked for.
    var computingSeconds: Double { seconds * min(1, Double(byteCount) / Double(WorkUnit().byteCount)) }
}

/// The locked directory and the journal of one build.
final class BuildJob {
    /// Stages that leave something behind, in their order.
    enum Stage: UInt32, Comparable {
        case cluster = 1
        case partition, assign, group, write, train, publish

        static func < (a: Stage, b: Stage) -> Bool { a.rawValue < b.rawValue }
    }

    /// Files that the journal tells of.
    enum File {
        case partitioning, assignment, counts, segments, entries, router, manifest, table, plan, codes
        /// The records of a bucket of partitions.
        case bucket(Int)
        /// What a step of clustering has finished, while the partitions are made.
        case milestone(MilestoneStep, part: Int)

        private static let milestones: UInt32 = 1 << 31
        private static let partsMaximum: UInt32 = 1 << 24

        /// In the journal.
        var number: UInt32 {
            switch self {
            case .partitioning: 0
            case .assignment: 1
            case .counts: 2
            case .segments: 3
            case .entries: 4
            case .router: 5
            case .manifest: 6
            case .table: 7
            case .plan: 8
            case .codes: 9
            case .bucket(let bucket): 16 + UInt32(bucket)
            case .milestone(let step, let part):
                Self.milestones + step.rawValue * Self.partsMaximum + UInt32(part) % Self.partsMaximum
            }
        }

        init?(number: UInt32) {
            let fixed: [File] = [
                .partitioning, .assignment, .counts, .segments, .entries, .router, .manifest, .table, .plan,
                .codes,
            ]
            if number < 16 {
                guard Int(number) < fixed.count else { return nil }
                self = fixed[Int(number)]
            } else if number >= Self.milestones {
                let rest = number - Self.milestones
                guard let step = MilestoneStep(rawValue: rest / Self.partsMaximum) else { return nil }
                self = .milestone(step, part: Int(rest % Self.partsMaximum))
            } else {
                self = .bucket(Int(number) - 16)
            }
        }
    }

    let target: AtomicDirectory
    let files: IndexFiles
    /// What the build is.
    let identity: JobIdentity
    /// What was asked for, as the manifest keeps it.
    private(set) var digest: String
    /// Told of each unit that is finished, by stage and position. What it throws ends the build.
    var afterUnit: ((String, Int) throws -> Void)?
    private let journal: JobJournal<BuildEntry>
    private var digests: [UInt32: FileDigest] = [:]
    private var reached = [Stage: Int]()
    /// Whether an earlier run has left anything to go on with.
    let isContinued: Bool

    /// Makes the directory at `path`, or goes on with it where an earlier run has left it unfinished.
    ///
    /// - Parameters:
    ///   - identity: all that decides its bytes.
    ///   - request: what was asked for, where that is not the same.
    ///   - base: the file that the job begins with, for messages.
    ///   - work: does what is not finished yet, and publishes. Not called where only the remains of a job that was
    ///     killed behind its publishing are to be removed, or it was finished before.
    /// - Returns: whether there was work.
    /// - Throws: what `work` throws; `IndexError.unfinished` where the job can be gone on with; `StorageError` where `path` is
    ///   taken, or what is left of it is another job's, in use or damaged.
    @discardableResult
    static func run(
        _ path: String, start: AtomicDirectory.Start, identity: @autoclosure () throws -> JobIdentity,
        request: JobIdentity? = nil, base: String,
        progress: JobProgress, afterUnit: ((String, Int) throws -> Void)?, work: (BuildJob) throws -> Void
    ) throws -> Bool {
        if start == .resume {
            if try clearUp(path, identity: identity(), base: base) { return false }
            if try FinishedJob.exists(at: path, of: request ?? identity()) { return false }
        }
        let target = try AtomicDirectory.create(path: path, start: start)
        let job: BuildJob
        do {
            job = try BuildJob(target, identity: try identity(), base: base, progress: progress)
        } catch {
            // What an earlier run has left is not ours to remove.
            if !JobJournals.exists(at: target.journalPath) { target.discard() }
            throw error
        }
        job.afterUnit = afterUnit
        if let request { job.digest = request.digest }
        do {
            try work(job)
        } catch {
            throw job.end(after: error)
        }
        return true
    }

    /// Removes what is left of a job that was killed after it had published; false where there is none.
    static func clearUp(
        _ path: String, identity: @autoclosure () throws -> JobIdentity, base: String
    ) throws -> Bool {
        guard let target = try AtomicDirectory.published(path: path) else { return false }
        // Only publishing moves this directory away.
        guard !Directory.exists(target.contentPath) else { return false }
        try refuseOther(target.journalPath, identity: identity(), base: base)
        target.discard()
        return true
    }

    /// Begins the journal in a directory without one, or continues the one that is there, whose files are compared
    /// with what it says; whatever it does not tell of is removed.
    ///
    /// - Throws: `StorageError` where the journal is of another build, of another version or damaged, or a file is
    ///   not what it says.
    init(_ target: AtomicDirectory, identity: JobIdentity, base: String, progress: JobProgress) throws {
        self.target = target
        self.identity = identity
        digest = identity.digest
        files = IndexFiles(directory: target.contentPath)
        let path = target.journalPath
        isContinued = JobJournals.exists(at: path)
        guard isContinued else {
            journal = try JobJournal(at: path, identity: identity)
            return
        }
        try Self.refuseOther(path, identity: identity, base: base)
        journal = try JobJournal(continuing: path, identity: identity)
        var pending: [UInt32: FileDigest?] = [:]
        for entry in journal.entries {
            switch entry {
            case .file(let number, let digest): pending[number] = .some(digest)
            case .gone(let number): pending[number] = .some(nil)
            case .reached(let number, let position):
                guard let stage = Stage(rawValue: number) else { continue }
                reached[stage] = Int(clamping: position)
                for (number, digest) in pending { digests[number] = digest }
                pending = [:]
            case .unknown: continue
            }
        }
        try checkFiles(progress: progress)
        try removeStrays()
    }

    /// Whether the journal at `path` is of this build, by what the user can do about it.
    ///
    /// - Throws: kind `invalidValue` where it is of another.
    static func refuseOther(_ path: String, identity: JobIdentity, base: String) throws(StorageError) {
        guard let difference = identity.difference(from: try JobJournals.identity(at: path)) else { return }
        if difference.name.hasPrefix("base") {
            throw StorageError(
                .invalidValue, path: base,
                detail:
                    "is not the file that the unfinished build was begun with: \(difference.name) differs",
                expected: difference.there, found: difference.here,
                advice: "put the file back as it was, or begin anew", remedy: .beginAnew)
        }
        throw StorageError(
            .invalidValue, path: path,
            detail: "is of a build with other parameters: \(difference.name) differs",
            expected: difference.there, found: difference.here,
            advice: "go on with the parameters that it was begun with, or begin anew",
            remedy: .goOnOrBeginAnew)
    }

    private func checkFiles(progress: JobProgress) throws {
        let total = digests.values.reduce(0) { $0 + Int($1.byteCount) }
        var done = 0
        for (number, digest) in digests.sorted(by: { $0.key < $1.key }) {
            guard let file = File(number: number) else { continue }
            let before = done
            try digest.check(path: path(file)) {
                progress(stage: "check", done: before + Int($0), total: total)
            }
            done += Int(digest.byteCount)
        }
    }

    private func removeStrays() throws {
        var known = Set(digests.keys.compactMap { File(number: $0) }.map { path($0) })
        known.formUnion([target.journalPath, target.lockPath, target.contentPath, trainingPath])
        let found =
            try Directory.names(target.workPath).map { target.temporary($0) }
            + Directory.names(target.contentPath).map { target.file($0) }
        for path in found where !known.contains(path) { try Directory.removeTree(path) }
    }

    /// Where a file lies.
    func path(_ file: File) -> String {
        switch file {
        case .partitioning: target.temporary("partitioning")
        case .assignment: target.temporary("assignment")
        case .counts: target.temporary("counts")
        case .segments: files.segments
        case .entries: target.temporary("entries")
        case .router: files.router
        case .manifest: files.manifest
        case .table: files.table
        case .codes: files.codes
        case .plan: target.file(SharedPartitions.manifestName)
        case .bucket(let bucket): target.temporary("bucket-\(bucket)")
        case .milestone(let step, let part): target.temporary("milestone-\(step)-\(part)")
        }
    }

    /// Where a training keeps its state.
    var trainingPath: String { target.temporary("training") }

    /// What the journal says of a file; nil where nothing of it counts.
    func digest(_ file: File) -> FileDigest? { digests[file.number] }

    /// Bytes of all files that count.
    var byteCount: UInt64 { digests.values.reduce(0) { $0 + $1.byteCount } }

    /// Files that count, in the order of their numbers.
    var filesThatCount: [File] { digests.keys.sorted().compactMap { File(number: $0) } }

    /// How far a stage has come.
    func position(_ stage: Stage) -> Int { reached[stage] ?? 0 }

    /// Whether this stage or a later one has come anywhere.
    func hasReached(_ stage: Stage) -> Bool { reached.keys.contains { $0 >= stage } }

    /// Whether a kill now would cost work of an earlier unit.
    var holdsWork: Bool { !reached.isEmpty }

    /// Makes a unit of work last. The bytes of `files` are on the device; no digest: the file is removed now that the
    /// journal does not need it.
    func finish(_ stage: Stage, position: Int, files: [(File, FileDigest?)]) throws {
        let isNew = files.contains { digests[$0.0.number] == nil && $0.1 != nil }
        if isNew {
            // Names have to be on the device like bytes.
            try Directory.sync(target.workPath)
            try Directory.sync(target.contentPath)
        }
        try journal.append(
            files.map { file, digest in digest.map { .file(file.number, $0) } ?? .gone(file.number) }
                + [.reached(stage: stage.rawValue, position: UInt64(position))])
        reached[stage] = position
        for (file, digest) in files {
            digests[file.number] = digest
            if digest == nil { try Directory.removeTree(path(file)) }
        }
        try afterUnit?("\(stage)", position)
    }

    /// Whether trying again another day may help. What the base or the request is made of does not change by it.
    static func mayPass(_ error: any Error) -> Bool {
        switch error {
        case IndexError.storage(let error): error.isOfSystem
        case IndexError.unfinished, IndexError.interrupted: true
        // A router that its own bytes refuse would be the same again.
        case is IndexError, is RouterError: false
        case let error as StorageError: error.isOfSystem
        default: true
        }
    }

    /// Ends a build that failed: what can be gone on with stays, and what an earlier run has left; everything else is
    /// removed.
    ///
    /// - Returns: what to throw.
    func end(after error: any Error) -> any Error {
        guard holdsWork && Self.mayPass(error) else {
            // What an earlier run has left is not this one's to remove.
            if isContinued { target.leave() } else { target.discard() }
            return error
        }
        target.leave()
        return IndexError.unfinished(IndexError(error), workPath: target.workPath)
    }
}

extension StorageError {
    /// Whether the system refused a call or has no room: another day it may not.
    var isOfSystem: Bool {
        switch kind {
        case .systemCall, .noSpace: true
        default: false
        }
    }
}

/// Tells when a unit of work is large enough.
struct WorkMeter {
    private let unit: WorkUnit
    private var byteCount = 0
    private var start = monotonicNanoseconds()

    init(_ unit: WorkUnit) { self.unit = unit }

    /// Counts bytes worked on; true where the unit should end, and a new one begins.
    mutating func ends(after bytes: Int) -> Bool {
        byteCount += bytes
        guard byteCount >= unit.byteCount || Double(monotonicNanoseconds() - start) > unit.seconds * 1e9
        else { return false }
        byteCount = 0
        start = monotonicNanoseconds()
        return true
    }
}
