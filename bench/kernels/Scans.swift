// Products of matrices by OpenBLAS, which blocks of distances are held against, and scans of codes beside a plain
// read of the same bytes.

import CBLAS
import CKernels

/// Nanoseconds a pair of a product of queries and rows in single precision, without the lengths that a distance
/// needs besides: what a block of distances by BLAS takes at least.
func measureProducts(dimensions: [Int], queries: Int, rows: Int) {
    if let failure = sonde_blas_load() {
        print("no OpenBLAS: \(String(cString: failure))")
        return
    }
    print("\nOpenBLAS sgemm, f32      ns a pair, MxN")
    for dimension in dimensions {
        let left = (0..<queries * dimension).map { Float($0 % 255) }
        let right = (0..<rows * dimension).map { Float($0 % 253) }
        var out = [Float](repeating: 0, count: queries * rows)
        let times = (0..<9).map { _ in
            seconds {
                sonde_sgemm(
                    false, true, Int32(queries), Int32(rows), Int32(dimension), 1, left, Int32(dimension),
                    right,
                    Int32(dimension), 0, &out, Int32(rows))
            }
        }
        print(padded("\(dimension)", 24) + padded(text(median(times) / Double(queries * rows) * 1e9), 14))
    }
}

/// One query against 16,384 codes in partitions of 256, as a search scans them: the sums of whole bytes and of four
/// bits, and the estimates under a limit.
func measureScans(tier: sonde_tier, buffer: UnsafeMutableRawPointer) {
    sonde_tier_set(tier)
    let (count, perPartition) = (16_384, 256)
    var state: UInt64 = 1
    func random() -> UInt8 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return UInt8(state >> 56)
    }
    for index in 0..<count * 32 { buffer.storeBytes(of: random(), toByteOffset: index, as: UInt8.self) }
    let codes = UnsafePointer(buffer.assumingMemoryBound(to: UInt8.self))
    let tables = (0..<32 * 256).map { _ in random() }
    // 1 in half precision.
    let corrections = [UInt16](repeating: 0x3c00, count: count)
    var sums = [UInt16](repeating: 0, count: count)
    var positions = [UInt32](repeating: 0, count: count)
    var estimates = [Float](repeating: 0, count: count)
    let name = String(cString: sonde_tier_name(tier))
    print("\n\(name): scan of \(count) codes   bytes  us a query  ns a code  of plain read")
    func report(_ label: String, _ byteCount: Int, _ body: () -> Void) {
        let read = median((0..<25).map { _ in plainRead(buffer, count * byteCount) })
        let time = median((0..<25).map { _ in seconds(body) })
        print(
            label + padded("\(byteCount)", 37 - label.count) + padded(text(time * 1e6, 1), 12)
                + padded(text(time / Double(count) * 1e9), 11) + padded(text(read / time, 3), 15))
    }
    for byteCount in [16, 32] {
        report("sums of whole bytes", byteCount) {
            for first in stride(from: 0, to: count, by: perPartition) {
                sums.withUnsafeMutableBufferPointer {
                    sonde_code_sums(
                        codes + first * byteCount, perPartition, perPartition, byteCount, tables,
                        $0.baseAddress! + first)
                }
            }
        }
        report("sums of four bits", byteCount) {
            for first in stride(from: 0, to: count, by: perPartition) {
                sums.withUnsafeMutableBufferPointer {
                    sonde_code4_sums(
                        codes + first * byteCount, perPartition, perPartition, byteCount, tables,
                        $0.baseAddress! + first)
                }
            }
        }
    }
    let limit = Float(sums.sorted()[count / 50])
    report("estimates, the best 2 %", 4) {
        _ = sonde_code_select(sums, corrections, count, 1, -1, limit, 0, &positions, &estimates)
    }
}
