// What a long computation has finished, told as it goes, so that another run can begin from there. Router knows no
// files: it says what is worth keeping and takes it back as bytes, and whoever runs it keeps them. What is kept never
// decides what comes out: a computation that begins from any milestone ends as one that begins at the start.

/// The steps that make partitions, in the order in which they are taken. A milestone of a step may make those of all
/// before it superfluous.
public enum MilestoneStep: UInt32, Sendable, CaseIterable {
    /// Lloyd's iteration over a part of the sample of the upper level, and over all of it.
    case upperPart = 0
    case upper
    /// The group of each row.
    case homes
    /// Groups that are divided.
    case groups
    /// Lloyd's iteration over a part of the rows, and over all of them.
    case part
    case all
    /// Rounds of splitting what is too large.
    case split
    /// The tree that heads are chosen from.
    case tree
    /// Partitions that are divided into cells.
    case cells
}

/// Keeps milestones. `Failure` is what keeping may throw; `Never` for computations that nobody keeps.
public struct Milestones<Failure: Error> {
    /// Whether so much was done since the last milestone that another one pays.
    public let isDue: () -> Bool
    /// Calls back with the number and the bytes of each part of a step that is kept, in rising order.
    public let forEach: (MilestoneStep, (_ part: Int, _ bytes: [UInt8]) -> Void) throws(Failure) -> Void
    /// Makes a part of a step last; where it is `whole`, in place of all parts of this step and of those before it.
    public let keep: (MilestoneStep, _ part: Int, _ bytes: [UInt8], _ isWhole: Bool) throws(Failure) -> Void
    /// Whether anything is kept at all.
    public let isKept: Bool

    public init(
        isDue: @escaping () -> Bool,
        forEach: @escaping (MilestoneStep, (Int, [UInt8]) -> Void) throws(Failure) -> Void,
        keep: @escaping (MilestoneStep, Int, [UInt8], Bool) throws(Failure) -> Void
    ) {
        self.isDue = isDue
        self.forEach = forEach
        self.keep = keep
        isKept = true
    }

    private init() {
        isDue = { false }
        forEach = { (_, _) throws(Failure) in }
        keep = { (_, _, _, _) throws(Failure) in }
        isKept = false
    }

    /// The last part of a step that is kept.
    func last(_ step: MilestoneStep) throws(Failure) -> (part: Int, reader: SectionReader)? {
        var found: (Int, [UInt8])?
        try forEach(step) { found = ($0, $1) }
        return found.flatMap { part, bytes in Self.reader(bytes).map { (part, $0) } }
    }

    /// Reads what a milestone holds.
    static func reader(_ bytes: [UInt8]) -> SectionReader? {
        try? SectionReader("state", in: ["state": bytes])
    }

    /// Keeps a part in place of all before, where enough was done since the last.
    func keepWhole(_ step: MilestoneStep, part: Int, _ bytes: () -> [UInt8]) throws(Failure) {
        if isDue() { try keep(step, part, bytes(), true) }
    }
}

extension Milestones where Failure == Never {
    /// Keeps nothing.
    public static var none: Milestones { Milestones() }
}
