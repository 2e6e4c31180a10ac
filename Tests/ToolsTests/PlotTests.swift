// sonde plot: what `measure --json` wrote becomes a picture.

import Foundation
import Testing

@Suite struct PlotTests {
    @Test func measurementsBecomeCurvesOfOnePicture() throws {
        let scratch = try Scratch()
        try write(scratch, "a.json", recalls: [0.5, 0.8, 0.95])
        try write(scratch, "b.json", recalls: [0.6, 0.9])
        let result = try sonde([
            "plot", "k-means & co=\(scratch.file("a.json"))", scratch.file("b.json"), "--out",
            scratch.file("p.svg"),
        ])
        #expect(result.code == 0, "\(result.err)")
        let svg = String(decoding: try scratch.bytes("p.svg"), as: UTF8.self)
        #expect(svg.hasPrefix("<svg "))
        #expect(svg.components(separatedBy: "<polyline").count == 3)
        #expect(svg.contains("k-means &amp; co") && svg.contains(">b</text>"))
        #expect(!svg.contains("nan") && !svg.contains("inf\""))
    }

    @Test func aRecallThatWasNotMeasuredIsRefused() throws {
        let scratch = try Scratch()
        try write(scratch, "a.json", recalls: [0.5])
        let result = try sonde(["plot", scratch.file("a.json"), "-k", "10", "--out", scratch.file("p.svg")])
        #expect(result.code == 1)
        #expect(result.errorLine?.contains("recall@10") == true)
        #expect(scratch.names == ["a.json"])
    }

    @Test func dataSetsAreNamedWhereThereAreSeveral() throws {
        let scratch = try Scratch()
        try write(scratch, "a.json", recalls: [0.5, 0.9])
        try write(scratch, "b.json", recalls: [0.6, 0.8], count: 2000)
        try succeed(["plot", scratch.file("a.json"), scratch.file("b.json"), "--out", scratch.file("p.svg")])
        let svg = String(decoding: try scratch.bytes("p.svg"), as: UTF8.self)
        #expect(svg.contains(">a (1,000 × 8 u8, l2)<") && svg.contains(">b (2,000 × 8 u8, l2)<"))
        #expect(svg.contains(">Recall@1 against vectors fetched<"))
    }

    @Test func aNameThatAsksForAnotherFormatIsRefused() throws {
        let scratch = try Scratch()
        try write(scratch, "a.json", recalls: [0.5, 0.9])
        for name in ["p.gif", "p"] {
            let result = try sonde(["plot", scratch.file("a.json"), "--out", scratch.file(name)])
            #expect(result.code == 1)
        }
        let result = try sonde(["plot", scratch.file("a.json"), "--out", scratch.file("p.pdf")])
        let isPDF = (try? scratch.bytes("p.pdf"))?.starts(with: Data("%PDF".utf8)) ?? false
        #expect(result.code == 1 || isPDF)
    }

    private func write(_ scratch: Scratch, _ name: String, recalls: [Double], count: Int = 1000) throws {
        let rows = recalls.enumerated().map { position, recall in
            """
            {"policy":"nprobe","parameter":\(position + 1),"recall":{"1":\(recall)},"vectors":\(100 * (position + 1)),
            "cached":0,"distinct":90,"segments":1,"pages":4,"bytes":16384,"reads":1,"rounds":1,"qps":1000,
            "latency_ms":{"mean":1,"p50":1,"p99":2,"p999":3},"route_us":1,"wait_us":1,"scan_us":1,"bound":"disk"}
            """
        }
        let text = """
            {"data":{"n":\(count),"d":8,"dtype":"u8","metric":"l2","queries":10},
            "index":{"partitions":10,"replication":1,"resident_bytes":10,"index_bytes":10,"duplicate":"none",
            "router":"distance"},"rows":[\(rows.joined(separator: ","))],"at":{}}
            """
        try Data(text.utf8).write(to: URL(fileURLWithPath: scratch.file(name)))
    }
}
