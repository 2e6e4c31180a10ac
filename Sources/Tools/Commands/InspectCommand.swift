// sonde inspect and sonde verify: what an index is, and whether every byte of it is what was written.

import ArgumentParser
import Build
import Foundation
import Index
import Storage

struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect", abstract: "Tell what an index holds and how it was built.")

    @Argument(help: "Index directory.")
    var index: String

    @Flag(help: "Print JSON.")
    var json = false

    @Flag(help: "Tell what opening it does to the memory of a process.")
    var process = false

    func run() throws {
        let (before, ownBefore) = (ProcessMemory.residentByteCount(), ProcessMemory.ownByteCount())
        let opened = try DiskIndex(path: index)
        ProcessMemory.trim()
        let (after, ownAfter) = (ProcessMemory.residentByteCount(), ProcessMemory.ownByteCount())
        let peak = ProcessMemory.peakByteCount()
        var summary = opened.inspect()
        if process, let before, let after, let peak, let ownBefore, let ownAfter {
            summary.process = .init(
                beforeOpening: before, afterOpening: after, peak: peak, ownBeforeOpening: ownBefore,
                ownAfterOpening: ownAfter)
        }
        print(json ? try Report.json(summary) : summary.text)
    }
}

struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Read every byte of an index and check it.")

    @Argument(help: "Index directory.")
    var index: String

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var quiet: QuietOption

    func run() throws {
        let report = try Verification.run(path: index, progress: quiet.progress)
        print(json ? try Report.json(report) : report.text)
        if !report.damage.isEmpty { throw ExitCode.failure }
    }
}
