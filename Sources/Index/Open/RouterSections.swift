// router.bin as the Router reads it: sections straight from the open file.

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
}
