// The space of inner products: lengths count there, and l2 orders as the metric does.

import Router
import Testing
import Vectors

struct RoutingSpaceTests {
    /// Rows of different lengths, none longer than `longest`.
    private func rows(count: Int = 200, dimension: Int = 12, spread: Float = 1, seed: UInt64 = 3)
        -> VectorMatrix
    {
        var random = SeededRandom(seed: seed)
        let matrix = VectorMatrix(count: count, dimension: dimension, elementType: .f32)
        for row in 0..<count {
            for column in 0..<dimension { matrix.floatRow(row)[column] = Float(random.gaussian()) }
        }
        RoutingSpace.normalise(matrix)
        for row in 0..<count {
            let length = 1 + spread * Float(random.uniform())
            for column in 0..<dimension { matrix.floatRow(row)[column] *= length }
        }
        return matrix
    }

    @Test func distancesOrderAsInnerProductsDo() throws {
        let (base, queries) = (rows(spread: 20), rows(count: 10, spread: 5, seed: 4))
        let space = RoutingSpace(metric: .ip, sampling: base)
        let longest = try #require(space.longest)
        #expect(space.dimension(of: 12) == 13)
        let (placed, asked) = (space.rows(from: base), space.queries(from: queries))
        let product = Distance(metric: .ip, elementType: .f32)
        for query in 0..<queries.count {
            let length = (-product.pair(queries.row(query), queries.row(query), dimension: 12)).squareRoot()
            for row in 0..<base.count {
                let distance = space.distance.pair(asked.row(query), placed.row(row), dimension: 13)
                let negative = product.pair(queries.row(query), base.row(row), dimension: 12)
                #expect(abs(distance - (2 + 2 * negative / length / longest)) < 1e-5)
            }
        }
    }

    @Test func oneRowIsConvertedAsManyAre() {
        let base = rows()
        let space = RoutingSpace(metric: .ip, sampling: base)
        let placed = space.rows(from: base)
        let row = VectorMatrix(count: 1, dimension: 13, elementType: .f32)
        space.convert(base.row(7), dimension: 12, into: row.bytes)
        for column in 0..<13 { #expect(row.floatRow(0)[column] == placed.floatRow(7)[column]) }
    }

    @Test func whatIsLongerThanTheSampleKeepsItsDirection() {
        let base = rows()
        let space = RoutingSpace(metric: .ip, baseType: .f32, longest: 0.5)
        let unit = RoutingSpace(metric: .ip, baseType: .f32).rows(from: base)
        let placed = space.rows(from: base)
        for row in 0..<base.count {
            #expect(placed.floatRow(row)[12] == 0)
            for column in 0..<12 { #expect(placed.floatRow(row)[column] == unit.floatRow(row)[column]) }
        }
    }

    @Test func likeLengthsAndOtherMetricsStayAsTheyWere() {
        #expect(RoutingSpace(metric: .ip, sampling: rows(spread: 0.001)).longest == nil)
        #expect(RoutingSpace(metric: .cosine, sampling: rows()).longest == nil)
        #expect(RoutingSpace(metric: .l2, sampling: rows()).longest == nil)
    }
}
