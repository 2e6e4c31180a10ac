// Copies of rows: picked, in a range, or of another element type.

import CKernels

extension VectorMatrix {
    /// The rows of these numbers, in this order.
    public func gather(_ numbers: [UInt32], inHugePages: Bool = false) -> VectorMatrix {
        let result = VectorMatrix(
            count: numbers.count, dimension: dimension, elementType: elementType, inHugePages: inHugePages)
        let size = rowByteCount
        for (index, number) in numbers.enumerated() {
            precondition(Int(number) < count)
            result.row(index).copyMemory(from: row(Int(number)), byteCount: size)
        }
        return result
    }

    /// The rows of a range.
    public func gather(_ range: Range<Int>) -> VectorMatrix {
        precondition(range.lowerBound >= 0 && range.upperBound <= count)
        let result = VectorMatrix(count: range.count, dimension: dimension, elementType: elementType)
        result.bytes.copyMemory(from: row(range.lowerBound), byteCount: result.byteCount)
        return result
    }

    /// The same rows in another element type (rounded to nearest, saturating); itself where it has it.
    public func converted(to type: ElementType) -> VectorMatrix {
        if type == elementType { return self }
        let result = VectorMatrix(count: count, dimension: dimension, elementType: type)
        if type == .f32 {
            Self.toFloat(bytes, elementType, count: count * dimension, into: result.floats)
            return result
        }
        let line = UnsafeMutablePointer<Float>.allocate(capacity: dimension)
        defer { line.deallocate() }
        for index in 0..<count {
            Self.toFloat(row(index), elementType, count: dimension, into: line)
            Self.fromFloat(line, count: dimension, type, into: result.row(index))
        }
        return result
    }

    /// `count` numbers of any element type as floats.
    public static func toFloat(
        _ numbers: UnsafeRawPointer, _ type: ElementType, count: Int, into floats: UnsafeMutablePointer<Float>
    ) {
        sonde_to_f32(sonde_element(rawValue: UInt32(type.rawValue)), numbers, count, floats)
    }

    /// `count` floats as numbers of any element type, rounded to nearest even, saturating.
    public static func fromFloat(
        _ floats: UnsafePointer<Float>, count: Int, _ type: ElementType, into numbers: UnsafeMutableRawPointer
    ) {
        sonde_from_f32(sonde_element(rawValue: UInt32(type.rawValue)), floats, count, numbers)
    }
}

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
