import Router
import Testing
import Vectors

@Suite struct PredictorTrainingTests {
    /// What each case of the gradient check varies.
    struct Case: CustomTestStringConvertible, Sendable {
        var form: PredictorForm
        var targets = 1
        var replicas = false
        var sharesBeta = false

        var testDescription: String {
            "\(form.base.rawValue) hidden \(form.hidden ?? []) targets \(targets) replicas \(replicas) shared \(sharesBeta)"
        }
    }

    static let cases: [Case] =
        predictorForms.flatMap { form in
            [
                Case(form: form), Case(form: form, replicas: true), Case(form: form, targets: 3),
                Case(form: form, targets: 3, replicas: true),
            ]
        } + [Case(form: PredictorForm(base: .prototypes), targets: 3, replicas: true, sharesBeta: true)]

    /// Along a random direction of every tensor, and along its steepest number.
    @Test(arguments: cases)
    func theGradientIsThatOfFiniteDifferences(_ example: Case) {
        let fixture = PredictorFixture(replicas: example.replicas)
        let model = fixture.model(example.form, sharesBeta: example.sharesBeta)
        let trainer = fixture.trainer(model, targets: example.targets)
        var random = SeededRandom(seed: 1)
        // Away from the start, where the last layer is zero and hidden layers see no slope.
        for tensor in model.tensors {
            let spread: Float = tensor.name == "centers" ? 2 : (tensor.name == "log beta" ? 0 : 0.2)
            for index in 0..<tensor.count { tensor.values[index] += spread * Float(random.gaussian()) }
        }
        let chosen = Array(UInt32(0)..<300)
        _ = trainer.gradient(of: chosen[...], noiseSeed: nil)
        let gradients = model.tensors.map { tensor in (0..<tensor.count).map { Double(tensor.gradient[$0]) } }
        for (tensor, gradient) in zip(model.tensors, gradients) {
            var directions = [(0..<tensor.count).map { _ in random.gaussian() }]
            let steepest = gradient.indices.max { abs(gradient[$0]) < abs(gradient[$1]) } ?? 0
            directions.append((0..<tensor.count).map { $0 == steepest ? 1 : 0 })
            for direction in directions {
                let slope = zip(direction, gradient).reduce(0.0) { $0 + $1.0 * $1.1 }
                let length = direction.reduce(0.0) { $0 + $1 * $1 }.squareRoot()
                let step = (tensor.name == "centers" ? 0.2 : 0.01) / length
                let start = (0..<tensor.count).map { tensor.values[$0] }
                func loss(_ factor: Double) -> Double {
                    for index in start.indices {
                        tensor.values[index] = start[index] + Float(factor * step * direction[index])
                    }
                    return trainer.gradient(of: chosen[...], noiseSeed: nil) / Double(chosen.count)
                }
                let measured = (loss(1) - loss(-1)) / (2 * step)
                _ = loss(0)
                let scale = gradient.reduce(0.0) { $0 + $1 * $1 }.squareRoot() * length
                #expect(scale > 0, "\(tensor.name) has no gradient")
                #expect(
                    abs(measured - slope) <= 0.02 * abs(slope) + 0.004 * scale,
                    "\(tensor.name): \(slope), measured \(measured), of \(scale)")
            }
        }
    }

    /// Partitions that are no candidates get no gradient: a step does not grow with their number.
    @Test func aStepTouchesTheRowsOfCandidatesOnly() {
        let fixture = PredictorFixture(partitions: 40)
        let model = fixture.model(PredictorForm(base: .distance, hidden: [10, 7]), candidates: 3)
        _ = fixture.trainer(model).gradient(of: [0][...], noiseSeed: nil)
        let biases = model.tensors[model.tensors.count - 1]
        let touched = (0..<biases.count).count { biases.gradient[$0] != 0 }
        #expect(biases.count == 40)
        // The three nearest, and the right one where it is another.
        #expect((2...4).contains(touched))
    }

    @Test func noiseIsTheSameForTheSameSeed() {
        let fixture = PredictorFixture()
        let trainer = fixture.trainer(fixture.model(PredictorForm(base: .prototypes)), noise: 3)
        let chosen = Array(UInt32(0)..<200)
        let first = trainer.gradient(of: chosen[...], noiseSeed: 4)
        #expect(first == trainer.gradient(of: chosen[...], noiseSeed: 4))
        #expect(first != trainer.gradient(of: chosen[...], noiseSeed: 5))
        #expect(first != trainer.gradient(of: chosen[...], noiseSeed: nil))
    }

    @Test(arguments: predictorForms)
    func threadsDoNotChangeWhatIsLearned(form: PredictorForm) throws {
        let fixture = PredictorFixture(replicas: true)
        var learned: [[[UInt32]]] = []
        for threads in [1, 2, 2] {
            let model = fixture.model(form)
            let trainer = fixture.trainer(model, threads: threads, targets: 3, noise: 1)
            try trainer.train()
            learned.append(values(model))
        }
        #expect(learned[0] == learned[1] && learned[1] == learned[2])
        let other = fixture.model(form)
        #expect(values(other) != learned[0], "nothing was learned")
    }

    @Test(arguments: predictorForms)
    func aCheckpointGoesOnAsIfNothingHadHappened(form: PredictorForm) throws {
        let fixture = PredictorFixture()
        let whole = fixture.model(form)
        var state: [UInt8] = []
        let trainer = fixture.trainer(whole, epochs: 4, noise: 1)
        try trainer.train(afterEpoch: { trainer in
            if trainer.epoch == 2 { state = trainer.state }
            return true
        })
        let continued = fixture.model(form)
        let second = fixture.trainer(continued, epochs: 4, noise: 1)
        #expect(second.restore(state))
        #expect(second.epoch == 2)
        try second.train()
        #expect(values(continued) == values(whole))
        #expect(second.state == trainer.state)
    }

    /// Losses come back to the last bit, and patience that has run out does not begin again.
    @Test func anEndedTrainingGoesNoFurther() throws {
        let fixture = PredictorFixture()
        var options = TrainingOptions()
        (options.epochs, options.batchSize, options.rate, options.patience) = (20, 64, 400, 1)
        func trainer() -> PredictorTrainer {
            PredictorTrainer(
                model: fixture.model(PredictorForm(base: .prototypes)), pairs: fixture.pairs,
                homes: fixture.homes, options: options)
        }
        let whole = trainer()
        var state: [UInt8] = []
        try whole.train(afterEpoch: {
            state = $0.state
            return true
        })
        try #require(whole.epoch < 20)
        let again = trainer()
        #expect(again.restore(state))
        try again.train(afterEpoch: { _ in
            Issue.record("an epoch of a training that had ended")
            return true
        })
        #expect(again.report.heldOutLosses == whole.report.heldOutLosses && again.state == whole.state)
        #expect(again.report.heldOutStart == whole.report.heldOutStart)
    }

    @Test func aStateThatDoesNotFitIsRefused() throws {
        let fixture = PredictorFixture()
        let trainer = fixture.trainer(fixture.model(PredictorForm(base: .prototypes)), epochs: 1)
        try trainer.train()
        let state = trainer.state
        let other = fixture.trainer(fixture.model(PredictorForm(base: .prototypes)), epochs: 1)
        for length in [0, 1, 8, 31, 32, 48, 63, 64, 65, state.count - 1] {
            #expect(!other.restore(Array(state.prefix(length))))
        }
        #expect(!other.restore(state + [0]))
        #expect(!fixture.trainer(fixture.model(PredictorForm(base: .distance))).restore(state))
        // No number in front of the parameters may trap.
        for index in 0..<64 {
            for bit in 0..<8 {
                var damaged = state
                damaged[index] ^= 1 << UInt8(bit)
                _ = other.restore(damaged)
            }
        }
        #expect(other.restore(state))
    }

    @Test(arguments: predictorForms)
    func trainingLowersTheLossOfHeldOutPairs(form: PredictorForm) throws {
        let fixture = PredictorFixture(queries: 2560, replicas: true)
        let model = fixture.model(form)
        let trainer = fixture.trainer(model, epochs: 12, threads: 2, rate: 4)
        trainer.calibrateBeta(subClusters: form.base == .prototypes ? fixture.subClusters : nil)
        try trainer.train()
        let report = trainer.report
        #expect(report.heldOutLosses.count == 12)
        let kept = min(report.heldOutLosses.min() ?? .infinity, report.heldOutStart)
        #expect(abs(trainer.heldOutLoss() - kept) < 1e-9)
        // The one number of the first form is calibrated already; more of them must learn something.
        if form != PredictorForm(base: .distance) { #expect(kept < report.heldOutStart * 0.99) }
    }
}
