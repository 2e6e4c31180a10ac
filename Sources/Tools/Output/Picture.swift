// Pictures as files: SVG by ourselves, PNG and PDF by librsvg's converter where it is installed.

import Foundation

enum Picture {
    private static let converted: Set<String> = ["png", "pdf"]
    private static let converter = "rsvg-convert"

    /// Refuses a name that asks for what cannot be written.
    static func requireFormat(_ path: String) throws {
        let format = self.format(of: path)
        if format == "svg" { return }
        guard converted.contains(format) else {
            throw CommandFailure("\(path): pictures are .svg, .png or .pdf")
        }
        guard executable != nil else {
            throw CommandFailure(
                "\(path): .\(format) is made by \(converter), which is not installed (librsvg2-bin); give a name in .svg"
            )
        }
    }

    static func write(svg: String, path: String) throws {
        try requireFormat(path)
        let format = self.format(of: path)
        guard format != "svg", let executable else { return try writeText(svg, path: path) }
        let source = FileManager.default.temporaryDirectory
            .appendingPathComponent("sonde-\(UUID().uuidString).svg")
        try writeText(svg, path: source.path)
        defer { try? FileManager.default.removeItem(at: source) }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: executable)
        // Twice the size of the screen: for print.
        process.arguments = ["--format", format, "--zoom", "2", "--output", path, source.path]
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw CommandFailure("\(path): \(converter) failed with \(process.terminationStatus)")
        }
    }

    private static func format(of path: String) -> String {
        URL(fileURLWithPath: path).pathExtension.lowercased()
    }

    private static var executable: String? {
        (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin").split(separator: ":")
            .map { "\($0)/\(converter)" }.first { access($0, X_OK) == 0 }
    }
}
