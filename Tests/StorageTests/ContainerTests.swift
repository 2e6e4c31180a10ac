import Foundation
import Storage
import TestSupport
import Testing

/// Manifest, router file, publication.
struct ContainerTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private var manifest: Manifest {
        Manifest(
            metric: "l2", elementType: "u8", dimension: 128, count: 10, partitions: 2, records: 12,
            build: ["seed": "1", "base": "/data/\"x\".u8bin"],
            files: ["segments.bin": FileDigest(byteCount: 8192, crc32c: 5)])
    }

    @Test func goldenManifest() throws {
        try manifest.write(path: directory.file("manifest.json"))
        let text = String(decoding: try bytes(of: directory.file("manifest.json")), as: UTF8.self)
        #expect(
            text == """
                {
                  "build" : {
                    "base" : "/data/\\"x\\".u8bin",
                    "seed" : "1"
                  },
                  "checksum" : "654c8a68",
                  "count" : 10,
                  "dimension" : 128,
                  "elementType" : "u8",
                  "files" : {
                    "segments.bin" : {
                      "byteCount" : 8192,
                      "crc32c" : 5
                    }
                  },
                  "formatVersion" : 1,
                  "metric" : "l2",
                  "partitions" : 2,
                  "records" : 12
                }

                """)
    }

    @Test func aManifestComesBackAndEachDamagedByteIsNoticed() throws {
        try manifest.write(path: directory.file("m"))
        var back = try Manifest.read(path: directory.file("m"))
        #expect(back.checksum.count == 8 && back.totalByteCount == 8192)
        #expect(back.build == manifest.build && back.files == manifest.files && back.records == 12)
        back.metric = "ip"
        try back.write(path: directory.file("n"))
        #expect(try Manifest.read(path: directory.file("n")).metric == "ip")
        let good = try bytes(of: directory.file("m"))
        for byte in good.indices {
            var bad = good
            bad[byte] ^= 1 << UInt8(byte % 8)
            let path = try directory.write(bad, as: "bad")
            #expect(throws: StorageError.self, "byte \(byte)") { try Manifest.read(path: path) }
        }
    }

    @Test func badManifestsAreNamed() throws {
        #expect(kind { _ = try Manifest.read(path: directory.file("none")) } == .missing)
        let path = try directory.write(Array("{\"formatVersion\" : 7}".utf8), as: "new")
        #expect(kind { _ = try Manifest.read(path: path) } == .unsupportedVersion)
        let empty = try directory.write([], as: "empty")
        #expect(kind { _ = try Manifest.read(path: empty) } == .corrupt)
        var escaping = manifest
        escaping.files["../x"] = FileDigest(byteCount: 0, crc32c: 0)
        try escaping.write(path: directory.file("escaping"))
        #expect(kind { _ = try Manifest.read(path: directory.file("escaping")) } == .badHeader)
    }

    @Test func sizesOfFilesAreComparedWithTheManifest() throws {
        #expect(kind { try manifest.checkSizes(directory: directory.path) } == .missing)
        _ = try directory.write([UInt8](repeating: 0, count: 8191), as: "segments.bin")
        #expect(kind { try manifest.checkSizes(directory: directory.path) } == .truncated)
        _ = try directory.write([UInt8](repeating: 0, count: 8192), as: "segments.bin")
        try manifest.checkSizes(directory: directory.path)
    }

    @Test func goldenRouterFile() throws {
        try TaggedFile.write(path: directory.file("r"), sections: [("one", [1, 2, 3]), ("eight888", [])])
        var expected = Array("SONDERTR".utf8) + little([UInt32(1), 2])
        expected += Array("one\0\0\0\0\0".utf8) + little([UInt64(128), 3])
        expected += little([
            [UInt8]([1, 2, 3]).withUnsafeBytes { Checksum.crc32c($0.baseAddress!, count: 3) }, 0,
        ])
        expected += Array("eight888".utf8) + little([UInt64(192), 0]) + little([UInt32(0), 0])
        expected += little([expected.withUnsafeBytes { Checksum.crc32c($0.baseAddress!, count: $0.count) }])
        expected +=
            [UInt8](repeating: 0, count: 128 - expected.count) + [1, 2, 3] + [UInt8](repeating: 0, count: 61)
        #expect(try bytes(of: directory.file("r")) == expected)
    }

    @Test func sectionsComeBackAndDamageIsNoticed() throws {
        let sections = [("a", noise(200)), ("b", []), ("c", noise(64, seed: 2))]
        let digest = try TaggedFile.write(path: directory.file("r"), sections: sections.map { ($0.0, $0.1) })
        #expect(try FileDigest.of(path: directory.file("r")) == digest)
        let back = try TaggedFile.read(path: directory.file("r"))
        #expect(back.count == 3)
        for (tag, content) in sections { #expect(back[tag] == content) }
        let good = try bytes(of: directory.file("r"))
        // Everything but padding is covered: the header up to its checksum, and the sections.
        let covered = Array(0..<16 + 3 * 32 + 4) + Array(128..<328) + Array(384..<448)
        for byte in covered {
            var bad = good
            bad[byte] ^= 0x10
            let path = try directory.write(bad, as: "bad")
            #expect(throws: StorageError.self, "byte \(byte)") { try TaggedFile.read(path: path) }
        }
        for length in 0..<good.count {
            let path = try directory.write(Array(good[..<length]), as: "short")
            #expect(throws: StorageError.self, "\(length) bytes") { try TaggedFile.read(path: path) }
        }
        var new = good
        new[8] = 2
        let path = try directory.write(new, as: "new")
        #expect(kind { _ = try TaggedFile.read(path: path) } == .unsupportedVersion)
    }

    @Test func badTagsAreRefused() throws {
        for tags in [[""], ["ninechars"], ["a b"], ["x", "x"]] {
            let sections = tags.map { ($0, [UInt8]()) }
            #expect(
                kind { try TaggedFile.write(path: directory.file("r"), sections: sections) } == .invalidValue)
        }
    }

    @Test func aDirectoryAppearsWhole() throws {
        let target = try AtomicDirectory.create(path: directory.file("index/"))
        #expect(target.workPath == directory.file(".index.building"))
        try Data([1]).write(to: URL(fileURLWithPath: target.temporary("scratch")))
        try TaggedFile.write(path: target.file("router.bin"), sections: [])
        #expect(!FileManager.default.fileExists(atPath: directory.file("index")))
        try target.publish()
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["index"])
        #expect(try TaggedFile.read(path: directory.file("index/router.bin")).isEmpty)
        target.discard()
        #expect(FileManager.default.fileExists(atPath: directory.file("index/router.bin")))
    }

    @Test func anExistingDirectoryIsNeverReplaced() throws {
        let target = try AtomicDirectory.create(path: directory.file("index"))
        // Somebody is at work.
        let second = kind { _ = try AtomicDirectory.create(path: directory.file("index"), start: .restart) }
        #expect(second == .exists)
        try TaggedFile.write(path: target.file("r"), sections: [("first", [])])
        // The name is taken by other means.
        try FileManager.default.createDirectory(
            atPath: directory.file("index"), withIntermediateDirectories: false)
        #expect(kind { try target.publish() } == .exists)
        target.discard()
        #expect(kind { _ = try AtomicDirectory.create(path: directory.file("index")) } == .exists)
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["index"])
    }

    /// What the dead have left is theirs no more; what has a journal is kept until somebody decides.
    @Test func directoriesOfTheDeadAreTakenOver() throws {
        let path = directory.file("index")
        for start in [AtomicDirectory.Start.fresh, .resume, .restart] {
            let dead = try AtomicDirectory.create(path: path)
            try TaggedFile.write(path: dead.file("r"), sections: [])
            dead.leave()
            let next = try AtomicDirectory.create(path: path, start: start)
            #expect(try Directory.names(next.contentPath) == [])
            _ = try JobJournal<BuildEntry>(at: next.journalPath, identity: JobIdentity([("a", "1")]))
            try TaggedFile.write(path: next.file("r"), sections: [])
            next.leave()
            #expect(kind { _ = try AtomicDirectory.create(path: path) } == .exists)
            let same = try AtomicDirectory.create(path: path, start: .resume)
            #expect(try Directory.names(same.contentPath) == ["r"])
            same.leave()
            let new = try AtomicDirectory.create(path: path, start: .restart)
            #expect(try Directory.names(new.contentPath) == [])
            #expect(!JobJournals.exists(at: new.journalPath))
            new.discard()
            #expect(try Directory.names(directory.path) == [])
        }
    }

    /// An entry that a kill cut short, or a group without its commit, was not written.
    @Test func journalsKeepWhatWasCommitted() throws {
        let path = directory.file("journal")
        let identity = JobIdentity([("a", "1")])
        let groups: [[BuildEntry]] = [
            [.file(0, FileDigest(byteCount: 9, crc32c: 1)), .reached(stage: 1, position: 1)],
            [.file(1, FileDigest(byteCount: 5, crc32c: 2)), .gone(0), .reached(stage: 2, position: 7)],
            [.reached(stage: 2, position: 9)],
        ]
        do {
            let journal = try JobJournal<BuildEntry>(at: path, identity: identity)
            for group in groups { try journal.append(group) }
        }
        let whole = try bytes(of: path)
        for cut in 0...6 * 32 {
            _ = try directory.write(Array(whole.dropLast(cut)), as: "journal")
            let journal = try JobJournal<BuildEntry>(continuing: path, identity: identity)
            let kept = cut == 0 ? 3 : cut <= 32 ? 2 : cut <= 4 * 32 ? 1 : 0
            #expect(journal.entries == Array(groups[..<kept].joined()), "\(cut)")
            #expect(try bytes(of: path).count == whole.count - 6 * 32 + 32 * [0, 2, 5, 6][kept])
        }
        for place in 0..<whole.count - 32 {
            var bad = whole
            bad[place] ^= 0x20
            _ = try directory.write(bad, as: "journal")
            let found = kind { _ = try JobJournal<BuildEntry>(continuing: path, identity: identity) }
            #expect(found == .corrupt || (8..<12).contains(place) && found == .unsupportedVersion, "\(place)")
        }
        _ = try directory.write(whole, as: "journal")
        let other = kind {
            _ = try JobJournal<BuildEntry>(continuing: path, identity: JobIdentity([("a", "2")]))
        }
        #expect(other == .invalidValue)
    }

    @Test func aDirectoryThatCannotBeMadeSaysWhy() throws {
        // Root writes where permissions forbid it, so the parent is one that nobody can write to.
        for parent in ["/proc", "/proc/none"] {
            do {
                _ = try AtomicDirectory.create(path: parent + "/index")
                Issue.record("made a directory in \(parent)")
            } catch {
                guard case .systemCall("mkdir", _) = error.kind else { throw error }
                #expect(error.path.hasPrefix("/proc"))
            }
        }
        #expect(kind { _ = try AtomicDirectory.create(path: "..") } == .invalidValue)
        try AtomicDirectory.create(path: directory.file("new/deep/index")).publish()
        #expect(Directory.exists(directory.file("new/deep/index")))
        #expect(
            kind {
                _ = try SegmentWriter(
                    path: "/proc/none", layout: PageLayout(dimension: 1, elementType: .u8, idByteCount: 4))
            } != nil)
    }

    @Test func aFullDeviceIsNamed() throws {
        guard FileManager.default.fileExists(atPath: "/dev/full") else { return }
        // A link to a device is written in place.
        try FileManager.default.createSymbolicLink(
            atPath: directory.file("truth.bin"), withDestinationPath: "/dev/full")
        do {
            try TruthFile(count: 1, k: 1).write(path: directory.file("truth.bin"))
            Issue.record("wrote to a full device")
        } catch {
            #expect("\(error)".contains(String(cString: strerror(ENOSPC))))
            #expect(error.advice != nil)
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["truth.bin"])
    }
}
