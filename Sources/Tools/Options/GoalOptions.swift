// What planned copies hold while they save, shared by build and train: a recall and its k.

import ArgumentParser

struct GoalOptions: ParsableArguments {
    @Option(help: "The recall@k that copies are planned for.")
    var planRecall: Double = 0.9

    @Option(help: "The k of that recall.")
    var planK: Int = 1

    func validate() throws {
        guard planRecall > 0 && planRecall < 1 else {
            throw ValidationError("--plan-recall must be between 0 and 1")
        }
        guard (1...100).contains(planK) else { throw ValidationError("--plan-k must be from 1 to 100") }
    }
}
