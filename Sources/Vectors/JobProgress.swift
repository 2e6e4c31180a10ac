// How long work tells whoever asked for it how far it is. Index only reports; what becomes of the report
// (a bar, a line, nothing) is the caller's affair.

/// A receiver of progress: a stage's name, how much of it is done, how much there is. May be called from any
/// thread and as often as a stage likes; receivers throttle.
///
/// ```swift
/// progress(stage: "assign", done: row, total: count)
/// ```
public struct JobProgress: Sendable {
    private let receive: @Sendable (_ stage: String, _ done: Int, _ total: Int) -> Void

    public init(_ receive: @escaping @Sendable (_ stage: String, _ done: Int, _ total: Int) -> Void) {
        self.receive = receive
    }

    /// Reports that `done` of `total` are done; a stage ends when both are equal.
    public func callAsFunction(stage: String, done: Int, total: Int) {
        receive(stage, done, total)
    }

    /// Tells nobody.
    public static let none = JobProgress { _, _, _ in }
}
