// Conversions between element types and float, and the finder of numbers that are not finite.

import CKernels
import Testing

extension EveryTier {
    @Suite struct ConversionTests {
        private func halves(_ values: [Float]) -> [UInt16] {
            var out = [UInt16](repeating: 0xaaaa, count: values.count)
            sonde_from_f32(SONDE_F16, values, values.count, &out)
            return out
        }

        @Test func everyHalfWidensAndComesBack() {
            inEveryTier { tier in
                let all = (0...UInt16.max).map { $0 }
                var floats = [Float](repeating: 0, count: all.count)
                sonde_to_f32(SONDE_F16, all, all.count, &floats)
                let back = halves(floats)
                for (bits, value) in zip(all, floats) {
                    let wanted = float(ofHalf: bits)
                    if wanted.isNaN {
                        #expect(value.isNaN && back[Int(bits)] & 0x7fff > 0x7c00)
                    } else if value.bitPattern != wanted.bitPattern || back[Int(bits)] != bits {
                        Issue.record("\(tier) half \(bits): \(value), wanted \(wanted)")
                    }
                }
            }
        }

        @Test func halvesRoundToNearestEvenAndSaturate() {
            var values: [Float] = [
                0, -0.0, 65504, 65519, 65520, 1e9, -1e9, .greatestFiniteMagnitude, 0x1p-24, 0x1p-25,
            ]
            values += [
                0x1.8p-25, 0x1.000002p-25, 0x1p-26, -0x1p-25, 0x1p-14, 0x1.ffcp-15, 0x1.ffep-15, 0x1.fffp-15,
                Float(bitPattern: 71362),
            ]
            values += [
                1 + 0x1p-11, 1 + 0x3p-11, 1 + 0x1.8p-11, 2049, 2051, 4098, 4102, -2049, .infinity, -.infinity,
            ]
            // Every midpoint between two neighbouring halves, and its neighbours in single precision.
            for bits in stride(from: UInt16(0), to: 0x7bff, by: 1) {
                let middle = (float(ofHalf: bits) + float(ofHalf: bits + 1)) / 2
                values += [middle, middle.nextUp, -middle.nextDown]
            }
            inEveryTier { tier in
                for (value, found) in zip(values, halves(values)) where found != half(nearest: Double(value))
                {
                    Issue.record("\(tier) \(value): \(found), wanted \(half(nearest: Double(value)))")
                }
                #expect(halves([Float](repeating: .nan, count: 9)).allSatisfy { $0 & 0x7fff > 0x7c00 })
            }
        }

        @Test func bytesRoundToNearestEvenAndSaturate() {
            let values: [Float] =
                [
                    0, -0.4, 0.5, 1.5, 2.5, 254.5, 255.4, 255.5, 256, 1e30, -1e30, .infinity, -.infinity,
                    .nan, -0.5, -1.5,
                ]
                + [-127.5, -128.5, -129, 126.5, 127.5, 128] + (-300...300).map { Float($0) / 2 }
            inEveryTier { tier in
                for count in [values.count, 1, 7, 31, 33] {
                    var unsigned = [UInt8](repeating: 99, count: count + 1)
                    var signed = [Int8](repeating: 99, count: count + 1)
                    sonde_from_f32(SONDE_U8, values, count, &unsigned)
                    sonde_from_f32(SONDE_I8, values, count, &signed)
                    for i in 0..<count {
                        let value = values[i].isNaN ? 0 : values[i].rounded(.toNearestOrEven)
                        #expect(unsigned[i] == UInt8(min(max(value, 0), 255)), "\(tier) \(values[i])")
                        #expect(signed[i] == Int8(min(max(value, -128), 127)), "\(tier) \(values[i])")
                    }
                    #expect(unsigned[count] == 99 && signed[count] == 99)
                    var back = [Float](repeating: .nan, count: count)
                    sonde_to_f32(SONDE_U8, unsigned, count, &back)
                    #expect(back == unsigned.prefix(count).map { Float($0) })
                    sonde_to_f32(SONDE_I8, signed, count, &back)
                    #expect(back == signed.prefix(count).map { Float($0) })
                }
            }
        }

        @Test func floatsPassUnchanged() {
            let values: [Float] = [1, -0.0, .infinity, Float(bitPattern: 2141), .pi]
            var out = [Float](repeating: 0, count: 5)
            sonde_to_f32(SONDE_F32, values, 5, &out)
            #expect(out == values)
            out = [0, 0, 0, 0, 0]
            sonde_from_f32(SONDE_F32, values, 5, &out)
            #expect(out == values)
        }

        @Test func theFirstNumberThatIsNotFiniteIsFound() {
            inEveryTier { tier in
                for count in [0, 1, 15, 16, 17, 255, 256, 257, 300, 1025] {
                    var floats = [Float](repeating: .greatestFiniteMagnitude, count: count)
                    var halves = [UInt16](repeating: 0xfbff, count: count)
                    #expect(sonde_find_not_finite(SONDE_F32, floats, count) == count)
                    #expect(sonde_find_not_finite(SONDE_F16, halves, count) == count)
                    for bad in Set([0, count / 3, count / 2, count - 1]) where bad >= 0 && bad < count {
                        for (value, bits) in [
                            (Float.nan, UInt16(0x7e01)), (.infinity, 0x7c00), (-.infinity, 0xfc00),
                        ] {
                            let (float, half) = (floats[bad], halves[bad])
                            floats[bad] = value
                            halves[bad] = bits
                            floats[count - 1] = bad == count - 1 ? value : .nan
                            #expect(sonde_find_not_finite(SONDE_F32, floats, count) == bad, "\(tier)")
                            #expect(sonde_find_not_finite(SONDE_F16, halves, count) == bad, "\(tier)")
                            floats[bad] = float
                            halves[bad] = half
                            floats[count - 1] = .greatestFiniteMagnitude
                        }
                    }
                }
                let bytes = [UInt8](repeating: 255, count: 70)
                #expect(sonde_find_not_finite(SONDE_U8, bytes, 70) == 70)
                #expect(sonde_find_not_finite(SONDE_I8, bytes, 70) == 70)
            }
        }
    }
}
