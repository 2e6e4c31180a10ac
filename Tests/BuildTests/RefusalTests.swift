// Builds that mean nothing: a typed error that says what is wrong, and no trace on the disk.

import Build
import Foundation
import Glibc
import Index
import Learn
import Storage
import TestSupport
import Testing
import Vectors

struct RefusalTests {
    /// What a build of a small base says to changed parameters; nothing may stay behind.
    private func buildRefusal(
        _ fixture: Fixture, _ change: (inout BuildParameters) -> Void,
        _ location: SourceLocation = #_sourceLocation
    ) -> String {
        let before = fixture.directory.names
        let text = refusal({ try fixture.build(change: change) }, location)
        #expect(fixture.directory.names == before, sourceLocation: location)
        return text
    }

    @Test func parametersThatMeanNothingAreRefused() throws {
        let fixture = try Fixture(count: 300)
        func heads(
            _ share: Double, _ more: @escaping (inout BuildParameters) -> Void = { _ in }
        ) -> (inout BuildParameters) -> Void {
            { parameters in
                parameters.partitions = nil
                parameters.headShare = share
                more(&parameters)
            }
        }
        let changes: [((inout BuildParameters) -> Void, String)] = [
            ({ $0.partitions = 0 }, "partitions"), ({ $0.partitions = -1 }, "partitions"),
            ({ $0.partitions = 301 }, "300 vectors"),
            ({ $0.headShare = 0.1 }, "either partitions or heads"),
            (heads(0), "heads"), (heads(0.6), "heads"), (heads(.nan), "heads"),
            (heads(0.1) { $0.metric = .ip }, "not ip"),
            (heads(0.1) { $0.memoryByteCount = 1000 }, "holds the whole base in memory"),
            ({ $0.copyRule = .closure(replicas: 0, eps1: 1) }, "replicas"),
            ({ $0.copyRule = .closure(replicas: 65, eps1: 1) }, "replicas"),
            ({ $0.copyRule = .closure(replicas: 8, eps1: -1) }, "eps1"),
            ({ $0.copyRule = .closure(replicas: 8, eps1: .nan) }, "eps1"),
            ({ $0.copyRule = .soar(lambda: -1) }, "lambda"),
            ({ $0.copyRule = .soar(lambda: .infinity) }, "lambda"),
            ({ $0.threads = 0 }, "threads"), ({ $0.iterations = 0 }, "iterations"),
            ({ $0.pagesMaximum = 0 }, "pages-max"),
            ({ $0.pagesMaximum = .max }, "pages-max"), ({ $0.sampleCount = 0 }, "sample"),
            ({ $0.sampleCount = -5 }, "sample"),
        ]
        for (number, (change, word)) in changes.enumerated() {
            let text = buildRefusal(fixture, change)
            #expect(text.contains(word), "change \(number): \(text)")
        }
    }

    @Test func anEmptyBaseIsRefused() throws {
        let fixture = try Fixture(count: 300)
        let before = fixture.directory.names
        let nothing = fixture.base.range(0..<0)
        let builder = IndexBuilder(
            base: nothing, directory: fixture.directory.file("index"), parameters: .init())
        #expect(refusal { _ = try builder.build() }.contains("no vectors"))
        #expect(fixture.directory.names == before)
    }

    @Test func whatIsThereAlreadyIsNotTouched() throws {
        let fixture = try Fixture(count: 300)
        try fixture.build()
        let index = fixture.directory.file("index")
        let before = try contents(of: index)
        let file = fixture.directory.file("file")
        try Data([1, 2, 3]).write(to: URL(fileURLWithPath: file))
        try FileManager.default.createDirectory(
            atPath: fixture.directory.file("empty"), withIntermediateDirectories: false)
        for name in ["index", "file", "empty"] {
            let error = storageError { try fixture.build(name) }
            #expect(error?.kind == .exists && error?.path.hasSuffix(name) == true)
        }
        #expect(
            try contents(of: index) == before
                && Data(contentsOf: URL(fileURLWithPath: file)) == Data([1, 2, 3]))
        #expect(fixture.directory.names == ["base.npy", "empty", "file", "index", "query.npy"])
    }

    /// Root may write anywhere, so the places are ones that nobody can write to.
    @Test func aPlaceThatCannotBeWrittenIsNamed() throws {
        let fixture = try Fixture(count: 300)
        for parent in ["/proc", "/proc/none", fixture.base.path] {
            let builder = IndexBuilder(base: fixture.base, directory: parent + "/index", parameters: .init())
            let error = storageError { _ = try builder.build() }
            guard case .systemCall(_, let code)? = error?.kind else {
                Issue.record("\(String(describing: error))")
                continue
            }
            #expect(
                error?.path.hasPrefix(parent == "/proc/none" ? "/proc" : parent) == true
                    && [ENOENT, ENOTDIR, EACCES, EPERM, EROFS].contains(code))
        }
        #expect(fixture.directory.names == ["base.npy", "query.npy"])
    }

    @Test(arguments: [Kind.none, .closure, .heads], [ElementType.f32, .f16])
    func numbersThatAreNotFiniteAreNamed(kind: Kind, elementType: ElementType) throws {
        let fixture = try Fixture(elementType, count: 800)
        for (number, bits) in [("NaN", UInt32(0x7fc0_0000)), ("infinity", 0xff80_0000)] {
            let rows = try fixture.base.readAll()
            if elementType == .f32 {
                rows.floatRow(555)[3] = Float(bitPattern: bits)
            } else {
                let half = UInt16(number == "NaN" ? 0x7e00 : 0xfc00)
                (rows.row(555) + 6).storeBytes(of: half, as: UInt16.self)
            }
            let bad = try Fixture.write(rows, to: fixture.directory.file("\(number).npy"))
            let before = fixture.directory.names
            var parameters = BuildParameters()
            parameters.partitions = 10
            kind.apply(to: &parameters)
            let builder = IndexBuilder(
                base: bad, directory: fixture.directory.file("index"), parameters: parameters)
            let error = storageError { _ = try builder.build() }
            #expect(
                error?.kind == .invalidValue && error?.found == number && error?.detail == "row 555, column 3"
            )
            #expect(error?.path == bad.path && fixture.directory.names == before)
        }
    }

    /// Finite numbers whose squares are not: nothing traps, and what cannot be compared is refused.
    @Test(arguments: [Kind.none, .closure, .soar, .heads], Metric.allCases)
    func numbersTooLargeToSquareAreRefused(kind: Kind, metric: Metric) throws {
        if kind == .heads && metric == .ip { return }
        let fixture = try Fixture(.f32, count: 600)
        let rows = try fixture.base.readAll()
        for column in 0..<20 { rows.floatRow(77)[column] = column % 2 == 0 ? 3e38 : -3e38 }
        let large = try Fixture.write(rows, to: fixture.directory.file("large.npy"))
        let before = fixture.directory.names
        var parameters = BuildParameters()
        parameters.metric = metric
        parameters.partitions = 8
        kind.apply(to: &parameters)
        let builder = IndexBuilder(
            base: large, directory: fixture.directory.file("index"), parameters: parameters)
        #expect(refusal { _ = try builder.build() }.contains("large.npy: vector 77"))
        #expect(fixture.directory.names == before)
    }

    @Test(arguments: [Kind.none, .soar, .heads], ElementType.allCases)
    func cosineRefusesVectorsWithoutDirection(kind: Kind, elementType: ElementType) throws {
        let fixture = try Fixture(elementType, count: 600)
        let rows = try fixture.base.readAll()
        rows.row(432).initializeMemory(as: UInt8.self, repeating: 0, count: rows.rowByteCount)
        let bad = try Fixture.write(rows, to: fixture.directory.file("zero.npy"))
        let before = fixture.directory.names
        var parameters = BuildParameters()
        parameters.metric = .cosine
        parameters.partitions = 4
        kind.apply(to: &parameters)
        // Also where the sample misses it.
        for sample in [nil, 16] {
            parameters.sampleCount = sample
            let builder = IndexBuilder(
                base: bad, directory: fixture.directory.file("index"), parameters: parameters)
            #expect(refusal { _ = try builder.build() }.contains("vector 432 is zero"))
            #expect(fixture.directory.names == before)
        }
    }

    @Test func idsThatCannotBeAreRefused() throws {
        let fixture = try Fixture()
        func build(_ ids: VectorIds, _ kind: Kind = .none) -> String {
            refusal {
                try fixture.build("refused", .l2, kind) {
                    if kind == .heads { $0.partitions = nil }
                    $0.ids = ids
                }
            }
        }
        #expect(try build(fixture.ids("few", rising(1499))).contains("holds 1499 ids, the base 1500 vectors"))
        var doubled = rising(1500)
        doubled[1300] = doubled[17]
        #expect(
            try build(fixture.ids("doubled", doubled)).contains("gives the id \(doubled[17]) to two vectors"))
        #expect(build(.positions(first: 3), .heads).contains("heads are kept by their positions"))
        #expect(try build(fixture.ids("headed", rising(1500)), .heads).contains("heads are kept"))
        var marked = rising(1500)
        marked[2] = .max
        let error = storageError {
            let ids = try fixture.ids("marked", marked)
            try fixture.build("refused") { $0.ids = ids }
        }
        #expect(error?.kind == .invalidValue && error?.offset == 16)
        #expect(!fixture.directory.names.contains { $0.contains("refused") })
    }
}
