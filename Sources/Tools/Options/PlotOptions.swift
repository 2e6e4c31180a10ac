// What a picture shows: the same words for `plot` and for `measure --plot`.

import ArgumentParser

struct PlotOptions: ParsableArguments {
    @Option(
        help: "Picture: vectors, pages, reads, kib, qps, latency or p99 on the x axis; several, a panel each."
    )
    var x = PlotCosts([.vectors])

    @Option(help: "Picture: recall, or miss (1 - recall on a logarithmic scale).")
    var y: PlotQuality = .recall

    @Option(help: "Picture: the title (default: what is drawn, and the data).")
    var title: String?

    @Option(help: "Picture: a line at this recall.")
    var mark: Double?

    func validate() throws {
        if let mark, !(mark > 0 && mark < 1) {
            throw ValidationError("--mark must be between 0 and 1, found \(mark)")
        }
    }

    func curves(ks: [Int]) -> Curves { Curves(x: x.values, y: y, title: title, mark: mark, ks: ks) }
}

extension PlotQuality: ExpressibleByArgument {}

/// Axes, e.g. "vectors,pages".
struct PlotCosts: ExpressibleByArgument {
    var values: [PlotCost]

    init(_ values: [PlotCost]) { self.values = values }

    init?(argument: String) {
        let named = argument.split(separator: ",", omittingEmptySubsequences: false).map {
            PlotCost(rawValue: String($0))
        }
        let values = named.compactMap { $0 }
        guard !values.isEmpty, values.count == named.count, Set(values).count == values.count,
            values.count <= 4
        else { return nil }
        self.values = values
    }

    var defaultValueDescription: String { values.map(\.rawValue).joined(separator: ",") }

    static var allValueStrings: [String] { PlotCost.allCases.map(\.rawValue) }
}
