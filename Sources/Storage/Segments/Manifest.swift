// manifest.json: what an index is. Written last, so that a directory with a valid one is an index. JSON for
// people and tools; its checksum covers each byte of the text.

import Foundation

/// Which ids the vectors of an index have.
public struct IdRange: Sendable, Equatable, Codable {
    public enum Kind: String, Sendable, Codable {
        /// Positions in a base, one after the other.
        case positions
        /// Given by a user.
        case external
    }

    public var kind: Kind
    public var least: UInt64
    public var greatest: UInt64

    public init(kind: Kind, least: UInt64, greatest: UInt64) {
        self.kind = kind
        self.least = least
        self.greatest = greatest
    }

    public func contains(_ id: UInt64) -> Bool { id >= least && id <= greatest }
}

/// Which shard of which plan an index is.
public struct ShardIdentity: Sendable, Equatable, Codable {
    /// The identity of the plan.
    public var plan: String
    /// From 0.
    public var number: Int
    /// Shards of the whole base.
    public var count: Int

    public init(plan: String, number: Int, count: Int) {
        self.plan = plan
        self.number = number
        self.count = count
    }
}

/// What an index holds, how it was made, and size and checksum of each of its other files.
public struct Manifest: Sendable, Equatable, Codable {
    /// The newest that is known. Written is 1 where nothing in the manifest needs more, so that a sonde that
    /// takes ids for positions from 0 reads no other.
    public static let formatVersion = 2

    public var formatVersion = 1
    public var metric: String
    public var elementType: String
    public var dimension: Int
    /// Vectors indexed.
    public var count: Int
    public var partitions: Int
    /// Records in all segments, replicas included.
    public var records: Int
    /// Whatever decided the bytes of the index, seeds included.
    public var build: [String: String]
    /// The ids of the vectors; nil: their positions in the base, from 0 on.
    public var ids: IdRange?
    /// Where this is one shard of a base: which.
    public var shard: ShardIdentity?
    /// The id that its pages' checksums are bound to, as its segments.table has it; nil where they are bound to none.
    public var index: String?
    /// What tells the job that made it from others (`JobIdentity.digest`); nil where nobody may ask for it again.
    public var job: String?
    /// By name within the directory.
    public var files: [String: FileDigest]
    /// CRC-32C of the file's text with these eight digits as zeros; set by writing and reading.
    public private(set) var checksum = Manifest.noChecksum

    private static let noChecksum = "00000000"

    public init(
        metric: String, elementType: String, dimension: Int, count: Int, partitions: Int, records: Int,
        build: [String: String], files: [String: FileDigest]
    ) {
        self.metric = metric
        self.elementType = elementType
        self.dimension = dimension
        self.count = count
        self.partitions = partitions
        self.records = records
        self.build = build
        self.files = files
    }

    /// Bytes of all files that the manifest names.
    public var totalByteCount: UInt64 { files.values.reduce(0) { $0 + $1.byteCount } }

    /// Writes the manifest. The file must not exist.
    @discardableResult
    public func write(path: String) throws(StorageError) -> FileDigest {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        var blank = self
        blank.formatVersion = ids == nil ? 1 : 2
        blank.checksum = Self.noChecksum
        var text: [UInt8]
        do {
            text = Array(try encoder.encode(blank)) + [UInt8(ascii: "\n")]
        } catch {
            throw StorageError(.invalidValue, path: path, detail: "the manifest cannot be encoded (\(error))")
        }
        guard let place = Self.checksumPlace(text) else {
            throw StorageError(
                .invalidValue, path: path, detail: "the manifest has no place for its checksum")
        }
        text.replaceSubrange(place, with: Checksum.text(Self.checksum(text)).utf8)
        return try OutputFile.write(text, path: path, atomically: false)
    }

    /// Reads and checks a manifest; the files that it names are not looked at.
    public static func read(path: String) throws(StorageError) -> Manifest {
        let input: InputFile
        do {
            input = try InputFile(path: path)
        } catch {
            guard error.kind == .missing else { throw error }
            throw StorageError(
                .missing, path: path, detail: "there is no manifest",
                advice: "the directory is no index, or its build did not finish")
        }
        guard input.byteCount <= 64 << 20 else {
            throw StorageError(
                .badHeader, path: path, detail: "is too large for a manifest", expected: "at most 64 MiB",
                found: "\(input.byteCount) bytes")
        }
        let all = try input.readAll()
        var text = Array(UnsafeRawBufferPointer(start: all.bytes, count: all.count))
        let data = Data(text)
        struct Version: Decodable { var formatVersion: UInt64 }
        do {
            let version = try JSONDecoder().decode(Version.self, from: data).formatVersion
            if version < 1 || version > UInt64(formatVersion) {
                throw StorageError.version(
                    path: path, offset: nil, known: UInt32(formatVersion), found: version)
            }
        } catch let error as StorageError {
            throw error
        } catch {
            throw StorageError(.corrupt, path: path, detail: "is no manifest (\(reason(error)))")
        }
        guard let place = checksumPlace(text) else {
            throw StorageError(.corrupt, path: path, detail: "has no checksum")
        }
        let stored = String(decoding: text[place], as: UTF8.self)
        text.replaceSubrange(place, with: noChecksum.utf8)
        let actual = Checksum.text(checksum(text))
        guard stored == actual else {
            throw StorageError(
                .corrupt, path: path, detail: "fails its checksum", offset: UInt64(place.lowerBound),
                expected: stored, found: actual)
        }
        let manifest: Manifest
        do {
            manifest = try JSONDecoder().decode(Manifest.self, from: data)
        } catch {
            throw StorageError(.corrupt, path: path, detail: "is no manifest (\(reason(error)))")
        }
        guard
            manifest.ids.map({
                $0.least <= $0.greatest && $0.greatest < .max
                    && ($0.kind == .external || $0.greatest - $0.least + 1 == UInt64(max(manifest.count, 0)))
            }) ?? true
        else {
            throw StorageError(.badHeader, path: path, detail: "holds a range of ids that is none")
        }
        guard manifest.dimension > 0, manifest.count >= 0, manifest.partitions >= 0, manifest.records >= 0,
            !manifest.files.keys.contains(where: { $0.isEmpty || $0.contains("/") || $0.hasPrefix(".") })
        else {
            throw StorageError(
                .badHeader, path: path, detail: "holds a negative count or a file name with a path")
        }
        return manifest
    }

    /// Compares the size of each file with the manifest's; cheap enough for each opening.
    public func checkSizes(directory: String) throws(StorageError) {
        for name in files.keys.sorted() {
            let path = directory + "/" + name
            let found = try InputFile(path: path).byteCount
            guard let file = files[name], file.byteCount == found else {
                throw .truncated(path: path, offset: 0, expected: files[name]?.byteCount ?? 0, found: found)
            }
        }
    }

    private static func checksum(_ text: [UInt8]) -> UInt32 {
        text.withUnsafeBytes { Checksum.crc32c($0.baseAddress!, count: $0.count) }
    }

    /// Where the eight digits stand: behind the only line that starts with the key at the top level.
    private static func checksumPlace(_ text: [UInt8]) -> Range<Int>? {
        let key = Array("\n  \"checksum\" : \"".utf8)
        guard text.count >= key.count + 8 else { return nil }
        for start in 0...text.count - key.count - 8 where text[start] == key[0] {
            if text[start..<start + key.count].elementsEqual(key) {
                return start + key.count..<start + key.count + 8
            }
        }
        return nil
    }

    private static func reason(_ error: any Error) -> String {
        switch error {
        case DecodingError.keyNotFound(let key, _): "no \(key.stringValue)"
        case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context):
            "\(context.codingPath.map(\.stringValue).joined(separator: ".")) has the wrong type"
        default: "not JSON"
        }
    }
}
