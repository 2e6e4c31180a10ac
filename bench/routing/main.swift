// What routing costs: one query at a time and in blocks, beside sgemm of the same machine.
//
//     swift run -c release --package-path bench routing INDEX QUERIES [THREADS] [--truth TRUTH]
//     swift run -c release --package-path bench routing VECTORS QUERIES [THREADS]
//
// With the queries' neighbours a table of numbers of candidates instead (Candidates.swift); with a file of vectors in
// the place of an index they are taken for centroids, and the table has no vectors to find.
// INDEX is an index with the router in question. "GFLOP/s" counts two operations for every number of a centroid or
// prototype that a query is compared with; codes look tables up instead, so theirs says what rows would have cost.

import Build
import CBLAS
import Foundation
import Index
import Learn
import Router
import Storage
import Vectors

/// The median of three runs, in seconds.
func seconds(_ body: () -> Void) -> Double {
    (0..<3).map { _ in
        let start = ContinuousClock.now
        body()
        return start.duration(to: .now) / .seconds(1)
    }.sorted()[1]
}

var arguments = CommandLine.arguments
/// Takes an option and its value out of the arguments.
func take(_ name: String, from arguments: inout [String]) -> String? {
    guard let place = arguments.firstIndex(of: name), place + 1 < arguments.count else { return nil }
    let value = arguments[place + 1]
    arguments.removeSubrange(place...place + 1)
    return value
}
let truthPath = take("--truth", from: &arguments)
let groupCount = take("--groups", from: &arguments).flatMap { Int($0) }
let probes = take("--probes", from: &arguments).flatMap { Int($0) }
guard arguments.count >= 3 else {
    FileHandle.standardError.write(
        Data("usage: routing INDEX|VECTORS QUERIES [THREADS] [--truth F] [--groups N] [--probes N]\n".utf8))
    exit(2)
}
let threads = arguments.count > 3 ? Int(arguments[3]) ?? 2 : Workers.processorCount

/// The candidates of centroids, in groups of their own where a number of them is asked for.
@MainActor func report(_ centroids: CentroidIndex, _ rows: VectorMatrix, homes: [ArraySlice<UInt32>]?) {
    var centroids = centroids
    let start = ContinuousClock.now
    if let groupCount {
        centroids = CentroidIndex(
            centroids: centroids.centroids(), beta: centroids.beta, kind: .groups, groupCount: groupCount,
            threads: threads)
    }
    let spent = start.duration(to: .now) / .seconds(1)
    if let probes { centroids.probes = probes }
    print(
        String(
            format: "%d partitions, %.1f MB resident, grouped in %.1f s, %d probes", centroids.partitionCount,
            Double(centroids.residentByteCount) / 1e6, spent, centroids.probes))
    printCandidates(centroids, rows, homes: homes, threads: threads)
}

do {
    var isDirectory: ObjCBool = false
    if FileManager.default.fileExists(atPath: arguments[1], isDirectory: &isDirectory), !isDirectory.boolValue
    {
        let vectors = try VectorFile.open(path: arguments[1]).readAll()
        report(
            CentroidIndex(
                centroids: vectors, beta: 1, kind: groupCount == nil ? nil : .scan, threads: threads),
            try VectorFile.open(path: arguments[2]).readAll(), homes: nil)
        exit(0)
    }
    let index = try DiskIndex(path: arguments[1])
    let queries = try VectorFile.open(path: arguments[2]).readAll()
    let router = index.router
    let rows = index.space.rows(from: queries)
    if let truthPath {
        let (truth, homes) = (try TruthFile.read(path: truthPath), try index.homes())
        let count = min(rows.count, truth.count)
        report(
            index.centroids, rows.gather(0..<count),
            homes: (0..<count).map { homes[Int(truth.id(query: $0, rank: 0))] })
        exit(0)
    }
    let single = seconds {
        let scratch = router.makeScratch()
        var route = Route()
        for query in 0..<rows.count {
            router.route(rows.row(query), limit: 256, scratch: scratch, into: &route)
        }
    }
    func block(_ threads: Int) -> Double {
        seconds {
            Workers.forEachBlock(count: rows.count, blockSize: 512, threads: threads) { _, range in
                var routes: [Route] = []
                router.routeBlock(
                    rows.gather(range), limit: 256, scratch: router.makeScratch(), into: &routes)
            }
        }
    }
    var compared = Double(index.partitionCount)
    if let predictor = router as? Predictor, let prototypes = predictor.prototypes {
        compared += Double(predictor.candidateCount) * Double(prototypes.count) / Double(index.partitionCount)
    }
    let operations = 2 * compared * Double(index.dimension) * Double(rows.count)
    let (m, n, k) = (2048, 1024, index.dimension)
    let (a, b) = (rows.converted(to: .f32), VectorMatrix(count: n, dimension: k, elementType: .f32))
    b.floats.update(repeating: 1, count: n * k)
    let product = UnsafeMutablePointer<Float>.allocate(capacity: m * n)
    defer { product.deallocate() }
    func sgemm(_ threads: Int) -> Double {
        let count = min(m, a.count)
        nonisolated(unsafe) let product = product
        let spent = seconds {
            for _ in 0..<20 {
                Workers.forEachBlock(
                    count: count, blockSize: (count + threads - 1) / threads, threads: threads
                ) { _, rows in
                    let from = rows.lowerBound
                    sonde_sgemm(
                        false, true, Int32(rows.count), Int32(n), Int32(k), 1, a.floats + from * k, Int32(k),
                        b.floats, Int32(k), 0, product + from * n, Int32(n))
                }
            }
        }
        return 20 * 2 * Double(count * n * k) / spent / 1e9
    }
    let form = { (spent: Double, threads: Int) in
        String(
            format: "%6.1f us a query a thread, %8.0f queries/s, %6.1f GFLOP/s",
            spent / Double(rows.count) * 1e6 * Double(threads), Double(rows.count) / spent,
            operations / spent / 1e9)
    }
    print("\(index.partitionCount) partitions, \(router.residentByteCount) resident bytes")
    print("single, 1 thread:   " + form(single, 1))
    print("blocks, 1 thread:   " + form(block(1), 1))
    print("blocks, \(threads) threads:  " + form(block(threads), threads))
    print(
        String(
            format: "sgemm, 1 thread: %.1f GFLOP/s, %d threads: %.1f GFLOP/s", sgemm(1), threads,
            sgemm(threads)))
} catch {
    FileHandle.standardError.write(Data("routing: \(error)\n".utf8))
    exit(1)
}
