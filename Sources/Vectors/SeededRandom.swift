// The one generator of random numbers. Its seed is written into the manifest; everything random in a build
// comes from it, so that a build can be repeated to the byte.

import Glibc

/// xoshiro256** seeded through splitmix64 (Blackman and Vigna 2018). Copies continue on their own.
public struct SeededRandom: Sendable {
    private var a: UInt64
    private var b: UInt64
    private var c: UInt64
    private var d: UInt64

    /// A generator for `seed`; `stream` gives independent ones for the parts of a parallel job.
    public init(seed: UInt64, stream: UInt64 = 0) {
        var state = seed ^ (stream &* 0xD1B5_4A32_D192_ED03)
        a = Self.splitmix(&state)
        b = Self.splitmix(&state)
        c = Self.splitmix(&state)
        d = Self.splitmix(&state)
    }

    private static func splitmix(_ state: inout UInt64) -> UInt64 {
        state = state &+ 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// 64 random bits.
    public mutating func next() -> UInt64 {
        let product = b &* 5
        let result = ((product << 7) | (product >> 57)) &* 9
        let shifted = b << 17
        c ^= a
        d ^= b
        b ^= c
        a ^= d
        c ^= shifted
        d = (d << 45) | (d >> 19)
        return result
    }

    /// A number in [0, 1) with 53 random bits.
    public mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }

    /// A whole number in 0 ..< `bound`, without bias (Lemire 2019).
    public mutating func below(_ bound: Int) -> Int {
        precondition(bound > 0)
        let range = UInt64(bound)
        var product = next().multipliedFullWidth(by: range)
        if product.low < range {
            let threshold = (0 &- range) % range
            while product.low < threshold { product = next().multipliedFullWidth(by: range) }
        }
        return Int(product.high)
    }

    /// A number from the standard normal distribution (Box and Muller; one of the pair is dropped, so that
    /// the state is the four words alone).
    public mutating func gaussian() -> Double {
        let radius = (-2 * log(1 - uniform())).squareRoot()
        return radius * cos(2 * Double.pi * uniform())
    }

    /// Puts the numbers into random order.
    public mutating func shuffle(_ values: inout [UInt32]) {
        for index in stride(from: values.count - 1, to: 0, by: -1) {
            values.swapAt(index, below(index + 1))
        }
    }

    /// `count` different numbers of 0 ..< `bound` in rising order (all of them when `count` is at least
    /// `bound`): selection sampling, one pass (Knuth, 3.4.2 S).
    public mutating func sample(_ count: Int, below bound: Int) -> [UInt32] {
        var chosen: [UInt32] = []
        chosen.reserveCapacity(min(count, bound))
        var wanted = min(count, bound)
        for index in 0..<bound where wanted > 0 {
            if Double(bound - index) * uniform() < Double(wanted) {
                chosen.append(UInt32(index))
                wanted -= 1
            }
        }
        return chosen
    }
}
