// Progress on stderr: a bar where somebody watches, a line now and then where a log is kept.

import Build
import Foundation
import Index
import Learn
import Synchronization
import Vectors

/// Shows the stages of one piece of work, one after another. Calls may come from any thread; most of them
/// return at once, because a terminal needs no more than ten pictures a second and a log a line in five.
final class ProgressDisplay: Sendable {
    private struct Stage {
        var name = ""
        var start = ContinuousClock.now
        var lastShown = ContinuousClock.now
        /// What an earlier run had done: no part of the rate.
        var first = 0
        var done = 0
        var finished = true
    }

    private let isTerminal: Bool
    private let stage = Mutex(Stage())

    /// Stages that will come, in order, and when the first began.
    private let stages: [String]
    private let began = ContinuousClock.now

    init(stages: [String] = []) {
        self.stages = stages
        isTerminal = isatty(STDERR_FILENO) == 1
    }

    /// The receiver to hand to Index.
    var progress: JobProgress {
        JobProgress { stage, done, total in self.report(stage, done, total) }
    }

    private func report(_ name: String, _ done: Int, _ total: Int) {
        stage.withLock { stage in
            let now = ContinuousClock.now
            if stage.name != name || stage.finished || done < stage.done / 2 {
                // A call that comes late, after its stage has ended, is no new stage.
                if stage.name == name && stage.finished && done > 0 && done <= stage.done { return }
                if isTerminal && !stage.finished { write("\n") }
                stage = Stage(name: name, start: now, lastShown: now, first: done, finished: false)
            }
            stage.done = max(stage.done, done)
            let ended = stage.done >= total
            let pause = isTerminal ? Duration.milliseconds(100) : .seconds(5)
            guard ended || now - stage.lastShown >= pause else { return }
            stage.lastShown = now
            stage.finished = ended
            let seconds = (now - stage.start) / .seconds(1)
            var text = Self.text(
                name, done: stage.done, total: total, first: stage.first, seconds: seconds)
            let number = stages.firstIndex(of: name).map { "stage \($0 + 1) of \(stages.count)" }
            if number != nil && ended { text += " · \(Self.duration((now - began) / .seconds(1))) in all" }
            let label = number.map { "\(name) (\($0))" } ?? name
            if isTerminal {
                let bar = Self.bar(done: stage.done, total: total)
                write(
                    "\r\u{1B}[K\(Self.padded(label, stages.isEmpty ? 12 : 30)) \(bar) \(text)"
                        + (ended ? "\n" : ""))
            } else {
                write("\(label): \(text)\n")
            }
        }
    }

    private func write(_ text: String) {
        FileHandle.standardError.write(Data(text.utf8))
    }

    private static func bar(done: Int, total: Int) -> String {
        let width = 28
        let filled = total > 0 ? min(width, done * width / total) : width
        return String(repeating: "█", count: filled) + String(repeating: "░", count: width - filled)
    }

    /// Stages whose steps differ too much in time for a forecast.
    private static let unequalSteps: Set<String> = ["plan", "measure"]

    /// "42 % · 1.2 M/s · 12 s left", or "42 % · 5 of 12 · 12 s left"; at the end the time taken.
    private static func text(_ name: String, done: Int, total: Int, first: Int, seconds: Double) -> String {
        let share = total > 0 ? Double(done) / Double(total) : 1
        let rate = seconds > 0.05 ? Double(done - first) / seconds : 0
        var parts = ["\(Int(share * 100)) %"]
        // A rate of a few large steps says nothing.
        if total < 1000 {
            parts.append("\(done) of \(total)")
        } else if rate > 0 {
            parts.append(scaled(rate) + "/s")
        }
        if done >= total {
            parts.append(duration(seconds))
        } else if unequalSteps.contains(name) {
            // Later steps of these take several times as long as the first: a forecast would mislead.
            parts.append(duration(seconds) + " so far")
        } else if rate > 0 {
            parts.append(duration(Double(total - done) / rate) + " left")
        }
        return parts.joined(separator: " · ")
    }

    private static func scaled(_ value: Double) -> String {
        if value >= 1e9 { return String(format: "%.1f G", value / 1e9) }
        if value >= 1e6 { return String(format: "%.1f M", value / 1e6) }
        if value >= 1e4 { return String(format: "%.0f k", value / 1e3) }
        return String(format: value >= 10 ? "%.0f" : "%.1f", value)
    }

    static func duration(_ seconds: Double) -> String {
        if seconds < 10 { return String(format: "%.1f s", seconds) }
        if seconds < 90 { return "\(Int(seconds.rounded())) s" }
        if seconds < 5400 { return "\(Int(seconds) / 60) min \(Int(seconds) % 60) s" }
        return "\(Int(seconds) / 3600) h \(Int(seconds) % 3600 / 60) min"
    }

    private static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }
}
