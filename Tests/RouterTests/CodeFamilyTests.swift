import Glibc
import Router
import Testing
import Vectors

@Suite struct CodeFamilyTests {
    /// Rows of twelve components of unlike spread, turned, so that maps have something to find.
    private let rows: VectorMatrix = {
        var random = SeededRandom(seed: 5)
        let turn = OrthogonalMatrix.nearest(to: (0..<144).map { _ in random.gaussian() }, order: 12)
        let spread = VectorMatrix(count: 3000, dimension: 12, elementType: .f32)
        for row in 0..<spread.count {
            for column in 0..<12 {
                spread.floatRow(row)[column] = Float(20 * random.gaussian() / Double(1 + column))
            }
        }
        return spread.mapped(by: OptimisedCodes.matrix(turn, count: 12, dimension: 12), threads: 1)
    }()

    private func trained(_ family: CodeFamily, threads: Int = 2) -> ProductQuantiser {
        ProductQuantiser.train(family, rows: rows, codeByteCount: 3, seed: 4, threads: threads)
    }

    private func decoded(_ quantiser: ProductQuantiser) -> VectorMatrix {
        let encoder = quantiser.encoder
        let codes = encoder.encode(rows)
        let size = quantiser.codeByteCount
        let decoded = VectorMatrix(count: rows.count, dimension: rows.dimension, elementType: .f32)
        for row in 0..<rows.count {
            encoder.decode(codes[row * size..<(row + 1) * size], into: decoded.floatRow(row))
        }
        return decoded
    }

    private func loss(_ quantiser: ProductQuantiser) -> Double {
        let decoded = decoded(quantiser)
        return (0..<rows.count * rows.dimension).reduce(0.0) {
            $0 + Double((decoded.floats[$1] - rows.floats[$1]) * (decoded.floats[$1] - rows.floats[$1]))
        } / Double(rows.count)
    }

    @Test(arguments: CodeFamily.allCases) func threadsDoNotChangeBytesAndBytesComeBack(_ family: CodeFamily)
        throws
    {
        let quantiser = trained(family)
        let kept = quantiser.encode()
        #expect(kept == trained(family, threads: 1).encode())
        let back = try ProductQuantiser.decode(kept)
        #expect(back.encode() == kept && back.family == quantiser.family)
        #expect(back.encoder.encode(rows) == quantiser.encoder.encode(rows))
        #expect(back.residentByteCount == quantiser.residentByteCount)
        for length in stride(from: 0, to: kept.count, by: 7) {
            #expect(throws: RouterError.self) { try ProductQuantiser.decode(Array(kept.prefix(length))) }
        }
        #expect(throws: RouterError.self) { try ProductQuantiser.decode(kept + [0]) }
    }

    @Test(arguments: CodeFamily.allCases) func damagedBytesAreRefusedOrCode(_ family: CodeFamily) {
        let kept = trained(family).encode()
        var random = SeededRandom(seed: 1)
        for _ in 0..<200 {
            var damaged = kept
            damaged[random.below(min(damaged.count, 64))] ^= UInt8(1 << random.below(8))
            if let survivor = try? ProductQuantiser.decode(damaged), survivor.dimension == rows.dimension {
                _ = survivor.encoder.encode(rows.gather(0..<2))
            }
        }
    }

    @Test(arguments: CodeFamily.allCases) func tablesGiveInnerProductsWithWhatCodesStandFor(
        _ family: CodeFamily
    ) {
        let quantiser = trained(family)
        let decoded = decoded(quantiser)
        let codes = quantiser.encoder.encode(rows.gather(0..<50))
        let size = quantiser.codeByteCount
        var tables = ProductQuantiser.Tables(quantiser)
        for query in 100..<110 {
            tables.fill(quantiser, query: rows.floatRow(query))
            for row in 0..<50 {
                let sum = (0..<size).reduce(0) {
                    $0 + Int(tables.bytes[$1 * 256 + Int(codes[row * size + $1])])
                }
                let told = tables.offset + tables.step * Float(sum)
                let right = (0..<12).reduce(Float(0)) {
                    $0 + rows.floatRow(query)[$1] * decoded.floatRow(row)[$1]
                }
                #expect(abs(told - right) <= tables.step * Float(size) * 0.51 + 0.01)
            }
        }
    }

    @Test func aRotationLosesLessThanNone() {
        let plain = loss(trained(.pq))
        #expect(loss(trained(.opq)) < 0.9 * plain)
        #expect(loss(trained(.narrow)) < plain)
    }

    @Test func weightedCodesLoseLessWhereVectorsDifferMost() {
        // The error counted as the queries' estimates feel it.
        func harm(_ family: CodeFamily) -> Double {
            let decoded = decoded(trained(family))
            var sum = 0.0
            for row in 0..<rows.count {
                let other = rows.floatRow((row * 7 + 1) % rows.count)
                let along = (0..<12).reduce(0.0) {
                    $0 + Double(other[$1] * (rows.floatRow(row)[$1] - decoded.floatRow(row)[$1]))
                }
                sum += along * along
            }
            return sum
        }
        #expect(harm(.weighted) < harm(.opq))
    }

    @Test func anUnknownKindIsNamed() {
        var bytes = trained(.opq).encode()
        bytes[4] = 99
        let error = #expect(throws: RouterError.self) { try ProductQuantiser.decode(bytes) }
        #expect(error.map { "\($0)" }?.contains("kind 99") == true)
    }

    @Test func bitsFillBytesWhateverTheVariances() {
        var random = SeededRandom(seed: 8)
        for dimension in [1, 5, 12, 40, 128] {
            for size in [1, 2, 5, 16] where size <= dimension {
                let variances = (0..<dimension).map { _ in -log(1 - random.uniform()) }.sorted(by: >)
                let bytes = ScalarCodes.dealt(variances, codeByteCount: size)
                #expect(bytes.count == size && bytes.allSatisfy { $0.reduce(0) { $0 + $1.bits } == 8 })
                let used = bytes.flatMap { $0.map(\.component) }
                #expect(Set(used).count == used.count && used.allSatisfy { $0 < dimension })
            }
        }
    }

    @Test func narrowCodesKeepWhatIsWorthBits() {
        let falling = (0..<100).map { exp2(-2 * Double($0)) }
        // Each component is worth a bit less than the one before: eleven take 55 + 11 / 2 bits or less.
        #expect(NarrowCodes.dimensions(falling, bits: 55, atLeast: 1) == 11)
        #expect(NarrowCodes.dimensions(falling, bits: 55, atLeast: 20) == 20)
        #expect(NarrowCodes.dimensions([Double](repeating: 1, count: 7), bits: 8, atLeast: 1) == 7)
        #expect(NarrowCodes.dimensions([4, 0, 0], bits: 8, atLeast: 1) == 1)
    }
}

@Suite struct SymmetricEigenTests {
    private func matrix(_ order: Int, seed: UInt64, rank: Int? = nil) -> [Double] {
        var random = SeededRandom(seed: seed)
        let rows = (0..<(rank ?? 2 * order)).map { _ in (0..<order).map { _ in random.gaussian() } }
        return (0..<order * order).map { place in
            rows.reduce(0) { $0 + $1[place / order] * $1[place % order] }
        }
    }

    @Test(arguments: [1, 2, 3, 17, 64]) func vectorsTimesValuesGiveTheMatrixBack(_ order: Int) {
        let whole = matrix(order, seed: 3)
        let eigen = SymmetricEigen(whole, order: order)
        #expect(zip(eigen.values, eigen.values.dropFirst()).allSatisfy { $0 >= $1 })
        for i in 0..<order {
            for j in 0..<order {
                let back = (0..<order).reduce(0.0) {
                    $0 + eigen.values[$1] * eigen.vectors[$1 * order + i] * eigen.vectors[$1 * order + j]
                }
                let unit = (0..<order).reduce(0.0) {
                    $0 + eigen.vectors[i * order + $1] * eigen.vectors[j * order + $1]
                }
                #expect(abs(back - whole[i * order + j]) < 1e-9 * eigen.values[0])
                #expect(abs(unit - (i == j ? 1 : 0)) < 1e-12)
            }
        }
    }

    @Test(arguments: [1, 4, 20]) func theNearestRotationUndoesATurn(_ order: Int) {
        var random = SeededRandom(seed: 6)
        let turn = OrthogonalMatrix.nearest(
            to: (0..<order * order).map { _ in random.gaussian() }, order: order)
        // The turn times a positive matrix: its nearest rotation is the turn.
        let scale = matrix(order, seed: 7)
        let product = (0..<order * order).map { place in
            (0..<order).reduce(0.0) {
                $0 + turn[place / order * order + $1] * scale[$1 * order + place % order]
            }
        }
        let found = OrthogonalMatrix.nearest(to: product, order: order)
        #expect(zip(found, turn).allSatisfy { abs($0 - $1) < 1e-6 })
    }

    @Test func aMatrixOfLowRankHasARotationToo() {
        let low = matrix(8, seed: 2, rank: 3)
        let found = OrthogonalMatrix.nearest(to: low, order: 8)
        for i in 0..<8 {
            for j in 0..<8 {
                let unit = (0..<8).reduce(0.0) { $0 + found[i * 8 + $1] * found[j * 8 + $1] }
                #expect(abs(unit - (i == j ? 1 : 0)) < 1e-9)
            }
        }
    }
}
