// The options of a plan for a resident budget, shared by build and train.

import ArgumentParser
import Index
import Storage
import Vectors

extension ResidentGoal.Saving: ExpressibleByArgument {}

struct ResidentOptions: ParsableArguments {
    @Option(
        help:
            "Memory that the open index may hold, e.g. 64MiB: partitions and router are planned for it, and no search exceeds it."
    )
    var resident: ByteCount?

    @Option(help: "--resident: the recall@k at which little is to be fetched.")
    var recall: Double = 0.9

    @Option(name: .short, help: "--resident: the k of that recall.")
    var k: Int = 1

    @Option(help: "--resident: what is to be fetched least: pages or vectors.")
    var minimise: ResidentGoal.Saving = .pages

    func validate() throws {
        guard recall > 0 && recall < 1 else { throw ValidationError("--recall must be between 0 and 1") }
        guard (1...100).contains(k) else { throw ValidationError("-k must be from 1 to 100") }
    }

    /// What is promised; nil without a budget.
    var goal: ResidentGoal? {
        resident.map {
            var goal = ResidentGoal(residentByteCount: $0.byteCount)
            goal.recall = recall
            goal.k = k
            goal.saving = minimise
            return goal
        }
    }
}

extension ResidentGoal {
    /// All of it by name, for the identity of a job.
    var identity: [(name: String, value: String)] {
        [("resident", "\(residentByteCount) bytes, recall@\(k) \(recall), fewest \(saving.rawValue)")]
    }
}

/// The limit on what an open index holds, shared by search and batch.
struct ResidentLimit: ParsableArguments {
    @Option(
        help:
            "Refuse to hold more than so many resident bytes, e.g. 64MiB (default: what the build promised, if it did)."
    )
    var resident: ByteCount?

    /// Opens an index within the limit.
    func open(_ path: String) throws -> DiskIndex {
        try DiskIndex(path: path, residentMaximum: resident?.byteCount)
    }
}
