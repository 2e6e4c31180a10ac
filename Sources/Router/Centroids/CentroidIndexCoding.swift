// The router as bytes. Section "centroid": format u32, kind u8, element type u8, zero u16, dimension u32,
// beta f32, count u64, rows. Section "graph": nodes u64, edges u64, entries u64, starts, neighbours and
// entries as u32. Section "groups": groups u64, centre rows, starts and numbers as u32. Section "longest", where
// lengths count: f32. Little endian.
// Every number is checked before it is used: bytes may be anything.

import CKernels
import Vectors

extension CentroidIndex {
    public static let centroidSection = "centroid"
    public static let graphSection = "graph"
    public static let groupSection = "groups"
    public static let longestSection = "longest"
    static let format: UInt32 = 1

    /// The sections that hold this router.
    public func encode() -> [(tag: String, bytes: [UInt8])] {
        var writer = SectionWriter()
        writer.append(Self.format)
        writer.append(kind.rawValue)
        writer.append(elementType.rawValue)
        writer.append(UInt16(0))
        writer.append(UInt32(dimension))
        writer.append(beta)
        writer.append(UInt64(partitionCount))
        writer.append(centroids())
        var sections = [(tag: Self.centroidSection, bytes: writer.bytes)]
        switch storage {
        case .scan: break
        case .groups(let groups):
            var writer = SectionWriter()
            writer.append(UInt64(groups.groupCount))
            writer.append(groups.centres)
            writer.append(groups.starts.map { UInt32($0) })
            writer.append(groups.numbers)
            sections.append((Self.groupSection, writer.bytes))
        case .graph(_, let graph):
            var writer = SectionWriter()
            writer.append(UInt64(graph.nodeCount))
            writer.append(UInt64(graph.neighbours.count))
            writer.append(UInt64(graph.entries.count))
            writer.append(graph.starts)
            writer.append(graph.neighbours)
            writer.append(graph.entries)
            sections.append((Self.graphSection, writer.bytes))
        }
        if let longest {
            var writer = SectionWriter()
            writer.append(longest)
            sections.append((Self.longestSection, writer.bytes))
        }
        return sections
    }

    /// The router that `sections` hold.
    public init(decoding sections: any SectionSource) throws(RouterError) {
        var reader = try SectionReader(Self.centroidSection, in: sections)
        let format = try reader.integer(UInt32.self)
        guard format == Self.format else {
            throw reader.failure("format \(format), this program reads \(Self.format)")
        }
        let kindNumber = try reader.integer(UInt8.self)
        guard let kind = Kind(rawValue: kindNumber) else { throw reader.failure("kind \(kindNumber)") }
        let typeNumber = try reader.integer(UInt8.self)
        guard let elementType = ElementType(rawValue: typeNumber) else {
            throw reader.failure("element type \(typeNumber)")
        }
        guard try reader.integer(UInt16.self) == 0 else {
            throw reader.failure("reserved bytes are not zero")
        }
        let dimension = Int(try reader.integer(UInt32.self))
        guard dimension > 0, dimension <= 1 << 24 else { throw reader.failure("dimension \(dimension)") }
        let beta = try reader.float()
        guard beta.isFinite, beta > 0 else { throw reader.failure("beta \(beta)") }
        let count = try reader.count(bytesEach: dimension * elementType.byteCount)
        guard count > 0, count < 1 << 31 else { throw reader.failure("\(count) centroids") }
        if kind == .groups {
            let groups = try Self.decodeGroups(
                sections, rows: &reader, count: count, dimension: dimension, elementType: elementType)
            try Self.requireFinite(groups.centroids, reader)
            self.init(storage: .groups(groups), beta: beta)
            longest = try Self.decodeLongest(sections)
            return
        }
        let rows = try reader.matrix(count: count, dimension: dimension, elementType: elementType)
        try reader.finish()
        try Self.requireFinite(rows, reader)
        switch kind {
        case .scan, .groups: self.init(storage: .scan(rows), beta: beta)
        case .graph: self.init(storage: .graph(rows, try Self.decodeGraph(sections, rows)), beta: beta)
        }
        longest = try Self.decodeLongest(sections)
    }

    private static func decodeLongest(_ sections: any SectionSource) throws(RouterError) -> Float? {
        guard sections.byteCount(ofSection: longestSection) != nil else { return nil }
        var reader = try SectionReader(longestSection, in: sections)
        let longest = try reader.float()
        try reader.finish()
        guard longest.isFinite, longest > 0 else { throw reader.failure("length \(longest)") }
        return longest
    }

    private static func requireFinite(_ rows: VectorMatrix, _ reader: SectionReader) throws(RouterError) {
        guard rows.elementType.isFloatingPoint else { return }
        let numbers = rows.count * rows.dimension
        let bad = sonde_find_not_finite(
            sonde_element(rawValue: UInt32(rows.elementType.rawValue)), rows.bytes, numbers)
        if bad < numbers {
            throw reader.failure("the centroid at place \(bad / rows.dimension) is not finite")
        }
    }

    private static func decodeGraph(
        _ sections: any SectionSource, _ rows: VectorMatrix
    ) throws(RouterError) -> CentroidGraph {
        var reader = try SectionReader(graphSection, in: sections)
        let nodes = try reader.count(bytesEach: 4)
        guard nodes == rows.count else { throw reader.failure("\(nodes) nodes, \(rows.count) centroids") }
        let edgeCount = try reader.count(bytesEach: 4)
        let entryCount = try reader.count(bytesEach: 4)
        guard entryCount > 0, entryCount <= nodes else { throw reader.failure("\(entryCount) entries") }
        let starts = try reader.numbers(nodes + 1)
        let neighbours = try reader.numbers(edgeCount)
        let entries = try reader.numbers(entryCount)
        try reader.finish()
        guard starts[0] == 0, Int(starts[nodes]) == edgeCount, isRising(starts) else {
            throw reader.failure("edges do not begin in order")
        }
        for number in neighbours where Int(number) >= nodes {
            throw reader.failure("an edge to node \(number) of \(nodes)")
        }
        for number in entries where Int(number) >= nodes {
            throw reader.failure("an entry at node \(number) of \(nodes)")
        }
        return CentroidGraph(starts: starts, neighbours: neighbours, entries: entries, centroids: rows)
    }

    /// Bytes of centroids read at a time on their way into the order of groups.
    private static let pieceByteCount = 1 << 18

    /// Reads centroids, which stand by partition in the file, into the order of their groups: both orders at a time
    /// would be twice the memory.
    private static func decodeGroups(
        _ sections: any SectionSource, rows centroidReader: inout SectionReader, count: Int, dimension: Int,
        elementType: ElementType
    ) throws(RouterError) -> CentroidGroups {
        var reader = try SectionReader(groupSection, in: sections)
        let groupCount = try reader.count(bytesEach: dimension * elementType.byteCount)
        guard groupCount > 0 else { throw reader.failure("no group") }
        let centres = try reader.matrix(
            count: groupCount, dimension: dimension, elementType: elementType)
        let starts = try reader.numbers(groupCount + 1)
        let numbers = try reader.numbers(count)
        try reader.finish()
        guard starts[0] == 0, Int(starts[groupCount]) == count, isRising(starts) else {
            throw reader.failure("groups do not begin in order")
        }
        var places = [UInt32](repeating: .max, count: count)
        for (place, number) in numbers.enumerated() {
            guard Int(number) < count, places[Int(number)] == .max else {
                throw reader.failure("centroid \(number) twice or not there")
            }
            places[Int(number)] = UInt32(place)
        }
        let rowByteCount = dimension * elementType.byteCount
        guard count <= centroidReader.remaining / rowByteCount else {
            throw centroidReader.failure("holds fewer than \(count) centroids")
        }
        let centroids = VectorMatrix(
            count: count, dimension: dimension, elementType: elementType, inHugePages: true)
        let step = max(1, min(count, pieceByteCount / rowByteCount))
        var first = 0
        while first < count {
            let piece = try centroidReader.matrix(
                count: min(step, count - first), dimension: dimension, elementType: elementType)
            for row in 0..<piece.count {
                centroids.row(Int(places[first + row])).copyMemory(
                    from: piece.row(row), byteCount: rowByteCount)
            }
            first += piece.count
        }
        try centroidReader.finish()
        return CentroidGroups(
            centres: centres, centroids: centroids, numbers: numbers, starts: starts.map { Int($0) })
    }

    private static func isRising(_ starts: [UInt32]) -> Bool {
        for index in 1..<starts.count where starts[index] < starts[index - 1] { return false }
        return true
    }
}
