// Shards before they are joined: each whole in itself, and all of them those of one plan.

import Index
import Storage

/// One shard, its small files read and checked.
struct MergeSource {
    let path: String
    let files: IndexFiles
    let manifest: Manifest
    let shard: ShardIdentity
    let table: SegmentTable
    /// Size and checksum of router.bin.
    let router: FileDigest

    var ids: IdRange {
        manifest.ids
            ?? IdRange(kind: .positions, least: 0, greatest: UInt64(max(manifest.count, 1) - 1))
    }

    private init(path: String) throws {
        self.path = path
        files = IndexFiles(directory: path)
        manifest = try Manifest.read(path: files.manifest)
        guard let shard = manifest.shard else {
            throw IndexError.shards(
                "\(path) is no shard: shards are what a build of a shard of a plan makes, as long as no other router or "
                    + "copies are made of them")
        }
        self.shard = shard
        table = try SegmentTable.read(path: files.table)
        router = try FileDigest.of(path: files.router)
        for (name, found, file) in [
            (IndexFiles.tableName, try FileDigest.of(path: files.table), files.table),
            (IndexFiles.routerName, router, files.router),
        ] where found != manifest.files[name] {
            throw IndexError.inconsistent(
                path: file,
                detail:
                    "is not the file that manifest.json names (checksum \(Checksum.text(found.crc32c)) of "
                    + "\(found.byteCount) bytes); the files are of different indexes")
        }
        guard table.count == manifest.partitions, table.recordCount == manifest.records,
            table.layout.dimension == manifest.dimension,
            table.layout.elementType.name == manifest.elementType
        else {
            throw IndexError.inconsistent(
                path: path, detail: "manifest.json and segments.table are of different indexes")
        }
    }

    /// Opens all shards and puts them into order.
    static func all(_ paths: [String]) throws -> [MergeSource] {
        let sources = try paths.map { try MergeSource(path: $0) }.sorted {
            ($0.shard.number, $0.path) < ($1.shard.number, $1.path)
        }
        guard let first = sources.first else { throw IndexError.shards("there are no shards to merge") }
        for source in sources.dropFirst() { try first.requireSibling(source) }
        for (number, source) in sources.enumerated() where source.shard.number != number {
            if number > 0 && source.shard.number == sources[number - 1].shard.number {
                throw IndexError.shards(
                    "\(source.path) and \(sources[number - 1].path) are both shard \(source.shard.number) of "
                        + "\(source.shard.count)")
            }
            throw missing(number, of: first.shard.count)
        }
        if sources.count < first.shard.count { throw missing(sources.count, of: first.shard.count) }
        try requireConsecutiveIds(sources)
        return sources
    }

    private static func missing(_ number: Int, of count: Int) -> IndexError {
        .shards("shard \(number) of \(count) (from 0) is missing: all shards are merged at once")
    }

    /// Refuses what is not of the same plan, or was built in another way on it.
    private func requireSibling(_ other: MergeSource) throws(IndexError) {
        let (mine, theirs) = (manifest, other.manifest)
        var differences: [(String, String, String)] = [
            ("plan", shard.plan, other.shard.plan),
            ("number of shards", String(shard.count), String(other.shard.count)),
            ("metric", mine.metric, theirs.metric), ("element type", mine.elementType, theirs.elementType),
            ("dimension", String(mine.dimension), String(theirs.dimension)),
            ("partitions", String(mine.partitions), String(theirs.partitions)),
            ("kind of ids", ids.kind.rawValue, other.ids.kind.rawValue),
        ]
        for name in Set(mine.build.keys).union(theirs.build.keys).sorted() {
            differences.append((name, mine.build[name] ?? "none", theirs.build[name] ?? "none"))
        }
        differences.append(("router.bin", Checksum.text(router.crc32c), Checksum.text(other.router.crc32c)))
        if let (name, here, there) = differences.first(where: { $0.1 != $0.2 }) {
            throw .shards(
                "\(path) and \(other.path) do not belong together: their \(name) differs (\(here), \(there))")
        }
    }

    /// Positions go on from shard to shard; external ids are free.
    private static func requireConsecutiveIds(_ sources: [MergeSource]) throws(IndexError) {
        guard sources[0].ids.kind == .positions else { return }
        for (before, after) in zip(sources, sources.dropFirst())
        where after.ids.least != before.ids.greatest &+ 1 {
            throw .shards(
                "the ids of \(before.path) end at \(before.ids.greatest), those of \(after.path) begin at "
                    + "\(after.ids.least): there are vectors missing or doubled between the two")
        }
    }
}
