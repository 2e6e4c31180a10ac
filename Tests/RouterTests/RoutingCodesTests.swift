import Router
import Testing
import Vectors

@Suite struct RoutingCodesTests {
    /// Records in lists, queries among them, the nearest records of each.
    private static func examples(queries count: Int) -> RoutingExamples {
        let dimension = 8
        var random = SeededRandom(seed: 11)
        func rows(_ count: Int) -> VectorMatrix {
            let rows = VectorMatrix(count: count, dimension: dimension, elementType: .f32)
            for row in 0..<count {
                for column in 0..<dimension {
                    rows.floatRow(row)[column] = Float(30 * random.gaussian() / Double(1 + column))
                }
            }
            return rows
        }
        let (base, queries) = (rows(2000), rows(count))
        let centroids = base.gather(0..<10)
        let homes = NearestCentroids(scanning: centroids).assign(base, threads: 2).partitions
        let near = NearestCentroids(scanning: base).nearest(30, queries, threads: 2)
        return RoutingExamples(
            queries: queries, records: near.partitions, recordsEach: 30, neighbours: 4, base: base,
            homes: homes, centroids: centroids)
    }

    private static func start(_ examples: RoutingExamples, bytes: Int = 2) -> ProductQuantiser {
        let rows = VectorMatrix(
            count: examples.base.count, dimension: examples.base.dimension, elementType: .f32)
        for row in 0..<rows.count {
            let centroid = examples.centroids.floatRow(Int(examples.homes[row]))
            for column in 0..<rows.dimension {
                rows.floatRow(row)[column] = examples.base.floatRow(row)[column] - centroid[column]
            }
        }
        return ProductQuantiser.train(.weighted, rows: rows, codeByteCount: bytes, seed: 3, threads: 2)
    }

    private static func options(threads: Int = 2, epochs: Int = 3) -> RoutingCodesOptions {
        var options = RoutingCodesOptions()
        options.competitors = 10
        options.training.batchSize = 20
        options.training.epochs = epochs
        options.training.threads = threads
        options.training.patience = 10
        return options
    }

    @Test func slopesAreThoseOfTheLoss() {
        let examples = Self.examples(queries: 40)
        let trainer = RoutingCodesTrainer(
            start: Self.start(examples), examples: examples, options: Self.options())
        let chosen = (0..<10).map { ($0, Array(0..<14)) }
        _ = trainer.gradient(of: chosen, seed: nil)
        let (byWords, byTurn) = (
            Array(0..<trainer.words.count).map { trainer.words.gradient[$0] },
            (0..<64).map { trainer.turn.gradient[$0] }
        )
        func loss() -> Double { trainer.gradient(of: chosen, seed: nil) / 10 }
        let greatest = byWords.indices.sorted { abs(byWords[$0]) > abs(byWords[$1]) }.prefix(12)
        for place in greatest {
            let (value, step) = (trainer.words.values[place], Float(0.01))
            trainer.words.values[place] = value + step
            let above = loss()
            trainer.words.values[place] = value - step
            let below = loss()
            trainer.words.values[place] = value
            let slope = (above - below) / Double(2 * step)
            #expect(abs(slope - Double(byWords[place])) < 0.02 * abs(slope) + 1e-3)
        }
        let rotation = trainer.rotation.snapshot
        for (row, column) in [(0, 1), (0, 5), (2, 3), (4, 7), (6, 1)] {
            func turned(_ angle: Float) -> Double {
                trainer.rotation.restoreValues(rotation)
                trainer.turn.values[row * 8 + column] = angle
                trainer.turn.values[column * 8 + row] = -angle
                trainer.foldTurn()
                return loss()
            }
            let slope = (turned(1e-3) - turned(-1e-3)) / 2e-3
            trainer.rotation.restoreValues(rotation)
            #expect(abs(slope - Double(byTurn[row * 8 + column])) < 0.02 * abs(slope) + 0.02)
        }
    }

    @Test func slopesThroughADrawnWordAreThoseOfTheSoftmax() {
        var random = SeededRandom(seed: 2)
        let width = 3
        var words = (0..<256 * width).map { _ in Float(random.gaussian()) }
        var y = (0..<width).map { _ in Float(random.gaussian()) }
        let slope = (0..<width).map { _ in Float(random.gaussian()) }
        // The words that are averaged stay; those that distances are taken to move.
        let kept = words
        var drawing = StraightThrough(width: width)
        func value(_ temperature: Float) -> Double {
            var none: SeededRandom?
            drawing.clear()
            _ = drawing.draw(y, words: words, temperature: temperature, random: &none)
            var sum = 0.0
            for entry in drawing.shares {
                for component in 0..<width {
                    sum += Double(entry.share * slope[component] * kept[entry.word * width + component])
                }
            }
            return sum
        }
        let temperature: Float = 0.3
        _ = value(temperature)
        var (toY, toWords) = ([Float](repeating: 0, count: width), [Float](repeating: 0, count: words.count))
        let near = drawing.shares.map(\.word)
        let byTemperature = drawing.addSlopes(
            of: 0, slope, y, words: words, temperature: temperature, toY: &toY, toWords: &toWords)
        let step: Float = 2e-3
        for component in 0..<width {
            let held = y[component]
            y[component] = held + step
            let above = value(temperature)
            y[component] = held - step
            let below = value(temperature)
            y[component] = held
            #expect(abs((above - below) / Double(2 * step) - Double(toY[component])) < 5e-3)
        }
        for word in near.prefix(6) {
            let held = words[word * width]
            words[word * width] = held + step
            let above = value(temperature)
            words[word * width] = held - step
            let below = value(temperature)
            words[word * width] = held
            #expect(abs((above - below) / Double(2 * step) - Double(toWords[word * width])) < 5e-3)
        }
        let higher = value(temperature * 1.01)
        let lower = value(temperature / 1.01)
        #expect(abs((higher - lower) / 0.0199 - Double(byTemperature)) < 5e-3)
    }

    @Test func trainingEndsNoWorseAndKeepsTheRotationOne() {
        let examples = Self.examples(queries: 300)
        let start = Self.start(examples)
        let trainer = RoutingCodesTrainer(start: start, examples: examples, options: Self.options(epochs: 6))
        let before = trainer.heldOutLoss()
        trainer.train { _ in }
        #expect(trainer.heldOutLoss() <= before)
        #expect((trainer.report.trainLosses.last ?? 1) < trainer.report.trainLosses[0])
        for row in 0..<8 {
            for other in 0..<8 {
                let unit = (0..<8).reduce(Float(0)) {
                    $0 + trainer.rotation.values[row * 8 + $1] * trainer.rotation.values[other * 8 + $1]
                }
                #expect(abs(unit - (row == other ? 1 : 0)) < 1e-5)
            }
        }
        #expect(trainer.quantiser.family == .rpq)
    }

    @Test func trainingThatOnlyDoesHarmGivesTheStartBack() {
        let examples = Self.examples(queries: 100)
        let start = Self.start(examples)
        var options = Self.options()
        (options.wordRate, options.turnRate) = (50, 0.1)
        let trainer = RoutingCodesTrainer(start: start, examples: examples, options: options)
        trainer.train { _ in }
        // Steps as long as these may end in what is no number, which is no better either.
        #expect(trainer.report.heldOutLosses.allSatisfy { !($0 <= trainer.report.heldOutStart) })
        #expect(trainer.report.bestEpoch == 0)
        let kept = trainer.quantiser
        let rows = examples.base.gather(0..<200)
        #expect(kept.encoder.encode(rows) == start.encoder.encode(rows))
        var (left, right) = ([Float](repeating: 0, count: 8), [Float](repeating: 0, count: 8))
        for word: UInt8 in [0, 17, 255] {
            kept.encoder.decode([word, word], into: &left)
            start.encoder.decode([word, word], into: &right)
            #expect(left == right)
        }
    }

    @Test func trainingBeginsAtTheFamilyThatChoosesBest() {
        let examples = Self.examples(queries: 200)
        let good = Self.start(examples)
        // Codewords of other residuals: those of vectors a tenth as long.
        let small = VectorMatrix(count: 600, dimension: 8, elementType: .f32)
        for place in 0..<600 * 8 { small.floats[place] = examples.base.floats[place] / 10 }
        let bad = ProductQuantiser.train(.opq, rows: small, codeByteCount: 2, seed: 3, threads: 2)
        for starts in [[good, bad], [bad, good]] {
            let trainer = RoutingCodesTrainer.best(
                of: starts, examples: examples, options: Self.options(epochs: 0))
            trainer.train { _ in }
            #expect(trainer.quantiser.residentByteCount == good.residentByteCount)
            let rows = examples.base.gather(0..<100)
            #expect(trainer.quantiser.encoder.encode(rows) == good.encoder.encode(rows))
        }
    }

    @Test func threadsAndInterruptionsDoNotChangeBytes() {
        let examples = Self.examples(queries: 100)
        let start = Self.start(examples)
        var states: [[UInt8]] = []
        let whole = RoutingCodesTrainer(start: start, examples: examples, options: Self.options())
        whole.train { states.append($0.state) }
        let alone = RoutingCodesTrainer(start: start, examples: examples, options: Self.options(threads: 1))
        alone.train { _ in }
        #expect(alone.quantiser.encode() == whole.quantiser.encode())
        for state in states {
            let other = RoutingCodesTrainer(start: start, examples: examples, options: Self.options())
            #expect(other.restore(state))
            other.train { _ in }
            #expect(other.quantiser.encode() == whole.quantiser.encode())
        }
        let damaged = RoutingCodesTrainer(start: start, examples: examples, options: Self.options())
        #expect(!damaged.restore(Array(states[0].dropLast())))
    }
}
