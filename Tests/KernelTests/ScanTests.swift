// The scan of codes, in every tier against plain loops; codes end where a page ends that none may read.

import CKernels
import Testing

extension EveryTier {
    @Suite struct ScanTests {
        private static let counts = Array(1...40) + [63, 64, 65, 100, 250, 256, 1000]

        /// Codes of `spaces` bytes by sub-space, with other bytes between the sub-spaces.
        private func codes(_ spaces: Int, count: Int, _ random: inout TestRandom) -> Rows {
            let codes = Rows(SONDE_U8, count: spaces, dimension: count, gap: count % 3)
            for space in 0..<spaces {
                for index in 0..<count {
                    codes.start.storeBytes(
                        of: UInt8.random(in: 0...255, using: &random),
                        toByteOffset: space * codes.stride + index, as: UInt8.self)
                }
            }
            return codes
        }

        @Test(arguments: [1, 2, 16, 32, 256]) func sumsAreThoseOfAPlainLoop(spaces: Int) {
            var random = TestRandom(state: UInt64(spaces))
            let ordinary = (0..<spaces * 256).map { _ in UInt8.random(in: 0...255, using: &random) }
            for count in Self.counts {
                let codes = codes(spaces, count: count, &random)
                for tables in [ordinary, [UInt8](repeating: 255, count: spaces * 256)] {
                    let wanted = (0..<count).map { index in
                        (0..<spaces).reduce(UInt16(0)) { sum, space in
                            let code = codes.start.load(
                                fromByteOffset: space * codes.stride + index, as: UInt8.self)
                            return sum + UInt16(tables[space * 256 + Int(code)])
                        }
                    }
                    inEveryTier { tier in
                        var sums = [UInt16](repeating: 7, count: count + 1)
                        sonde_code_sums(codes.start, codes.stride, count, spaces, tables, &sums)
                        #expect(Array(sums.prefix(count)) == wanted, "\(tier) \(count)")
                        #expect(sums[count] == 7, "written past the end")
                    }
                }
            }
        }

        @Test(arguments: [1, 2, 16, 32, 128]) func sumsOfFourBitsAreThoseOfAPlainLoop(bytes: Int) {
            var random = TestRandom(state: UInt64(bytes))
            let ordinary = (0..<bytes * 32).map { _ in UInt8.random(in: 0...255, using: &random) }
            for count in Self.counts {
                let codes = codes(bytes, count: count, &random)
                for tables in [ordinary, [UInt8](repeating: 255, count: bytes * 32)] {
                    let wanted = (0..<count).map { index in
                        (0..<bytes).reduce(UInt16(0)) { sum, byte in
                            let code = Int(
                                codes.start.load(fromByteOffset: byte * codes.stride + index, as: UInt8.self))
                            return sum + UInt16(tables[byte * 32 + code % 16])
                                + UInt16(tables[byte * 32 + 16 + code / 16])
                        }
                    }
                    inEveryTier { tier in
                        var sums = [UInt16](repeating: 7, count: count + 1)
                        sonde_code4_sums(codes.start, codes.stride, count, bytes, tables, &sums)
                        #expect(Array(sums.prefix(count)) == wanted, "\(tier) \(count)")
                        #expect(sums[count] == 7, "written past the end")
                    }
                }
            }
        }

        @Test(arguments: [1, 2, 7, 16, 33]) func codesLookedAtTwiceHaveTheSumsOfWholeBytes(spaces: Int) {
            var random = TestRandom(state: UInt64(spaces))
            let tables = (0..<spaces * 256).map { _ in UInt8.random(in: 0...255, using: &random) }
            let pairs = (spaces + 1) / 2
            var means = [UInt8](repeating: 9, count: pairs * 32)
            var spread: Float = 0
            sonde_code_groups(tables, spaces, &means, &spread)
            var variance = 0.0
            for group in 0..<pairs * 32 {
                let entries = tables.dropFirst(group * 16).prefix(16).map(Double.init)
                let mean = entries.reduce(0, +) / 16
                #expect(entries.isEmpty ? means[group] == 0 : abs(Double(means[group]) - mean) <= 0.5)
                variance += entries.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 256
            }
            #expect(abs(Double(spread) - variance.squareRoot()) < 1e-3 * variance.squareRoot())

            for count in [1, 5, 40, 250] {
                let codes = (0..<count * spaces).map { _ in UInt8.random(in: 0...255, using: &random) }
                var upper = [UInt8](repeating: 0, count: pairs * count)
                var lower = upper
                for index in 0..<count {
                    for space in 0..<spaces {
                        let (byte, shift) = (codes[index * spaces + space], UInt8(space % 2 * 4))
                        upper[space / 2 * count + index] |= (byte >> 4) << shift
                        lower[index * pairs + space / 2] |= (byte & 15) << shift
                    }
                }
                var numbers = (0..<count).map { _ in Float.random(in: -30...30, using: &random) }
                var corrections = [UInt16](repeating: 0, count: count)
                sonde_from_f32(SONDE_F16, numbers, count, &corrections)
                sonde_to_f32(SONDE_F16, corrections, count, &numbers)
                let all = (0..<count).map { index in
                    let sum = (0..<spaces).reduce(0) {
                        $0 + Int(tables[$1 * 256 + Int(codes[index * spaces + $1])])
                    }
                    let product = Float(0.037) * Float(sum)
                    return product + (numbers[index] + 1.5)
                }
                let places = (0..<count).filter { $0 % 3 != 1 }.map { UInt32($0) }
                for limit in [-Float.infinity, all.sorted()[count / 2], .infinity] {
                    let wanted = places.filter { all[Int($0)] <= limit }
                    // In place, as a search has it.
                    var positions = places + [7]
                    var estimates = [Float](repeating: .nan, count: places.count + 1)
                    let found = positions.withUnsafeMutableBufferPointer { buffer in
                        sonde_code_refine(
                            upper, lower, corrections, count, spaces, tables, 0.037, 1.5, limit,
                            buffer.baseAddress, places.count, buffer.baseAddress, &estimates)
                    }
                    #expect(Array(positions.prefix(found)) == wanted, "\(count) \(limit)")
                    #expect(
                        estimates.prefix(found).map(\.bitPattern) == wanted.map { all[Int($0)].bitPattern })
                    #expect(positions[places.count] == 7 && estimates[places.count].isNaN)
                }
            }
        }

        /// To the bit: what is kept may not hang on the tier.
        @Test func estimatesUnderTheLimitAreKeptInOrder() {
            var random = TestRandom(state: 5)
            for count in Self.counts {
                let sums = (0..<count).map { _ in UInt16.random(in: 0...4080, using: &random) }
                var numbers = (0..<count).map { _ in Float.random(in: -30...30, using: &random) }
                if count > 5 { numbers[5] = .nan }
                var corrections = [UInt16](repeating: 0, count: count)
                sonde_from_f32(SONDE_F16, numbers, count, &corrections)
                sonde_to_f32(SONDE_F16, corrections, count, &numbers)
                let (step, offset) = (Float(0.037), Float(1.3))
                let all = (0..<count).map { index in
                    let product = step * Float(sums[index])
                    return product + (numbers[index] + offset)
                }
                for limit in [-.infinity, 0, 20, all[0], 100, .infinity] {
                    let wanted = (0..<count).filter { all[$0] <= limit }
                    inEveryTier { tier in
                        var positions = [UInt32](repeating: 7, count: count + 1)
                        var estimates = [Float](repeating: .nan, count: count + 1)
                        let found = sonde_code_select(
                            sums, corrections, count, step, offset, limit, 1000, &positions, &estimates)
                        #expect(
                            Array(positions.prefix(found)) == wanted.map { UInt32(1000 + $0) },
                            "\(tier) \(count) \(limit)")
                        #expect(
                            estimates.prefix(found).map(\.bitPattern) == wanted.map { all[$0].bitPattern },
                            "\(tier) \(count) \(limit)")
                        #expect(positions[count] == 7 && estimates[count].isNaN, "written past the end")
                    }
                }
            }
        }
    }
}
