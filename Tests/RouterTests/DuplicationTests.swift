import Router
import Testing
import Vectors

@Suite struct DuplicationTests {
    /// x at the origin; c0 home; c1 behind c0 as seen from x; c2 the other way; c3 farther, sideways.
    private let centroids = matrix([[1, 0], [2, 0], [-2.5, 0], [0, 3]])
    private let row = matrix([[0, 0]])

    private func nearest() -> NearestLists {
        NearestCentroids(scanning: centroids).nearest(4, row, threads: 1)
    }

    @Test func theRuleOfRelativeNeighbourhood() {
        // d(x,c1) = 4 > d(c1,c0) = 1: left out. c2: 6.25 <= 12.25: in. c3: 9 <= 10 and 9 <= 15.25: in.
        let all = Closure().replicas(nearest(), centroids: centroids, threads: 1)
        #expect(Array(all.of(0)) == [0, 2, 3])
        #expect(all.replication == 3)
        #expect(
            Array(Closure(maximum: 2).replicas(nearest(), centroids: centroids, threads: 1).of(0)) == [0, 2])
        // With factor 4, c1 just passes: 4 * 1 >= 4.
        #expect(
            Array(Closure(rngFactor: 4).replicas(nearest(), centroids: centroids, threads: 1).of(0)) == [
                0, 1, 2, 3,
            ])
        // (1 + 6) * 1 = 7 bounds the squared distance: c3 (9) is out.
        #expect(
            Array(Closure(eps1: 6).replicas(nearest(), centroids: centroids, threads: 1).of(0)) == [0, 2])
    }

    @Test func theSpillAvoidsTheResidualsDirection() {
        // r = (-1, 0). Losses with lambda 1.5: c1 4 + 1.5 * 4 = 10; c2 6.25 + 1.5 * 6.25; c3 9 + 0 = 9.
        #expect(Array(Soar().spill(row, nearest(), centroids: centroids, threads: 1).of(0)) == [0, 3])
        #expect(
            Array(Soar(lambda: 0).spill(row, nearest(), centroids: centroids, threads: 1).of(0)) == [0, 1])
        // Without a residual there is no direction: the next nearest.
        let at = matrix([[1, 0]])
        let lists = NearestCentroids(scanning: centroids).nearest(4, at, threads: 1)
        #expect(Array(Soar().spill(at, lists, centroids: centroids, threads: 1).of(0)) == [0, 1])
    }

    @Test func threadsDoNotChangeCopies() {
        let (rows, _) = plantedRows(
            clusters: 20, perCluster: 300, dimension: 8, elementType: .u8, seed: 3, spread: 20)
        let centroids = rows.gather(0..<200)
        let lists = NearestCentroids(scanning: centroids).nearest(32, rows, threads: 2)
        let one = Closure().replicas(lists, centroids: centroids, threads: 1)
        let two = Closure().replicas(lists, centroids: centroids, threads: 2)
        #expect(one.partitions == two.partitions && one.starts == two.starts)
        #expect((0..<rows.count).allSatisfy { one.of($0).first == lists.partitions[$0 * 32] })
        #expect(
            (0..<rows.count).allSatisfy { one.of($0).count <= 8 && Set(one.of($0)).count == one.of($0).count }
        )
        let spill = Soar().spill(rows, lists, centroids: centroids, threads: 1)
        #expect(spill.partitions == Soar().spill(rows, lists, centroids: centroids, threads: 2).partitions)
        #expect(spill.replication == 2)
    }

    @Test func headsComeInTheShareWantedOnAnyNumberOfThreads() {
        let (rows, _) = plantedRows(
            clusters: 100, perCluster: 200, dimension: 16, elementType: .u8, seed: 6, spread: 15)
        let heads = SpannHeads.select(rows, share: 0.16, seed: 1, threads: 2)
        #expect(heads == SpannHeads.select(rows, share: 0.16, seed: 1, threads: 1))
        #expect(abs(Double(heads.count) / 20_000 - 0.16) < 0.016)
        #expect(zip(heads, heads.dropFirst()).allSatisfy { $0 < $1 })
        #expect(heads.allSatisfy { $0 < 20_000 })
    }

    @Test func headsOfRowsThatAreAllAlike() {
        let rows = VectorMatrix(count: 300, dimension: 4, elementType: .u8)
        #expect(SpannHeads.select(rows, share: 0.1, seed: 1, threads: 2).count <= 300)
        #expect(SpannHeads.select(rows, share: 1, seed: 1, threads: 2).count == 300)
    }
}
