// Lloyd's iteration: assign every row to its nearest mean, move every mean to its rows. Each partition is
// summed in the order of rows by whichever thread takes it, so the bits do not depend on the threads.

import Glibc
import Synchronization
import Vectors

/// The state of an iteration over one set of rows.
struct Lloyd {
    /// So few distances are not worth groups of centroids: a second.
    private static let scannedDistances = 4e9

    let rows: VectorMatrix
    let threads: Int
    /// Means as floats, and as the rows' element type holds them.
    private(set) var means: VectorMatrix
    private(set) var centroids: VectorMatrix
    private(set) var assignment = Assignment(partitions: [], distances: [])
    private(set) var iterations: Int
    private(set) var meanDistance: Double
    private(set) var largest: Int
    private(set) var isConverged: Bool
    /// Whether the last iteration met partitions that no row is nearest to.
    private(set) var hadEmpty: Bool

    init(
        rows: VectorMatrix, means: VectorMatrix, threads: Int, iterations: Int = 0,
        meanDistance: Double = .infinity, largest: Int = 0, isConverged: Bool = false, hadEmpty: Bool = false
    ) {
        self.hadEmpty = hadEmpty
        self.rows = rows
        self.means = means
        self.threads = threads
        self.iterations = iterations
        self.meanDistance = meanDistance
        self.largest = largest
        self.isConverged = isConverged
        centroids = means.converted(to: rows.elementType)
    }

    /// Iterates until nothing much changes, and calls `each` after every iteration; ends with the means of
    /// the last assignment. One that was begun before goes on.
    mutating func run<Failure: Error>(
        iterations limit: Int, tolerance: Double, each: (Lloyd) throws(Failure) -> Void
    ) throws(Failure) {
        while iterations < limit && !isConverged {
            let before = meanDistance
            assign()
            let refilled = update()
            iterations += 1
            isConverged =
                (refilled == 0 && before.isFinite && before - meanDistance <= tolerance * before)
                || meanDistance == 0
            try each(self)
        }
    }

    /// The same, silently.
    mutating func run(iterations limit: Int, tolerance: Double) {
        run(iterations: limit, tolerance: tolerance) { _ in }
    }

    /// Assigns every row to its nearest centroid.
    mutating func assign() {
        let search: NearestCentroids
        if NearestCentroids.looksAtAll(rows: rows.count, centroids: centroids.count)
            || Double(rows.count) * Double(centroids.count) <= Self.scannedDistances
        {
            search = NearestCentroids(scanning: centroids)
        } else {
            let groups = CentroidGroups(grouping: centroids, seed: 0, threads: threads)
            search = NearestCentroids(centroids, groups: groups, probes: 8)
        }
        assignment = search.assign(rows, threads: threads)
        meanDistance = assignment.distances.reduce(0.0) { $0 + Double($1) } / Double(rows.count)
        largest = assignment.sizes(partitionCount: centroids.count).max() ?? 0
    }

    /// Moves means to their rows; returns how many empty partitions were given a row of a large one.
    private mutating func update() -> Int {
        let order = CountingOrder(assignment.partitions, partitionCount: means.count)
        let next = VectorMatrix(count: means.count, dimension: means.dimension, elementType: .f32)
        let previous = means
        let rows = rows
        Workers.forEachBlock(count: means.count, blockSize: 16, threads: threads) { _, range in
            let sums = MeanAccumulator(dimension: rows.dimension, elementType: rows.elementType)
            for partition in range {
                let size = order.size(partition)
                if size == 0 {
                    next.row(partition).copyMemory(
                        from: previous.row(partition), byteCount: previous.rowByteCount)
                    continue
                }
                sums.clear()
                for position in order.starts[partition]..<order.starts[partition + 1] {
                    sums.add(rows.row(Int(order.rows[position])))
                }
                sums.mean(of: size, into: next.floatRow(partition))
            }
        }
        means = next
        let refilled = refill(order)
        centroids = means.converted(to: rows.elementType)
        return refilled
    }

    /// Leaves out means that no row is nearest to. They come of rows that repeat: such means are alike, or the last
    /// iteration found some that were empty. Where neither is so, rows are not assigned once more.
    ///
    /// - Parameter isAssigned: whether the assignment is that of the means as they are.
    mutating func dropEmpty(isAssigned: Bool) {
        if !isAssigned {
            guard hadEmpty || hasEqualCentroids else { return }
            assign()
        }
        let sizes = assignment.sizes(partitionCount: means.count)
        guard sizes.contains(0) else { return }
        means = means.gather(sizes.indices.filter { sizes[$0] > 0 }.map { UInt32($0) })
        centroids = means.converted(to: rows.elementType)
        assignment = Assignment(partitions: [], distances: [])
    }

    private var hasEqualCentroids: Bool {
        let (size, bytes) = (centroids.rowByteCount, UnsafeRawPointer(centroids.bytes))
        let order = (0..<centroids.count).sorted { memcmp(bytes + $0 * size, bytes + $1 * size, size) < 0 }
        return zip(order, order.dropFirst()).contains {
            memcmp(bytes + $0 * size, bytes + $1 * size, size) == 0
        }
    }

    /// Gives each empty partition the row farthest from the centroid of the largest one, which then counts
    /// as halved.
    private mutating func refill(_ order: CountingOrder) -> Int {
        var sizes = (0..<means.count).map { order.size($0) }
        let empty = sizes.indices.filter { sizes[$0] == 0 }
        hadEmpty = !empty.isEmpty
        if empty.isEmpty { return 0 }
        var taken = Set<UInt32>()
        var refilled = 0
        for partition in empty {
            var donor = 0
            for index in sizes.indices where sizes[index] > sizes[donor] { donor = index }
            if sizes[donor] < 2 { break }
            var farthest: UInt32?
            var distance: Float = 0
            for position in order.starts[donor]..<order.starts[donor + 1] {
                let row = order.rows[position]
                if assignment.distances[Int(row)] > distance, !taken.contains(row) {
                    distance = assignment.distances[Int(row)]
                    farthest = row
                }
            }
            guard let farthest else {
                // All of its rows are alike.
                sizes[donor] = 0
                continue
            }
            taken.insert(farthest)
            VectorMatrix.toFloat(
                rows.row(Int(farthest)), rows.elementType, count: rows.dimension,
                into: means.floatRow(partition))
            sizes[donor] /= 2
            refilled += 1
        }
        return refilled
    }
}

/// Sums rows: exactly for bytes, in double precision for floats.
final class MeanAccumulator {
    private let dimension: Int
    private let elementType: ElementType
    private let integers: UnsafeMutablePointer<Int32>
    private let wide: UnsafeMutablePointer<Double>
    private let line: UnsafeMutablePointer<Float>
    /// Rows in `integers` that are not yet in `wide`: 2^23 of them cannot overflow.
    private var pending = 0

    init(dimension: Int, elementType: ElementType) {
        self.dimension = dimension
        self.elementType = elementType
        integers = .allocate(capacity: dimension)
        wide = .allocate(capacity: dimension)
        line = .allocate(capacity: dimension)
        clear()
    }

    deinit {
        integers.deallocate()
        wide.deallocate()
        line.deallocate()
    }

    func clear() {
        integers.initialize(repeating: 0, count: dimension)
        wide.initialize(repeating: 0, count: dimension)
        pending = 0
    }

    func add(_ row: UnsafeRawPointer) {
        switch elementType {
        case .u8:
            let numbers = row.assumingMemoryBound(to: UInt8.self)
            for index in 0..<dimension { integers[index] &+= Int32(numbers[index]) }
            pending += 1
        case .i8:
            let numbers = row.assumingMemoryBound(to: Int8.self)
            for index in 0..<dimension { integers[index] &+= Int32(numbers[index]) }
            pending += 1
        case .f32:
            let numbers = row.assumingMemoryBound(to: Float.self)
            for index in 0..<dimension { wide[index] += Double(numbers[index]) }
        case .f16:
            VectorMatrix.toFloat(row, .f16, count: dimension, into: line)
            for index in 0..<dimension { wide[index] += Double(line[index]) }
        }
        if pending == 1 << 23 { flush() }
    }

    private func flush() {
        for index in 0..<dimension {
            wide[index] += Double(integers[index])
            integers[index] = 0
        }
        pending = 0
    }

    func mean(of count: Int, into means: UnsafeMutablePointer<Float>) {
        if pending > 0 { flush() }
        for index in 0..<dimension { means[index] = Float(wide[index] / Double(count)) }
    }
}

/// A mutex around a closure, for the rare results that threads hand in out of order.
final class Lock: Sendable {
    private let mutex = Mutex(())
    func with(_ body: () -> Void) { mutex.withLock { _ in body() } }
}
