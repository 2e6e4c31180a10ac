// Names that options had before: still taken, and nowhere shown. What a word meant in one command is not what it means in
// another, so that each stands with its command.

enum OldSpellings {
    private static let planned = [
        "--recall": "--plan-recall", "-k": "--plan-k", "--plan-depth": "--plan-k",
        "--rounds": "--plan-rounds",
    ]
    private static let all = ["build": planned, "train": planned]

    /// The arguments with the names of today.
    static func replaced(in arguments: [String]) -> [String] {
        guard let command = arguments.first, let names = all[command] else { return arguments }
        var isOver = false
        return arguments.map { argument in
            isOver = isOver || argument == "--"
            let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard !isOver, argument.hasPrefix("-"), let name = parts.first, let new = names[String(name)]
            else {
                return argument
            }
            return ([new] + parts.dropFirst().map(String.init)).joined(separator: "=")
        }
    }
}
