// The router as bytes. Section "centroid": format u32, kind u8, element type u8, zero u16, dimension u32,
// beta f32, count u64, rows. Section "graph": nodes u64, edges u64, entries u64, starts, neighbours and
// entries as u32. Section "groups": groups u64, centre rows, starts and numbers as u32. Little endian.
// Every number is checked before it is used: bytes may be anything.

import Vectors

extension CentroidIndex {
    public static let centroidSection = "centroid"
    public static let graphSection = "graph"
    public static let groupSection = "groups"
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
        return sections
    }

    /// The router that `sections` hold.
    public init(decoding sections: [String: [UInt8]]) throws(RouterError) {
        var reader = try SectionReader(Self.centroidSection, sections[Self.centroidSection])
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
        let rows = try reader.matrix(count: count, dimension: dimension, elementType: elementType)
        try reader.finish()
        if elementType.isFloatingPoint {
            // The copy must outlive the pointer into it.
            let converted = rows.converted(to: .f32)
            let bad = withExtendedLifetime(converted) {
                let floats = converted.floats
                return (0..<count * dimension).first { !floats[$0].isFinite }
            }
            if let bad { throw reader.failure("centroid \(bad / dimension) is not finite") }
        }
        switch kind {
        case .scan: self.init(storage: .scan(rows), beta: beta)
        case .groups:
            self.init(storage: .groups(try Self.decodeGroups(sections, rows)), beta: beta)
        case .graph:
            self.init(storage: .graph(rows, try Self.decodeGraph(sections, rows)), beta: beta)
        }
    }

    private static func decodeGraph(
        _ sections: [String: [UInt8]], _ rows: VectorMatrix
    ) throws(RouterError) -> CentroidGraph {
        var reader = try SectionReader(graphSection, sections[graphSection])
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

    private static func decodeGroups(
        _ sections: [String: [UInt8]], _ rows: VectorMatrix
    ) throws(RouterError) -> CentroidGroups {
        var reader = try SectionReader(groupSection, sections[groupSection])
        let groupCount = try reader.count(bytesEach: rows.rowByteCount)
        guard groupCount > 0 else { throw reader.failure("no group") }
        let centres = try reader.matrix(
            count: groupCount, dimension: rows.dimension, elementType: rows.elementType)
        let starts = try reader.numbers(groupCount + 1)
        let numbers = try reader.numbers(rows.count)
        try reader.finish()
        guard starts[0] == 0, Int(starts[groupCount]) == rows.count, isRising(starts) else {
            throw reader.failure("groups do not begin in order")
        }
        var seen = [Bool](repeating: false, count: rows.count)
        for number in numbers {
            guard Int(number) < rows.count, !seen[Int(number)] else {
                throw reader.failure("centroid \(number) twice or not there")
            }
            seen[Int(number)] = true
        }
        return CentroidGroups(
            centres: centres, centroids: rows.gather(numbers), numbers: numbers,
            starts: starts.map { Int($0) })
    }

    private static func isRising(_ starts: [UInt32]) -> Bool {
        for index in 1..<starts.count where starts[index] < starts[index - 1] { return false }
        return true
    }
}
