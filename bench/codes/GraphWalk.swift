// Best-first search: the least of what the beam holds and is not yet expanded is expanded, until all of the beam is.

/// One walk at a time; its memory serves the next.
struct GraphWalk {
    struct Entry {
        var distance: Float
        var vertex: UInt32
        var isExpanded: Bool
    }

    let width: Int
    /// Least first, at most `width`.
    private(set) var beam: [Entry] = []
    /// In the order of the walk: a hop each.
    private(set) var expanded: [UInt32] = []
    /// Distances that were asked for.
    private(set) var estimates = 0
    private var visits: [UInt32]
    private var walk: UInt32 = 0

    init(_ graph: ProximityGraph, width: Int) {
        self.width = width
        visits = [UInt32](repeating: 0, count: graph.base.count)
    }

    /// - Parameters:
    ///   - distance: of a vertex to the query.
    ///   - onHop: told, before each hop, of all that was seen so far and is not expanded (unordered).
    mutating func run(
        _ graph: ProximityGraph, onHop: ((_ seen: [Entry]) -> Void)? = nil, distance: (UInt32) -> Float
    ) {
        walk += 1
        beam.removeAll(keepingCapacity: true)
        expanded.removeAll(keepingCapacity: true)
        estimates = 0
        var seen: [Entry] = []
        func offer(_ vertex: UInt32, _ walk: inout GraphWalk) -> Int {
            let entry = Entry(distance: distance(vertex), vertex: vertex, isExpanded: false)
            walk.estimates += 1
            if onHop != nil { seen.append(entry) }
            return walk.insert(entry)
        }
        visits[graph.entry] = walk
        var next = offer(UInt32(graph.entry), &self)
        while next < beam.count {
            guard !beam[next].isExpanded else {
                next += 1
                continue
            }
            let vertex = beam[next].vertex
            onHop?(seen)
            beam[next].isExpanded = true
            expanded.append(vertex)
            seen.removeAll { $0.vertex == vertex }
            for other in graph.neighbours(of: Int(vertex)) where visits[Int(other)] != walk {
                visits[Int(other)] = walk
                next = min(next, offer(other, &self))
            }
        }
    }

    /// Takes a vertex into the beam where it is among the least; the place it got.
    private mutating func insert(_ entry: Entry) -> Int {
        var (low, high) = (0, beam.count)
        while low < high {
            let middle = (low + high) / 2
            if beam[middle].distance <= entry.distance { low = middle + 1 } else { high = middle }
        }
        guard low < width else { return .max }
        beam.insert(entry, at: low)
        if beam.count > width { beam.removeLast() }
        return low
    }
}
