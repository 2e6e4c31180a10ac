// What can go wrong above the files: a request that means nothing, or an index that contradicts itself.
// Errors of files and devices stay StorageError, with path and offset.

/// An error of building, opening or searching an index.
public enum IndexError: Error, Sendable, CustomStringConvertible {
    /// The request cannot be met: what is wrong and what to do.
    case invalid(String)
    /// A segment's page failed its checksum: it is damaged, or the page of another place or index.
    case corruptSegment(path: String, partition: Int, offset: UInt64)
    /// A segment's pages (of format 1) are whole, but not the ones that segments.table describes.
    case straySegment(path: String, partition: Int, offset: UInt64)
    /// The files of an index do not fit each other.
    case inconsistent(path: String, detail: String)
    /// The open index would hold more memory than was promised or allowed.
    case overBudget(path: String, resident: Int, limit: Int)
    /// Two shards give one id, each to a vector of its own.
    case doubledId(UInt64, String, String)

    public var description: String {
        switch self {
        case .invalid(let detail):
            detail
        case .corruptSegment(let path, let partition, let offset):
            "\(path): segment of partition \(partition): the page at offset \(offset) fails its checksum (it is "
                + "damaged, or the page of another place or index); run `sonde verify` for all damaged pages and rebuild the index"
        case .straySegment(let path, let partition, let offset):
            "\(path): segment of partition \(partition): the pages at offset \(offset) are not those that "
                + "segments.table describes; run `sonde verify` for all damaged pages and rebuild the index"
        case .inconsistent(let path, let detail):
            "\(path): \(detail)"
        case .overBudget(let path, let resident, let limit):
            "\(path): holds \(resident) resident bytes, expected at most \(limit); allow as many with --resident, "
                + "or plan a smaller index with `sonde build --resident`"
        case .doubledId(let id, let first, let second):
            "\(first) and \(second) both hold the id \(id); an id names one vector: build one of them again with other "
                + "--ids"
        }
    }
}
