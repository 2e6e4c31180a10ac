// The command `sonde`: finds the subcommand, runs it, and turns its end into an exit code and at most one line
// on stderr. Each subcommand has a file of its own.

import ArgumentParser
import Build
import Foundation
import Index
import Learn
import Storage

@main
struct Sonde: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sonde",
        abstract: "Vector search from an SSD, with an exact account of what every answer cost.",
        discussion: """
            An index is a directory; a query reads as few of its pages as it can. Start with \
            `sonde build --base FILE --index DIR`, then `sonde search` and `sonde measure`.
            """,
        version: "0.1.0",
        subcommands: [
            SynthCommand.self, TruthCommand.self, BuildCommand.self, PlanCommand.self,
            ConvertCommand.self, MergeCommand.self, TrainCommand.self, SearchCommand.self,
            BatchCommand.self, MeasureCommand.self, PlotCommand.self, InspectCommand.self, VerifyCommand.self,
        ])

    /// Exit codes are a promise to scripts: 0 done, 1 failed, 2 wrong usage.
    static func main() {
        ProcessMemory.returnFreed()
        StandardOutput.keepDescriptors()
        do {
            let given = OldSpellings.replaced(in: Array(CommandLine.arguments.dropFirst()))
            if let text = Suggestion(commands: configuration.subcommands).complaint(given) {
                fail(text, code: 2)
            }
            try OptionRanges.check(given)
            var command = try parseAsRoot(Suggestion.joiningNegatives(given))
            try IgnoredOptions.check(given, of: command)
            try command.run()
            try StandardOutput.requireWritten()
        } catch let error as IndexError where error.isOfFinishedWork {
            // Done, whatever more cannot be said of it.
            FileHandle.standardError.write(Data("sonde: \(error)\n".utf8))
        } catch {
            finish(error)
        }
    }

    private static func finish(_ error: Error) -> Never {
        // A command that has said everything itself ends with a bare exit code.
        if let code = error as? ExitCode { Foundation.exit(code.rawValue) }
        switch exitCode(for: error) {
        case .success:
            // --help and --version.
            print(fullMessage(for: error))
            do {
                try StandardOutput.requireWritten()
            } catch {
                fail(ErrorText.describe(error), code: 1)
            }
            Foundation.exit(0)
        case .validationFailure:
            fail(message(for: error) + " (see `\(helpCommand)`)", code: 2)
        default:
            fail(ErrorText.describe(error), code: 1)
        }
    }

    private static func fail(_ text: String, code: Int32) -> Never {
        let line = text.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }
            .filter { !$0.isEmpty }.joined(separator: " ")
        FileHandle.standardError.write(Data("sonde: \(line)\n".utf8))
        Foundation.exit(code)
    }

    private static var helpCommand: String {
        let named = CommandLine.arguments.dropFirst().first { !$0.hasPrefix("-") }
        let known = configuration.subcommands.compactMap { $0.configuration.commandName }
        guard let named, known.contains(named) else { return "sonde --help" }
        return "sonde \(named) --help"
    }
}
