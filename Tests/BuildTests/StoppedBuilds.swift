// Builds that stop where a test wants them to.

import Build
import Index
import Storage
import TestSupport
import Testing
import Vectors

/// What a test throws to end a build.
struct Stopped: Error {}

/// A base, and the builds of it that a test stops.
struct StoppedBuilds {
    let fixture: Fixture
    let work: String

    init() throws {
        fixture = try Fixture(.u8, count: 5000, dimension: 32)
        work = fixture.directory.file(".index.building")
    }

    /// Units of a chunk each, in several buckets where `spread`; none of clustering unless wanted.
    func builder(
        _ name: String = "index", kind: Kind = .none, spread: Bool = true, base: VectorFile? = nil,
        start: AtomicDirectory.Start = .fresh, clustering: Bool = false,
        change: (inout BuildParameters) -> Void = { _ in }
    ) -> IndexBuilder {
        var parameters = BuildParameters()
        parameters.partitions = 40
        parameters.iterations = 3
        parameters.sampleCount = 600
        kind.apply(to: &parameters)
        // Heads are chosen from the whole base in memory.
        parameters.memoryByteCount = !spread ? 1 << 30 : parameters.headShare == nil ? 120 << 10 : 240 << 10
        change(&parameters)
        let builder = IndexBuilder(
            base: base ?? fixture.base, directory: fixture.directory.file(name), parameters: parameters)
        builder.start = start
        builder.unit.byteCount = 1
        if !clustering { builder.unit.seconds = 1e15 }
        return builder
    }

    /// Builds until `units` units are finished; false where the build ended before.
    func stop(_ builder: IndexBuilder, after units: Int) throws -> Bool {
        var finished = 0
        builder.afterUnit = { _, _ in
            finished += 1
            if finished >= units { throw Stopped() }
        }
        do {
            _ = try builder.build()
            return false
        } catch {
            guard case .unfinished(.interrupted(let cause), _) = error else { throw error }
            #expect(cause is Stopped)
            #expect(error.description.contains(".index.building") && error.description.contains("goes on"))
            return true
        }
    }

    var names: [String] { fixture.directory.names.filter { $0.contains("index") } }
}
