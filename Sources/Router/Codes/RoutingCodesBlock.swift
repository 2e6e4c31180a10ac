// Some queries with their records: estimates, losses, and slopes by hand. In mapped components, w the words of a record's
// code, y its residual, t the same by the queries' map, u the query less the record's centroid, G the map's products:
//   estimate = |u|^2 - 2 <T u, w> + <w, G w> + a (|r|^2 - 2 <t, w> + <w, G w>),
// the second part being a times what the code lost. A turn of both maps by A changes it as a turn of w by -A does.

import CKernels
import Glibc
import Vectors

final class RoutingCodesBlock {
    private let trainer: RoutingCodesTrainer
    private let order: Int
    private let dimension: Int
    private let capacity: Int
    private var queries: [(query: Int, places: [Int])] = []
    private var count = 0
    /// By row: residual, query less centroid; mapped: y, t, T u, w, G w, slopes by w and by y.
    private let (residuals, offsets, y, t, u, w, gw, slopes, ySlopes):
        (
            VectorMatrix, VectorMatrix, VectorMatrix, VectorMatrix, VectorMatrix, VectorMatrix, VectorMatrix,
            VectorMatrix, VectorMatrix
        )
    private(set) var estimates: [Float]
    private var codes: [Int]
    private var spaces: [StraightThrough]
    let wordSlopes: UnsafeMutablePointer<Float>
    let turnSlopes: UnsafeMutablePointer<Float>
    let temperatureSlopes: UnsafeMutablePointer<Float>

    init(_ trainer: RoutingCodesTrainer) {
        self.trainer = trainer
        let (start, examples) = (trainer.start, trainer.examples)
        order = start.mappedDimension
        dimension = start.dimension
        let pool = examples.neighbours + trainer.options.competitors
        capacity = max(examples.recordsEach, RoutingCodesTrainer.blockQueries * pool)
        let capacity = capacity
        func rows(_ dimension: Int) -> VectorMatrix {
            VectorMatrix(count: capacity, dimension: dimension, elementType: .f32)
        }
        let (dimension, order) = (start.dimension, start.mappedDimension)
        (residuals, offsets) = (rows(dimension), rows(dimension))
        (y, t, u, w, gw) = (rows(order), rows(order), rows(order), rows(order), rows(order))
        (slopes, ySlopes) = (rows(order), rows(order))
        estimates = [Float](repeating: 0, count: capacity)
        codes = [Int](repeating: 0, count: capacity * start.codeByteCount)
        spaces = (0..<start.codeByteCount).map { StraightThrough(width: start.components(of: $0).count) }
        wordSlopes = .allocate(capacity: trainer.words.count)
        turnSlopes = .allocate(capacity: order * order)
        temperatureSlopes = .allocate(capacity: start.codeByteCount)
    }

    deinit {
        wordSlopes.deallocate()
        turnSlopes.deallocate()
        temperatureSlopes.deallocate()
    }

    /// Takes queries with places among their records.
    func load(_ queries: [(query: Int, places: [Int])], _ maps: RoutingCodesMaps) {
        self.queries = queries
        let examples = trainer.examples
        count = 0
        for (query, places) in queries {
            for place in places {
                let record = Int(examples.records[query * examples.recordsEach + place])
                let centroid = examples.centroids.floatRow(Int(examples.homes[record]))
                let (residual, offset) = (residuals.floatRow(count), offsets.floatRow(count))
                VectorMatrix.toFloat(
                    examples.base.row(record), examples.base.elementType, count: dimension, into: residual)
                offset.update(from: examples.queries.floatRow(query), count: dimension)
                sonde_add_scaled(residual, centroid, -1, dimension)
                sonde_add_scaled(offset, centroid, -1, dimension)
                count += 1
            }
        }
        precondition(count <= capacity)
        product(residuals, maps.vector, into: y)
        if maps.vector !== maps.query {
            product(residuals, maps.query, into: t)
        } else {
            t.floats.update(from: y.floats, count: count * order)
        }
        product(offsets, maps.query, into: u)
    }

    private func product(_ rows: VectorMatrix, _ map: VectorMatrix, into result: VectorMatrix) {
        MatrixProduct.multiply(
            rows.floats, stride: rows.dimension, map.floats, transposedB: true, strideB: map.dimension,
            m: count, n: map.count, k: map.dimension, into: result.floats, stride: map.count)
    }

    private func words(_ space: Int) -> (
        values: UnsafeMutablePointer<Float>, slopes: UnsafeMutablePointer<Float>
    ) {
        let first = Int(trainer.start.starts[space]) * ProductQuantiser.wordCount
        return (trainer.words.values + first, wordSlopes + first)
    }

    /// Gives each record the word that a search will have for it.
    func assignNearest() {
        for space in spaces.indices {
            let first = Int(trainer.start.starts[space])
            for row in 0..<count {
                codes[row * spaces.count + space] = spaces[space].nearest(
                    to: y.floatRow(row) + first, words: words(space).values)
            }
        }
    }

    func trueDistance(_ row: Int) -> Float {
        (0..<dimension).reduce(Float(0)) {
            let off = offsets.floatRow(row)[$1] - residuals.floatRow(row)[$1]
            return $0 + off * off
        }
    }

    /// What a record lost in some mapped components.
    func loss(_ row: Int, _ components: Range<Int>) -> Float {
        components.reduce(Float(0)) {
            let off = y.floatRow(row)[$1] - w.floatRow(row)[$1]
            return $0 + off * off
        }
    }

    /// Fills the estimates by the codes as they are.
    func estimate(_ maps: RoutingCodesMaps) {
        for row in 0..<count {
            for space in spaces.indices {
                let components = trainer.start.components(of: space)
                let word = codes[row * spaces.count + space] * components.count
                (w.floatRow(row) + components.lowerBound).update(
                    from: words(space).values + word, count: components.count)
            }
        }
        product(w, maps.products, into: gw)
        let weight = trainer.options.errorWeight
        for row in 0..<count {
            let (wRow, gRow, uRow, tRow) = (
                w.floatRow(row), gw.floatRow(row), u.floatRow(row), t.floatRow(row)
            )
            var (square, along, lost) = (Float(0), Float(0), Float(0))
            for component in 0..<order {
                square += wRow[component] * gRow[component]
                along += wRow[component] * uRow[component]
                lost += wRow[component] * tRow[component]
            }
            var (offset, residual) = (Float(0), Float(0))
            let (offsetRow, residualRow) = (offsets.floatRow(row), residuals.floatRow(row))
            for component in 0..<dimension {
                offset += offsetRow[component] * offsetRow[component]
                residual += residualRow[component] * residualRow[component]
            }
            estimates[row] = offset - 2 * along + square + weight * (residual - 2 * lost + square)
        }
    }

    /// Mean over the neighbours of a query of -log of the share of each among itself and the competitors.
    ///
    /// - Parameter slopes: by the estimates of the rows; nil where they are not asked for.
    func routingLoss(_ first: Int, places: Int? = nil, slopes: UnsafeMutablePointer<Float>?) -> Double {
        let neighbours = trainer.examples.neighbours
        let end = first + (places ?? count)
        let beta = trainer.inverseError
        let least = estimates[first..<end].min() ?? 0
        func term(_ row: Int) -> Double { exp(Double(-beta * (estimates[row] - least))) }
        let others = (first + neighbours..<end).reduce(0.0) { $0 + term($1) }
        var (loss, ofOthers) = (0.0, 0.0)
        for row in first..<first + neighbours {
            let own = term(row)
            let sum = max(own + others, 1e-300)
            loss += log(sum) + Double(beta * (estimates[row] - least))
            ofOthers += 1 / sum
            slopes?[row] = beta * Float(1 - own / sum) / Float(neighbours)
        }
        if let slopes {
            for row in first + neighbours..<end {
                slopes[row] = -beta * Float(term(row) * ofOthers) / Float(neighbours)
            }
        }
        return loss / Double(neighbours)
    }

    /// The loss of some queries, and its slopes.
    func pass(_ queries: [(query: Int, places: [Int])], _ maps: RoutingCodesMaps, seed: UInt64?) -> Double {
        wordSlopes.update(repeating: 0, count: trainer.words.count)
        temperatureSlopes.update(repeating: 0, count: spaces.count)
        load(queries, maps)
        var noise = trainer.options.isNoisy ? seed.map { SeededRandom(seed: $0, stream: 31) } : nil
        var triplets = SeededRandom(seed: seed ?? 1, stream: 32)
        if seed == nil { assignNearest() } else { draw(&noise) }
        estimate(maps)
        let byEstimate = UnsafeMutablePointer<Float>.allocate(capacity: max(count, 1))
        defer { byEstimate.deallocate() }
        let options = trainer.options
        var (loss, first) = (0.0, 0)
        for (_, places) in queries {
            loss += routingLoss(first, places: places.count, slopes: byEstimate)
            let neighbours = trainer.examples.neighbours
            let (near, far) = (
                first + triplets.below(neighbours),
                first + neighbours + triplets.below(places.count - neighbours)
            )
            let beta = trainer.inverseError
            let margin = 1 + beta * (estimates[near] - estimates[far])
            if margin > 0 {
                loss += Double(options.triplet * margin)
                byEstimate[near] += options.triplet * beta
                byEstimate[far] -= options.triplet * beta
            }
            let share = options.reconstruction / (Float(places.count) * trainer.meanLoss)
            for row in first..<first + places.count {
                let (to, wRow) = (slopes.floatRow(row), w.floatRow(row))
                let (gRow, uRow, tRow, yRow) = (
                    gw.floatRow(row), u.floatRow(row), t.floatRow(row), y.floatRow(row)
                )
                let byRow = 2 * byEstimate[row]
                for component in 0..<order {
                    to[component] =
                        byRow
                        * ((1 + options.errorWeight) * gRow[component] - uRow[component] - options.errorWeight
                            * tRow[component]) + 2 * share * (wRow[component] - yRow[component])
                }
                loss += Double(share * self.loss(row, 0..<order))
            }
            first += places.count
        }
        addSlopes(throughChoice: seed != nil)
        return loss
    }

    private func draw(_ noise: inout SeededRandom?) {
        for space in spaces.indices {
            let begin = Int(trainer.start.starts[space])
            let temperature = expf(trainer.temperatures.values[space])
            spaces[space].clear()
            for row in 0..<count {
                codes[row * spaces.count + space] = spaces[space].draw(
                    y.floatRow(row) + begin, words: words(space).values, temperature: temperature,
                    random: &noise)
            }
        }
    }

    /// From the slopes by w to those of words, temperatures and turn.
    private func addSlopes(throughChoice: Bool) {
        ySlopes.floats.update(repeating: 0, count: count * order)
        for space in spaces.indices {
            let components = trainer.start.components(of: space)
            let (begin, width) = (components.lowerBound, components.count)
            let (values, wordSlopes) = words(space)
            let temperature = expf(trainer.temperatures.values[space])
            for row in 0..<count {
                let slope = slopes.floatRow(row) + begin
                let code = codes[row * spaces.count + space]
                sonde_add_scaled(wordSlopes + code * width, slope, 1, width)
                guard throughChoice else { continue }
                temperatureSlopes[space] += spaces[space].addSlopes(
                    of: row, slope, y.floatRow(row) + begin, words: values, temperature: temperature,
                    toY: ySlopes.floatRow(row) + begin, toWords: wordSlopes)
            }
        }
        MatrixProduct.multiply(
            ySlopes.floats, transposedA: true, stride: order, y.floats, strideB: order, m: order, n: order,
            k: count, into: turnSlopes, stride: order)
        MatrixProduct.multiply(
            slopes.floats, transposedA: true, stride: order, w.floats, strideB: order, m: order, n: order,
            k: count, into: turnSlopes, stride: order, alpha: -1, beta: 1)
    }
}
