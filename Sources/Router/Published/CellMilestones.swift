// Partitions that were divided into cells, as milestones keep them.

import Vectors

/// The cells of one partition.
public struct DividedPartition: Sendable {
    /// Of the cells, in file order.
    public var centroids: VectorMatrix
    /// Summed squared distance of the partition's rows to them.
    public var spread: Double

    public init(centroids: VectorMatrix, spread: Double) {
        self.centroids = centroids
        self.spread = spread
    }
}

extension Milestones {
    /// The partitions that were divided before, by number, and the number of the milestone that follows.
    public func dividedPartitions(
        dimension: Int, elementType: ElementType
    ) throws(Failure) -> (found: [Int: DividedPartition], nextPart: Int) {
        var (found, nextPart) = ([Int: DividedPartition](), 0)
        try forEach(.cells) { part, bytes in
            nextPart = max(nextPart, part + 1)
            guard var reader = Self.reader(bytes) else { return }
            while reader.remaining > 0 {
                guard let partition = try? reader.integer(UInt64.self),
                    let spread = try? reader.integer(UInt64.self),
                    let count = try? reader.count(bytesEach: dimension * elementType.byteCount), count > 0,
                    let centroids = try? reader.matrix(
                        count: count, dimension: dimension, elementType: elementType)
                else { return }
                found[Int(clamping: partition)] = DividedPartition(
                    centroids: centroids, spread: Double(bitPattern: spread))
            }
        }
        return (found, nextPart)
    }

    /// Keeps partitions that were divided.
    public func keep(_ partitions: [(number: Int, divided: DividedPartition)], part: Int) throws(Failure) {
        var writer = SectionWriter()
        for (number, divided) in partitions {
            writer.append(UInt64(number))
            writer.append(divided.spread.bitPattern)
            writer.append(UInt64(divided.centroids.count))
            writer.append(divided.centroids)
        }
        try keep(.cells, part, writer.bytes, false)
    }
}
