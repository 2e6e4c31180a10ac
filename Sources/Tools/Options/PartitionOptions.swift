// Which vectors are taken and how they are partitioned, shared by build and plan.

import ArgumentParser
import Vectors

/// Which rows of the base file.
struct RowOptions: ParsableArguments {
    @Option(help: "Only the first N vectors.")
    var first: Int?

    @Option(help: "Leave out the first N vectors of the file; ids count from the one after them.")
    var skip: Int = 0
}

/// How partitions are found, for those who vary it.
struct PartitionResearchOptions: ParsableArguments {
    @Option(help: "Partitions hold at most what fits into this many 4 KiB pages.")
    var pagesMax: Int?

    @Option(
        help:
            "Vectors that partitions are learned from (default: all that fit, up to four million or 256 a partition)."
    )
    var sample: Int?

    @Option(help: "Rounds of Lloyd's algorithm (default: 20).")
    var iterations: Int?

    @Option(help: "Seed (default: 1); the same seed gives the same bytes on any number of threads.")
    var seed: UInt64?

    @Option(
        help: "Cells of each partition that are read by themselves (a second level of clusters), e.g. 16.")
    var subSegments: Int?
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
