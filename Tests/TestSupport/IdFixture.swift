// Lists of ids as users have them.

import Foundation
import Index
import Storage

extension Fixture {
    /// A file of ids beside the base.
    package func ids(_ name: String = "ids", _ ids: [UInt64]) throws -> VectorIds {
        let path = directory.file(name)
        try Data(ids.flatMap { id in withUnsafeBytes(of: id.littleEndian) { Array($0) } })
            .write(to: URL(fileURLWithPath: path))
        return .file(try IdFile.open(path: path))
    }
}

/// Ids in the order of positions, so that equal distances are answered in the same order; all fit 32 bits.
package func rising(_ count: Int, step: UInt64 = 7, first: UInt64 = 1000) -> [UInt64] {
    (0..<count).map { first + UInt64($0) * step }
}
