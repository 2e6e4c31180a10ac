// What the tests of Storage share: bytes that depend only on a seed.

import Foundation
import Storage
import Testing
import Vectors

/// All bytes of a file.
func bytes(of path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: path))) }

/// Bytes from a seed (splitmix64).
func noise(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var state = seed
    return (0..<count).map { _ in
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return UInt8(truncatingIfNeeded: z >> 56)
    }
}

/// Little-endian bytes of values of any width.
func little(_ values: [some FixedWidthInteger]) -> [UInt8] {
    values.flatMap { value in withUnsafeBytes(of: value.littleEndian) { Array($0) } }
}

func little(_ values: [Float]) -> [UInt8] { little(values.map(\.bitPattern)) }

func contents(_ matrix: VectorMatrix) -> [UInt8] {
    Array(UnsafeRawBufferPointer(start: matrix.bytes, count: matrix.byteCount))
}

/// A matrix whose numbers are all finite: bytes from a seed, floats made of them.
func matrix(count: Int, dimension: Int, _ elementType: ElementType, seed: UInt64 = 7) -> VectorMatrix {
    let result = VectorMatrix(count: count, dimension: dimension, elementType: elementType)
    let random = noise(count * dimension, seed: seed)
    for index in 0..<count * dimension {
        switch elementType {
        case .f32: result.floats[index] = Float(random[index]) / 16 - 8
        // 0x3c00 is 1.0; a few bits of fraction keep it finite.
        case .f16: (result.bytes + index * 2).storeBytes(of: 0x3c00 | UInt16(random[index]), as: UInt16.self)
        case .u8, .i8: (result.bytes + index).storeBytes(of: random[index], as: UInt8.self)
        }
    }
    return result
}

/// The kind of the StorageError that `body` throws; a failure of the test where it throws none.
func kind(_ body: () throws -> Void) -> StorageError.Kind? {
    do {
        try body()
        Issue.record("nothing was thrown")
    } catch let error as StorageError {
        return error.kind
    } catch {
        Issue.record("\(error) was thrown")
    }
    return nil
}
