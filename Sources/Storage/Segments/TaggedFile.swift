// router.bin: a container of named byte sections. Storage keeps and checks them; what they mean is the
// Router's.

/// Sections by tag in one file.
public enum TaggedFile {
    public static let formatVersion: UInt32 = 1
    private static let headerByteCount = 16
    private static let entryByteCount = 32
    /// Sections start at multiples of this, so that what lies in them is aligned when the file is mapped.
    private static let alignment = 64
    private static let sectionMaximum: UInt32 = 1 << 16

    /// Writes the sections in the order given. Tags are 1 to 8 ASCII characters, each used once. The file
    /// must not exist.
    @discardableResult
    public static func write(
        path: String, sections: [(tag: String, bytes: [UInt8])]
    ) throws(StorageError) -> FileDigest {
        let table = headerByteCount + sections.count * entryByteCount
        let head = Scratch(aligned(table + 4))
        head.bytes.put("SONDERTR", at: 0)
        head.bytes.put(formatVersion, at: 8)
        head.bytes.put(UInt32(sections.count), at: 12)
        var offset = head.count
        var tags: Set<String> = []
        for (index, section) in sections.enumerated() {
            guard (1...8).contains(section.tag.utf8.count),
                section.tag.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }),
                tags.insert(section.tag).inserted
            else {
                throw StorageError(
                    .invalidValue, path: path,
                    detail: "a section's tag is not 1 to 8 ASCII characters of its own",
                    found: "\"\(section.tag)\"")
            }
            let at = headerByteCount + index * entryByteCount
            for (place, byte) in section.tag.utf8.enumerated() {
                head.bytes.storeBytes(of: byte, toByteOffset: at + place, as: UInt8.self)
            }
            head.bytes.put(UInt64(offset), at: at + 8)
            head.bytes.put(UInt64(section.bytes.count), at: at + 16)
            head.bytes.put(checksum(section.bytes), at: at + 24)
            offset = aligned(offset + section.bytes.count)
        }
        head.bytes.put(Checksum.crc32c(head.bytes, count: table), at: table)
        let file = try OutputFile(path: path, atomically: false)
        try file.append(head.bytes, count: head.count)
        let padding = Scratch(alignment)
        for section in sections {
            try file.append(section.bytes)
            try file.append(padding.bytes, count: aligned(section.bytes.count) - section.bytes.count)
        }
        return try file.finish()
    }

    /// Reads and checks all sections into memory.
    public static func read(path: String) throws(StorageError) -> [String: [UInt8]] {
        let file = try open(path: path)
        var sections: [String: [UInt8]] = [:]
        for tag in file.tags {
            let size = file.byteCount(ofSection: tag) ?? 0
            var found: Result<Void, StorageError> = .success(())
            sections[tag] = [UInt8](unsafeUninitializedCapacity: size) { buffer, used in
                found = Result { () throws(StorageError) in
                    try file.read(section: tag, at: 0, into: UnsafeMutableRawBufferPointer(buffer))
                }
                if case .failure = found { buffer.initialize(repeating: 0) }
                used = size
            }
            try found.get()
        }
        return sections
    }

    /// The sections of a file that is open, to be read in pieces.
    public final class Sections: Sendable {
        private let input: InputFile
        private let places: [String: (offset: UInt64, byteCount: Int)]
        /// Size and checksum of the whole file, known from the pass that checked its sections.
        public let digest: FileDigest

        fileprivate init(
            _ input: InputFile, _ places: [String: (offset: UInt64, byteCount: Int)], crc32c: UInt32
        ) {
            self.input = input
            self.places = places
            digest = FileDigest(byteCount: input.byteCount, crc32c: crc32c)
        }

        public var path: String { input.path }

        public var tags: [String] { places.keys.sorted() }

        public func byteCount(ofSection tag: String) -> Int? { places[tag]?.byteCount }

        /// Fills `target` from `offset` of a section; what is read was checked when the file was opened.
        public func read(
            section tag: String, at offset: Int, into target: UnsafeMutableRawBufferPointer
        ) throws(StorageError) {
            guard let place = places[tag], let start = target.baseAddress else { return }
            precondition(offset >= 0 && offset + target.count <= place.byteCount)
            try input.read(at: place.offset + UInt64(offset), into: start, count: target.count)
        }
    }

    /// Opens a file, checks all sections in pieces and tells where they lie.
    public static func open(path: String) throws(StorageError) -> Sections {
        let input = try InputFile(path: path)
        guard input.byteCount >= UInt64(headerByteCount) else {
            throw .truncated(path: path, offset: 0, expected: UInt64(headerByteCount), found: input.byteCount)
        }
        let start = Scratch(headerByteCount)
        try input.read(at: 0, into: start.bytes, count: headerByteCount)
        guard start.raw.holds("SONDERTR", at: 0) else {
            throw StorageError(
                .badHeader, path: path, detail: "is no router file", offset: 0, expected: "SONDERTR")
        }
        guard start.raw.u32(8) == formatVersion else {
            throw .version(path: path, offset: 8, known: formatVersion, found: UInt64(start.raw.u32(8)))
        }
        guard start.raw.u32(12) <= sectionMaximum else {
            throw StorageError(
                .badHeader, path: path, detail: "claims too many sections", offset: 12,
                expected: "at most \(sectionMaximum)", found: "\(start.raw.u32(12))")
        }
        let count = Int(start.raw.u32(12))
        let table = headerByteCount + count * entryByteCount
        guard input.byteCount >= UInt64(aligned(table + 4)) else {
            throw .truncated(
                path: path, offset: 0, expected: UInt64(aligned(table + 4)), found: input.byteCount)
        }
        let head = Scratch(aligned(table + 4))
        try input.read(at: 0, into: head.bytes, count: head.count)
        let actual = Checksum.crc32c(head.raw, count: table)
        guard actual == head.raw.u32(table) else {
            throw .checksum(
                path: path, what: "the header", offset: UInt64(table), expected: head.raw.u32(table),
                found: actual)
        }
        let (places, crc32c) = try checkSections(input, head: head, count: count)
        return Sections(input, places, crc32c: crc32c)
    }

    /// Bytes checked at a time; the allocator may keep as many when they are freed.
    private static let pieceByteCount = 1 << 18

    private static func checkSections(
        _ input: InputFile, head: Scratch, count: Int
    ) throws(StorageError) -> (places: [String: (offset: UInt64, byteCount: Int)], crc32c: UInt32) {
        var whole = Checksum.crc32c(head.bytes, count: head.count)
        var sections: [String: (offset: UInt64, byteCount: Int)] = [:]
        let piece = Scratch(min(pieceByteCount, Int(clamping: input.byteCount)))
        var end = UInt64(head.count)
        for index in 0..<count {
            let at = headerByteCount + index * entryByteCount
            let tag = String(
                decoding: UnsafeRawBufferPointer(start: head.raw + at, count: 8).prefix { $0 != 0 },
                as: UTF8.self)
            let (offset, size) = (head.raw.u64(at + 8), head.raw.u64(at + 16))
            guard offset == end, size <= input.byteCount, offset <= input.byteCount - size,
                sections[tag] == nil
            else {
                throw StorageError(
                    .badHeader, path: input.path,
                    detail: "section \(tag) does not lie in the file or not behind the one before",
                    offset: UInt64(at + 8), expected: "offset \(end) in \(input.byteCount) bytes",
                    found: "\(size) bytes at \(offset)")
            }
            // With the padding behind it, where the file has that.
            let padded = min(aligned(Int(size)), Int(input.byteCount - offset))
            var (done, actual) = (0, UInt32(0))
            while done < padded {
                let part = min(piece.count, padded - done)
                try input.read(at: offset + UInt64(done), into: piece.bytes, count: part)
                whole = Checksum.crc32c(piece.bytes, count: part, continuing: whole)
                let own = min(part, Int(size) - done)
                if own > 0 { actual = Checksum.crc32c(piece.bytes, count: own, continuing: actual) }
                done += part
            }
            guard actual == head.raw.u32(at + 24) else {
                throw .checksum(
                    path: input.path, what: "section \(tag)", offset: offset, expected: head.raw.u32(at + 24),
                    found: actual)
            }
            sections[tag] = (offset, Int(size))
            end = offset + UInt64(aligned(Int(size)))
        }
        guard end == input.byteCount else {
            throw StorageError(
                .badHeader, path: input.path, detail: "its size is not that of its sections",
                expected: "\(end) bytes", found: "\(input.byteCount)")
        }
        return (sections, whole)
    }

    private static func aligned(_ count: Int) -> Int { (count + alignment - 1) / alignment * alignment }

    private static func checksum(_ bytes: [UInt8]) -> UInt32 {
        bytes.withUnsafeBytes { $0.baseAddress.map { Checksum.crc32c($0, count: bytes.count) } ?? 0 }
    }
}
