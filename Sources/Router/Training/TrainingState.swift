// How far a training is, the best parameters so far, and both as the bytes of a checkpoint: one that goes on from them
// does to the last bit what one does that never stopped.

import Vectors

/// What a training loop carries from epoch to epoch, beside the tensors.
struct TrainingState {
    /// Epochs done.
    private(set) var epoch = 0
    /// Steps done.
    var step = 0
    private(set) var report: TrainingReport
    private var best: [[Float]] = []
    private var bestLoss = Double.infinity

    init(pairs: Int) { report = TrainingReport(pairs: pairs, heldOutStart: 0) }

    /// Notes the loss before the first epoch.
    mutating func begin(heldOutLoss: Double, tensors: [Tensor]) {
        report.heldOutStart = heldOutLoss
        keepIfBest(heldOutLoss, tensors)
    }

    /// Notes the losses of an epoch.
    mutating func endEpoch(trainLoss: Double, heldOutLoss: Double, tensors: [Tensor]) {
        epoch += 1
        report.trainLosses.append(trainLoss)
        report.heldOutLosses.append(heldOutLoss)
        keepIfBest(heldOutLoss, tensors)
    }

    private mutating func keepIfBest(_ loss: Double, _ tensors: [Tensor]) {
        guard loss < bestLoss else { return }
        bestLoss = loss
        report.bestEpoch = epoch
        best = tensors.map(\.snapshot)
    }

    /// Whether all epochs are done, or as many without a better loss as patience allows.
    func hasEnded(_ options: TrainingOptions) -> Bool {
        epoch >= options.epochs || epoch - report.bestEpoch > options.patience
    }

    /// Gives the tensors the best parameters.
    func restoreBest(_ tensors: [Tensor]) {
        for (tensor, values) in zip(tensors, best) { tensor.restoreValues(values) }
    }

    /// Everything that `restore` needs to go on as if nothing had happened.
    func encoded(_ tensors: [Tensor]) -> [UInt8] {
        var writer = SectionWriter()
        for number in [epoch, step, report.bestEpoch, best.count] { writer.append(UInt64(number)) }
        for loss in [bestLoss, report.heldOutStart] + report.trainLosses + report.heldOutLosses {
            writer.append(loss.bitPattern)
        }
        for values in best { writer.append(values) }
        for tensor in tensors { writer.append(tensor.state) }
        return writer.bytes
    }

    /// Takes back what `encoded` gave of tensors like these; false, and nothing is changed, where it does not fit.
    mutating func restore(_ bytes: [UInt8], tensors: [Tensor]) -> Bool {
        do {
            var reader = try SectionReader("state", in: ["state": bytes])
            func small() throws -> Int {
                let value = try reader.integer(UInt64.self)
                guard value < 1 << 40 else { throw reader.failure("counts too much") }
                return Int(value)
            }
            func losses(_ count: Int) throws -> [Double] {
                guard count <= reader.remaining / 8 else { throw reader.failure("counts \(count) epochs") }
                return try (0..<count).map { _ in Double(bitPattern: try reader.integer(UInt64.self)) }
            }
            var state = self
            (state.epoch, state.step, state.report.bestEpoch) = (try small(), try small(), try small())
            let snapshots = try small()
            guard snapshots == 0 || snapshots == tensors.count else { throw reader.failure("other tensors") }
            let ends = try losses(2)
            (state.bestLoss, state.report.heldOutStart) = (ends[0], ends[1])
            state.report.trainLosses = try losses(state.epoch)
            state.report.heldOutLosses = try losses(state.epoch)
            state.best = try tensors.prefix(snapshots).map { try reader.floats($0.count) }
            let values = try tensors.map { try reader.floats(3 * $0.count) }
            try reader.finish()
            for (tensor, values) in zip(tensors, values) { _ = tensor.restore(values[...]) }
            self = state
            return true
        } catch {
            return false
        }
    }
}
