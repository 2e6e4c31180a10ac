// The memory that reads land in: one page-aligned slab for each worker, registered with its ring, handed
// out in runs of pages. Free runs are kept by offset and joined when they meet.

import Glibc

/// A slab of page-aligned memory handed out in pages, first fit. Owned by one thread at a time.
public final class ReadArena: @unchecked Sendable {
    /// Start of the slab, aligned to 2 MiB where the slab is that large, else to a page.
    public let base: UnsafeMutableRawPointer
    public let byteCount: Int
    /// Bytes handed out and not yet released.
    public private(set) var usedByteCount = 0

    private struct Run {
        var page: Int
        var pages: Int
    }
    private static let pageByteCount = PageLayout.pageByteCount
    private static let hugeByteCount = 2 << 20
    /// MADV_HUGEPAGE, which Swift does not see.
    private static let adviseHugePages: Int32 = 14
    private let mapping: UnsafeMutableRawPointer
    private let mappingByteCount: Int
    private var runs: UnsafeMutablePointer<Run>
    private var runCount = 1
    private var runCapacity = 256

    /// Maps at least `byteCount` bytes (rounded up to pages, to huge pages from 2 MiB on).
    public init(byteCount wanted: Int) throws(StorageError) {
        precondition(wanted > 0)
        let grain = wanted >= Self.hugeByteCount ? Self.hugeByteCount : Self.pageByteCount
        let (size, overflow) = wanted.addingReportingOverflow(grain * 2)
        let rounded = (size - grain * 2 + grain - 1) / grain * grain
        mappingByteCount = grain > Self.pageByteCount ? rounded + grain : rounded
        let mapped =
            overflow
            ? MAP_FAILED
            : mmap(
                nil, mappingByteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let mapped, mapped != MAP_FAILED else {
            throw StorageError(
                .systemCall(name: "mmap", errno: overflow ? ENOMEM : errno), path: "read arena",
                detail: "cannot map \(wanted) bytes: \(String(cString: strerror(overflow ? ENOMEM : errno)))")
        }
        mapping = mapped
        let misaligned = Int(bitPattern: mapped) & (grain - 1)
        base = misaligned == 0 ? mapped : mapped + (grain - misaligned)
        byteCount = rounded
        // Huge pages: fewer translations for scans, fewer pieces for the kernel to pin and to hand to the
        // device (64 KiB reads came up to twice as fast). Where refused, only speed is lost.
        if grain == Self.hugeByteCount { _ = madvise(base, rounded, Self.adviseHugePages) }
        runs = .allocate(capacity: runCapacity)
        runs.initialize(to: Run(page: 0, pages: rounded / Self.pageByteCount))
    }

    deinit {
        runs.deallocate()
        munmap(mapping, mappingByteCount)
    }

    /// The offset of a free run of pages that holds `byteCount` bytes, or nil where there is none.
    public func allocate(byteCount: Int) -> Int? {
        let pages = Self.pages(byteCount)
        var index = 0
        while index < runCount && runs[index].pages < pages { index += 1 }
        guard index < runCount else { return nil }
        let page = runs[index].page
        runs[index].page += pages
        runs[index].pages -= pages
        if runs[index].pages == 0 {
            (runs + index).update(from: runs + index + 1, count: runCount - index - 1)
            runCount -= 1
        }
        usedByteCount += pages * Self.pageByteCount
        return page * Self.pageByteCount
    }

    /// Gives back what `allocate` returned for the same `byteCount`.
    public func release(offset: Int, byteCount: Int) {
        let (page, pages) = (offset / Self.pageByteCount, Self.pages(byteCount))
        // The first free run behind the released one.
        var (low, high) = (0, runCount)
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].page < page { low = middle + 1 } else { high = middle }
        }
        let joinsBefore = low > 0 && runs[low - 1].page + runs[low - 1].pages == page
        let joinsAfter = low < runCount && page + pages == runs[low].page
        precondition(
            offset % Self.pageByteCount == 0 && page + pages <= self.byteCount / Self.pageByteCount
                && (low == 0 || runs[low - 1].page + runs[low - 1].pages <= page)
                && (low == runCount || page + pages <= runs[low].page), "released twice or never allocated")
        usedByteCount -= pages * Self.pageByteCount
        switch (joinsBefore, joinsAfter) {
        case (true, true):
            runs[low - 1].pages += pages + runs[low].pages
            (runs + low).update(from: runs + low + 1, count: runCount - low - 1)
            runCount -= 1
        case (true, false):
            runs[low - 1].pages += pages
        case (false, true):
            runs[low].page = page
            runs[low].pages += pages
        case (false, false):
            insert(Run(page: page, pages: pages), at: low)
        }
    }

    /// Gives back everything, for an owner that starts anew after a failed read.
    public func releaseAll() {
        runs[0] = Run(page: 0, pages: byteCount / Self.pageByteCount)
        runCount = 1
        usedByteCount = 0
    }

    private static func pages(_ byteCount: Int) -> Int {
        precondition(byteCount > 0)
        return (byteCount - 1) / pageByteCount + 1
    }

    private func insert(_ run: Run, at index: Int) {
        if runCount == runCapacity {
            let larger = UnsafeMutablePointer<Run>.allocate(capacity: runCapacity * 2)
            larger.moveInitialize(from: runs, count: runCount)
            runs.deallocate()
            runs = larger
            runCapacity *= 2
        }
        (runs + index + 1).update(from: runs + index, count: runCount - index)
        runs[index] = run
        runCount += 1
    }
}
