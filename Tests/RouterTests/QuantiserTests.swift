import Router
import Testing
import Vectors

@Suite struct QuantiserTests {
    private let rows = plantedRows(clusters: 40, perCluster: 60, dimension: 10, elementType: .f32, seed: 3)
        .rows

    private func error(_ quantiser: ProductQuantiser, of rows: VectorMatrix) -> Double {
        let encoder = quantiser.encoder
        let codes = encoder.encode(rows)
        var decoded = [Float](repeating: 0, count: rows.dimension)
        var sum = 0.0
        for row in 0..<rows.count {
            encoder.decode(
                codes[row * quantiser.codeByteCount..<(row + 1) * quantiser.codeByteCount], into: &decoded)
            for column in 0..<rows.dimension {
                let off = Double(decoded[column] - rows.floatRow(row)[column])
                sum += off * off
            }
        }
        return sum / Double(rows.count)
    }

    @Test func threadsDoNotChangeCodewords() {
        let one = ProductQuantiser.train(rows, codeByteCount: 3, seed: 7, threads: 1)
        let two = ProductQuantiser.train(rows, codeByteCount: 3, seed: 7, threads: 2)
        #expect(one.encode() == two.encode())
        #expect(one.encode() != ProductQuantiser.train(rows, codeByteCount: 3, seed: 8, threads: 1).encode())
    }

    @Test func moreBytesLoseLess() {
        let errors = [1, 2, 3, 5, 10].map { bytes in
            error(ProductQuantiser.train(rows, codeByteCount: bytes, seed: 1, threads: 2), of: rows)
        }
        for (fewer, more) in zip(errors, errors.dropFirst()) { #expect(more < fewer) }
        // Twenty per cent of the variance within a cluster (spread 2, ten dimensions) is left at a byte a number.
        #expect(errors[4] < 0.2 * 40)
    }

    @Test func fewRowsAreKeptExactly() {
        let few = rows.gather(0..<200)
        // Half precision keeps eleven bits of numbers up to a hundred and some.
        #expect(
            error(ProductQuantiser.train(few, codeByteCount: 5, seed: 1, threads: 1), of: few) < 10 * 0.07
                * 0.07)
    }

    @Test func whatACodeStandsForHasThatCode() {
        let quantiser = ProductQuantiser.train(rows, codeByteCount: 4, seed: 2, threads: 2)
        let encoder = quantiser.encoder
        let codes = encoder.encode(rows)
        let decoded = VectorMatrix(count: rows.count, dimension: rows.dimension, elementType: .f32)
        for row in 0..<rows.count {
            encoder.decode(codes[row * 4..<row * 4 + 4], into: decoded.floatRow(row))
        }
        let again = encoder.encode(decoded)
        let twice = VectorMatrix(count: rows.count, dimension: rows.dimension, elementType: .f32)
        for row in 0..<rows.count { encoder.decode(again[row * 4..<row * 4 + 4], into: twice.floatRow(row)) }
        #expect(bytes(twice) == bytes(decoded))
    }

    @Test func noOtherCodeIsNearer() {
        let quantiser = ProductQuantiser.train(rows, codeByteCount: 2, seed: 2, threads: 2)
        let encoder = quantiser.encoder
        let codes = encoder.encode(rows.gather(0..<50))
        var random = SeededRandom(seed: 9)
        var (decoded, other) = ([Float](repeating: 0, count: 10), [Float](repeating: 0, count: 10))
        for row in 0..<50 {
            encoder.decode(codes[row * 2..<row * 2 + 2], into: &decoded)
            for _ in 0..<200 {
                encoder.decode([UInt8(random.below(256)), UInt8(random.below(256))], into: &other)
                let (mine, its) = (squared(rows.floatRow(row), decoded), squared(rows.floatRow(row), other))
                #expect(mine <= its * 1.0001)
            }
        }
    }

    private func squared(_ a: UnsafePointer<Float>, _ b: [Float]) -> Float {
        b.indices.reduce(0) { $0 + (a[$1] - b[$1]) * (a[$1] - b[$1]) }
    }

    @Test func bytesComeBackAndDamagedOnesAreRefused() throws {
        let quantiser = ProductQuantiser.train(rows, codeByteCount: 3, seed: 7, threads: 2)
        let kept = quantiser.encode()
        let back = try ProductQuantiser.decode(kept)
        #expect(back.encode() == kept && back.encoder.encode(rows) == quantiser.encoder.encode(rows))
        for length in 0..<kept.count {
            #expect(throws: RouterError.self) { try ProductQuantiser.decode(Array(kept.prefix(length))) }
        }
        #expect(throws: RouterError.self) { try ProductQuantiser.decode(kept + [0]) }
        var random = SeededRandom(seed: 1)
        for _ in 0..<500 {
            var damaged = kept
            damaged[random.below(min(damaged.count, 64))] ^= UInt8(1 << random.below(8))
            if let survivor = try? ProductQuantiser.decode(damaged), survivor.dimension == rows.dimension {
                _ = survivor.encoder.encode(rows.gather(0..<2))
            }
        }
    }
}
