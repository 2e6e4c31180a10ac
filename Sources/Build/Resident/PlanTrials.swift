// Results of a plan's trials, kept as they come in: a plan that is killed loses one trial at most, and a build that goes
// on after a kill need not plan again.

import Foundation
import Index
import Learn
import Storage
import Vectors

/// A file of trials, found by all that decides them.
public struct PlanTrials: Sendable {
    /// Where it lies.
    public let path: String
    private static let (identityTag, trialsTag) = ("identity", "trials")

    public init(path: String) { self.path = path }

    /// The file beside the index at `path`, as its unfinished directory is.
    public init(besideIndex path: String) {
        let url = URL(fileURLWithPath: path)
        self.init(
            path: url.deletingLastPathComponent().appendingPathComponent(".\(url.lastPathComponent).planning")
                .path)
    }

    /// Removes the file.
    public func discard() { unlink(path) }

    /// What was kept for `identity`; nothing where the file is another plan's.
    func restore(_ identity: String) throws -> [String: SampledCost?] {
        guard FileManager.default.fileExists(atPath: path) else { return [:] }
        let sections = try TaggedFile.read(path: path)
        guard sections[Self.identityTag] == Array(identity.utf8), let bytes = sections[Self.trialsTag],
            let kept = try? JSONDecoder().decode([String: SampledCost?].self, from: Data(bytes))
        else { return [:] }
        return kept
    }

    /// Keeps all trials in place of those before.
    func store(_ trials: [String: SampledCost?], identity: String) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        let fresh = path + ".new"
        unlink(fresh)
        try TaggedFile.write(
            path: fresh,
            sections: [
                (Self.identityTag, Array(identity.utf8)), (Self.trialsTag, Array(try encoder.encode(trials))),
            ])
        guard rename(fresh, path) == 0 else {
            throw StorageError.systemCall("rename", path: path, errno: errno)
        }
    }
}
