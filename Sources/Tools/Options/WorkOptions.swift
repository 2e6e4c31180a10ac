// How a command may work: threads, memory, whether it talks meanwhile, and what becomes of a job that was killed. Each
// command takes the parts that it heeds.

import ArgumentParser
import Build
import Index
import Learn
import Storage
import Vectors

struct QuietOption: ParsableArguments {
    @Flag(name: .shortAndLong, help: "No progress on stderr.")
    var quiet = false

    /// A receiver of progress for one piece of work: a bar, lines, or nothing under --quiet.
    var progress: JobProgress { progress(stages: []) }

    /// The same for work whose stages are known, in order: each is told as one of so many.
    func progress(stages: [String]) -> JobProgress {
        quiet ? .none : ProgressDisplay(stages: stages).progress
    }
}

struct ThreadOption: ParsableArguments {
    @Option(help: "Threads.")
    var threads: Int = Workers.processorCount

    func validate() throws {
        if !(1...1024).contains(threads) {
            throw ValidationError("--threads must be from 1 to 1024, found \(threads)")
        }
    }
}

struct MemoryOption: ParsableArguments {
    @Option(help: "Working memory at most, e.g. 512MiB or 2GiB.")
    var memory: ByteCount = ByteCount(2 << 30)

    func validate() throws {
        if memory.byteCount < 1 << 20 {
            throw ValidationError("--memory must be at least 1MiB, found \(memory)")
        }
    }
}

/// All three, for commands that can trade memory for time.
struct WorkOptions: ParsableArguments {
    @OptionGroup var threadOption: ThreadOption
    @OptionGroup var memoryOption: MemoryOption
    @OptionGroup var quietOption: QuietOption

    var threads: Int { threadOption.threads }
    var memory: ByteCount { memoryOption.memory }
    var progress: JobProgress { quietOption.progress }
    func progress(stages: [String]) -> JobProgress { quietOption.progress(stages: stages) }
}

/// What becomes of a job that was killed: without either flag a job that an earlier run has begun is refused, never
/// removed and never taken up unasked.
struct ResumeOptions: ParsableArguments {
    @Flag(help: "Go on where a run of this command that was killed, or failed, has left it; else just begin.")
    var resume = false

    @Flag(help: "Begin anew, whatever an unfinished run has left.")
    var restart = false

    func validate() throws {
        if resume && restart { throw ValidationError("give --resume or --restart, not both") }
    }

    var start: AtomicDirectory.Start { resume ? .resume : restart ? .restart : .fresh }
}

/// What a kill may cost.
struct UnitOption: ParsableArguments {
    @Option(
        help: "What a kill may cost: a unit of work ends after so many bytes of vectors, or five seconds.")
    var unit: ByteCount = ByteCount(256 << 20)

    var workUnit: WorkUnit {
        var result = WorkUnit()
        result.byteCount = unit.byteCount
        return result
    }
}
