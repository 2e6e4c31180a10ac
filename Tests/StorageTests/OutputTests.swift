// Outputs: what lies at a path decides how it is written, and nothing that a job reads is written.

import Foundation
import Storage
import Testing
import Vectors

@Suite struct OutputTests {
    @Test func aSymlinkIsFollowedAndStays() throws {
        let scratch = try OutputFolder()
        try "old".write(toFile: scratch.file("target"), atomically: true, encoding: .utf8)
        symlink("target", scratch.file("link"))
        try TextFile.write("new", path: scratch.file("link"))
        #expect(try String(contentsOfFile: scratch.file("target"), encoding: .utf8) == "new")
        #expect(try OutputPlace(scratch.file("link")).path == scratch.file("target"))
    }

    @Test func aDeviceIsWrittenInPlace() throws {
        #expect(try OutputPlace("/dev/null").kind == .stream)
        #expect(try OutputPlace("/dev/stdout").kind == .descriptor(1))
        try TextFile.write("text", path: "/dev/null")
        #expect(try OutputPlace("/dev/null").kind == .stream)
    }

    @Test func aTemporaryThatIsASymlinkIsRefused() throws {
        let scratch = try OutputFolder()
        try "mine".write(toFile: scratch.file("victim"), atomically: true, encoding: .utf8)
        symlink("victim", scratch.file("o.part"))
        #expect(throws: StorageError.self) { try TextFile.write("text", path: scratch.file("o")) }
        #expect(try String(contentsOfFile: scratch.file("victim"), encoding: .utf8) == "mine")
    }

    @Test func twoWritersOfOneOutputRefuseEachOther() throws {
        let scratch = try OutputFolder()
        let first = try OutputFile(path: scratch.file("o"), atomically: true)
        #expect(throws: StorageError.self) { try OutputFile(path: scratch.file("o"), atomically: true) }
        try first.append(Array("one".utf8))
        try first.finish()
        #expect(try String(contentsOfFile: scratch.file("o"), encoding: .utf8) == "one")
    }

    @Test func aFifoIsNoInput() throws {
        let scratch = try OutputFolder()
        mkfifo(scratch.file("f"), 0o600)
        #expect(throws: StorageError.self) { try InputFile(path: scratch.file("f")) }
    }

    @Test func anOutputThatIsAnInputIsRefused() throws {
        let scratch = try OutputFolder()
        try "in".write(toFile: scratch.file("a"), atomically: true, encoding: .utf8)
        symlink("a", scratch.file("link"))
        link(scratch.file("a"), scratch.file("second"))
        mkdir(scratch.file("ix"), 0o755)
        try "s".write(toFile: scratch.file("ix/segments.bin"), atomically: true, encoding: .utf8)
        func refused(_ out: [String], directories: [String] = [], inputs: [String]) -> Bool {
            var guarded = OutputGuard(inputs: inputs.map { scratch.file($0) })
            do {
                try guarded.check(directories: directories.map { scratch.file($0) })
                try guarded.check(files: out.map { scratch.file($0) })
                return false
            } catch { return true }
        }
        for name in ["a", "link", "second", "ix/../a"] { #expect(refused([name], inputs: ["a"]), "\(name)") }
        #expect(refused(["ix/segments.bin"], inputs: ["ix"]))
        #expect(refused(["ix/new"], inputs: ["ix"]))
        #expect(refused([], directories: ["ix/new"], inputs: ["ix"]))
        #expect(refused(["b", "b"], inputs: []))
        #expect(refused(["b", "b.part"], inputs: []))
        #expect(!refused(["b", "c"], inputs: ["a", "ix"]))
        #expect(!refused([], directories: ["new"], inputs: ["a", "ix"]))
        mkdir(scratch.file(".n.building"), 0o755)
        try "in".write(toFile: scratch.file(".n.building/base"), atomically: true, encoding: .utf8)
        #expect(refused([], directories: ["n"], inputs: [".n.building/base"]))
    }

    @Test func directReadsByThreadsGiveTheSameBytes() throws {
        let scratch = try OutputFolder(in: productFolder)
        let bytes = (0..<3 * 4096).map { UInt8(truncatingIfNeeded: $0 / 7) }
        try Data(bytes).write(to: URL(fileURLWithPath: scratch.file("d")))
        guard let device = try? DirectThreadFile(path: scratch.file("d")) else { return }
        #expect(device.kind == "direct by threads")
        let arena = try ReadArena(byteCount: 3 * 4096)
        let queue = try device.makeQueue(depth: 2, arena: arena)
        queue.submit(offset: 4096, byteCount: 8192, arenaOffset: 0, tag: 7)
        var done: [ReadCompletion] = []
        try queue.wait(atLeast: 1, into: &done)
        #expect(done == [ReadCompletion(tag: 7, byteCount: 8192)])
        #expect(Array(UnsafeRawBufferPointer(start: arena.base, count: 8192)) == Array(bytes[4096...]))
    }
}

private let productFolder = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    .deletingLastPathComponent().path

private final class OutputFolder {
    let path: String
    init(in parent: String = FileManager.default.temporaryDirectory.path) throws {
        path = parent + "/sonde-output-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
    func file(_ name: String) -> String { path + "/" + name }
}
