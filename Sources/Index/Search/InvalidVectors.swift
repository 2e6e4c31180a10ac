// Vectors that distances mean nothing for: not finite, so long that squares overflow, or without a direction under
// cosine. A build leaves them out on request, and a search answers them empty.

import Storage
import Vectors

public enum InvalidVectors {
    /// Rows of `file` that an index under `metric` refuses, rising. Reads the file once.
    ///
    /// - Throws: `IndexError.invalid` where they are so many that their numbers take more than a quarter of the memory.
    public static func rows(
        of file: VectorFile, metric: Metric, memoryByteCount: Int, progress: JobProgress = .none
    ) throws -> [Int] {
        guard file.elementType.isFloatingPoint || metric == .cosine else { return [] }
        let chunk = VectorMatrix(
            count: max(1, min(file.count, (4 << 20) / file.rowByteCount)), dimension: file.dimension,
            elementType: file.elementType)
        var found: [Int] = []
        var first = 0
        while first < file.count {
            let count = min(chunk.count, file.count - first)
            try file.read(rows: first..<first + count, into: chunk, checkFinite: false)
            found += rows(of: chunk, count: count, metric: metric).map { first + $0 }
            guard found.count <= memoryByteCount / 32 else {
                throw IndexError.invalid(
                    "\(file.path): \(found.count) of the first \(first + count) vectors are not finite or have no "
                        + "direction: more than the memory has room to remember; look at what made the file")
            }
            first += count
            progress(stage: "check vectors", done: first, total: file.count)
        }
        return found
    }

    /// The same of rows in memory.
    static func rows(of matrix: VectorMatrix, count: Int, metric: Metric) -> [Int] {
        guard (try? refuse(matrix, count, metric)) == nil else { return [] }
        return (0..<count).filter { (try? refuse(matrix.gather($0..<$0 + 1), 1, metric)) == nil }
    }

    private static func refuse(_ matrix: VectorMatrix, _ count: Int, _ metric: Metric) throws(IndexError) {
        try refuseLengths(matrix, count: count, metric: metric) { "\($0)" }
    }

    /// Makes a row one that every metric takes, so that what works on it needs no exception.
    static func replace(_ row: Int, of matrix: VectorMatrix) {
        var unit = [Float](repeating: 0, count: matrix.dimension)
        unit[0] = 1
        unit.withUnsafeBufferPointer { floats in
            guard let base = floats.baseAddress else { return }
            VectorMatrix.fromFloat(base, count: matrix.dimension, matrix.elementType, into: matrix.row(row))
        }
    }
}
