// router.bin as the Router reads it: sections straight from the open file.

import Foundation
import Router
import Storage

/// The sections of an index's router.
struct RouterSections: SectionSource {
    let file: TaggedFile.Sections

    func byteCount(ofSection tag: String) -> Int? { file.byteCount(ofSection: tag) }

    func read(section tag: String, at offset: Int, into target: UnsafeMutableRawBufferPointer) throws {
        try file.read(section: tag, at: offset, into: target)
    }

    /// What the sections hold of memory once they are decoded, short of some hundred bytes: known before that.
    var leastResidentByteCount: Int {
        let headers = 256
        return file.tags.filter { $0 != CalibratedPolicies.section }
            .reduce(0) { $0 + max(0, (file.byteCount(ofSection: $1) ?? 0) - headers) }
    }

    /// A small section whole; nil where there is none.
    func bytes(_ tag: String) throws -> [UInt8]? {
        guard let count = byteCount(ofSection: tag) else { return nil }
        var bytes = [UInt8](repeating: 0, count: count)
        try bytes.withUnsafeMutableBytes { try file.read(section: tag, at: 0, into: $0) }
        return bytes
    }

    /// The base rows of heads, where partitions have them.
    func headIds() throws -> [UInt32]? {
        guard let count = byteCount(ofSection: IndexFiles.headIdsTag) else { return nil }
        guard count % 4 == 0 else {
            throw IndexError.inconsistent(
                path: file.path, detail: "head ids take \(count) bytes, not a multiple of 4")
        }
        var ids = [UInt32](repeating: 0, count: count / 4)
        try ids.withUnsafeMutableBytes { try file.read(section: IndexFiles.headIdsTag, at: 0, into: $0) }
        return ids
    }

    /// The learned router over `centroids`, of whichever kind the sections hold; nil where they hold none.
    func learnedRouter(
        of centroids: CentroidIndex, grouped: (groups: CellGroups, parent: any SectionSource)?
    ) throws(RouterError) -> (any PartitionRouter)? {
        if let predictor = try Predictor.decode(self, centroids: centroids) { return predictor }
        if let probing = try LiraModel.decode(self, centroids: centroids) { return probing }
        guard let grouped,
            let probing = try LiraModel.decode(grouped.parent, centroids: grouped.groups.parents)
        else { return nil }
        return CellRouter(groups: grouped.groups, cells: centroids, parent: probing)
    }

    /// Calibrated thresholds, where a router was trained.
    func policies() throws -> CalibratedPolicies? {
        guard let bytes = try bytes(CalibratedPolicies.section) else { return nil }
        do {
            return try JSONDecoder().decode(CalibratedPolicies.self, from: Data(bytes))
        } catch {
            throw IndexError.inconsistent(
                path: file.path, detail: "section policies is not readable: \(error)")
        }
    }
}
