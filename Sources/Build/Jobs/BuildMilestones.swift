// The milestones of clustering in the directory of a build: each a file of one section, named in the journal, as long as
// the partitions are not finished.

import Learn
import Router
import Storage
import Vectors

extension BuildJob {
    private static let stateTag = "state"

    /// Keeps milestones for this build, none more often than `unit` says.
    func milestones(_ unit: WorkUnit) -> Milestones<any Error> {
        var last = monotonicNanoseconds()
        return Milestones(
            isDue: { Double(monotonicNanoseconds() - last) >= unit.computingSeconds * 1e9 },
            forEach: { [self] step, body in
                for part in milestones.filter({ $0.step == step }).map(\.part) {
                    let path = path(.milestone(step, part: part))
                    if let bytes = try TaggedFile.read(path: path)[Self.stateTag] { body(part, bytes) }
                }
            },
            keep: { [self] step, part, bytes, isWhole in
                try keep(step, part: part, bytes: bytes, isWhole: isWhole)
                last = monotonicNanoseconds()
            })
    }

    /// Where the training of this build keeps its state.
    func trainingCheckpoints(_ unit: WorkUnit) -> TrainingCheckpoints {
        var checkpoints = TrainingCheckpoints(directory: trainingPath)
        // A tenth of the usual unit makes a tenth of the usual blocks.
        checkpoints.queriesARecord = max(1, Int(1024 * min(1, unit.computingSeconds / WorkUnit().seconds)))
        // Called by the thread that runs the build.
        nonisolated(unsafe) let told = afterUnit
        checkpoints.afterStore = { try told?("checkpoint", 0) }
        return checkpoints
    }

    /// All milestones that count, in the order of their steps and parts.
    private var milestones: [(step: MilestoneStep, part: Int)] {
        filesThatCount.compactMap { file in
            if case .milestone(let step, let part) = file { (step, part) } else { nil }
        }
    }

    /// All files of milestones, as what the journal does not need any more.
    var milestonesDone: [(File, FileDigest?)] {
        milestones.map { (.milestone($0.step, part: $0.part), nil) }
    }

    private func keep(_ step: MilestoneStep, part: Int, bytes: [UInt8], isWhole: Bool) throws {
        let file = File.milestone(step, part: part)
        // Made again from one that came before: the same.
        guard digest(file) == nil else { return }
        let superfluous = milestones.filter { isWhole && $0.step.rawValue <= step.rawValue }
        let path = path(file)
        try Directory.removeTree(path)
        let digest = try TaggedFile.write(path: path, sections: [(Self.stateTag, bytes)])
        try finish(
            .cluster, position: position(.cluster) + 1,
            files: [(file, digest)] + superfluous.map { (.milestone($0.step, part: $0.part), nil) })
    }
}
