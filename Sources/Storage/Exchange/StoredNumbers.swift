// Numbers as files hold them, which may be another type than they are wanted in.

import CKernels
import Vectors

/// The type of the numbers in a file of vectors: those of vectors, and doubles, which are always converted.
public enum StoredNumbers: UInt8, Sendable {
    case f32 = 0
    case f16 = 1
    case u8 = 2
    case i8 = 3
    case f64 = 4

    public init(_ type: ElementType) {
        self =
            switch type {
            case .f32: .f32
            case .f16: .f16
            case .u8: .u8
            case .i8: .i8
            }
    }

    /// The same type as one of vectors; nil for doubles.
    public var elementType: ElementType? { ElementType(rawValue: rawValue) }

    public var byteCount: Int { elementType?.byteCount ?? 8 }

    public var name: String { elementType?.name ?? "f64" }
}

/// Numbers of one type as those of another.
struct NumberConversion: Sendable {
    let from: StoredNumbers
    let to: ElementType
    /// Whether what the other type does not hold is rounded to the nearest that it holds; else it is refused.
    let rounds: Bool

    /// Converts a row. `line` and `back` have room for its numbers.
    ///
    /// - Returns: the first number that the type does not hold, by position; nil where all are converted. Numbers that
    ///   are not finite stay what they are where the type has such.
    func convert(
        _ row: UnsafeRawPointer, count: Int, into target: UnsafeMutableRawPointer,
        line: UnsafeMutablePointer<Float>, back: UnsafeMutablePointer<Float>
    ) -> (position: Int, value: Double)? {
        if let type = from.elementType {
            VectorMatrix.toFloat(row, type, count: count, into: line)
        } else {
            for place in 0..<count {
                let value = row.loadUnaligned(fromByteOffset: place * 8, as: Double.self)
                line[place] = Float(value)
                let isHeld = rounds ? line[place].isFinite : Double(line[place]) == value
                if !isHeld && value.isFinite { return (place, value) }
            }
        }
        if to == .f32 {
            target.copyMemory(from: line, byteCount: count * 4)
            return nil
        }
        VectorMatrix.fromFloat(line, count: count, to, into: target)
        VectorMatrix.toFloat(target, to, count: count, into: back)
        for place in 0..<count where line[place] != back[place] {
            if line[place].isFinite ? !(rounds && back[place].isFinite) : !to.isFloatingPoint {
                return (place, Double(line[place]))
            }
        }
        return nil
    }
}

/// The rows of a file without some of them.
public struct LeftOut: Sendable {
    /// Row numbers that are left out, rising, each less those before it: how many kept rows lie before it.
    private let keptBefore: [Int]

    public init(_ rows: [Int]) { keptBefore = rows.enumerated().map { $1 - $0 } }

    public var count: Int { keptBefore.count }

    /// The file's row of the kept row `row`, and how many rows from there on are kept without a gap.
    public func place(of row: Int) -> (row: Int, run: Int) {
        var (low, high) = (0, keptBefore.count)
        while low < high {
            let middle = (low + high) / 2
            if keptBefore[middle] <= row { low = middle + 1 } else { high = middle }
        }
        return (row + low, low < keptBefore.count ? keptBefore[low] - row : Int.max)
    }
}
