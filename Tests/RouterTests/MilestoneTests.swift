// Clustering that stops at any milestone and goes on: the bytes of one that nothing stopped.

import Router
import Testing
import Vectors

private struct Stopped: Error {}

/// Milestones in memory, kept whenever there is something to keep.
private final class Memory {
    var parts: [(step: MilestoneStep, part: Int, bytes: [UInt8])] = []
    var steps: [MilestoneStep] = []
    /// How many more may be kept before the computation is stopped.
    var left = Int.max

    var milestones: Milestones<any Error> {
        Milestones(
            isDue: { true },
            forEach: { [self] step, body in
                for part in parts.filter({ $0.step == step }).sorted(by: { $0.part < $1.part }) {
                    body(part.part, part.bytes)
                }
            },
            keep: { [self] step, part, bytes, isWhole in
                if isWhole { parts.removeAll { $0.step.rawValue <= step.rawValue } }
                #expect(!parts.contains { $0.step == step && $0.part == part })
                parts.append((step, part, bytes))
                steps.append(step)
                left -= 1
                if left == 0 { throw Stopped() }
            })
    }
}

struct MilestoneTests {
    private static let rows = plantedRows(
        clusters: 30, perCluster: 50, dimension: 12, elementType: .u8, seed: 5, spread: 15
    ).rows

    /// One level, two, and with splits.
    private static let forms: [(name: String, steps: Set<MilestoneStep>, means: KMeans)] = {
        var flat = KMeans(partitions: 40, seed: 3, threads: 2)
        flat.iterations = 4
        flat.sampleRows = 20
        // More groups than one batch of one thread.
        var levels = KMeans(partitions: 400, seed: 3, threads: 1)
        levels.iterations = 4
        levels.flatLimit = 100
        var capped = flat
        capped.capRecords = 30
        return [
            ("flat", [.part, .all], flat),
            ("levels", [.upperPart, .upper, .homes, .groups, .all], levels),
            ("capped", [.part, .all, .split], capped),
        ]
    }()

    private func expectSame(steps: Set<MilestoneStep>, _ run: (Milestones<any Error>) throws -> [UInt8])
        throws
    {
        let whole = Memory()
        let expected = try run(whole.milestones)
        #expect(Set(whole.steps) == steps)
        for count in 1...whole.steps.count {
            let memory = Memory()
            memory.left = count
            #expect(throws: Stopped.self) { try run(memory.milestones) }
            memory.left = .max
            #expect(try run(memory.milestones) == expected, "stopped after \(count)")
            // Nothing that was kept is made again.
            #expect(memory.steps.count == whole.steps.count, "stopped after \(count)")
        }
        // One milestone a run.
        let memory = Memory()
        var (runs, result) = (0, [UInt8]?.none)
        while result == nil {
            memory.left = 1
            do { result = try run(memory.milestones) } catch is Stopped { runs += 1 }
        }
        #expect(result == expected && runs == whole.steps.count)
        // What does not fit is not used.
        let odd = Memory()
        odd.parts = MilestoneStep.allCases.flatMap {
            [($0, 0, []), ($0, 1, [UInt8](repeating: 9, count: 100))]
        }
        #expect(try run(odd.silent) == expected)
    }

    @Test(arguments: forms.indices)
    func clusteringGoesOnFromAnyMilestone(form: Int) throws {
        let (_, steps, means) = Self.forms[form]
        let expected = means.train(Self.rows)
        try expectSame(steps: steps) { milestones in
            let result = try means.train(Self.rows, milestones: milestones)
            #expect(result.meanDistance == expected.meanDistance && result.largest == expected.largest)
            #expect(result.iterations == expected.iterations)
            return bytes(result.centroids)
        }
    }

    @Test func headsGoOnFromAnyMilestone() throws {
        let expected = SpannHeads.select(Self.rows, share: 0.12, seed: 1, threads: 2)
        try expectSame(steps: [.tree]) { milestones in
            let heads = try SpannHeads.select(
                Self.rows, share: 0.12, seed: 1, threads: 2, milestones: milestones)
            #expect(heads == expected)
            return heads.flatMap { withUnsafeBytes(of: $0, Array.init) }
        }
    }
}

extension Memory {
    /// What is kept, without keeping more.
    fileprivate var silent: Milestones<any Error> {
        let all = milestones
        return Milestones(isDue: { false }, forEach: all.forEach, keep: { _, _, _, _ in })
    }
}
