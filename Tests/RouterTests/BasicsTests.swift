import Router
import Synchronization
import Testing
import Vectors

@Suite struct TopKTests {
    @Test(arguments: [1, 2, 7, 100, 1000])
    func theHeapKeepsWhatASortWouldPutFirst(k: Int) {
        var random = SeededRandom(seed: UInt64(k))
        let heap = TopK(capacity: k)
        for count in [0, 1, 50, 700] {
            // Few different distances, so that ties are many.
            let all = (0..<count).map { Neighbour(id: UInt64($0), distance: Float(random.below(40)) - 20) }
            var shuffled = (0..<UInt32(count)).map { $0 }
            random.shuffle(&shuffled)
            for index in shuffled { heap.push(id: all[Int(index)].id, distance: all[Int(index)].distance) }
            var sorted: [Neighbour] = []
            heap.drain(into: &sorted)
            #expect(sorted == Array(all.sorted(by: <).prefix(k)))
            let left = heap.count
            #expect(left == 0)
        }
    }

    @Test func notANumberIsNeverKept() {
        let heap = TopK(capacity: 2)
        let kept = [heap.push(id: 1, distance: .nan), heap.push(id: 2, distance: .infinity)]
        #expect(kept == [false, true])
        let (count, isFull) = (heap.count, heap.isFull)
        #expect(count == 1 && !isFull)
    }

    @Test func aReplicaIsKeptOnce() {
        let heap = TopK(capacity: 3)
        for id: UInt64 in [5, 5, 6, 5, 6] { heap.pushDistinct(id: id, distance: Float(id)) }
        var sorted: [Neighbour] = []
        heap.drain(into: &sorted)
        #expect(sorted.map(\.id) == [5, 6])
    }
}

@Suite struct BasicsTests {
    @Test func aSeedRepeatsAndAStreamDiffers() {
        var one = SeededRandom(seed: 1)
        var again = SeededRandom(seed: 1)
        var other = SeededRandom(seed: 1, stream: 1)
        let first = (0..<100).map { _ in one.next() }
        #expect(first == (0..<100).map { _ in again.next() })
        #expect(first != (0..<100).map { _ in other.next() })
        let mean = (0..<10_000).reduce(0.0) { sum, _ in sum + one.gaussian() } / 10_000
        #expect(abs(mean) < 0.05)
        #expect(one.sample(10, below: 1000).count == 10)
        #expect(one.sample(10, below: 4) == [0, 1, 2, 3])
    }

    @Test(arguments: [1, 2, 5])
    func everyIndexIsVisitedOnce(threads: Int) {
        let holder = Visits()
        Workers.forEach(count: 1000, threads: threads) { holder.count($0) }
        #expect((0..<1000).allSatisfy { holder.visits($0) == 1 })
        Workers.forEach(count: 0, threads: threads) { _ in Issue.record("there is nothing to do") }
    }

    private final class Visits: Sendable {
        private let counts = Mutex([Int](repeating: 0, count: 1000))
        func count(_ index: Int) { counts.withLock { $0[index] += 1 } }
        func visits(_ index: Int) -> Int { counts.withLock { $0[index] } }
    }

    @Test func directionsHaveUnitLengthAndPositionsStay() {
        let space = RoutingSpace(metric: .cosine, baseType: .f32)
        let rows = matrix([[3, 4], [0, 0], [0, -2]])
        let unit = space.rows(from: rows)
        #expect(Array(UnsafeBufferPointer(start: unit.floats, count: 6)) == [0.6, 0.8, 0, 0, 0, -1])
        #expect(rows.floats[0] == 3)
        #expect(RoutingSpace(metric: .l2, baseType: .f32).rows(from: rows) === rows)
        #expect(RoutingSpace(metric: .ip, baseType: .u8).elementType == .f32)
        let line = VectorMatrix(count: 1, dimension: 2, elementType: .f32)
        space.convert(rows.row(0), dimension: 2, into: line.bytes)
        #expect(bytes(line) == bytes(unit.gather(0..<1)))
    }
}
