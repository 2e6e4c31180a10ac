// What can go wrong in a router: its bytes.

/// Bytes that do not hold a router.
public struct RouterError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The section that is wrong.
    public let section: String
    /// What is wrong with it.
    public let problem: String

    public init(section: String, problem: String) {
        self.section = section
        self.problem = problem
    }

    public var description: String { "router section \(section): \(problem)" }
}
