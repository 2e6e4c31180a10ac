// The options of a plan for a resident budget, shared by build and train.

import ArgumentParser
import Index
import Storage
import Vectors

extension ResidentGoal.Saving: ExpressibleByArgument {}

struct ResidentOptions: ParsableArguments {
    @Option(
        help:
            "Memory that the open index may hold, e.g. 64MiB, or 5% of the base's bytes: partitions and router are planned for it, and no search exceeds it (default of build: an eighth, spent by rule)."
    )
    var resident: ResidentSize?

    @Option(help: "--resident: the recall@k at which little is to be fetched.")
    var recall: Double = 0.9

    @Option(name: .short, help: "--resident: the k of that recall.")
    var k: Int = 1

    @Option(help: "--resident: what is to be fetched least: pages or vectors.")
    var minimise: ResidentGoal.Saving = .pages

    func validate() throws {
        guard recall > 0 && recall < 1 else { throw ValidationError("--recall must be between 0 and 1") }
        guard (1...100).contains(k) else { throw ValidationError("-k must be from 1 to 100") }
    }

    /// What is promised of vectors of so many bytes; nil without a budget.
    func goal(baseByteCount: Int) -> ResidentGoal? {
        resident.map {
            var goal = ResidentGoal(residentByteCount: $0.byteCount(of: baseByteCount))
            goal.recall = recall
            goal.k = k
            goal.saving = minimise
            return goal
        }
    }
}

/// A size in bytes, or a share of the vectors' bytes such as "12.5%".
enum ResidentSize: ExpressibleByArgument, Equatable {
    case bytes(ByteCount)
    case share(Double)

    init?(argument: String) {
        if argument.hasSuffix("%") {
            guard let percent = Double(argument.dropLast()), percent > 0, percent <= 100 else { return nil }
            self = .share(percent / 100)
        } else {
            guard let bytes = ByteCount(argument: argument) else { return nil }
            self = .bytes(bytes)
        }
    }

    func byteCount(of base: Int) -> Int {
        switch self {
        case .bytes(let bytes): bytes.byteCount
        case .share(let share): max(1, Int(share * Double(base)))
        }
    }
}

/// Values of `--codes`.
enum CodesName: ExpressibleByArgument, Equatable {
    case none
    case bytes(Int)

    init?(argument: String) {
        if argument == "none" {
            self = .none
        } else {
            guard let bytes = Int(argument), bytes >= 1 else { return nil }
            self = .bytes(bytes)
        }
    }

    var value: ResidentRule.Codes {
        switch self {
        case .none: .none
        case .bytes(let bytes): .bytes(bytes)
        }
    }
}

/// The limit on what an open index holds, shared by search and batch.
struct ResidentLimit: ParsableArguments {
    @Option(
        help:
            "Refuse to hold more than so many resident bytes, e.g. 64MiB (default: what the build promised, if it did)."
    )
    var resident: ByteCount?

    /// Opens an index within the limit.
    func open(_ path: String) throws -> DiskIndex {
        try DiskIndex(path: path, residentMaximum: resident?.byteCount)
    }
}
