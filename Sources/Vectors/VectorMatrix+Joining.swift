// Matrices one after the other.

extension VectorMatrix {
    /// All rows of `parts` in order, or nil where there are none; parts have one dimension and element type.
    public static func joined(_ parts: [VectorMatrix]) -> VectorMatrix? {
        guard let first = parts.first else { return nil }
        if parts.count == 1 { return first }
        let result = VectorMatrix(
            count: parts.reduce(0) { $0 + $1.count }, dimension: first.dimension,
            elementType: first.elementType)
        var row = 0
        for part in parts {
            precondition(part.dimension == first.dimension && part.elementType == first.elementType)
            result.row(row).copyMemory(from: part.bytes, byteCount: part.byteCount)
            row += part.count
        }
        return result
    }
}
