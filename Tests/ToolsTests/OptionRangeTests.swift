// Every numeric option has a range, and what is out of it is refused before anything begins.

import Foundation
import Testing

@Suite struct OptionRangeTests {
    /// Names of the options whose values are numbers, from the commands' sources.
    private func declared() throws -> [String] {
        let declaration =
            #/@Option.*?\n\s*var (\w+): (?:Int|Double|Float|UInt64|ByteCount|IntList|NumberList|Sigma|Eta)\b/#
            .dotMatchesNewlines()
        var names: [String] = []
        for file in try LayeringTests.files(endings: ["swift"]) where file.room == "Tools" {
            for part in file.text.components(separatedBy: "@Option").dropFirst() {
                guard let match = ("@Option" + part).firstMatch(of: declaration) else { continue }
                // Only the variable that stands right behind.
                guard match.0.components(separatedBy: "var ").count == 2 else { continue }
                let name = match.1.reduce("") { $0 + ($1.isUppercase ? "-\($1.lowercased())" : "\($1)") }
                names.append(match.0.contains("name: .short") || name == "k" ? "-k" : "--" + name)
            }
        }
        return names
    }

    @Test func everyNumericOptionHasARangeThatIsDocumented() throws {
        let names = Set(try declared())
        #expect(names.count > 40)
        let table = try String(
            contentsOf: LayeringTests.sources.appendingPathComponent("Tools/Options/OptionRanges.swift"),
            encoding: .utf8)
        let docs = try String(
            contentsOf: LayeringTests.sources.deletingLastPathComponent().appendingPathComponent(
                "docs/reference/cli.md"),
            encoding: .utf8)
        for name in names {
            #expect(table.contains("\"\(name)\":"), "\(name)")
            #expect(docs.contains("`\(name)`"), "\(name)")
        }
    }

    @Test(arguments: [
        ["search", "--inflight", "1000000000"], ["build", "--iterations", "9223372036854775807"],
        ["train", "--replication-max", "1e18"], ["build", "--tower", "1000000000"],
        ["build", "--hidden", "1,2,3,4,5,6,7,8,9"], ["train", "--replication-max=nan"],
        ["search", "-k", "-1"], ["search", "--nprobe", "0"], ["batch", "--threads=99999"],
        ["truth", "--memory", "4000000TiB"], ["synth", "--clusters", "0"], ["build", "--heads", "0.9"],
        ["build", "--plan-k", "101"], ["measure", "--values", "1,1e300"], ["train", "--plan-rounds", "101"],
    ])
    func whatIsOutOfRangeIsWrongUsage(arguments: [String]) throws {
        let result = try sonde(arguments)
        #expect(result.code == 2)
        let name = arguments[1].components(separatedBy: "=")[0]
        #expect(result.errorLine?.contains("\(name) must be ") == true, "\(result.err)")
    }
}
