// Kernels of prototype mixtures, rows and codes, in every tier against sums in doubles.

import CKernels
import Foundation
import Testing

private func logSum(_ values: [Double]) -> Double {
    let most = values.max() ?? -.infinity
    return most.isFinite ? most + log(values.reduce(0) { $0 + exp($1 - most) }) : -.infinity
}

extension EveryTier {
    @Suite struct CodesTests {
        @Test func aMixtureIsALogOfASum() {
            var random = TestRandom(state: 1)
            for count in Array(0...40) + [255, 1000] {
                let weights = (0..<count).map { _ in Float.random(in: -3...3, using: &random) }
                let betas = (0..<count).map { _ in Float.random(in: 0.1...2, using: &random) }
                let distances = (0..<count).map { _ in Float.random(in: 0...60, using: &random) }
                let values = (0..<count).map {
                    Double(weights[$0]) - Double(betas[$0]) * Double(distances[$0])
                }
                let wanted = logSum(values)
                inEveryTier { tier in
                    var shares = [Float](repeating: .nan, count: count + 1)
                    let found = Double(sonde_mixture(weights, betas, distances, count, &shares))
                    let without = Double(sonde_mixture(weights, betas, distances, count, nil))
                    let floats = values.map { Float($0) }
                    let plain = Double(sonde_log_sum_exp(floats, count))
                    guard count > 0 else {
                        #expect(found == -.infinity && without == -.infinity && plain == -.infinity)
                        return
                    }
                    #expect(found == without && abs(found - wanted) < 1e-4, "\(tier) \(count)")
                    #expect(abs(plain - wanted) < 1e-4, "\(tier) \(count)")
                    for index in 0..<count {
                        #expect(abs(Double(shares[index]) - exp(values[index] - wanted)) < 1e-4)
                    }
                    #expect(shares[count].isNaN, "written past the end")
                }
            }
        }

        @Test func keysAreSortedByTheirUpperHalfAndStayInOrder() {
            var random = TestRandom(state: 2)
            for count in [0, 1, 2, 100, 1000] {
                // Few different upper halves, so that ties are many.
                var keys = (0..<count).map { UInt64.random(in: 0..<50, using: &random) << 58 | UInt64($0) }
                let wanted = keys.sorted {
                    $0 >> 32 == $1 >> 32 ? $0 & 0xffff_ffff < $1 & 0xffff_ffff : $0 < $1
                }
                var spare = keys
                sonde_sort_keys(&keys, &spare, count)
                #expect(keys == wanted)
            }
        }

        /// Spread evenly, in clusters, with one far away, and with ties.
        @Test func theLeastKeysComeFirstAndInOrder() {
            var random = TestRandom(state: 12)
            for count in [0, 1, 2, 24, 25, 60, 300, 1000, 4000] {
                for shape in 0..<4 {
                    let keys = (0..<count).map { index in
                        let upper: UInt32 =
                            switch shape {
                            case 0: .random(in: 0 ... .max, using: &random)
                            case 1:
                                1_000_000 * .random(in: 1...3, using: &random)
                                    + .random(in: 0...50, using: &random)
                            case 2: index == 7 ? .max : .random(in: 5...400, using: &random)
                            default: 9
                            }
                        return UInt64(upper) << 32 | UInt64(index)
                    }
                    let wanted = keys.sorted()
                    for least in [0, 1, 10, 46, 300, 4000] {
                        var (sorted, spare) = (keys, keys)
                        sonde_sort_least(&sorted, &spare, count, least)
                        #expect(sorted.prefix(least) == wanted.prefix(least), "\(count) \(shape) \(least)")
                    }
                }
            }
        }

        @Test func whatPassesALimitIsFoundInOrder() {
            var random = TestRandom(state: 3)
            for count in Array(0...80) + [255, 256, 1000] {
                let values = (0..<count).map { _ in Float(Int.random(in: 0..<40, using: &random)) }
                for limit in [Float(-1), 0, 7, 39, .infinity] {
                    let wanted = (0..<count).filter { values[$0] <= limit }.map { UInt32($0) }
                    inEveryTier { tier in
                        // The scalar form writes each position before it knows whether it stays.
                        var positions = [UInt32](repeating: .max, count: count + 1)
                        let found = sonde_select_at_most(values, count, limit, &positions)
                        #expect(Array(positions.prefix(found)) == wanted, "\(tier) \(count) \(limit)")
                        #expect(positions[count] == .max, "written past the end")
                    }
                }
            }
        }

        /// As many as are wanted lie under the limit, and not many more where values differ.
        @Test func aLimitOfTheLeastLeavesEnough() {
            var random = TestRandom(state: 4)
            for count in [0, 1, 20, 255, 256, 257, 1000, 4096] {
                for wanted in [0, 1, 2, 10, 100, 128, 129] {
                    let values = (0..<count).map { _ in Float.random(in: 0...1, using: &random) }
                    for (name, values) in [
                        ("different", values), ("equal", values.map { _ in 0.5 }),
                        ("some infinite", values.map { $0 < 0.5 ? $0 : .infinity }),
                    ] {
                        var limits: [Float] = []
                        inEveryTier { tier in
                            let limit = sonde_limit_of_least(values, count, wanted)
                            limits.append(limit)
                            let under = values.filter { $0 <= limit }.count
                            #expect(under >= min(wanted, count), "\(tier) \(name) \(count) \(wanted)")
                            if name == "different", count >= 1000, 1...100 ~= wanted {
                                #expect(
                                    limit < .infinity && under <= 2 * wanted + 20, "\(under) for \(wanted)")
                            }
                        }
                        #expect(Set(limits).count == 1, "tiers differ")
                    }
                }
            }
        }

        @Test(arguments: [1, 3, 8, 16, 256])
        func aCodedMixtureIsThatOfTheDecodedVectors(spaces: Int) {
            var random = TestRandom(state: UInt64(spaces))
            let dimension = spaces + (spaces < 256 ? 2 * spaces + 1 : 0)
            let starts = (0...spaces).map { UInt32($0 * dimension / spaces) }
            var words = [UInt16](repeating: 0, count: dimension * 256)
            let numbers = words.indices.map { _ in Float.random(in: -2...2, using: &random) }
            sonde_from_f32(SONDE_F16, numbers, numbers.count, &words)
            var rounded = numbers
            sonde_to_f32(SONDE_F16, words, words.count, &rounded)
            let query = (0..<dimension).map { _ in Float.random(in: -2...2, using: &random) }
            for count in [1, 7, 16, 63, 64, 65, 200] {
                let codes = (0..<count * spaces).map { _ in UInt8.random(in: 0...255, using: &random) }
                let exactWeights = (0..<count).map { _ in Float.random(in: -3...3, using: &random) }
                var weights = [UInt16](repeating: 0, count: count)
                sonde_from_f32(SONDE_F16, exactWeights, count, &weights)
                var halves = exactWeights
                sonde_to_f32(SONDE_F16, weights, count, &halves)
                let wanted = logSum(
                    (0..<count).map { index in
                        var dot = 0.0
                        for space in 0..<spaces {
                            for component in Int(starts[space])..<Int(starts[space + 1]) {
                                let word = rounded[component * 256 + Int(codes[space * count + index])]
                                dot += Double(query[component]) * Double(word)
                            }
                        }
                        return Double(halves[index]) + 0.5 * dot
                    })
                inEveryTier { tier in
                    var products = [Float](repeating: 0, count: spaces * 256)
                    var tables = [UInt8](repeating: 0, count: spaces * 256)
                    var (step, offset) = (Float(0), Float(0))
                    sonde_code_tables(words, starts, spaces, query, &products, &tables, &step, &offset)
                    var values = [Float](repeating: .nan, count: count + 1)
                    let sum = sonde_code_mixture(codes, weights, count, spaces, tables, 0.5 * step, &values)
                    let found = Double(sum) + 0.5 * Double(offset)
                    // Half a step a sub-space is the worst that a table may do.
                    #expect(
                        abs(found - wanted) < 0.25 * Double(step) * Double(spaces) + 1e-3, "\(tier) \(count)")
                    #expect(values[count].isNaN, "written past the end")
                }
            }
        }

        @Test func aQueryThatIsNoNumberStaysWithinItsTables() {
            inEveryTier { _ in
                let words = [UInt16](repeating: 0x3c00, count: 256)
                var products = [Float](repeating: 0, count: 256)
                var tables = [UInt8](repeating: 0, count: 256)
                var (step, offset) = (Float(0), Float(0))
                for query in [Float.nan, .infinity, 0] {
                    sonde_code_tables(words, [0, 1], 1, [query], &products, &tables, &step, &offset)
                }
                #expect(tables.allSatisfy { $0 == 0 })
            }
        }
    }
}
