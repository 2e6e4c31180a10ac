// What the first stages of a build leave for the later ones, and for a later run: the untrained router as it will lie
// in router.bin, in a file of the same form.

import Index
import Learn
import Router
import Storage

/// Partitions that were kept.
struct KeptPartitions {
    var router: CentroidIndex
    var heads: [UInt32]?
    var cells: CellGroups?
    /// Vectors that they were learned from; nil where heads were chosen.
    var sampled: Int?
}

extension IndexBuilder {
    private static let sampledTag = "sampled"

    /// Makes the partition stage last.
    func keep(_ partitioning: Partitioning, in job: BuildJob) throws {
        var router = stage("index centroids") {
            partitioning.router
                ?? CentroidIndex(
                    centroids: partitioning.centroids, beta: partitioning.beta, seed: parameters.seed,
                    threads: parameters.threads, progress: report("index centroids"))
        }
        if partitioning.router == nil { router.longest = space.longest }
        var sections = router.encode() + (partitioning.cells?.encode(parent: nil) ?? [])
        if let heads = partitioning.heads {
            sections.append((IndexFiles.headIdsTag, IndexFiles.encode(headIds: heads)))
        }
        if let sampled {
            sections.append((Self.sampledTag, withUnsafeBytes(of: UInt64(sampled).littleEndian, Array.init)))
        }
        let path = job.path(.partitioning)
        try Directory.removeTree(path)
        let digest = try TaggedFile.write(path: path, sections: sections)
        try job.finish(.partition, position: 1, files: [(.partitioning, digest)] + job.milestonesDone)
    }

    /// Reads back what was kept.
    func keptPartitions(_ job: BuildJob) throws -> KeptPartitions {
        let path = job.path(.partitioning)
        let sections = try TaggedFile.read(path: path)
        let router = try CentroidIndex(decoding: sections)
        space = RoutingSpace(metric: parameters.metric, baseType: base.elementType, longest: router.longest)
        return KeptPartitions(
            router: router,
            heads: try sections[IndexFiles.headIdsTag].map {
                try IndexFiles.decode(headIds: $0, path: path)
            },
            cells: try CellGroups.decode(sections, cellCount: router.partitionCount)?.groups,
            sampled: sections[Self.sampledTag].flatMap { bytes in
                bytes.count == 8
                    ? Int(bytes.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) })
                    : nil
            })
    }
}
