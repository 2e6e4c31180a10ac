// The published systems that can be built and measured by name, each with the settings that it is published with.
// docs/explain/published-methods.md has the same table.

import ArgumentParser
import Build
import Index
import Learn
import Vectors

/// Values of `--method`.
enum MethodName: String, ExpressibleByArgument, CaseIterable {
    case kmeans, spann, soar
    case storageNN = "storage-nn"
    case lira

    /// What a method decides; these are refused beside it. Numbers may be varied.
    static let decided: Set<String> = [
        "--router", "--duplicate", "--resident", "--codes", "--mode", "--labels",
    ]

    var router: RouterKind {
        switch self {
        case .kmeans, .spann, .soar: .distance
        case .storageNN: .network
        case .lira: .lira
        }
    }

    var duplicate: CopyRule.Name {
        switch self {
        case .kmeans: .none
        case .spann: .closure
        case .soar: .soar
        case .storageNN: .paper
        case .lira: .lira
        }
    }

    /// SPANN: 16 % of the base are heads.
    var heads: Double? { self == .spann ? 0.16 : nil }

    /// SPANN: lists of 12 KB for bytes, 48 KB for floats, and, as SPTAG has it, never fewer than 118 vectors.
    func pagesMax(_ type: ElementType, dimension: Int) -> Int? {
        guard self == .spann else { return nil }
        let isBytes = type == .u8 || type == .i8
        let least = 118 * (dimension * type.byteCount + 4)
        return max(isBytes ? 3 : 12, (least + 4095) / 4096)
    }

    /// SOAR: 1.5 for collections of this kind.
    var lambda: Float? { self == .soar ? 1.5 : nil }

    /// LIRA: three vectors in a hundred get a second record.
    var eta: Eta? { self == .lira ? .value(0.03) : nil }

    /// Storage-NN: 150 epochs, copies after each 50; LIRA: 10.
    var epochs: Int? {
        switch self {
        case .kmeans, .spann, .soar: nil
        case .storageNN: 50
        case .lira: 10
        }
    }

    /// Storage-NN: the network alone.
    var mode: NetworkMode? { self == .storageNN ? .plain : nil }

    /// LIRA: partitions that hold one of the hundred nearest.
    var targets: Int? { self == .lira ? 100 : nil }

    /// How it stops.
    var sweep: SweepName {
        switch self {
        case .kmeans, .soar: .nprobe
        case .spann: .eps2
        case .storageNN: .budgetVectors
        case .lira: .sigma
        }
    }

    /// SPANN: 64 lists at most.
    var nprobe: Int? { self == .spann ? 64 : nil }

    /// What is tried where it is measured; nil: the policy's ladder. SPANN is published with eps2 0.6 for recall@1 and 7
    /// for recall@10.
    var values: [Double]? {
        switch self {
        case .kmeans, .soar, .storageNN: nil
        case .spann: [0, 0.1, 0.2, 0.4, 0.6, 1, 2, 4, 7]
        case .lira: stride(from: 10, through: 98, by: 2).map { Double($0) / 100 }
        }
    }
}
