// sonde plot: several measurements in one picture, also those swept by different policies.

import ArgumentParser
import Foundation
import Index

struct PlotCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plot", abstract: "Draw several results of `measure --json` into one picture.")

    @Argument(help: "Files of `sonde measure --json`, each as FILE or NAME=FILE.")
    var measurements: [String]

    @Option(help: "Picture to write: .svg, or .png or .pdf where rsvg-convert is there.")
    var out: String

    @Option(name: .short, help: "The k of recall@k.")
    var k: Int = 1

    func run() throws {
        try Picture.requireFormat(out)
        try requireOutputs(
            files: [out],
            inputs: measurements.map { argument in
                argument.split(separator: "=", maxSplits: 1).last.map(String.init) ?? argument
            })
        let measured = try measurements.map { argument -> (name: String, measurement: Measurement) in
            let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
            let path = parts.last ?? argument
            let stem = URL(fileURLWithPath: path).deletingPathExtension().lastPathComponent
            return (parts.count == 2 ? parts[0] : stem, try read(path))
        }
        for (argument, measurement) in zip(measurements, measured.map(\.measurement))
        where !Report.recallDepths(measurement).contains(k) {
            throw CommandFailure("\(argument): holds no recall@\(k)")
        }
        try Picture.write(svg: Report.plot(measured, ks: [k]), path: out)
    }

    private func read(_ path: String) throws -> Measurement {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw CommandFailure("\(path): cannot be read")
        }
        do {
            return try JSONDecoder().decode(Measurement.self, from: data)
        } catch {
            throw CommandFailure("\(path): is no result of `sonde measure --json`")
        }
    }
}
