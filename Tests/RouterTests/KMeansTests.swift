import Router
import Testing
import Vectors

@Suite struct KMeansTests {
    @Test(arguments: ElementType.allCases)
    func plantedClustersAreFound(type: ElementType) {
        let (rows, cluster) = plantedRows(
            clusters: 40, perCluster: 50, dimension: 24, elementType: type, seed: 1)
        let result = KMeans(partitions: 40, seed: 7, threads: 2).train(rows)
        #expect(result.centroids.count == 40)
        #expect(result.centroids.elementType == type)
        let home = NearestCentroids(scanning: result.centroids).assign(rows, threads: 2).partitions
        var partitionOf = [Int: UInt32]()
        for (row, planted) in cluster.enumerated() {
            if let known = partitionOf[planted] { #expect(known == home[row]) }
            partitionOf[planted] = home[row]
        }
        #expect(Set(partitionOf.values).count == 40)
    }

    @Test(arguments: [ElementType.u8, .f32], [64, 600])
    func oneAndTwoThreadsGiveTheSameBytes(type: ElementType, partitions: Int) {
        let (rows, _) = plantedRows(
            clusters: 90, perCluster: 60, dimension: 19, elementType: type, seed: 2, spread: 15)
        func train(_ threads: Int) -> [UInt8] {
            var means = KMeans(partitions: partitions, seed: 3, threads: threads)
            means.flatLimit = 200
            return bytes(means.train(rows).centroids)
        }
        let one = train(1)
        #expect(one == train(2))
        #expect(one == train(3))
    }

    @Test func anotherSeedGivesOtherCentroids() {
        let (rows, _) = plantedRows(
            clusters: 9, perCluster: 100, dimension: 8, elementType: .u8, seed: 2, spread: 15)
        let one = KMeans(partitions: 20, seed: 1, threads: 1).train(rows).centroids
        let two = KMeans(partitions: 20, seed: 2, threads: 1).train(rows).centroids
        #expect(bytes(one) != bytes(two))
    }

    @Test func aCapIsRespected() {
        // Most rows in one dense cluster.
        let dense = plantedRows(
            clusters: 1, perCluster: 3000, dimension: 16, elementType: .u8, seed: 4, spread: 6)
        let sparse = plantedRows(clusters: 30, perCluster: 20, dimension: 16, elementType: .u8, seed: 5)
        let rows = VectorMatrix(count: 3600, dimension: 16, elementType: .u8)
        rows.bytes.copyMemory(from: dense.rows.bytes, byteCount: dense.rows.byteCount)
        rows.row(3000).copyMemory(from: sparse.rows.bytes, byteCount: sparse.rows.byteCount)
        var means = KMeans(partitions: 24, seed: 1, threads: 2)
        means.capRecords = 150
        let result = means.train(rows)
        let sizes = NearestCentroids(scanning: result.centroids).assign(rows, threads: 2)
            .sizes(partitionCount: result.centroids.count)
        #expect(sizes.max()! <= 150)
        #expect(result.largest == sizes.max()!)
        #expect(result.centroids.count >= 24)
    }

    @Test func rowsThatAreAllAlikeDoNotHang() {
        let rows = VectorMatrix(count: 500, dimension: 8, elementType: .u8)
        var means = KMeans(partitions: 16, seed: 1, threads: 2)
        means.capRecords = 100
        let result = means.train(rows)
        // Centroids that are all alike would be partitions that hold nothing: one is left.
        #expect(result.centroids.count == 1)
        #expect(result.largest == 500)
    }

    @Test func fewerRowsThanPartitionsGiveOneEach() {
        let (rows, _) = plantedRows(clusters: 5, perCluster: 2, dimension: 4, elementType: .f32, seed: 4)
        #expect(KMeans(partitions: 100, seed: 1, threads: 1).train(rows).centroids.count == 10)
    }

    @Test func twoLevelsGiveTheNumberWanted() {
        let (rows, _) = plantedRows(
            clusters: 50, perCluster: 80, dimension: 12, elementType: .u8, seed: 8, spread: 12)
        var means = KMeans(partitions: 333, seed: 1, threads: 2)
        means.flatLimit = 100
        let result = means.train(rows)
        #expect(result.centroids.count == 333)
        let flat = KMeans(partitions: 333, seed: 1, threads: 2).train(rows)
        #expect(result.meanDistance < flat.meanDistance * 1.1)
    }
}

@Suite struct NearestTests {
    @Test(arguments: ElementType.allCases)
    func assignmentIsTheNearestAndTiesFallToTheLowerNumber(type: ElementType) {
        let (rows, _) = plantedRows(
            clusters: 7, perCluster: 90, dimension: 13, elementType: type, seed: 3, spread: 20)
        let picked = rows.gather(0..<300)
        // Every centroid twice: the second copy is never chosen.
        let centroids = VectorMatrix(count: 600, dimension: 13, elementType: type)
        centroids.bytes.copyMemory(from: picked.bytes, byteCount: picked.byteCount)
        centroids.row(300).copyMemory(from: picked.bytes, byteCount: picked.byteCount)
        let nearest = NearestCentroids(scanning: centroids)
        let found = nearest.assign(rows, threads: 2)
        let lists = nearest.nearest(5, rows, threads: 2)
        let distance = Distance(metric: .l2, elementType: type)
        for row in 0..<rows.count {
            let all = (0..<600).map {
                (distance.pair(rows.row(row), centroids.row($0), dimension: 13), UInt32($0))
            }
            .sorted { $0 < $1 }
            #expect(found.partitions[row] == all[0].1)
            #expect(found.distances[row] == all[0].0)
            #expect(Array(lists.partitions[row * 5..<row * 5 + 5]) == all[0..<5].map { $0.1 })
        }
    }

    @Test func fewerCentroidsThanAskedAreMarked() {
        let lists = NearestCentroids(scanning: matrix([[0, 0], [3, 0]])).nearest(
            4, matrix([[1, 0]]), threads: 1)
        #expect(lists.partitions == [0, 1, NearestLists.none, NearestLists.none])
        #expect(lists.distances[0...1] == [1, 4])
    }

    @Test func groupsAgreeWithTheScan() {
        let (rows, _) = plantedRows(
            clusters: 60, perCluster: 100, dimension: 16, elementType: .u8, seed: 9, spread: 12)
        let groups = CentroidGroups(grouping: rows, seed: 1, threads: 2)
        let queries = rows.gather(0..<400)
        let exact = NearestCentroids(scanning: rows).nearest(10, queries, threads: 2)
        let all = NearestCentroids(rows, groups: groups, probes: groups.groupCount).nearest(
            10, queries, threads: 2)
        #expect(all.partitions == exact.partitions)
        let some = NearestCentroids(rows, groups: groups, probes: 12).nearest(10, queries, threads: 2)
        #expect(
            some.partitions
                == NearestCentroids(rows, groups: groups, probes: 12).nearest(10, queries, threads: 1)
                .partitions)
        #expect(zip(some.partitions, exact.partitions).count { $0 == $1 } > 3800)
    }
}
