// A retraining that goes on after a kill: labels, epochs and replicas that an earlier run has finished lie in the locked
// sibling of the directory that is made, with a journal that says what they belong to.

import Index
import Learn
import Router
import Storage
import Vectors

extension Retraining {
    /// Writes `directory` from `index`, or goes on where an earlier run has left it.
    ///
    /// - Parameter start: what becomes of what an earlier run has left.
    /// - Throws: as building does. Where the same may succeed another day, what is finished stays; else nothing does.
    public func run(
        _ index: DiskIndex, to directory: String, start: AtomicDirectory.Start = .fresh,
        progress: JobProgress = .none
    ) throws(IndexError) -> BuildReport {
        try IndexError.door { try runOrGoOn(index, to: directory, start: start, progress: progress) }
    }

    private func runOrGoOn(
        _ index: DiskIndex, to directory: String, start: AtomicDirectory.Start, progress: JobProgress
    ) throws -> BuildReport {
        if start == .resume,
            try BuildJob.clearUp(directory, identity: identity(of: index), base: index.path)
        {
            return BuildReport(of: try DiskIndex(path: directory), stages: [])
        }
        // Refused before hours of work, not after them; the name is kept until the end.
        let target = try AtomicDirectory.create(path: directory, start: start)
        let isContinued = JobJournals.exists(at: target.journalPath)
        do {
            let identity = try identity(of: index)
            if isContinued {
                try BuildJob.refuseOther(target.journalPath, identity: identity, base: index.path)
            } else {
                _ = try JobJournal<BuildEntry>(at: target.journalPath, identity: identity)
            }
            var work = self
            if work.training.predictor.checkpoints == nil {
                work.training.predictor.checkpoints = TrainingCheckpoints(
                    directory: target.temporary("training"))
            }
            return try work.run(index, to: target, progress: progress)
        } catch {
            let holdsWork =
                Directory.exists(target.temporary("training"))
                || Directory.exists(target.temporary(Self.plannedName))
            if holdsWork && BuildJob.mayPass(error) {
                target.leave()
                throw IndexError.unfinished(IndexError(error), workPath: target.workPath)
            }
            // What an earlier run has left is not this one's to remove.
            if isContinued { target.leave() } else { target.discard() }
            throw error
        }
    }

    /// All that decides the bytes. A model of the device is measured anew each time: its numbers are no part of it.
    func identity(of index: DiskIndex) throws -> JobIdentity {
        let copies =
            "\(copyRule), replication-max \(replicationMaximum), rounds \(rounds), cost \(cost.name), "
            + "depth \(depth), recall \(recall)"
        return JobIdentity(
            [
                ("index", index.segmentsIdentity ?? "unknown"), ("copies", copies),
                ("seed", "\(training.predictor.training.seed)"),
                ("resident", residentByteCount.map { "\($0)" } ?? "any"),
            ] + notes.sorted { $0.key < $1.key }.map { (name: $0.key, value: $0.value) }
                + (try training.identity()))
    }
}
