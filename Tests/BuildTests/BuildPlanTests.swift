// What a plan says of a build, against what the build then takes.

import Build
import Foundation
import Index
import Learn
import Router
import Storage
import TestSupport
import Testing
import Vectors

struct BuildPlanTests {
    private let builds: StoppedBuilds
    private var fixture: Fixture { builds.fixture }
    private var work: String { builds.work }
    private var names: [String] { builds.names }

    init() throws { builds = try StoppedBuilds() }

    @Test func aPlanSaysWhatABuildTakes() throws {
        for spread in [true, false] {
            let builder = builds.builder(spread: spread)
            let plan = try builder.plan(measuring: false)
            #expect(plan.stages.map(\.name) == ["partition", "assign", "group", "write"])
            #expect(plan.partitions == 40 && plan.records == 5000 && (plan.buckets > 1) == spread)
            #expect(names == [])
            var peak = 0
            builder.afterUnit = { _, _ in
                let files = try FileManager.default.subpathsOfDirectory(atPath: work)
                peak = max(
                    peak,
                    files.reduce(0) {
                        var status = stat()
                        stat(work + "/" + $1, &status)
                        return $0 + (status.st_mode & S_IFMT == S_IFREG ? Int(status.st_size) : 0)
                    })
            }
            let report = try builder.build()
            #expect(Double(plan.finalByteCount) > 0.85 * Double(report.indexByteCount))
            #expect(Double(plan.finalByteCount) < 1.2 * Double(report.indexByteCount))
            #expect(
                plan.peakByteCount >= peak - 20_000 && plan.peakByteCount < peak * 3 / 2, "\(plan) \(peak)")
            try FileManager.default.removeItem(atPath: fixture.directory.file("index"))
        }
    }
}
