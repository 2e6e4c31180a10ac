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
        #expect(svg.components(separatedBy: "<polyline fill").count == 3)
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

    @Test(arguments: [
        ("vectors", "vectors fetched a query"), ("pages", "pages read a query"), ("reads", "reads a query"),
        ("kib", "KiB read a query"), ("qps", "queries a second"), ("latency", "mean latency, ms"),
        ("p99", "p99 latency, ms"),
    ])
    func everyCostCanStandOnTheAxis(name: String, label: String) throws {
        let scratch = try Scratch()
        try write(scratch, "a.json", recalls: [0.5, 0.8, 0.95])
        try succeed(["plot", scratch.file("a.json"), "--x", name, "--out", scratch.file("p.svg")])
        let svg = String(decoding: try scratch.bytes("p.svg"), as: UTF8.self)
        #expect(svg.contains(">\(label)</text>"))
    }

    @Test func severalCostsArePanelsSideBySide() throws {
        let scratch = try Scratch()
        try write(scratch, "a.json", recalls: [0.5, 0.8, 0.95])
        try succeed([
            "plot", scratch.file("a.json"), "--x", "vectors,pages", "--mark", "0.9", "--title",
            "Mine & yours",
            "--out", scratch.file("p.svg"),
        ])
        let svg = String(decoding: try scratch.bytes("p.svg"), as: UTF8.self)
        #expect(svg.contains(">vectors fetched a query<") && svg.contains(">pages read a query<"))
        #expect(svg.components(separatedBy: "<polyline fill").count == 3)
        #expect(svg.contains(">Mine &amp; yours<") && svg.contains(">recall 0.9<"))
    }

    @Test func missesStandOnALogarithmicScaleAndNoneHasNoPlaceThere() throws {
        let scratch = try Scratch()
        try write(scratch, "a.json", recalls: [0.9, 0.99, 1])
        try succeed(["plot", scratch.file("a.json"), "--y", "miss", "--out", scratch.file("p.svg")])
        let svg = String(decoding: try scratch.bytes("p.svg"), as: UTF8.self)
        #expect(svg.contains(">1 - recall@1<") && svg.contains(">0.1<"))
        #expect(!svg.contains("nan") && !svg.contains("inf"))
        // Two points, and one in the legend.
        #expect(svg.components(separatedBy: "<circle").count == 4)
    }

    @Test func curvesDifferInMarkAndDashForGreyPrint() throws {
        let scratch = try Scratch()
        for name in ["a", "b", "c"] {
            try write(scratch, "\(name).json", recalls: [0.5, 0.8], depths: [1, 10])
        }
        let files = ["a", "b", "c"].map { scratch.file("\($0).json") }
        try succeed(["plot"] + files + ["--out", scratch.file("p.svg")])
        let one = String(decoding: try scratch.bytes("p.svg"), as: UTF8.self)
        let dashes = one.matches(of: /stroke-dasharray="([^"]+)" points/).map { String($0.1) }
        #expect(Set(dashes).count == 2)
        let corners = one.matches(of: /<polygon points="([^"]+)"/).map { $0.1.split(separator: " ").count }
        #expect(Set(corners) == [3, 4] && one.contains("<circle"))
        try succeed(["plot"] + files + ["-k", "1,10", "--out", scratch.file("q.svg")])
        let two = String(decoding: try scratch.bytes("q.svg"), as: UTF8.self)
        #expect(two.contains(">a, k = 1<") && two.contains(">c, k = 10<") && two.contains(">recall@k<"))
    }

    @Test func namesInThePictureDoNotTouch() throws {
        let scratch = try Scratch()
        try write(scratch, "a.json", recalls: [0.5, 0.8, 0.95])
        let long = String(repeating: "a long name ", count: 4)
        let files = (0..<5).map { "\(long)\($0)=" + scratch.file("a.json") }
        try succeed(["plot"] + files + ["--x", "p99", "--y", "miss", "--out", scratch.file("p.svg")])
        let svg = String(decoding: try scratch.bytes("p.svg"), as: UTF8.self)
        // Texts of one line, from left to right, each as wide as its letters at least.
        let texts = svg.matches(of: /<text x="([0-9.]+)" y="([0-9.]+)" text-anchor="(\w+)"[^>]*>([^<]*)</)
        var ends: [String: Double] = [:]
        for text in texts.sorted(by: { (Double($0.1) ?? 0) < (Double($1.1) ?? 0) }) {
            let (x, width) = (try #require(Double(text.1)), Double(text.4.count) * 6)
            let start = text.3 == "start" ? x : text.3 == "end" ? x - width : x - width / 2
            #expect(start >= ends[String(text.2)] ?? 0, "\(text.4)")
            #expect(start + width <= 760, "\(text.4)")
            ends[String(text.2)] = start + width
        }
        #expect(texts.count > 10)
    }

    @Test func anArrayOfMeasurementsIsDrawnWhole() throws {
        let scratch = try Scratch()
        try write(scratch, "a.json", recalls: [0.5, 0.8])
        let one = String(decoding: try scratch.bytes("a.json"), as: UTF8.self)
        try Data("[\(one),\(one)]".utf8).write(to: URL(fileURLWithPath: scratch.file("b.json")))
        try succeed(["plot", "both=\(scratch.file("b.json"))", "--out", scratch.file("p.svg")])
        let svg = String(decoding: try scratch.bytes("p.svg"), as: UTF8.self)
        #expect(svg.contains(">both 1<") && svg.contains(">both 2<"))
    }

    @Test func picturesForPrintAreMadeWhereTheConverterIs() throws {
        let scratch = try Scratch()
        try write(scratch, "a.json", recalls: [0.5, 0.9])
        let signatures = [("png", Data([0x89, 0x50, 0x4E, 0x47])), ("pdf", Data("%PDF".utf8))]
        for (ending, signature) in signatures {
            let path = scratch.file("p.\(ending)")
            let result = try sonde(["plot", scratch.file("a.json"), "--out", path])
            if result.code == 0 {
                #expect(try scratch.bytes("p.\(ending)").starts(with: signature))
            } else {
                #expect(result.errorLine?.contains("rsvg-convert") == true, "\(result.err)")
            }
        }
    }

    @Test(arguments: [["--x", "pages,pages"], ["--x", "colour"], ["--y", "precision"], ["--mark", "1.5"]])
    func axesThatAreNotThereAreWrongUsage(options: [String]) throws {
        let scratch = try Scratch()
        try write(scratch, "a.json", recalls: [0.5, 0.9])
        let result = try sonde(["plot", scratch.file("a.json"), "--out", scratch.file("p.svg")] + options)
        #expect(result.code == 2)
        #expect(scratch.names == ["a.json"])
    }

    private func write(
        _ scratch: Scratch, _ name: String, recalls: [Double], count: Int = 1000, depths: [Int] = [1]
    ) throws {
        let rows = recalls.enumerated().map { position, recall in
            """
            {"policy":"nprobe","parameter":\(position + 1),"recall":{\(depths.map { "\"\($0)\":\(recall)" }.joined(separator: ","))},"vectors":\(100 * (position + 1)),
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
