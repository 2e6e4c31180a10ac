// Every tier that the machine has against the reference, and blocks against rows.

import CKernels
import Testing

/// Every length around the widths of vectors, and those of common embeddings.
private let dimensions = Array(1...130) + [255, 384, 768, 1000]

private func rows(_ metric: sonde_metric, query: Rows, _ index: Int, _ base: Rows) -> [Float] {
    var out = [Float](repeating: .nan, count: base.count + 1)
    sonde_rows(metric, base.element)(
        query.start + index * query.stride, base.start, base.stride, base.count, base.dimension, &out)
    #expect(out[base.count].isNaN, "written past the end")
    return Array(out.dropLast())
}

private func block(_ metric: sonde_metric, queries: Rows, _ base: Rows) -> [[Float]] {
    let outStride = base.count + 3
    var out = [Float](repeating: .nan, count: outStride * queries.count)
    sonde_block(metric, base.element)(
        queries.start, queries.stride, queries.count, base.start, base.stride, base.count, base.dimension,
        &out,
        outStride)
    return (0..<queries.count).map { query in
        let beyond = out[(query * outStride + base.count)..<((query + 1) * outStride)]
        #expect(beyond.allSatisfy { $0.isNaN }, "written past the end of a row of results")
        return Array(out[(query * outStride)..<(query * outStride + base.count)])
    }
}

private func bits(_ values: [Float]) -> [UInt32] { values.map(\.bitPattern) }

extension EveryTier {
    @Suite struct DistanceTests {
        private func check(_ metric: sonde_metric, queries: Rows, base: Rows, _ tier: sonde_tier) {
            let label =
                "\(String(cString: sonde_tier_name(tier))) metric \(metric.rawValue) "
                + "element \(base.element.rawValue) dimension \(base.dimension) "
                + "rows \(base.count) queries \(queries.count)"
            let blocks = block(metric, queries: queries, base)
            let values = (0..<base.count).map(base.values)
            for query in 0..<queries.count {
                let found = rows(metric, query: queries, query, base)
                #expect(bits(blocks[query]) == bits(found), "block against rows: \(label)")
                let asked = queries.values(query)
                for row in 0..<base.count {
                    if isInteger(base.element) {
                        let wanted = exactDistance(metric, asked, values[row])
                        // Near ones are computed again in double precision.
                        let near = reference(metric, asked, values[row]).distance
                        if metric == SONDE_COSINE && near < 0x1p-5 * 1.0001 {
                            #expect((Double(found[row]) - near).magnitude <= 3e-6 * near + 1e-12, "\(label)")
                            continue
                        }
                        if found[row].bitPattern != wanted.bitPattern {
                            Issue.record("\(label) row \(row): \(found[row]), wanted \(wanted)")
                            return
                        }
                    } else {
                        let wanted = reference(metric, asked, values[row])
                        if !((Double(found[row]) - wanted.distance).magnitude <= wanted.tolerance) {
                            Issue.record("\(label) row \(row): \(found[row]), wanted \(wanted)")
                            return
                        }
                    }
                }
            }
        }

        @Test(arguments: elements) func everyDimensionUnalignedAndStrided(element: sonde_element) {
            inEveryTier { tier in
                var random = TestRandom(state: 7)
                for dimension in dimensions {
                    let queries = Rows(
                        element, count: 3, dimension: dimension, gap: dimension % 3)
                    let base = Rows(
                        element, count: dimension > 200 ? 5 : 19, dimension: dimension, gap: dimension % 11,
                        fromPageStart: dimension % 2 == 0)
                    queries.fill(&random)
                    base.fill(&random)
                    for metric in metrics { check(metric, queries: queries, base: base, tier) }
                }
            }
        }

        @Test(arguments: elements) func everyCountOfRowsAndQueries(element: sonde_element) {
            inEveryTier { tier in
                var random = TestRandom(state: 8)
                for (rowCount, queryCount) in zip(Array(1...70), (0..<70).map { 1 + $0 * 11 % 21 }) {
                    let queries = Rows(element, count: queryCount, dimension: 37, gap: 1)
                    let base = Rows(element, count: rowCount, dimension: 37)
                    queries.fill(&random)
                    base.fill(&random)
                    for metric in metrics { check(metric, queries: queries, base: base, tier) }
                }
            }
        }

        @Test(arguments: elements) func manyQueriesCrossTheStripes(element: sonde_element) {
            inEveryTier { tier in
                var random = TestRandom(state: 9)
                for (dimension, queryCount) in [(20, 531), (300, 140), (1100, 45), (3000, 19), (3200, 4)] {
                    let queries = Rows(element, count: queryCount, dimension: dimension)
                    let base = Rows(element, count: 51, dimension: dimension)
                    queries.fill(&random)
                    base.fill(&random)
                    for metric in metrics {
                        let blocks = block(metric, queries: queries, base)
                        for query in 0..<queryCount {
                            let single = rows(metric, query: queries, query, base)
                            #expect(bits(blocks[query]) == bits(single), "\(tier) \(dimension)")
                        }
                    }
                }
            }
        }

        /// The limits of some queries let nothing through, of others everything.
        @Test(arguments: elements) func aBlockWithinLimitsIsWhatTheBlockHasUnderThem(element: sonde_element) {
            var random = TestRandom(state: 9)
            for (count, queryCount, dimension) in [
                (1, 1, 5), (7, 2, 16), (9, 3, 31), (16, 6, 33), (40, 7, 128), (250, 20, 130), (33, 260, 100),
            ] {
                let base = Rows(element, count: count, dimension: dimension)
                let queries = Rows(element, count: queryCount, dimension: dimension, gap: 4)
                base.fill(&random)
                queries.fill(&random)
                inEveryTier { tier in
                    for metric in metrics {
                        let whole = block(metric, queries: queries, base)
                        let limits = whole.enumerated().map { query, distances in
                            query % 5 == 0
                                ? .infinity
                                : query % 5 == 1 ? -.infinity : distances.sorted()[count / (query % 5)]
                        }
                        let outStride = count + 3
                        var out = [Float](repeating: .nan, count: outStride * queryCount)
                        var positions = [UInt32](repeating: 7, count: outStride * queryCount)
                        var found = [UInt32](repeating: 7, count: queryCount)
                        sonde_within()(
                            metric, element, queries.start, queries.stride, queryCount, base.start,
                            base.stride, count, dimension, &out, outStride, limits, &positions, &found)
                        for query in 0..<queryCount {
                            let wanted = (0..<count).filter { whole[query][$0] <= limits[query] }
                            let (first, end) = (query * outStride, query * outStride + Int(found[query]))
                            #expect(
                                positions[first..<end].map { Int($0) } == wanted,
                                "\(tier) \(metric) \(element) \(count) \(queryCount)")
                            #expect(bits(Array(out[first..<end])) == bits(wanted.map { whole[query][$0] }))
                            #expect(
                                out[(first + count)..<(first + outStride)].allSatisfy { $0.isNaN },
                                "written past the end of a row of results")
                        }
                    }
                }
            }
        }

        @Test func extremeBytesAreSummedExactly() {
            inEveryTier { tier in
                for (element, values) in [
                    (SONDE_U8, [0.0, 1, 127, 128, 255]), (SONDE_I8, [-128.0, -127, -1, 0, 127]),
                ] {
                    for dimension in [1, 63, 64, 65, 128, 1000, 4099, 32768, 32769, 140_000] {
                        for q in values {
                            let queries = Rows(element, count: dimension > 4000 ? 1 : 3, dimension: dimension)
                            queries.fill(with: q)
                            let base = Rows(element, count: values.count, dimension: dimension)
                            for (row, value) in values.enumerated() {
                                for column in 0..<dimension { base[row, column] = value }
                            }
                            for metric in metrics where dimension < 4000 || q == values[0] || q == values[4] {
                                check(metric, queries: queries, base: base, tier)
                            }
                        }
                    }
                }
            }
        }

        @Test(arguments: elements) func aVectorWithoutLengthIsAtCosineDistanceTwo(element: sonde_element) {
            inEveryTier { tier in
                var random = TestRandom(state: 10)
                let queries = Rows(element, count: 9, dimension: 50)
                let base = Rows(element, count: 21, dimension: 50)
                queries.fill(&random)
                base.fill(&random)
                for column in 0..<50 {
                    queries[4, column] = 0
                    base[17, column] = 0
                }
                check(SONDE_COSINE, queries: queries, base: base, tier)
                #expect(rows(SONDE_COSINE, query: queries, 0, base)[17] == 2)
                #expect(rows(SONDE_COSINE, query: queries, 4, base) == [Float](repeating: 2, count: 21))
            }
        }

        @Test func nearNeighboursKeepTheirDigits() {
            inEveryTier { tier in
                // A difference of one part in ten thousand: an expansion into norms would lose it.
                let query = Rows(SONDE_F32, count: 4, dimension: 96)
                let base = Rows(SONDE_F32, count: 4, dimension: 96)
                query.fill(with: 1000)
                base.fill(with: 1000.125)
                for distances in block(SONDE_L2, queries: query, base) {
                    #expect(distances == [Float](repeating: 96 * 0.015625, count: 4))
                }
            }
        }

        @Test(arguments: elements) func cosineOfNearCopiesKeepsItsDigits(element: sonde_element) {
            inEveryTier { tier in
                var random = TestRandom(state: 11)
                for dimension in [5, 32, 257, 384, 700] {
                    let query = Rows(element, count: 5, dimension: dimension, gap: 3)
                    let base = Rows(element, count: 21, dimension: dimension)
                    query.fill(&random)
                    for row in 0..<21 {
                        // Row 0 is the copy; the others differ by ever less in one number.
                        for column in 0..<dimension { base[row, column] = query[2, column] }
                        let column = row % dimension
                        let value = query[2, column]
                        if row > 0 {
                            base[row, column] =
                                isInteger(element)
                                ? value + (value > 0 ? -1 : 1) : value * (1 + 0.25 / Double(row * row))
                        }
                    }
                    let found = rows(SONDE_COSINE, query: query, 2, base)
                    #expect(bits(block(SONDE_COSINE, queries: query, base)[2]) == bits(found))
                    #expect(found[0] == 0)
                    let q = query.values(2)
                    let unit = q.map { $0 / q.reduce(0) { $0 + $1 * $1 }.squareRoot() }
                    for row in 1..<21 {
                        let x = base.values(row)
                        let length = x.reduce(0) { $0 + $1 * $1 }.squareRoot()
                        let wanted =
                            zip(unit, x).reduce(0) { $0 + ($1.0 - $1.1 / length) * ($1.0 - $1.1 / length) }
                            / 2
                        #expect(
                            (Double(found[row]) - wanted).magnitude <= 1e-5 * wanted + 1e-30,
                            "\(tier) \(dimension) \(row): \(found[row]), wanted \(wanted)")
                    }
                }
            }
        }

        @Test func noRowsAndNoQueriesWriteNothing() {
            inEveryTier { _ in
                for element in elements {
                    for metric in metrics {
                        let one = Rows(element, count: 1, dimension: 8)
                        var out: [Float] = [.nan]
                        sonde_rows(metric, element)(one.start, one.start, one.stride, 0, 8, &out)
                        sonde_block(metric, element)(
                            one.start, one.stride, 0, one.start, one.stride, 1, 8, &out, 1)
                        sonde_block(metric, element)(
                            one.start, one.stride, 1, one.start, one.stride, 0, 8, &out, 1)
                        #expect(out[0].isNaN)
                    }
                }
            }
        }

        @Test func tiersAreNamedAndRefusedBeyondTheProcessor() {
            #expect(String(cString: sonde_tier_name(SONDE_SCALAR)) == "scalar")
            #expect(String(cString: sonde_tier_name(SONDE_AVX2)) == "avx2")
            #expect(String(cString: sonde_tier_name(SONDE_AVX512)) == "avx512")
            #expect(sonde_tier_set(sonde_tier(rawValue: sonde_tier_widest().rawValue + 1)) == -1)
            #expect(sonde_tier_set(sonde_tier(rawValue: 99)) == -1)
        }
    }
}
