// Plans, the shards that are built on them, and what these are joined to.

import Build
import Index
import Learn
import Storage
import Vectors

extension Fixture {
    @discardableResult
    package func plan(
        _ name: String = "plan", _ metric: Metric = .l2, partitions: Int = 24, base other: VectorFile? = nil,
        change: (inout BuildParameters) -> Void = { _ in }
    ) throws -> SharedPartitions {
        var parameters = BuildParameters()
        parameters.metric = metric
        parameters.partitions = partitions
        parameters.iterations = 6
        change(&parameters)
        return try SharedPartitions.learn(
            base: other ?? base, parameters: parameters, directory: directory.file(name)
        ).plan
    }

    /// The whole base on a plan.
    package func build(_ name: String, on plan: SharedPartitions, _ kind: Kind = .none, firstId: UInt64 = 0)
        throws
    {
        var parameters = BuildParameters()
        parameters.ids = .positions(first: firstId)
        kind.apply(to: &parameters)
        try plan.apply(to: &parameters)
        _ = try IndexBuilder(base: base, directory: directory.file(name), parameters: parameters).build()
    }

    /// One shard; with `rows` from a file that holds only these.
    package func build(
        _ name: String, on plan: SharedPartitions, _ kind: Kind = .none, shard: Shard, firstId: UInt64 = 0,
        rows: Range<Int>? = nil, change: (inout BuildParameters) -> Void = { _ in }
    ) throws {
        var parameters = BuildParameters()
        parameters.ids = .positions(first: firstId)
        kind.apply(to: &parameters)
        change(&parameters)
        let file = try rows.map {
            try Self.write(base.rows($0), to: directory.file("\(name)-rows.npy"))
        }
        let taken = try plan.apply(
            to: &parameters, shard: shard, base: file ?? base, holdsOwnRows: file != nil)
        _ = try IndexBuilder(base: taken, directory: directory.file(name), parameters: parameters).build()
    }

    /// All shards, and what they are joined to.
    package func merge(
        on plan: SharedPartitions, _ kind: Kind = .none, shards: Int, name: String = "merged",
        firstId: UInt64 = 0
    ) throws -> MergeReport {
        for index in 0..<shards {
            try build(
                "\(name)-\(index)", on: plan, kind, shard: Shard(index: index, count: shards),
                firstId: firstId)
        }
        return try IndexMerger().merge(
            (0..<shards).reversed().map { directory.file("\(name)-\($0)") }, to: directory.file(name))
    }
}
