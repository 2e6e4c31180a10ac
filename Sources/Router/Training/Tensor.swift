// A learned array with all that Adam keeps of it. Models are lists of these, so that one training loop, one
// gradient check and one checkpoint serve every form.

import CKernels
import Glibc
import Vectors

/// Learned numbers, their gradient and Adam's two moments.
public final class Tensor: @unchecked Sendable {
    public let name: String
    public let count: Int
    public let values: UnsafeMutablePointer<Float>
    public let gradient: UnsafeMutablePointer<Float>
    /// Step length of Adam at the start of the schedule, in the unit of the values.
    public let rate: Float
    private let first: UnsafeMutablePointer<Float>
    private let second: UnsafeMutablePointer<Float>

    public init(name: String, count: Int, rate: Float) {
        self.name = name
        self.count = count
        self.rate = rate
        // Zeroed pages cost nothing until they are written: a form that is not trained keeps only its values.
        func zeros() -> UnsafeMutablePointer<Float> {
            guard let memory = calloc(max(count, 1), 4) else {
                preconditionFailure("no memory for \(count) numbers of \(name)")
            }
            return memory.bindMemory(to: Float.self, capacity: max(count, 1))
        }
        values = zeros()
        gradient = zeros()
        first = zeros()
        second = zeros()
    }

    deinit {
        for memory in [values, gradient, first, second] { free(memory) }
    }

    func clearGradient() { gradient.update(repeating: 0, count: count) }

    /// One step of Adam with moments 0.9 and 0.99 (Kingma and Ba 2015).
    ///
    /// - Parameter schedule: what the rate is multiplied by at this step, 0 ... 1.
    public func step(_ step: Int, schedule: Float, threads: Int) {
        let (beta1, beta2) = (Float(0.9), Float(0.99))
        let correction1 = 1 / (1 - powf(beta1, Float(step)))
        let correction2 = 1 / (1 - powf(beta2, Float(step)))
        let rate = self.rate * schedule
        // Elementwise: blocks may run anywhere.
        Workers.forEachBlock(count: count, blockSize: 1 << 16, threads: count > 1 << 17 ? threads : 1) {
            [self] _, range in
            sonde_adam(
                values + range.lowerBound, gradient + range.lowerBound, first + range.lowerBound,
                second + range.lowerBound, range.count, rate, beta1, beta2, correction1, correction2)
        }
    }

    /// Values and moments, for a checkpoint.
    var state: [Float] {
        [values, first, second].flatMap { Array(UnsafeMutableBufferPointer(start: $0, count: count)) }
    }

    /// Takes back what `state` gave; false where the count does not fit.
    func restore(_ state: ArraySlice<Float>) -> Bool {
        guard state.count == 3 * count else { return false }
        state.withUnsafeBufferPointer { from in
            for (part, memory) in [values, first, second].enumerated() {
                memory.update(from: from.baseAddress! + part * count, count: count)
            }
        }
        return true
    }

    package var snapshot: [Float] { Array(UnsafeBufferPointer(start: values, count: count)) }

    package func restoreValues(_ snapshot: [Float]) {
        snapshot.withUnsafeBufferPointer { values.update(from: $0.baseAddress!, count: count) }
    }
}
