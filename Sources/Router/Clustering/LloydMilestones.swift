// Lloyd's iteration as milestones keep it: its means and how it stands. The assignment is not kept: the next iteration
// makes it anew.

import Vectors

extension Lloyd {
    /// What `init(kept:)` reads.
    var state: [UInt8] {
        var writer = SectionWriter()
        writer.append(UInt64(iterations))
        writer.append(UInt64((isConverged ? 1 : 0) | (hadEmpty ? 2 : 0)))
        writer.append(meanDistance.bitPattern)
        writer.append(UInt64(largest))
        writer.append(UInt64(means.count))
        writer.append(means)
        return writer.bytes
    }

    /// The iteration over `rows` that was kept; nil where it is not of rows of this dimension.
    init?(kept reader: SectionReader, rows: VectorMatrix, threads: Int) {
        var reader = reader
        guard let iterations = try? reader.integer(UInt64.self), let ended = try? reader.integer(UInt64.self),
            let distance = try? reader.integer(UInt64.self), let largest = try? reader.integer(UInt64.self),
            let count = try? reader.count(bytesEach: rows.dimension * 4), count > 0,
            let means = try? reader.matrix(count: count, dimension: rows.dimension, elementType: .f32),
            (try? reader.finish()) != nil
        else { return nil }
        self.init(
            rows: rows, means: means, threads: threads, iterations: Int(clamping: iterations),
            meanDistance: Double(bitPattern: distance), largest: Int(clamping: largest),
            isConverged: ended & 1 != 0, hadEmpty: ended & 2 != 0)
    }

    /// The iteration over `rows` that the last milestone of a step kept, and its part.
    init?<Failure: Error>(
        _ milestones: Milestones<Failure>, _ step: MilestoneStep, rows: VectorMatrix, threads: Int
    ) throws(Failure) {
        guard let kept = try milestones.last(step) else { return nil }
        self.init(kept: kept.reader, rows: rows, threads: threads)
    }
}
