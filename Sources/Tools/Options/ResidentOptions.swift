// How much memory an open index may hold.

import ArgumentParser
import Build
import Index
import Storage

/// The budget that an index is planned for, shared by build and train.
struct ResidentOptions: ParsableArguments {
    @Option(
        help:
            "Memory that the open index may hold, e.g. 64MiB, or 5% of the base's bytes: partitions and codes are chosen for it, and no search exceeds it (default of build: an eighth)."
    )
    var resident: ResidentSize?
}

/// A code of every vector, in build.
struct CodesOption: ParsableArguments {
    @Option(
        help: "A code of every vector of so many bytes, or none (default: as many as fit the resident bytes)."
    )
    var codes: CodesName?

    @Option(
        help:
            "Where the codes lie: memory, or the index, where a search reads those of near partitions first (default: memory where they fit the resident bytes)."
    )
    var codesIn: CodesPlace?

    func validatePlace() throws {
        if codes == CodesName.none && codesIn != nil {
            throw ValidationError("--codes none leaves no codes to lie anywhere: leave --codes-in out")
        }
    }

    /// Whether nothing is said of codes.
    var isDefault: Bool { codes == nil && codesIn == nil }
}

/// Values of `--codes-in`.
enum CodesPlace: String, ExpressibleByArgument, CaseIterable {
    case memory, index
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
        let index = try DiskIndex(path: path, residentMaximum: resident?.byteCount)
        ProcessMemory.trim()
        return index
    }
}
