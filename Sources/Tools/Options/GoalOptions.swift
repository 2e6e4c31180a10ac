// What an index is planned for, shared by build and train: the recall and the k that a resident plan and planned copies
// hold while they save.

import ArgumentParser
import Build
import Learn

extension ResidentGoal.Saving: ExpressibleByArgument {}

struct GoalOptions: ParsableArguments {
    @Option(help: "The recall@k that is planned for, with --resident or copies that are planned.")
    var planRecall: Double = 0.9

    @Option(help: "The k of that recall.")
    var planK: Int = 1

    @Option(help: "What a plan for --resident is to fetch least: pages or vectors.")
    var minimise: ResidentGoal.Saving = .pages

    func validate() throws {
        guard planRecall > 0 && planRecall < 1 else {
            throw ValidationError("--plan-recall must be between 0 and 1")
        }
        guard (1...100).contains(planK) else { throw ValidationError("--plan-k must be from 1 to 100") }
    }

    /// What is promised of an index of vectors of so many bytes.
    func goal(_ resident: ResidentSize, baseByteCount: Int) -> ResidentGoal {
        var goal = ResidentGoal(residentByteCount: resident.byteCount(of: baseByteCount))
        goal.recall = planRecall
        goal.k = planK
        goal.saving = minimise
        return goal
    }
}
