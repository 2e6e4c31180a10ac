// Whether a truth is that of an index and its queries: asked before a recall is told. A recall is a
// comparison, and a truth of another metric, base or set of queries makes of it a figure that looks right.
// What a search has answered is the witness: its distances are exact, and so is what it found nearer. What
// it has not met of some rows is read from the segments, once.

import Router
import Storage
import Vectors

/// A truth before it is believed.
struct TruthCheck {
    let index: DiskIndex
    let path: String
    let k: Int
    /// Rows compared with the answers, and rows whose neighbours are looked up in the index, at most.
    static let rowsMaximum = 16384
    static let readRowsMaximum = 32
    /// Larger indexes are not read for it.
    static let readByteCountMaximum: UInt64 = 4 << 30
    /// Neighbours without distances that are looked up, at most.
    static let placesMaximum = 4 << 20

    /// A neighbour as the truth claims it and as the index has it.
    struct Claim {
        var row: Int
        var rank: Int
        var id: UInt64
        var claimed: Float
        var exact: Float
        /// Squared length of the query.
        var squared: Float
    }

    /// How far a distance may lie from another of the same pair: other programs sum in another order, or
    /// expand l2 into norms and products.
    func tolerance(_ exact: Float, squared: Float) -> Float {
        switch index.metric {
        case .l2: 2e-5 * (squared + abs(exact))
        case .ip: 2e-5 * max(squared, abs(exact))
        case .cosine: 2e-5
        }
    }

    func refusal(row: Int, _ detail: String) -> IndexError {
        .otherTruth(
            "\(path): row \(row): \(detail); make the truth again with `sonde truth`, with this base, these "
                + "queries and metric \(index.metric.name)")
    }

    /// How many true neighbours each row has within `k`; refuses rows that are no neighbours of anything.
    func existing(_ truth: TruthFile, row: Int) throws(IndexError) -> Int {
        var filled = 0
        while filled < k, truth.id(query: row, rank: filled) != TruthFile.noId,
            truth.distances == nil || truth.distance(query: row, rank: filled).isFinite
        {
            filled += 1
        }
        if filled < k {
            guard filled >= index.count else {
                throw refusal(
                    row: row,
                    "place \(filled) of \(k) holds no neighbour (id 4294967295, -1, or a distance that is not finite), "
                        + "though the index holds \(index.count) vectors")
            }
            for rank in filled..<k where truth.id(query: row, rank: rank) != TruthFile.noId {
                throw refusal(row: row, "place \(rank) names a neighbour behind one that is empty")
            }
        }
        var ids = (0..<filled).map { truth.id(query: row, rank: $0) }
        ids.sort()
        if let twice = zip(ids, ids.dropFirst()).first(where: { $0 == $1 })?.0 {
            throw refusal(row: row, "names vector \(twice) twice; expected \(k) different ones")
        }
        return filled
    }

    /// Refuses claims that are not what the index has, and says what they are where that is known.
    func refuse(_ claims: [Claim], others: [Metric: [Float]] = [:]) throws(IndexError) {
        func agree(_ convention: (Claim) -> Float) -> Bool {
            let right = claims.count { claim in
                let value = convention(claim)
                return abs(claim.claimed - value) <= tolerance(value, squared: claim.squared)
            }
            return right * 10 >= claims.count * 9
        }
        guard
            let wrong = claims.first(where: {
                // Written so that it also catches what is not a number.
                !(abs($0.claimed - $0.exact) <= tolerance($0.exact, squared: $0.squared))
            })
        else { return }
        var conventions: [(String, (Claim) -> Float)] = []
        switch index.metric {
        case .ip:
            conventions = [
                ("positive inner products (sonde's are negative: smaller is nearer)", { -$0.exact })
            ]
        case .l2:
            conventions = [
                ("Euclidean distances (sonde's are squared)", { max($0.exact, 0).squareRoot() }),
                ("halves of squared distances", { $0.exact / 2 }), ("negative distances", { -$0.exact }),
            ]
        case .cosine:
            conventions = [
                ("2 - 2 cos, squared distances of unit vectors (sonde's are 1 - cos)", { 2 * $0.exact }),
                ("cosines (sonde's are 1 - cos)", { 1 - $0.exact }), ("negative cosines", { $0.exact - 1 }),
                ("distances of unit vectors (sonde's are 1 - cos)", { max(2 * $0.exact, 0).squareRoot() }),
            ]
        }
        var meaning = ""
        if let known = conventions.first(where: { agree($0.1) }) {
            meaning = "; its distances are \(known.0)"
        } else {
            for (metric, values) in others where values.count == claims.count {
                let right = zip(claims, values).count { claim, value in
                    abs(claim.claimed - value) <= 2e-5 * (claim.squared + abs(value))
                }
                if right * 10 >= claims.count * 9 {
                    meaning = "; its distances are those of metric \(metric.name)"
                }
            }
        }
        throw refusal(
            row: wrong.row,
            "its neighbour \(wrong.rank) is vector \(wrong.id) at distance \(wrong.claimed), which the index has at "
                + "\(wrong.exact)\(meaning)")
    }
}

extension DiskIndex {
    /// Refuses a truth that is not that of `queries` in this index, going by what a search has answered them
    /// and by what is read for some rows. Distances that the truth does not hold are filled in.
    ///
    /// - Parameters:
    ///   - path: that of the truth, for messages.
    ///   - queries: gives the vectors of the rows that are asked for.
    /// - Returns: the truth; with distances where they could be looked up.
    public func checked(
        truth: TruthFile, path: String, k: Int, answers: TruthFile,
        queries: ([Int]) throws -> VectorMatrix
    ) throws -> TruthFile {
        try validate(truth: truth, queryCount: answers.count, k: k)
        let check = TruthCheck(index: self, path: path, k: k)
        let product = Distance(metric: .ip, elementType: elementType)
        var filled: [Int] = []
        for row in 0..<answers.count { filled.append(try check.existing(truth, row: row)) }

        let most = min(TruthCheck.rowsMaximum, max(1, TruthCheck.placesMaximum / 2 / max(k, answers.k)))
        let step = max(1, (answers.count + most - 1) / most)
        let rows = Array(stride(from: 0, to: answers.count, by: step))
        let vectors = try queries(rows)
        let squares = rows.indices.map {
            -product.pair(vectors.row($0), vectors.row($0), dimension: dimension)
        }

        // What the search met of the truth, at the distances that it found.
        var claims: [TruthCheck.Claim] = []
        var met: [[UInt64: Float]] = []
        for (place, row) in rows.enumerated() {
            var found: [UInt64: Float] = [:]
            for rank in 0..<answers.k
            where answers.distances != nil && answers.id(query: row, rank: rank) != TruthFile.noId {
                found[answers.id(query: row, rank: rank)] = answers.distance(query: row, rank: rank)
            }
            for rank in 0..<filled[row] where truth.distances != nil {
                let id = truth.id(query: row, rank: rank)
                guard let exact = found[id] else { continue }
                claims.append(
                    .init(
                        row: row, rank: rank, id: id, claimed: truth.distance(query: row, rank: rank),
                        exact: exact, squared: squares[place]))
            }
            met.append(found)
        }
        func look(_ met: [[UInt64: Float]]) throws -> TruthFile {
            try looked(
                up: truth, check: check, rows: rows, vectors: vectors, squares: squares, filled: filled,
                met: met)
        }
        do {
            try check.refuse(claims)
        } catch {
            // The vectors themselves may tell of which metric the distances are.
            _ = try look(met.map { _ in [:] })
            throw error
        }
        let result = try look(met)
        for (place, row) in rows.enumerated() {
            try check.refuseOrder(
                of: result, row: row, filled: filled[row], squared: squares[place], answers: answers,
                met: met[place])
        }
        return result
    }

    /// Looks up in the segments what the answers did not tell: for some rows of a truth with distances,
    /// else for all that are compared.
    private func looked(
        up truth: TruthFile, check: TruthCheck, rows: [Int], vectors: VectorMatrix, squares: [Float],
        filled: [Int], met: [[UInt64: Float]]
    ) throws -> TruthFile {
        var result = truth
        var wanted: [(id: UInt64, place: Int, rank: Int)] = []
        let spacing =
            truth.distances != nil || rows.count * check.k > TruthCheck.placesMaximum
            ? max(1, (rows.count + TruthCheck.readRowsMaximum - 1) / TruthCheck.readRowsMaximum) : 1
        if truth.distances == nil {
            result = TruthFile(
                count: truth.count, k: truth.k, ids: truth.ids,
                distances: [Float](repeating: .nan, count: truth.ids.count))
        }
        let heads = Set((headIds ?? []).map { UInt64($0) })
        for (place, row) in rows.enumerated() {
            for rank in 0..<filled[row] {
                let id = truth.id(query: row, rank: rank)
                if let distance = met[place][id] {
                    if truth.distances == nil {
                        result.set(query: row, rank: rank, id: id, distance: distance)
                    }
                } else if place % spacing == 0, !heads.contains(id) {
                    wanted.append((id, place, rank))
                }
            }
        }
        guard !wanted.isEmpty, device.byteCount <= TruthCheck.readByteCountMaximum else { return result }
        wanted.sort { $0.id < $1.id }
        var isFound = [Bool](repeating: false, count: wanted.count)
        var claims: [TruthCheck.Claim] = []
        var others: [Metric: [Float]] = [:]
        let distances = Metric.allCases.map { Distance(metric: $0, elementType: elementType) }
        try forEachSegment { partition, segment in
            forEachRecord(of: partition, in: segment) { id, vector in
                var (low, high) = (0, wanted.count)
                while low < high {
                    let middle = (low + high) / 2
                    if wanted[middle].id < id { low = middle + 1 } else { high = middle }
                }
                while low < wanted.count, wanted[low].id == id {
                    defer { low += 1 }
                    if isFound[low] { continue }
                    isFound[low] = true
                    let (place, rank) = (wanted[low].place, wanted[low].rank)
                    let values = distances.map { $0.pair(vectors.row(place), vector, dimension: dimension) }
                    let exact = values[Int(metric.rawValue)]
                    if truth.distances == nil {
                        result.set(query: rows[place], rank: rank, id: id, distance: exact)
                        continue
                    }
                    claims.append(
                        .init(
                            row: rows[place], rank: rank, id: id,
                            claimed: truth.distance(query: rows[place], rank: rank), exact: exact,
                            squared: squares[place]))
                    for other in Metric.allCases where other != metric {
                        others[other, default: []].append(values[Int(other.rawValue)])
                    }
                }
            }
        }
        if let missing = isFound.firstIndex(of: false) {
            throw check.refusal(
                row: rows[wanted[missing].place],
                "names vector \(wanted[missing].id), which the index does not hold")
        }
        try check.refuse(claims, others: others)
        return result
    }
}

extension TruthCheck {
    /// Refuses a row whose distances fall, and one that leaves out what a search found nearer.
    func refuseOrder(
        of truth: TruthFile, row: Int, filled: Int, squared: Float, answers: TruthFile, met: [UInt64: Float]
    ) throws(IndexError) {
        var (last, lastRank) = (-Float.infinity, 0)
        var names: Set<UInt64> = []
        for rank in 0..<filled {
            names.insert(truth.id(query: row, rank: rank))
            let distance = truth.distance(query: row, rank: rank)
            // Distances that could not be looked up are not known.
            if distance.isNaN { continue }
            if distance < last - tolerance(last, squared: squared) {
                throw refusal(
                    row: row,
                    "its neighbour \(rank) at distance \(distance) is nearer than its neighbour \(lastRank) at \(last); "
                        + "expected the nearest first")
            }
            if distance > last { (last, lastRank) = (distance, rank) }
        }
        guard last.isFinite else { return }
        for (id, distance) in met
        where distance < last - 2 * tolerance(last, squared: squared) && !names.contains(id) {
            throw refusal(
                row: row,
                "vector \(id) at distance \(distance), which a search found, is nearer than its neighbour \(lastRank) at "
                    + "\(last), and the row does not name it: it is the truth of fewer or other vectors, of other queries "
                    + "or of another metric")
        }
    }
}
