// A build whose second copies are planned on the index that partitioning makes: that index and the planned one lie
// within the directory of the build, so that a run that follows a kill finds them, and nothing is left at the end.

import Index
import Learn
import Router
import Storage
import Vectors

/// Builds an index, then plans its replicas and learns its router.
public struct BuildWithCopies {
    public let builder: IndexBuilder
    /// All that decides the replicas, by name.
    public let plan: [(name: String, value: String)]
    /// What will be done with the partitioned index, where it is known beforehand: then a device with too little room for
    /// it is named before anything is written.
    public var copies: Retraining?

    private static let partitionedName = "partitioned"

    /// - Parameter builder: makes the partitioned index; its directory is that of the whole.
    public init(builder: IndexBuilder, plan: [(name: String, value: String)]) {
        self.builder = builder
        self.plan = plan
    }

    /// Builds and publishes.
    ///
    /// - Parameter retraining: what to do with the partitioned index.
    /// - Throws: as `IndexBuilder.build`.
    public func run(retraining: (DiskIndex) throws -> Retraining) throws(IndexError) -> BuildReport {
        try IndexError.door { try runOrGoOn(retraining: retraining) }
    }

    private func runOrGoOn(retraining: (DiskIndex) throws -> Retraining) throws -> BuildReport {
        if builder.start == .resume {
            if try BuildJob.clearUp(builder.directory, identity: identity(), base: builder.base.path) {
                return BuildReport(of: try DiskIndex(path: builder.directory), stages: [])
            }
            if let report = try FinishedJob.report(at: builder.directory, of: identity()) { return report }
        }
        let target = try AtomicDirectory.create(path: builder.directory, start: builder.start)
        let journal = target.journalPath
        let isContinued = JobJournals.exists(at: journal)
        do {
            let identity = try identity()
            if isContinued {
                try BuildJob.refuseOther(journal, identity: identity, base: builder.base.path)
                _ = try JobJournal<BuildEntry>(continuing: journal, identity: identity)
            } else {
                _ = try JobJournal<BuildEntry>(at: journal, identity: identity)
            }
        } catch {
            if !isContinued { target.discard() }
            throw error
        }
        do {
            return try run(in: target, retraining: retraining)
        } catch IndexError.unfinished(let cause, _) {
            target.leave()
            throw IndexError.unfinished(cause, workPath: target.workPath)
        } catch {
            // Whatever stands is whole: directories within appear whole or not at all.
            let holdsWork = Directory.exists(target.temporary(Self.partitionedName))
            if holdsWork && BuildJob.mayPass(error) {
                target.leave()
                throw IndexError.unfinished(IndexError(error), workPath: target.workPath)
            }
            // What an earlier run has left is not this one's to remove.
            if isContinued { target.leave() } else { target.discard() }
            throw error
        }
    }

    private func identity() throws -> JobIdentity { JobIdentity(try builder.identity().entries + plan) }

    private func run(in target: AtomicDirectory, retraining: (DiskIndex) throws -> Retraining) throws
        -> BuildReport
    {
        let partitioned = target.temporary(Self.partitionedName)
        var stages: [(name: String, seconds: Double)] = []
        if !Directory.exists(partitioned) {
            let inner = IndexBuilder(
                base: builder.base, directory: partitioned, parameters: builder.parameters,
                progress: builder.progress)
            inner.start = .resume
            inner.unit = builder.unit
            inner.copies = copies
            inner.afterUnit = builder.afterUnit
            stages = try inner.build().stages
        }
        let opened = try DiskIndex(path: partitioned)
        var work = try retraining(opened)
        work.request = try identity()
        work.training.predictor.checkpoints = TrainingCheckpoints(directory: target.temporary("training"))
        var report = try work.run(opened, to: target, progress: builder.progress)
        report.stages = stages + report.stages
        return report
    }
}
