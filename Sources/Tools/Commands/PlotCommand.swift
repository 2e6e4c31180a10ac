// sonde plot: several measurements in one picture, also those swept by different policies.

import ArgumentParser
import Build
import Foundation
import Index
import Learn

struct PlotCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plot", abstract: "Draw several results of `measure --json` into one picture.")

    @Argument(help: "Files of `sonde measure --json`, each as FILE or NAME=FILE.")
    var measurements: [String]

    @Option(help: "Picture to write: .svg, or .png or .pdf where rsvg-convert is there.")
    var out: String

    @Option(name: .short, help: "The k of recall@k; several, e.g. 1,10, give a curve each.")
    var k: IntList = IntList([1])

    @OptionGroup var picture: PlotOptions

    func run() throws {
        try Picture.requireFormat(out)
        try requireOutputs(files: [out], inputs: measurements.map { Self.named($0).path })
        let measured = try measurements.flatMap { argument in
            let (name, path) = Self.named(argument)
            let found = try read(path)
            // `measure` of several indexes writes an array.
            return found.enumerated().map { number, measurement in
                (name: found.count == 1 ? name : "\(name) \(number + 1)", measurement: measurement)
            }
        }
        for entry in measured {
            for k in k.values where !Report.recallDepths(entry.measurement).contains(k) {
                throw CommandFailure("\(entry.name): holds no recall@\(k)")
            }
        }
        try Picture.write(svg: picture.curves(ks: k.values).svg(measured), path: out)
    }

    /// FILE, or NAME=FILE.
    private static func named(_ argument: String) -> (name: String, path: String) {
        let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
        let path = parts.last ?? argument
        return (
            parts.count == 2
                ? parts[0] : URL(fileURLWithPath: path).deletingPathExtension().lastPathComponent,
            path
        )
    }

    private func read(_ path: String) throws -> [Measurement] {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw CommandFailure("\(path): cannot be read")
        }
        if let one = try? JSONDecoder().decode(Measurement.self, from: data) { return [one] }
        guard let several = try? JSONDecoder().decode([Measurement].self, from: data), !several.isEmpty else {
            throw CommandFailure("\(path): is no result of `sonde measure --json`")
        }
        return several
    }
}
