import CKernels
import Router
import Testing
import Vectors

@Suite struct RecordCodesTests {
    /// Rows by partition with their codes.
    private static func coded(_ byteCount: Int = 12) -> (
        codes: RecordCodes, centroids: VectorMatrix, rows: VectorMatrix
    ) {
        let planted = plantedRows(clusters: 20, perCluster: 90, dimension: 12, elementType: .f32, seed: 4)
        let order = planted.cluster.indices.sorted {
            (planted.cluster[$0], $0) < (planted.cluster[$1], $1)
        }
        let rows = planted.rows.gather(order.map { UInt32($0) })
        let centroids = VectorMatrix(count: 20, dimension: 12, elementType: .f32)
        for cluster in 0..<20 {
            centroids.floatRow(cluster).update(from: rows.floatRow(cluster * 90), count: 12)
        }
        let parts = (0..<20).map { ($0, rows.gather($0 * 90..<($0 + 1) * 90)) }
        let residuals = VectorMatrix.joined(
            parts.map { $0.1.residuals(to: centroids.floatRow($0.0)) })!
        let quantiser = ProductQuantiser.train(residuals, codeByteCount: byteCount, seed: 1, threads: 2)
        var coder = RecordCoder(
            counts: [Int](repeating: 90, count: 20), centroids: centroids, quantiser: quantiser)
        coder.encode(parts.map { (partition: $0.0, rows: $0.1) }, threads: 2)
        let model = RecordModel(depths: [
            .init(k: 1, spread: 2, partitionLimit: 20), .init(k: 100, spread: 4, partitionLimit: 20),
        ])
        return (coder.finish(model: model), centroids, rows)
    }

    /// All partitions by the distance of their centroids.
    private static func route(_ query: UnsafePointer<Float>, _ centroids: VectorMatrix) -> Route {
        var route = Route()
        let distances = (0..<centroids.count).map { squared(query, centroids.floatRow($0), 12) }
        for partition in distances.indices.sorted(by: { distances[$0] < distances[$1] }) {
            route.partitions.append(UInt32(partition))
            route.distances.append(distances[partition])
            route.logProbabilities.append(0)
        }
        return route
    }

    private static func squared(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ count: Int) -> Float {
        (0..<count).reduce(0) { $0 + (a[$1] - b[$1]) * (a[$1] - b[$1]) }
    }

    @Test func estimatesAreNearTheTruthAndComeInOrder() {
        let (codes, centroids, rows) = Self.coded()
        let estimates = RecordEstimates(codes)
        for query in stride(from: 0, to: rows.count, by: 97) {
            let route = Self.route(rows.floatRow(query), centroids)
            estimates.find(rows.floatRow(query), type: .f32, route: route, partitions: 20, wanted: 50)
            #expect(estimates.count >= 50 && estimates.count < 60)
            var last = -1
            var meets = false
            for index in 0..<estimates.count {
                let partition = Int(route.partitions[Int(estimates.positions[index])])
                let row = partition * 90 + Int(estimates.slots[index])
                let place = Int(estimates.positions[index]) * 90 + Int(estimates.slots[index])
                #expect(place > last)
                last = place
                meets = meets || row == query
                let truth = Self.squared(rows.floatRow(query), rows.floatRow(row), 12)
                #expect(abs(estimates.distances[index] - truth) < 20 + 0.3 * truth)
            }
            #expect(meets)
        }
    }

    @Test func aSearchOfKFindsTheNearestOfAllEstimates() {
        let (codes, centroids, rows) = Self.coded()
        let (all, some) = (RecordEstimates(codes), RecordEstimates(codes))
        var missed = 0
        for query in stride(from: 0, to: rows.count, by: 41) {
            let route = Self.route(rows.floatRow(query), centroids)
            all.find(rows.floatRow(query), type: .f32, route: route, partitions: 20, wanted: rows.count)
            #expect(all.count == rows.count)
            some.find(
                rows.floatRow(query), type: .f32, route: route, partitions: 20,
                for: .init(k: 10, spread: 0.1))
            #expect(some.count >= 10 && some.count < rows.count / 2)
            let kth = (0..<all.count).map { all.distances[$0] }.sorted()[9]
            let near = (0..<some.count).filter { some.distances[$0] <= kth }.count
            missed += 10 - min(near, 10)
        }
        // Groups of codewords may hide one here and there.
        #expect(missed <= 4)
    }

    @Test func groupsHoldNearCodewordsAndNoneIsLost() {
        let (codes, _, _) = Self.coded(4)
        let grouped = codes.quantiser
        var random = SeededRandom(seed: 8, stream: 0)
        for space in 0..<grouped.codeByteCount {
            let words = grouped.words(of: space)
            #expect(CodewordGroups(words).order.sorted() == Array(0..<256))
            func within(_ order: [Int]) -> Float {
                stride(from: 0, to: 256, by: 16).reduce(0) { sum, first in
                    let group = order[first..<first + 16]
                    return group.reduce(sum) { sum, a in
                        group.reduce(sum) { sum, b in
                            sum + Self.squared(words.floatRow(a), words.floatRow(b), words.dimension)
                        }
                    }
                }
            }
            let shuffled = random.sample(256, below: 256).map(Int.init).sorted {
                $0 * 97 % 256 < $1 * 97 % 256
            }
            #expect(within(Array(0..<256)) < 0.5 * within(shuffled))
        }
    }

    @Test func codesOfTheOlderLayoutAreRefused() {
        #expect(throws: RouterError.self) {
            try RecordCodes.decode(["records": [1, 2, 3]], counts: [1], dimension: 2)
        }
    }

    @Test func aSectionHoldsThemAndRefusesWhatIsNotOfItsIndex() throws {
        let (codes, _, _) = Self.coded(5)
        let section = codes.encode()
        let counts = [Int](repeating: 90, count: 20)
        let again = try #require(
            try RecordCodes.decode([section.tag: section.bytes], counts: counts, dimension: 12))
        #expect(again.encode().bytes == section.bytes && again.model == codes.model)
        #expect(try RecordCodes.decode([:], counts: counts, dimension: 12) == nil)
        #expect(throws: RouterError.self) {
            try RecordCodes.decode([section.tag: section.bytes], counts: counts, dimension: 13)
        }
        #expect(throws: RouterError.self) {
            try RecordCodes.decode(
                [section.tag: section.bytes], counts: [89, 91] + counts.dropFirst(2), dimension: 12)
        }
        for end in stride(from: 0, to: section.bytes.count, by: 211) {
            #expect(throws: RouterError.self) {
                try RecordCodes.decode(
                    [section.tag: Array(section.bytes[..<end])], counts: counts, dimension: 12)
            }
        }
    }

    @Test func probabilitiesSumToWhatIsWanted() {
        var random = SeededRandom(seed: 3, stream: 0)
        let distances = (0..<300).map { _ in 100 + 1000 * Float(random.uniform()) }
        var probabilities = [Float](repeating: 0, count: 300)
        for k in [1, 10, 100] {
            for spread in [Float(0.1), 2, 20] {
                let tau = sonde_soft_nearest(distances, 300, Float(k), spread, &probabilities)
                #expect(abs(probabilities.reduce(0, +) - Float(k)) < 0.01 * Float(k))
                // The nearer, the likelier: one half at tau.
                for (distance, probability) in zip(distances, probabilities) {
                    #expect((probability > 0.5) == (distance < tau) || abs(probability - 0.5) < 1e-3)
                }
            }
        }
        var few = distances
        for index in 5..<300 { few[index] = .infinity }
        #expect(sonde_soft_nearest(few, 300, 10, 1, &probabilities) == .infinity)
        #expect(
            probabilities.prefix(5).allSatisfy { $0 == 1 }
                && probabilities.dropFirst(5).allSatisfy { $0 == 0 })
    }

    @Test func aSpreadBetweenTwoDepthsLiesBetweenTheirs() {
        let model = RecordModel(depths: [
            .init(k: 1, spread: 2, partitionLimit: 8), .init(k: 100, spread: 4, partitionLimit: 30),
        ])
        #expect([1, 2, 100, 1000].map { model.partitionLimit(k: $0) } == [8, 30, 30, 30])
        #expect(model.spread(k: 1) == 2 && model.spread(k: 100) == 4 && model.spread(k: 1000) == 4)
        #expect(abs(model.spread(k: 10) - 3) < 1e-5)
    }

    @Test func theNthLeastIsWhatSortingFinds() {
        var random = SeededRandom(seed: 9, stream: 0)
        for count in [1, 2, 7, 500] {
            let values = (0..<count).map { _ in Float(random.below(50)) }
            for n in Set([0, count / 2, count - 1]) {
                var copy = values
                #expect(RecordEstimates.nth(n, of: &copy, count: count) == values.sorted()[n])
            }
        }
    }
}
