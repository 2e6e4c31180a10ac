// Rows of one element type in memory: what a chunk of a vector file, a set of centroids and a block of
// queries have in common. Rows lie back to back, so a row's address is a multiplication away.

import Glibc

/// `count` vectors of `dimension` numbers, row-major and without gaps, in 64-byte aligned memory of its own.
///
/// Sendable by convention: whoever fills a matrix does so before sharing it, or gives each thread rows of
/// its own.
public final class VectorMatrix: @unchecked Sendable {
    public let count: Int
    public let dimension: Int
    public let elementType: ElementType
    /// Row 0; `count * rowByteCount` bytes are valid.
    public let bytes: UnsafeMutableRawPointer

    private static let hugePageByteCount = 2 << 20
    /// MADV_HUGEPAGE, which Swift does not see.
    private static let adviseHugePages: Int32 = 14

    /// A matrix of zeros.
    ///
    /// - Parameter inHugePages: ask the kernel for pages of 2 MiB as far as the rows fill them: rows that are looked
    ///   up here and there in many megabytes then seldom wait for the table of pages.
    public init(count: Int, dimension: Int, elementType: ElementType, inHugePages: Bool = false) {
        precondition(count >= 0 && dimension > 0)
        self.count = count
        self.dimension = dimension
        self.elementType = elementType
        let size = count * dimension * elementType.byteCount
        let huge = inHugePages ? size / Self.hugePageByteCount * Self.hugePageByteCount : 0
        bytes = UnsafeMutableRawPointer.allocate(
            byteCount: max(size, 64), alignment: huge > 0 ? Self.hugePageByteCount : 64)
        // Before the first touch; where the kernel does not give them nothing is lost.
        if huge > 0 { _ = madvise(bytes, huge, Self.adviseHugePages) }
        bytes.initializeMemory(as: UInt8.self, repeating: 0, count: max(size, 64))
    }

    deinit { bytes.deallocate() }

    public var rowByteCount: Int { dimension * elementType.byteCount }
    public var byteCount: Int { count * rowByteCount }

    /// The address of row `index`.
    public func row(_ index: Int) -> UnsafeMutableRawPointer { bytes + index * rowByteCount }

    /// All numbers as floats; only for a matrix of `f32`.
    public var floats: UnsafeMutablePointer<Float> {
        precondition(elementType == .f32)
        return bytes.assumingMemoryBound(to: Float.self)
    }

    /// The numbers of row `index` as floats; only for a matrix of `f32`.
    public func floatRow(_ index: Int) -> UnsafeMutablePointer<Float> { floats + index * dimension }
}
