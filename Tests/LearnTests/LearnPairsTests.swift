// Labels of what a router learns from.

import Index
import Learn
import Storage
import TestSupport
import Testing
import Vectors

struct LearnPairsTests {
    /// Labels that training trusts are the neighbours that the truth names.
    @Test func learnPairsAreLabelledRightly() throws {
        let fixture = try Fixture(.u8, count: 3000, queryCount: 200)
        try fixture.build("index", .l2, .closure, partitions: 40)
        let index = try fixture.open()
        var parameters = LearnParameters()
        parameters.nprobe = 40
        let exact = try index.learnPairs(learn: fixture.queryFile, parameters: parameters)
        let truth = try fixture.truth(k: 10)
        // The last queries are kept back from training.
        let named = exact.pairs.neighbours.map { UInt64($0) }
        #expect(exact.labelAccuracy == 1 && named == Array(truth.ids.prefix(named.count)))
        #expect(named.count > truth.ids.count * 9 / 10 && named.count < truth.ids.count)
        parameters.nprobe = 1
        let rough = try index.learnPairs(learn: fixture.queryFile, parameters: parameters)
        #expect(rough.labelAccuracy > 0.2 && rough.labelAccuracy < 1)
        parameters.syntheticCount = 100
        let both = try index.learnPairs(learn: fixture.queryFile, parameters: parameters)
        #expect(both.queries.count > 270 && both.queries.count < 300)
        let longer = try Fixture(count: 100, dimension: 21)
        #expect(
            refusal { _ = try index.learnPairs(learn: longer.queryFile, parameters: parameters) }.contains(
                "21"))
    }
}
