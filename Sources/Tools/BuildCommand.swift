// sonde build: a vector file becomes an index directory.

import ArgumentParser
import Foundation
import Index
import Storage
import Vectors

struct BuildCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "build", abstract: "Build an index on the SSD from a file of vectors.")

    @Option(help: "Vectors to index: fbin, f16bin, u8bin, i8bin, fvecs, bvecs or npy.")
    var base: String

    @Option(help: "Directory to create.")
    var index: String

    @Option(help: "l2, ip or cosine.")
    var metric: MetricName = .l2

    @Option(help: "Number of partitions (default: about 4 sqrt n).")
    var partitions: Int?

    @Option(help: "Second copies of vectors: none, closure (SPANN) or soar.")
    var duplicate: DuplicateName = .none

    @Option(help: "Share of the base that become resident heads, as SPANN does it (0.10-0.16).")
    var heads: Double?

    @Option(help: "closure: records of one vector at most.")
    var replicas: Int = 8

    @Option(help: "closure: centroids within (1 + eps1) times the nearest's squared distance.")
    var eps1: Float = 10

    @Option(help: "soar: weight of the residual's direction.")
    var lambda: Float = 1

    @Option(help: "Partitions hold at most what fits into this many 4 KiB pages.")
    var pagesMax: Int?

    @Option(help: "Vectors that partitions are learned from (default: all that fit, up to four million or 256 a partition).")
    var sample: Int?

    @Option(help: "Rounds of Lloyd's algorithm.")
    var iterations: Int = 20

    @Option(help: "Seed; the same seed gives the same index on any number of threads.")
    var seed: UInt64 = 1

    @Option(help: "Router: distance, subcentroids, prototypes or network.")
    var router: RouterKind = .distance

    @OptionGroup var routerOptions: RouterOptions

    @OptionGroup var work: WorkOptions

    @Option(help: "Index only the first N vectors.")
    var first: Int?

    func run() throws {
        let file = try VectorFile.open(path: base, first: first)
        var parameters = BuildParameters()
        parameters.metric = metric.value
        parameters.partitions = partitions
        parameters.duplication = duplication
        parameters.headShare = heads
        parameters.pagesMaximum = pagesMax
        parameters.sampleCount = sample
        parameters.iterations = iterations
        parameters.seed = seed
        parameters.threads = work.threads
        parameters.memoryByteCount = work.memory.byteCount
        // Plain centroid distance needs no pairs; with a learn set its beta is calibrated.
        if router != .distance || routerOptions.learn != nil {
            parameters.router = try routerOptions.training(router, seed: seed, work: work)
        }
        let report = try IndexBuilder(base: file, directory: index, parameters: parameters, progress: work.progress)
            .build()
        print(report.summary)
    }

    private var duplication: Duplication {
        switch duplicate {
        case .none: .none
        case .closure: .closure(replicas: replicas, eps1: eps1)
        case .soar: .soar(lambda: lambda)
        }
    }
}

/// Values of `--metric`.
enum MetricName: String, ExpressibleByArgument, CaseIterable {
    case l2, ip, cosine

    var value: Metric {
        switch self {
        case .l2: .l2
        case .ip: .ip
        case .cosine: .cosine
        }
    }
}

/// Values of `--duplicate`.
enum DuplicateName: String, ExpressibleByArgument, CaseIterable {
    case none, closure, soar
}
