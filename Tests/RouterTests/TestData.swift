import Router
import Vectors

/// Rows around planted centres, of any element type.
func plantedRows(
    clusters: Int, perCluster: Int, dimension: Int, elementType: ElementType, seed: UInt64, spread: Double = 2
) -> (rows: VectorMatrix, cluster: [Int]) {
    var random = SeededRandom(seed: seed)
    let centres = (0..<clusters).map { _ in (0..<dimension).map { _ in 20 + 80 * random.uniform() } }
    let floats = VectorMatrix(count: clusters * perCluster, dimension: dimension, elementType: .f32)
    var cluster: [Int] = []
    for row in 0..<floats.count {
        cluster.append(row % clusters)
        for index in 0..<dimension {
            floats.floatRow(row)[index] = Float(centres[row % clusters][index] + spread * random.gaussian())
        }
    }
    return (floats.converted(to: elementType), cluster)
}

func matrix(_ rows: [[Float]]) -> VectorMatrix {
    let result = VectorMatrix(count: rows.count, dimension: rows[0].count, elementType: .f32)
    for (index, row) in rows.enumerated() {
        for (column, value) in row.enumerated() { result.floatRow(index)[column] = value }
    }
    return result
}

func bytes(_ matrix: VectorMatrix) -> [UInt8] {
    Array(UnsafeRawBufferPointer(start: matrix.bytes, count: matrix.byteCount))
}
