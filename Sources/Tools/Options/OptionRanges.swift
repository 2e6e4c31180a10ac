// The range of every numeric option, in one place: checked before anything is parsed, so that no arithmetic on a value
// can overflow and no command begins what it could never hold. docs/reference/cli.md shows the same table; a test compares the
// options that commands declare with the names here.

import ArgumentParser

/// What the value of an option may be.
struct OptionRange: Sendable {
    let range: ClosedRange<Double>
    /// In words, as messages and the documentation have it.
    let text: String
    /// How a value is read.
    fileprivate var read: @Sendable (String) -> [Double]? = { Double($0).map { [$0] } }
    /// Numbers of a list at most.
    private var countMaximum = Int.max

    private init(_ range: ClosedRange<Double>, _ text: String) {
        self.range = range
        self.text = text
    }

    static func whole(_ least: Int, _ most: Int) -> OptionRange {
        OptionRange(Double(least)...Double(most), "from \(least) to \(most)")
    }

    static func real(_ least: Double, _ most: Double) -> OptionRange {
        func name(_ value: Double) -> String { Int(exactly: value).map { "\($0)" } ?? "\(value)" }
        return OptionRange(least...most, "from \(name(least)) to \(name(most))")
    }

    static func positive(_ most: Double) -> OptionRange {
        OptionRange(Double.leastNonzeroMagnitude...most, "over 0 and at most \(most)")
    }

    static let share = OptionRange(
        Double.leastNonzeroMagnitude...1.0.nextDown, "over 0 and below 1")
    static let any = OptionRange(0...Double(UInt64.max), "from 0 to \(UInt64.max)")

    static func bytes(_ least: Int) -> OptionRange {
        var result = OptionRange(
            Double(least)...0x1p50, "from \(ByteCount(least).description) to 1PiB")
        result.read = { ByteCount(argument: $0).map { [Double($0.byteCount)] } }
        return result
    }

    static func list(_ each: OptionRange, count: Int) -> OptionRange {
        var result = OptionRange(each.range, "up to \(count) numbers \(each.text)")
        result.countMaximum = count
        result.read = { text in
            let parts = text.split(separator: ",", omittingEmptySubsequences: false)
            let values = parts.compactMap { Double($0) }
            return values.count == parts.count ? values : nil
        }
        return result
    }

    /// Whether the value may be; true where it is no number: that is for the parser to say.
    func allows(_ value: String) -> Bool {
        guard let numbers = read(value) else { return true }
        return numbers.count <= countMaximum && numbers.allSatisfy { range.contains($0) }
    }
}

/// The table.
enum OptionRanges {
    private static let most = Int(Int32.max)
    private static let rows = 1 << 48
    private static let widths = OptionRange.list(.whole(1, 4096), count: 8)

    /// By name; where a command means something else by one, by "command name".
    static let all: [String: OptionRange] = [
        "--block": .whole(1, most), "--budget-vectors": .whole(1, rows), "--cache": .bytes(1),
        "--candidates": .whole(1, 1 << 20), "--clusters": .whole(1, 1 << 20), "--count": .whole(1, 1 << 40),
        "--dim": .whole(1, 65_536), "--epochs": .whole(0, 10_000), "--eps1": .real(0, 1e9),
        "--eps2": .real(0, 1e9), "--first": .whole(0, rows), "--first-queries": .whole(0, rows),
        "--first-id": .any, "--gain": .real(0, 1e30), "--page-gain": .real(0, 1e30),
        "--heads": .positive(0.5), "--hidden": widths, "--inflight": .whole(1, 4096),
        "--iterations": .whole(1, 10_000), "-k": .whole(1, most),
        "measure -k": .list(.whole(1, most), count: 64),
        "--lambda": .real(0, 1e9), "--learn-count": .whole(1, 1 << 40), "--mark": .share,
        "--mass": .positive(1),
        "--memory": .bytes(1 << 20), "--noise": .real(0, 1e9), "--nprobe": .whole(1, most),
        "--pages-max": .whole(1, 1 << 30), "--pairs": .whole(64, most), "--partitions": .whole(1, most),
        "--plan-k": .whole(1, 100), "--plan-recall": .share, "--plan-rounds": .whole(1, 100),
        "--prototype-codes": .whole(1, 256),
        "--prototypes": .positive(65_536), "--query-count": .whole(1, 1 << 40), "--recall": .share,
        "--replicas": .whole(1, 64), "--replication-max": .real(1, 256), "--resident": .bytes(1),
        "--rounds": .whole(1, 100), "--sample": .whole(1, rows), "--seed": .any,
        "--sigma": .real(0, 1.0.nextDown), "--skip": .whole(0, rows), "--sub-segments": .whole(2, 1 << 20),
        "--synthetic": .whole(0, most), "--targets": .whole(1, 100), "--threads": .whole(1, 1024),
        "--tower": widths, "--unit": .bytes(1), "--values": .list(.real(0, 0x1p48), count: 1024),
        "--eta": .real(0, 1),
    ]

    /// Refuses arguments of which a value is out of its range.
    static func check(_ arguments: some Sequence<String>) throws {
        let arguments = Array(arguments)
        let command = arguments.first { !$0.hasPrefix("-") } ?? ""
        for (place, argument) in arguments.enumerated() where argument.hasPrefix("-") {
            if argument == "--" { return }
            let parts = argument.split(separator: "=", maxSplits: 1)
            guard let name = parts.first.map(String.init),
                let range = all["\(command) \(name)"] ?? all[name]
            else { continue }
            let next = arguments.indices.contains(place + 1) ? arguments[place + 1] : nil
            guard let value = parts.count > 1 ? String(parts[1]) : next else { continue }
            guard range.allows(value) else {
                throw ValidationError("\(name) must be \(range.text), found \(value)")
            }
        }
    }
}
