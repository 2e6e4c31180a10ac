// What several commands ask for in the same words, and the values that options are parsed into.

import ArgumentParser
import Build
import Foundation
import Index
import Router
import Storage
import Vectors

/// A size in bytes: a number with K, M, G or T (also KiB, MiB, ...; powers of 1024) or KB, MB, ... (powers of
/// 1000).
struct ByteCount: ExpressibleByArgument, CustomStringConvertible, Equatable {
    var byteCount: Int

    init(_ byteCount: Int) { self.byteCount = byteCount }

    init?(argument: String) {
        let digits = argument.prefix { $0.isNumber || $0 == "." }
        let unit = argument.dropFirst(digits.count).lowercased()
        guard let number = Double(digits), let factor = Self.factor(unit) else { return nil }
        let bytes = (number * factor).rounded()
        guard bytes >= 0, bytes < 0x1p62 else { return nil }
        byteCount = Int(bytes)
    }

    private static func factor(_ unit: String) -> Double? {
        if unit.isEmpty || unit == "b" { return 1 }
        guard let letter = unit.first, let power = "kmgt".firstIndex(of: letter) else { return nil }
        let exponent = Double("kmgt".distance(from: "kmgt".startIndex, to: power) + 1)
        switch unit.dropFirst() {
        case "", "ib": return pow(1024, exponent)
        case "b": return pow(1000, exponent)
        default: return nil
        }
    }

    var description: String {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if byteCount >= 1 << shift && byteCount % (1 << shift) == 0 {
                return "\(byteCount >> shift)\(unit)"
            }
        }
        return "\(byteCount)"
    }

    var defaultValueDescription: String { description }
}

/// Whole numbers of 1 or more, separated by commas: "1,10,100".
struct IntList: ExpressibleByArgument {
    var values: [Int]

    init(_ values: [Int]) { self.values = values }

    init?(argument: String) {
        let parts = argument.split(separator: ",", omittingEmptySubsequences: false)
        values = parts.compactMap { Int($0) }
        guard values.count == parts.count, values.allSatisfy({ $0 >= 1 }) else { return nil }
    }

    var defaultValueDescription: String { values.map(String.init).joined(separator: ",") }
}

/// Finite numbers separated by commas: "0,0.1,0.5".
struct NumberList: ExpressibleByArgument {
    var values: [Double]

    init(_ values: [Double]) { self.values = values }

    init?(argument: String) {
        let parts = argument.split(separator: ",", omittingEmptySubsequences: false)
        values = parts.compactMap { Double($0) }
        guard values.count == parts.count, values.allSatisfy(\.isFinite) else { return nil }
    }

    var defaultValueDescription: String { values.map { "\($0)" }.joined(separator: ",") }
}

/// Values of `--dtype`.
enum ElementName: String, ExpressibleByArgument, CaseIterable {
    case u8, i8, f16, f32

    var value: ElementType {
        switch self {
        case .u8: .u8
        case .i8: .i8
        case .f16: .f16
        case .f32: .f32
        }
    }
}

/// What went wrong in a command itself, for the one line on stderr.
struct CommandFailure: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) { self.description = description }
}

/// Fails at once where results could not be written later or would destroy what is read, before any work is done for
/// them.
///
/// - Parameter shared: directories, perhaps there already, that files are put into.
func requireOutputs(
    files: [String?] = [], directories: [String?] = [], shared: [String?] = [], inputs: [String?]
) throws {
    var outputs = OutputGuard(inputs: inputs)
    try outputs.check(shared: shared)
    try outputs.check(directories: directories)
    try outputs.check(files: files)
}

/// Writes a text file whole or not at all; in place where it is a device or a FIFO.
func writeText(_ text: String, path: String) throws { try TextFile.write(text, path: path) }
