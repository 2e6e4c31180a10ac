// What was meant: the nearest known word to one that is not known.

import ArgumentParser
import Foundation

/// Looks at arguments before they are parsed: commands and options that are not there are told with what was probably
/// meant, and negative numbers reach the options that they belong to.
struct Suggestion {
    let commands: [any ParsableCommand.Type]

    /// What to say of the first unknown command or option; nil where all are known.
    func complaint(_ arguments: [String]) -> String? {
        guard let name = arguments.first, !name.hasPrefix("-"), name != "help" else { return nil }
        let names = commands.compactMap { $0.configuration.commandName }
        guard let command = commands.first(where: { $0.configuration.commandName == name }) else {
            return "there is no command '\(name)'" + Self.meant(Self.nearest(to: name, in: names))
                + " (see `sonde --help`)"
        }
        let known = Self.options(of: command)
        for argument in arguments.dropFirst() {
            if argument == "--" { break }
            guard argument.hasPrefix("--") else { continue }
            let option = String(argument.prefix { $0 != "=" })
            if !known.contains(option) {
                return "there is no option '\(option)' of sonde \(name)"
                    + Self.meant(Self.nearest(to: option, in: known.sorted()))
                    + " (see `sonde \(name) --help`)"
            }
        }
        return nil
    }

    /// Joins "-k -1" to "-k=-1": the parser takes a number with a sign for an option.
    static func joiningNegatives(_ arguments: [String]) -> [String] {
        arguments.reduce(into: []) { joined, argument in
            if let last = joined.last, last.hasPrefix("-"), !last.contains("="), Double(last) == nil,
                argument.hasPrefix("-"), Double(argument) != nil
            {
                joined[joined.count - 1] = last + "=" + argument
            } else {
                joined.append(argument)
            }
        }
    }

    private static func options(of command: any ParsableCommand.Type) -> Set<String> {
        let help = command.helpMessage(includeHidden: true, columns: 1000)
        let words = help.split { !($0.isLetter || $0.isNumber || $0 == "-") }
        return Set(words.filter { $0.hasPrefix("--") && $0.count > 2 }.map(String.init)).union([
            "--help", "--version", "--help-hidden", "--experimental-dump-help",
            "--generate-completion-script",
        ])
    }

    private static func meant(_ word: String?) -> String { word.map { "; did you mean '\($0)'?" } ?? "" }

    /// The nearest of `words`, where it is near enough to have been meant.
    static func nearest(to word: String, in words: [String]) -> String? {
        let ranked = words.map { (word: $0, distance: distance(word, $0)) }
        guard let best = ranked.min(by: { $0.distance < $1.distance }) else { return nil }
        return best.distance <= max(1, word.count / 3) ? best.word : nil
    }

    /// Insertions, removals, changes and swaps of neighbours that make one word of the other.
    static func distance(_ first: String, _ second: String) -> Int {
        let (a, b) = (Array(first), Array(second))
        var rows = [Array(0...b.count)]
        for i in a.indices {
            var row = [i + 1]
            for j in b.indices {
                var best = min(rows[i][j] + (a[i] == b[j] ? 0 : 1), rows[i][j + 1] + 1, row[j] + 1)
                if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                    best = min(best, rows[i - 1][j - 1] + 1)
                }
                row.append(best)
            }
            rows.append(row)
        }
        return rows[a.count][b.count]
    }
}
