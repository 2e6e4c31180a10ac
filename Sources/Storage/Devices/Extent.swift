// Where bytes lie in a file, and the arithmetic of pages.

/// A stretch of a file.
public struct Extent: Sendable, Equatable, Hashable {
    public var offset: UInt64
    public var byteCount: Int

    public init(offset: UInt64, byteCount: Int) {
        self.offset = offset
        self.byteCount = byteCount
    }

    public var end: UInt64 { offset + UInt64(byteCount) }

    /// The smallest run of whole pages that covers this extent.
    public var alignedToPages: Extent {
        let page = UInt64(PageLayout.pageByteCount)
        let start = offset / page * page
        let stop = (end + page - 1) / page * page
        return Extent(offset: start, byteCount: Int(stop - start))
    }

    public var isPageAligned: Bool {
        offset % UInt64(PageLayout.pageByteCount) == 0 && byteCount % PageLayout.pageByteCount == 0
    }

    /// One extent that covers both, where `next` starts no more than `gap` bytes after this one ends and
    /// the whole stays within `limit` bytes; otherwise nil. `next` must not start before this one.
    public func joined(with next: Extent, gap: UInt64 = 0, limit: Int = .max) -> Extent? {
        guard next.offset >= offset, next.offset <= end || next.offset - end <= gap else { return nil }
        let stop = max(end, next.end)
        guard stop - offset <= UInt64(limit) else { return nil }
        return Extent(offset: offset, byteCount: Int(stop - offset))
    }
}
