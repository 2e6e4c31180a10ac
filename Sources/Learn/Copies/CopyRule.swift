// Which vectors get a second record: one list of ways for the command line, builds, planners and the manifest.

import Index

/// Which second copies of vectors an index holds, with what decides them.
public enum CopyRule: Sendable, Equatable {
    /// Every vector once.
    case none
    /// SPANN's closure (Chen et al. 2021, section 3.2): a vector goes to its nearest centroids as long as
    /// they are within (1 + eps1) times the distance of the nearest one (squared distances) and no centroid
    /// taken before is nearer to the candidate than the vector is (the RNG rule); at most `replicas` records.
    case closure(replicas: Int, eps1: Float)
    /// SOAR's one spill (Sun et al. 2024): the second centroid is the one that minimises
    /// |x-c|^2 + lambda <x-c, r/|r|>^2, r the residual at home.
    case soar(lambda: Float)
    /// The control: vectors drawn evenly, each into its second nearest partition.
    case random(seed: UInt64)
    /// Only the free slots of each segment's last unit, filled with the vectors of other partitions that
    /// are nearest by ratio of distances (docs/explain/copies.md): no page is added.
    case slots
    /// The paper's: the partition predicted for a missed pair gets a copy of the neighbour.
    case paper
    /// Copies where the expected gain of a vector's whole catchment exceeds what every later read pays.
    case gain
    /// The same with the old record dropped.
    case moves
    /// LIRA's: a second record for the share `eta` of the base that its model would look for in most partitions;
    /// nil: the share that pays.
    case lira(eta: Double?)

    /// The rules by name, as the command line and the manifest spell them.
    public enum Name: String, Sendable, CaseIterable {
        case none, closure, soar, random, slots, paper, gain, moves, lira

        /// Whether copies are planned by what queries want.
        public var needsQueries: Bool {
            switch self {
            case .none, .closure, .soar, .random, .slots: false
            case .paper, .gain, .moves, .lira: true
            }
        }

        /// Whether copies are planned on an index that stands, instead of while vectors are assigned.
        public var isPlanned: Bool {
            switch self {
            case .none, .closure, .soar: false
            case .random, .slots, .paper, .gain, .moves, .lira: true
            }
        }
    }

    public var name: Name {
        switch self {
        case .none: .none
        case .closure: .closure
        case .soar: .soar
        case .random: .random
        case .slots: .slots
        case .paper: .paper
        case .gain: .gain
        case .moves: .moves
        case .lira: .lira
        }
    }
}
