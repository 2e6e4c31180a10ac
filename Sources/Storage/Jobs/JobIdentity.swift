// What a long job is: everything that decides its answers, by name. Two runs with the same identity write
// the same bytes, so that one may continue the other, and parts of one job may be joined.

/// Names and values in order, as one text: a line `name: value` each.
public struct JobIdentity: Sendable, Equatable {
    public var entries: [(name: String, value: String)]

    public init(_ entries: [(name: String, value: String)]) {
        // A line each, and no colon in a name, is what makes the text unambiguous.
        self.entries = entries.map {
            (
                $0.name.replacing(":", with: ","),
                $0.value.split(whereSeparator: \.isNewline).joined(separator: " ")
            )
        }
    }

    init(decoding bytes: UnsafeRawBufferPointer) {
        entries = String(decoding: bytes, as: UTF8.self).split(separator: "\n").map { line in
            guard let colon = line.firstIndex(of: ":") else { return (String(line), "") }
            return (String(line[..<colon]), String(line[line.index(after: colon)...].drop { $0 == " " }))
        }
    }

    /// Tells finished jobs from others, wherever and whenever their files were written.
    public var digest: String {
        let bytes = JobIdentity(
            entries.filter { !["base's size", "base's time of modification"].contains($0.name) }
        ).encoded
        return "\(bytes.count)-\(Checksum.text(Checksum.crc32c(bytes, count: bytes.count)))"
    }

    var encoded: [UInt8] { Array(entries.map { "\($0.name): \($0.value)\n" }.joined().utf8) }

    public static func == (a: JobIdentity, b: JobIdentity) -> Bool {
        a.entries.count == b.entries.count
            && zip(a.entries, b.entries).allSatisfy { $0.name == $1.name && $0.value == $1.value }
    }

    /// The first thing in which another job differs: its name, what is here, and what is there.
    public func difference(from other: JobIdentity) -> (name: String, here: String, there: String)? {
        for entry in entries {
            let there = other.entries.first { $0.name == entry.name }?.value
            if there != entry.value { return (entry.name, entry.value, there ?? "nothing") }
        }
        let names = entries.map(\.name)
        return other.entries.first { !names.contains($0.name) }.map { ($0.name, "nothing", $0.value) }
    }
}
