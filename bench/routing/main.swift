// What routing costs: one query at a time and in blocks, beside sgemm of the same machine.
//
//     swift run -c release --package-path bench routing INDEX QUERIES [THREADS]
//
// INDEX is an index with the router in question. "GFLOP/s" counts two operations for every number of a centroid or
// prototype that a query is compared with; codes look tables up instead, so theirs says what rows would have cost.

import CBLAS
import Foundation
import Index
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

let arguments = CommandLine.arguments
guard arguments.count >= 3 else {
    FileHandle.standardError.write(Data("usage: routing INDEX QUERIES [THREADS]\n".utf8))
    exit(2)
}
do {
    let index = try DiskIndex(path: arguments[1])
    let queries = try VectorFile.open(path: arguments[2]).readAll()
    let threads = arguments.count > 3 ? Int(arguments[3]) ?? 2 : Workers.processorCount
    let router = index.router
    let rows = index.space.rows(from: queries)
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
        openblas_set_num_threads(Int32(threads))
        let count = min(m, a.count)
        let spent = seconds {
            for _ in 0..<20 {
                cblas_sgemm(
                    CblasRowMajor, CblasNoTrans, CblasTrans, Int32(count), Int32(n), Int32(k), 1, a.floats,
                    Int32(k),
                    b.floats, Int32(k), 0, product, Int32(n))
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
