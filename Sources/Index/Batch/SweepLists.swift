// The plan turned round: from the partitions of each query to the queries of each partition.

import Router
import Synchronization
import Vectors

/// Queries by partition: what a sweep does with each segment.
public struct SweepLists: Sendable {
    /// Queries of partition p: `queries[starts[p] ..< starts[p + 1]]`, rising.
    public let starts: [Int]
    public let queries: [UInt32]
    /// Whether every partition is for all `queries`; `starts` then tell nothing but the number of partitions.
    let isExhaustive: Bool

    /// Every partition against every query: an exact search that reads the index once.
    package init(everyQueryOf count: Int, partitionCount: Int) {
        starts = [Int](repeating: 0, count: partitionCount + 1)
        queries = Array(0..<UInt32(count))
        isExhaustive = true
    }

    /// The places in `queries` of those that want a partition.
    func places(of partition: Int) -> Range<Int> {
        isExhaustive ? 0..<queries.count : starts[partition]..<starts[partition + 1]
    }

    /// Turns round `chosen`: the partitions of each query.
    public init(chosen: [[UInt32]], partitionCount: Int) {
        var all = QueryPartitions(firstQuery: 0)
        for list in chosen {
            all.partitions.append(contentsOf: list)
            all.endQuery()
        }
        self.init([all], partitionCount: partitionCount, threads: 1)
    }

    /// Turns round stretches of queries, which come in order.
    ///
    /// Each thread takes consecutive stretches: it counts them by partition, and once it is known where the
    /// queries of each thread begin in each partition, writes them there.
    init(_ stretches: [QueryPartitions], partitionCount: Int, threads: Int) {
        let tasks = max(1, min(threads, stretches.count))
        let places = UnsafeMutablePointer<Int>.allocate(capacity: tasks * partitionCount + 1)
        defer { places.deallocate() }
        places.initialize(repeating: 0, count: tasks * partitionCount + 1)
        nonisolated(unsafe) let next = places
        func range(_ task: Int) -> Range<Int> {
            task * stretches.count / tasks..<(task + 1) * stretches.count / tasks
        }
        let ranges = (0..<tasks).map(range)
        Workers.forEach(count: tasks, threads: tasks) { task in
            let counts = next + task * partitionCount
            for stretch in stretches[ranges[task]] {
                stretch.partitions.withUnsafeBufferPointer {
                    for partition in $0 { counts[Int(partition)] += 1 }
                }
            }
        }
        var starts = [Int](repeating: 0, count: partitionCount + 1)
        var total = 0
        for partition in 0..<partitionCount {
            starts[partition] = total
            for task in 0..<tasks {
                let count = next[task * partitionCount + partition]
                next[task * partitionCount + partition] = total
                total += count
            }
        }
        starts[partitionCount] = total
        self.starts = starts
        isExhaustive = false
        queries = [UInt32](unsafeUninitializedCapacity: total) { buffer, used in
            nonisolated(unsafe) let target = buffer
            Workers.forEach(count: tasks, threads: tasks) { task in
                let places = next + task * partitionCount
                for stretch in stretches[ranges[task]] {
                    stretch.forEachQuery { query, partitions in
                        for partition in partitions {
                            target[places[Int(partition)]] = UInt32(truncatingIfNeeded: query)
                            places[Int(partition)] += 1
                        }
                    }
                }
            }
            used = total
        }
    }

    /// Partitions that some query wants, in file order.
    var wanted: [UInt32] {
        (0..<UInt32(starts.count - 1)).filter { !places(of: Int($0)).isEmpty }
    }
}

/// The partitions of consecutive queries, list after list.
struct QueryPartitions: Sendable {
    let firstQuery: Int
    var partitions: [UInt32] = []
    /// Where the list of each query ends.
    private(set) var ends: [UInt32] = []

    init(firstQuery: Int) { self.firstQuery = firstQuery }

    /// What was appended since the query before belongs to the next query.
    mutating func endQuery() { ends.append(UInt32(partitions.count)) }

    /// Calls `body` with each query and its partitions.
    func forEachQuery(_ body: (Int, UnsafeBufferPointer<UInt32>) -> Void) {
        partitions.withUnsafeBufferPointer { all in
            var start = 0
            for (index, end) in ends.enumerated() {
                body(firstQuery + index, UnsafeBufferPointer(rebasing: all[start..<Int(end)]))
                start = Int(end)
            }
        }
    }
}
