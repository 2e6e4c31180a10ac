// Queries that mean nothing: a typed error that says what is wrong.

import Index
import Storage
import TestSupport
import Testing
import Vectors

struct QueryRefusalTests {
    @Test func queriesThatDoNotFitAreRefused() throws {
        let fixture = try Fixture(count: 300)
        try fixture.build(partitions: 6)
        let index = try fixture.open()
        let queries = fixture.queries
        #expect(refusal { _ = try index.ask(queries, k: 0, .nprobe(1)) }.contains("k must be"))
        #expect(refusal { _ = try index.ask(queries, k: -1, .nprobe(1)) }.contains("k must be"))
        let tooMany = refusal { _ = try index.ask(queries, k: 301, .nprobe(1)) }
        #expect(tooMany.contains("300") && tooMany.contains("301"))
        let shorter = VectorMatrix(count: 2, dimension: 19, elementType: .u8)
        let dimensions = refusal { _ = try index.ask(shorter, .nprobe(1)) }
        #expect(dimensions.contains("19") && dimensions.contains("20"))
        for other in [ElementType.i8, .f16, .f32] {
            let text = refusal { _ = try index.ask(queries.converted(to: other), .nprobe(1)) }
            #expect(text.contains(other.name) && text.contains("u8"))
        }
        #expect(refusal { _ = try index.ask(queries, .nprobe(1), threads: 0) }.contains("threads"))
        #expect(refusal { _ = try index.ask(queries, .nprobe(1), inFlight: 0) }.contains("inflight"))
    }

    @Test(arguments: [ElementType.f32, .f16])
    func queriesThatAreNotFiniteAreRefused(elementType: ElementType) throws {
        let fixture = try Fixture(elementType, count: 300)
        try fixture.build(partitions: 6)
        let index = try fixture.open()
        for half in [UInt16(0x7e00), 0xfc00] {
            let queries = try fixture.queryFile.readAll()
            if elementType == .f32 {
                queries.floatRow(7)[11] = half == 0x7e00 ? .nan : -.infinity
            } else {
                (queries.row(7) + 22).storeBytes(of: half, as: UInt16.self)
            }
            let bad = try Fixture.write(queries, to: fixture.directory.file("\(half).npy"))
            let error = storageError { _ = try bad.readAll() }
            #expect(error?.detail == "row 7, column 11")
            // Also where they come from memory.
            let text = refusal { _ = try index.ask(queries, .nprobe(1)) }
            #expect(text.contains("query 7") && text.contains("finite"), "\(text)")
        }
    }

    @Test(arguments: ElementType.allCases)
    func cosineRefusesQueriesWithoutDirection(elementType: ElementType) throws {
        let fixture = try Fixture(elementType, count: 300)
        try fixture.build("index", .cosine, partitions: 6)
        let queries = try fixture.queryFile.readAll()
        queries.row(5).initializeMemory(as: UInt8.self, repeating: 0, count: queries.rowByteCount)
        #expect(refusal { _ = try fixture.open().ask(queries, .nprobe(1)) }.contains("query 5"))
        try fixture.build("l2", .l2, partitions: 6)
        #expect(try fixture.open("l2").ask(queries, .nprobe(6)).answers.k == 10)
    }
}
