// fio at one block size and depth, told to do just what our ring does.

import Foundation

/// What a run of random reads reached.
struct Rate {
    var readsPerSecond: Double
    var bytesPerSecond: Double
    /// Processor time that a read took, in user and kernel space.
    var processorMicroseconds: Double
}

/// Why a run could not be made.
struct RunFailure: Error, CustomStringConvertible {
    var description: String
}

/// The part of fio's JSON that is looked at; its names are in snake case.
private struct FioReport: Decodable {
    struct Job: Decodable {
        struct Direction: Decodable {
            var iops: Double
            var bwBytes: Double
            var totalIos: Double
            var runtime: Double
        }
        var error: Int
        var read: Direction
        var usrCpu: Double
        var sysCpu: Double
    }
    var jobs: [Job]
}

struct Fio {
    let path: String
    let seconds: Double
    /// Buffers in reserved huge pages (`sysctl vm.nr_hugepages`); else in pages of 4 KiB.
    let hugePages: Bool

    static func version() throws -> String { try launch(["--version"]).trimmingCharacters(in: .newlines) }

    /// One job, one thread. `randrepeat` is off: fio would otherwise read the same offsets in every run, which
    /// the storage behind the device may remember. `gtod_reduce` spares fio a look at the clock for each read,
    /// as ours takes none.
    func run(blockByteCount: Int, depth: Int) throws -> Rate {
        var arguments = [
            "--name=read", "--filename=\(path)", "--rw=randread", "--bs=\(blockByteCount)",
            "--iodepth=\(depth)",
            "--ioengine=io_uring", "--direct=1", "--fixedbufs", "--registerfiles", "--thread", "--numjobs=1",
            "--norandommap", "--randrepeat=0", "--gtod_reduce=1", "--invalidate=0", "--time_based",
            "--runtime=\(Int(seconds * 1000))ms", "--output-format=json",
        ]
        if hugePages { arguments += ["--iomem=mmaphuge", "--hugepage-size=2m"] }
        let text = try Self.launch(arguments)
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        // Notes precede the JSON where fio has something to say.
        guard let start = text.firstIndex(of: "{"),
            let report = try? decoder.decode(FioReport.self, from: Data(text[start...].utf8)),
            let job = report.jobs.first, job.error == 0
        else { throw RunFailure(description: "fio failed: \(text.prefix(500))") }
        let processor = (job.usrCpu + job.sysCpu) / 100 * job.read.runtime * 1e3
        return Rate(
            readsPerSecond: job.read.iops, bytesPerSecond: job.read.bwBytes,
            processorMicroseconds: processor / max(job.read.totalIos, 1))
    }

    private static func launch(_ arguments: [String]) throws -> String {
        let process = Process()
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["fio"] + arguments
        process.standardOutput = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw RunFailure(
                description: "fio ended with \(process.terminationStatus): install it (apt-get install fio)")
        }
        return text
    }
}
