// How fast the kernels are: nanoseconds a pair from cache, the rate from DRAM beside a plain read of the same
// buffer, distances per second of blocks (MxN) against rows (1xN) and beside OpenBLAS, and scans of codes.
//
//     swift run -c release --package-path bench kernels [tier ...] [dimension ...]
//
// The machine may be busy: times are CPU time of this thread, ratios pair measurements that stand next to
// each other, and every figure is a median.

import CKernels
import Glibc

private let bufferByteCount = 256 << 20
private let cachedByteCount = 64 << 10
private let blockQueries = 256
private let blockRows = 1000

private struct Kernel {
    let tier: sonde_tier
    let metric: (name: String, value: sonde_metric)
    let element: (name: String, value: sonde_element, byteCount: Int)
    let dimension: Int

    func measure(_ buffer: UnsafeMutableRawPointer, _ out: UnsafeMutablePointer<Float>) {
        sonde_tier_set(tier)
        fill(buffer)
        let rows = sonde_rows(metric.value, element.value)!
        let block = sonde_block(metric.value, element.value)!
        let stride = dimension * element.byteCount
        let query = buffer + bufferByteCount / 2

        let cachedRows = cachedByteCount / stride
        let repeats = tier == SONDE_SCALAR ? 10 : 100
        var one: [Double] = []
        var many: [Double] = []
        var gains: [Double] = []
        for _ in 0..<9 {
            let single = seconds {
                for _ in 0..<repeats { rows(query, buffer, stride, cachedRows, dimension, out) }
            }
            let queries = tier == SONDE_SCALAR ? 16 : blockQueries
            let multiple = seconds {
                block(query, stride, queries, buffer, stride, blockRows, dimension, out, blockRows)
            }
            one.append(single / Double(repeats * cachedRows) * 1e9)
            many.append(multiple / Double(queries * blockRows) * 1e9)
            gains.append(one.last! / many.last!)
        }

        let scanned = bufferByteCount / stride
        var rates: [Double] = []
        var shares: [Double] = []
        for _ in 0..<5 {
            let before = plainRead(buffer, bufferByteCount)
            let scan = seconds { rows(query, buffer, stride, scanned, dimension, out) }
            let after = plainRead(buffer, bufferByteCount)
            rates.append(Double(scanned * stride) / scan * 1e-9)
            shares.append((before + after) / 2 / scan)
        }
        let columns = [
            padded(text(median(one)), 8), padded(text(median(rates), 1), 9), padded(text(median(shares)), 7),
            padded(text(median(many)), 8), padded(text(1e3 / median(many), 0), 9),
            padded(text(median(gains), 1), 7),
            padded(metric.value == SONDE_L2 ? text(abandonGain(buffer, out, rows, query: query)) : "-", 8),
        ]
        let name = "\(String(cString: sonde_tier_name(tier))) \(metric.name) \(element.name) \(dimension)"
        print(name + String(repeating: " ", count: max(1, 24 - name.count)) + columns.joined(separator: " "))
    }

    /// Time of whole rows over time of abandoning after half of each, rows and query in the cache.
    private func abandonGain(
        _ buffer: UnsafeMutableRawPointer, _ out: UnsafeMutablePointer<Float>, _ rows: sonde_rows_function,
        query: UnsafeMutableRawPointer
    ) -> Double {
        let stride = dimension * element.byteCount
        let count = cachedByteCount / stride
        let positions = UnsafeMutablePointer<UInt32>.allocate(capacity: count)
        defer { positions.deallocate() }
        rows(query, buffer, stride, count, dimension / 2, out)
        let limit = (0..<count).map { out[$0] }.sorted()[count / 20]
        let repeats = tier == SONDE_SCALAR ? 10 : 100
        var gains: [Double] = []
        var far = Float(0)
        for _ in 0..<9 {
            let whole = seconds {
                for _ in 0..<repeats { rows(query, buffer, stride, count, dimension, out) }
            }
            let abandoned = seconds {
                for _ in 0..<repeats {
                    rows(query, buffer, stride, count, dimension / 2, out)
                    for position in 0..<sonde_select_at_most(out, count, limit, positions) {
                        var distance = Float(0)
                        rows(
                            query, buffer + Int(positions[position]) * stride, stride, 1, dimension, &distance
                        )
                        far = max(far, distance)
                    }
                }
            }
            gains.append(whole / abandoned)
        }
        // Used, so that the loop stays.
        return far < 0 ? 0 : median(gains)
    }

    /// Numbers of a fair size: denormal or infinite ones have timings of their own.
    private func fill(_ buffer: UnsafeMutableRawPointer) {
        var state: UInt64 = 1
        for at in Swift.stride(from: 0, to: bufferByteCount, by: 8) {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let bits = state >> 16
            switch element.value {
            case SONDE_F32:
                let pair = SIMD2(Float(bits & 1023), Float(bits >> 16 & 1023)) / 512 - 1
                buffer.storeBytes(of: pair, toByteOffset: at, as: SIMD2<Float>.self)
            case SONDE_F16:
                let four = (bits | bits << 17) & 0x83ff_83ff_83ff_83ff | 0x3800_3800_3800_3800
                buffer.storeBytes(of: four, toByteOffset: at, as: UInt64.self)
            default:
                buffer.storeBytes(of: state ^ state >> 29, toByteOffset: at, as: UInt64.self)
            }
        }
    }
}

private let arguments = CommandLine.arguments.dropFirst()
private let askedDimensions = arguments.compactMap { Int($0) }.filter { $0 > 0 && $0 <= 4096 }
private let dimensions = askedDimensions.isEmpty ? [128, 384] : askedDimensions
private let tiers: [sonde_tier] = [SONDE_AVX512, SONDE_AVX2, SONDE_SCALAR].filter { tier in
    let name = String(cString: sonde_tier_name(tier))
    let named = arguments.filter { Int($0) == nil }
    return tier.rawValue <= sonde_tier_widest().rawValue && (named.isEmpty || named.contains(name))
}

private let buffer = UnsafeMutableRawPointer.allocate(byteCount: bufferByteCount + 256, alignment: 2 << 20)
private let out = UnsafeMutablePointer<Float>.allocate(
    capacity: max(bufferByteCount / 64, blockQueries * blockRows))
madvise(buffer, bufferByteCount, Int32(MADV_HUGEPAGE))
buffer.initializeMemory(as: UInt8.self, repeating: 1, count: bufferByteCount)
out.initialize(repeating: 0, count: max(bufferByteCount / 64, blockQueries * blockRows))

print("                         1xN ns   GB/s from  of plain   MxN ns  million   MxN over  abandon")
print("kernel                  a pair        DRAM      read   a pair  pairs/s       1xN  over 1xN")
for tier in tiers {
    for metric in [("l2", SONDE_L2), ("ip", SONDE_IP), ("cosine", SONDE_COSINE)] {
        for element in [
            ("f32", SONDE_F32, 4), ("f16", SONDE_F16, 2), ("u8", SONDE_U8, 1), ("i8", SONDE_I8, 1),
        ] {
            for dimension in dimensions {
                Kernel(tier: tier, metric: metric, element: element, dimension: dimension).measure(
                    buffer, out)
            }
        }
    }
}

measureProducts(dimensions: dimensions, queries: blockQueries, rows: blockRows)
for tier in tiers { measureScans(tier: tier, buffer: buffer) }
