// What the kernels are checked against: distances in doubles (integers exactly), written for reading, and
// memory in which a row may begin anywhere.

import CKernels
import Glibc
import Testing

/// The tiers that this processor can run.
let tiers: [sonde_tier] = [SONDE_SCALAR, SONDE_AVX2, SONDE_AVX512].filter {
    $0.rawValue <= sonde_tier_widest().rawValue
}
let metrics: [sonde_metric] = [SONDE_L2, SONDE_IP, SONDE_COSINE]
let elements: [sonde_element] = [SONDE_F32, SONDE_F16, SONDE_U8, SONDE_I8]

func byteCount(_ element: sonde_element) -> Int {
    switch element {
    case SONDE_F32: 4
    case SONDE_F16: 2
    default: 1
    }
}

func isInteger(_ element: sonde_element) -> Bool { element == SONDE_U8 || element == SONDE_I8 }

/// The tier is a global switch, so all tests that turn it take turns, across files.
@Suite(.serialized) struct EveryTier {}

/// Runs `body` once in every tier, and puts back the tier that was.
func inEveryTier(_ body: (sonde_tier) -> Void) {
    let before = sonde_tier_now()
    for tier in tiers {
        #expect(sonde_tier_set(tier) == 0)
        body(tier)
    }
    sonde_tier_set(before)
}

/// A small generator, so that a failure repeats itself.
struct TestRandom: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}

/// Rows at a stride of their own, with bytes between them that would show in any sum (NaN as floats, far from
/// zero as integers). The last row ends where a page ends that none may read beyond, or, `fromPageStart`, the
/// first begins where such a page ends: a kernel that strays off its rows is killed.
final class Rows {
    let element: sonde_element
    let count: Int
    let dimension: Int
    let stride: Int
    let start: UnsafeMutableRawPointer
    private let memory: UnsafeMutableRawPointer
    private let mappedByteCount: Int

    init(_ element: sonde_element, count: Int, dimension: Int, gap: Int = 0, fromPageStart: Bool = false) {
        self.element = element
        self.count = count
        self.dimension = dimension
        let row = dimension * byteCount(element)
        stride = row + gap
        let size = stride * (count - 1) + row
        let page = 4096
        let body = (size + page - 1) / page * page
        mappedByteCount = body + 2 * page
        memory = mmap(nil, mappedByteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
        precondition(memory != MAP_FAILED)
        mprotect(memory, page, PROT_NONE)
        mprotect(memory + page + body, page, PROT_NONE)
        start = memory + page + (fromPageStart ? 0 : body - size)
        start.initializeMemory(as: UInt8.self, repeating: 0xff, count: size)
    }

    deinit { munmap(memory, mappedByteCount) }

    subscript(row: Int, column: Int) -> Double {
        get {
            let at = row * stride + column * byteCount(element)
            return switch element {
            case SONDE_F32: Double(start.loadUnaligned(fromByteOffset: at, as: Float.self))
            case SONDE_F16: Double(float(ofHalf: start.loadUnaligned(fromByteOffset: at, as: UInt16.self)))
            case SONDE_U8: Double(start.loadUnaligned(fromByteOffset: at, as: UInt8.self))
            default: Double(start.loadUnaligned(fromByteOffset: at, as: Int8.self))
            }
        }
        set {
            let at = row * stride + column * byteCount(element)
            switch element {
            case SONDE_F32: start.storeBytes(of: Float(newValue), toByteOffset: at, as: Float.self)
            case SONDE_F16: start.storeBytes(of: half(nearest: newValue), toByteOffset: at, as: UInt16.self)
            case SONDE_U8: start.storeBytes(of: UInt8(newValue), toByteOffset: at, as: UInt8.self)
            default: start.storeBytes(of: Int8(newValue), toByteOffset: at, as: Int8.self)
            }
        }
    }

    func fill(_ random: inout TestRandom) {
        for row in 0..<count {
            for column in 0..<dimension {
                self[row, column] =
                    switch element {
                    case SONDE_U8: Double(random.next() & 255)
                    case SONDE_I8: Double(random.next() & 255) - 128
                    default: Double(random.next() >> 40) / Double(1 << 23) - 1
                    }
            }
        }
    }

    func fill(with value: Double) {
        for row in 0..<count {
            for column in 0..<dimension { self[row, column] = value }
        }
    }

    func values(_ row: Int) -> [Double] { (0..<dimension).map { self[row, $0] } }
}

/// The distance, and how far a float sum in any order may lie from it.
func reference(_ metric: sonde_metric, _ q: [Double], _ x: [Double]) -> (distance: Double, tolerance: Double)
{
    var squares = 0.0
    var dot = 0.0
    var qq = 0.0
    var xx = 0.0
    var size = 0.0
    for i in 0..<q.count {
        squares += (q[i] - x[i]) * (q[i] - x[i])
        dot += q[i] * x[i]
        size += (q[i] * x[i]).magnitude
        qq += q[i] * q[i]
        xx += x[i] * x[i]
    }
    // Lanes shorten the chain of roundings; a sixteenth of the dimension and some steps remain.
    let steps = Double(q.count) / 8 + 8
    let unit = steps * 0x1p-24
    switch metric {
    case SONDE_L2: return (squares, squares * unit + 1e-30)
    case SONDE_IP: return (-dot, size * unit + 1e-30)
    default:
        let length = (qq * xx).squareRoot()
        return length > 0 ? (1 - dot / length, (size / length + 1) * unit) : (2, 0)
    }
}

/// What every tier must give, to the bit, for integers: exact sums, then single precision as documented.
func exactDistance(_ metric: sonde_metric, _ q: [Double], _ x: [Double]) -> Float {
    // Sums of bytes are far below 2^53: doubles hold them exactly.
    let dot = zip(q, x).reduce(0) { $0 + $1.0 * $1.1 }
    switch metric {
    case SONDE_L2: return Float(zip(q, x).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) })
    case SONDE_IP: return Float(0 - dot)
    default:
        let qq = Float(q.reduce(0) { $0 + $1 * $1 })
        let xx = Float(x.reduce(0) { $0 + $1 * $1 })
        let length = qq.squareRoot() * xx.squareRoot()
        return length > 0 ? 1 - Float(dot) / length : 2
    }
}

// Half precision from its definition; Swift's Float16 is not offered on x86 Linux.

func float(ofHalf bits: UInt16) -> Float {
    let sign: Float = bits & 0x8000 != 0 ? -1 : 1
    let exponent = Int(bits >> 10 & 31)
    let fraction = Float(bits & 0x3ff)
    switch exponent {
    case 0: return sign * fraction * 0x1p-24
    case 31: return fraction == 0 ? sign * .infinity : .nan
    default: return sign * (1 + fraction / 1024) * Float(sign: .plus, exponent: exponent - 15, significand: 1)
    }
}

/// Nearest half, ties to even, by search among neighbours in the table of all of them.
func half(nearest value: Double) -> UInt16 {
    let sign: UInt16 = value.sign == .minus ? 0x8000 : 0
    let size = value.magnitude
    if value.isNaN { return 0x7e00 }
    if size == .infinity { return sign | 0x7c00 }
    var low: UInt16 = 0
    var high: UInt16 = 0x7bff
    if size >= Double(float(ofHalf: high)) { return sign | high }
    while high - low > 1 {
        let middle = (low + high) / 2
        if Double(float(ofHalf: middle)) <= size { low = middle } else { high = middle }
    }
    let below = size - Double(float(ofHalf: low))
    let above = Double(float(ofHalf: high)) - size
    if below == above { return sign | (low % 2 == 0 ? low : high) }
    return sign | (below < above ? low : high)
}
