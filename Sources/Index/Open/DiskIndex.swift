// The front door of an index on the SSD: open, search, close. What is held here is all that an open index
// keeps in memory: the router and the segment table. Vectors are read from the device for every query.

import Foundation
import Router
import Storage
import Synchronization
import Vectors

/// An open index. Immutable, shared by all worker threads.
///
///     let index = try DiskIndex(path: "photos.sonde")
///     let found = try index.search(queries, parameters: SearchParameters(k: 10, policy: .nprobe(16)))
public final class DiskIndex: Sendable {
    public let path: String
    public let manifest: Manifest
    public let table: SegmentTable
    public let layout: PageLayout
    public let metric: Metric
    public let space: RoutingSpace
    public let centroids: CentroidIndex
    /// The learned router where the index has one, else the centroids.
    public let router: any PartitionRouter
    /// Ids of the heads by partition where centroids are base vectors themselves (SPANN), else nil.
    public let headIds: [UInt32]?
    /// How segments are grouped where partitions are divided into cells (then a segment is a cell), else nil.
    public let cells: CellGroups?
    /// Thresholds calibrated on held-out pairs, where a router was trained.
    public let policies: CalibratedPolicies?
    /// Posteriors for the nearest and for the ten nearest, where a router was trained.
    let posteriors: [PosteriorModel]?
    /// A code of every record, where the index has them: they choose the pages of a search.
    public let recordCodes: RecordCodes?
    package let device: any BlockDevice
    /// What codes are read from, where they lie in the index instead of in memory.
    let codesDevice: (any BlockDevice)?
    /// Hot segments in memory, where they were asked for.
    public let cache: SegmentCache?
    /// Memory that the open index may hold: what it was opened with, else what its build promised, else nil.
    public let residentMaximum: Int?
    /// Numbers of external ids, once training has asked for them.
    let numbersCache = Mutex<VectorNumbers?>(nil)

    /// Opens the index directory at `path`. Reads go to the device itself (O_DIRECT, io_uring) unless
    /// another device is given.
    ///
    /// - Parameter residentMaximum: refuses an index that would hold more memory, before its router is read; nil:
    ///   what its build promised, if it did.
    /// - Throws: `storage` where a file is missing, damaged or of an unknown version, `inconsistent` where the files
    ///   do not fit each other, `overBudget` where the index does not fit the memory.
    public convenience init(
        path: String, device: (any BlockDevice)? = nil, residentMaximum: Int? = nil
    ) throws(IndexError) {
        do {
            try self.init(opening: path, device: device, residentMaximum: residentMaximum)
        } catch {
            throw IndexError(error)
        }
    }

    private init(opening path: String, device: (any BlockDevice)?, residentMaximum: Int?) throws {
        self.path = path
        cache = nil
        let files = IndexFiles(directory: path)
        manifest = try Manifest.read(path: files.manifest)
        self.residentMaximum = residentMaximum ?? manifest.build["resident"].flatMap { Int($0) }
        table = try SegmentTable.read(path: files.table)
        layout = table.layout
        guard let metric = Metric(name: manifest.metric),
            let elementType = ElementType(name: manifest.elementType)
        else {
            throw IndexError.inconsistent(
                path: files.manifest,
                detail: "unknown metric \(manifest.metric) or element type \(manifest.elementType)")
        }
        self.metric = metric
        let sections = RouterSections(file: try TaggedFile.open(path: files.router))
        let least = sections.leastResidentByteCount + table.residentByteCount
        if let limit = self.residentMaximum, least > limit {
            throw IndexError.overBudget(path: path, resident: least, limit: limit)
        }
        centroids = try CentroidIndex(decoding: sections)
        space = RoutingSpace(metric: metric, baseType: elementType, longest: centroids.longest)
        let grouped = try CellGroups.decode(sections, cellCount: centroids.partitionCount)
        cells = grouped?.groups
        router = try sections.learnedRouter(of: centroids, grouped: grouped) ?? centroids
        posteriors = try PosteriorModel.decode(sections)
        recordCodes = try RecordCodes.decode(
            sections, counts: (0..<table.count).map { [table] in Int(table[$0].recordCount) },
            dimension: centroids.dimension)
        policies = try sections.policies()
        headIds = try sections.headIds()
        self.device = try device ?? Devices.open(path: files.segments)
        codesDevice = recordCodes.map(\.isResident) ?? true ? nil : try Devices.open(path: files.codes)
        try requireOneIndex(files, elementType: elementType, router: sections.file.digest)
        try requireWithinBudget()
    }

    /// Files may be whole each and still be of different indexes. Those read whole are compared whole.
    private func requireOneIndex(_ files: IndexFiles, elementType: ElementType, router: FileDigest) throws {
        guard table.count == manifest.partitions, centroids.partitionCount == manifest.partitions,
            (headIds?.count ?? manifest.partitions) == manifest.partitions,
            layout.dimension == manifest.dimension, layout.elementType == elementType,
            centroids.dimension == space.dimension(of: manifest.dimension),
            centroids.elementType == space.elementType
        else {
            throw IndexError.inconsistent(
                path: path,
                detail:
                    "manifest.json names \(manifest.partitions) partitions, segments.table holds \(table.count), "
                    + "router.bin \(centroids.partitionCount); the files are of different indexes")
        }
        for (name, path, found) in [
            (IndexFiles.tableName, files.table, try FileDigest.of(path: files.table)),
            (IndexFiles.routerName, files.router, router),
        ] where found != manifest.files[name] {
            throw IndexError.inconsistent(
                path: path,
                detail:
                    "is not the file that manifest.json names (checksum \(Checksum.text(found.crc32c)) of "
                    + "\(found.byteCount) bytes); the files are of different indexes")
        }
        if let codesDevice, let recordCodes {
            let expected = CodePages.byteCount * recordCodes.pageChecksums.count
            guard codesDevice.byteCount == expected else {
                throw IndexError.inconsistent(
                    path: files.codes,
                    detail: "holds \(codesDevice.byteCount) bytes, router.bin expects \(expected)")
            }
        }
        guard device.byteCount == table.byteCount else {
            throw IndexError.inconsistent(
                path: files.segments,
                detail: "holds \(device.byteCount) bytes, segments.table expects \(table.byteCount)")
        }
    }

    /// Refuses what holds more memory than it may.
    func requireWithinBudget() throws(IndexError) {
        if let limit = residentMaximum, residentByteCount > limit {
            throw .overBudget(path: path, resident: residentByteCount, limit: limit)
        }
    }

    /// An index that is being built: its segments are written, its other files are not.
    package init(
        path: String, manifest: Manifest, table: SegmentTable, centroids: CentroidIndex, headIds: [UInt32]?,
        cells: CellGroups?, device: any BlockDevice
    ) throws(IndexError) {
        self.cells = cells
        self.path = path
        self.manifest = manifest
        self.table = table
        self.centroids = centroids
        self.headIds = headIds
        self.device = device
        layout = table.layout
        router = centroids
        policies = nil
        posteriors = nil
        recordCodes = nil
        codesDevice = nil
        cache = nil
        residentMaximum = nil
        guard let metric = Metric(name: manifest.metric) else {
            throw .inconsistent(path: path, detail: "unknown metric \(manifest.metric)")
        }
        self.metric = metric
        space = RoutingSpace(
            metric: metric, baseType: table.layout.elementType, longest: centroids.longest)
    }

    package init(
        copying other: DiskIndex, router: any PartitionRouter, posteriors: [PosteriorModel]?,
        device: any BlockDevice,
        cache: SegmentCache? = nil
    ) {
        path = other.path
        manifest = other.manifest
        table = other.table
        layout = other.layout
        metric = other.metric
        space = other.space
        centroids = other.centroids
        headIds = other.headIds
        cells = other.cells
        recordCodes = other.recordCodes
        codesDevice = other.codesDevice
        // Thresholds belong to the router that they were calibrated for.
        policies = cache == nil ? nil : other.policies
        self.cache = cache
        residentMaximum = other.residentMaximum
        self.router = router
        self.posteriors = posteriors
        self.device = device
    }

    /// Base vectors indexed.
    public var count: Int { manifest.count }
    public var dimension: Int { manifest.dimension }
    public var elementType: ElementType { layout.elementType }
    public var kind: VectorKind { VectorKind(dimension: dimension, elementType: elementType) }
    public var partitionCount: Int { table.count }
    /// Whether a vector may have more than one record.
    public var hasReplicas: Bool { manifest.records > manifest.count - (headIds?.count ?? 0) }
    /// Records (heads included) over vectors.
    public var replication: Double {
        Double(manifest.records + (headIds?.count ?? 0)) / Double(max(manifest.count, 1))
    }

    /// Memory that this open index holds, whatever is asked of it.
    public var residentByteCount: Int {
        router.residentByteCount + table.residentByteCount + (headIds?.count ?? 0) * 4 + posteriorsByteCount
            + (recordCodes?.residentByteCount ?? 0) + (cache?.byteCount ?? 0)
    }

    package var posteriorsByteCount: Int { posteriors?.reduce(0) { $0 + $1.residentByteCount } ?? 0 }

    /// How segments are read: "direct", "buffered" or "memory".
    public var deviceKind: String { device.kind }
}

/// Where the files of an index lie.
package struct IndexFiles {
    package let directory: String

    package init(directory: String) { self.directory = directory }

    package static let headIdsTag = "headids"

    /// Head ids as the bytes of their section.
    package static func encode(headIds: [UInt32]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(headIds.count * 4)
        for id in headIds { withUnsafeBytes(of: id.littleEndian) { bytes.append(contentsOf: $0) } }
        return bytes
    }

    /// Head ids from the bytes of their section.
    package static func decode(headIds bytes: [UInt8], path: String) throws(IndexError) -> [UInt32] {
        guard bytes.count % 4 == 0 else {
            throw .inconsistent(path: path, detail: "head ids take \(bytes.count) bytes, not a multiple of 4")
        }
        return bytes.withUnsafeBytes { raw in
            (0..<raw.count / 4).map {
                UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: $0 * 4, as: UInt32.self))
            }
        }
    }

    package static let segmentsName = "segments.bin"
    package static let tableName = "segments.table"
    package static let routerName = "router.bin"
    package static let codesName = "codes.bin"

    package var manifest: String { directory + "/manifest.json" }
    package var segments: String { directory + "/" + Self.segmentsName }
    package var table: String { directory + "/" + Self.tableName }
    package var router: String { directory + "/" + Self.routerName }
    package var codes: String { directory + "/" + Self.codesName }
}
