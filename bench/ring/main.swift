// Our ring beside fio's io_uring engine: same file, same block size and depth, one thread each, O_DIRECT,
// registered buffers and file, pages of the same size. Every pair is run back to back, in changing order;
// figures are medians over repeats, the ratio is the median of the pairs' ratios.
//
//     swift run -c release --package-path bench ring OUT [--file F] [--size MiB] [--seconds S] [--repeats N]
//         [--blocks 4,16,64,1024] [--depths 1,4,16,32,64,128] [--huge]
//
// Writes OUT/ring.md. The file is made once (OUT/ring.bin, random bytes) and kept, unless --file names one.
// Buffers lie in pages of 4 KiB in both; with --huge in pages of 2 MiB in both, for which the system has to
// hold some ready: `sysctl vm.nr_hugepages=80`.

import CMemory
import Foundation
import Storage

private struct Options {
    var out = ""
    var file: String?
    var fileByteCount = 4096 << 20
    var seconds = 2.0
    var repeats = 3
    var blockKibibytes = [4, 16, 64, 1024]
    var depths = [1, 4, 16, 32, 64, 128]
    var hugePages = false

    init(_ arguments: [String]) throws {
        var rest = arguments[...]
        func value<Value>(_ name: String, _ parse: (String) -> Value?) throws -> Value {
            guard let text = rest.popFirst(), let value = parse(text) else {
                throw RunFailure(description: "\(name) needs a value")
            }
            return value
        }
        func list(_ text: String) -> [Int]? {
            let values = text.split(separator: ",").compactMap { Int($0) }.filter { $0 > 0 }
            return values.isEmpty ? nil : values
        }
        while let argument = rest.popFirst() {
            switch argument {
            case "--file": file = try value(argument) { $0 }
            case "--size": fileByteCount = try value(argument) { Int($0) } << 20
            case "--seconds": seconds = try value(argument) { Double($0) }
            case "--repeats": repeats = try value(argument) { Int($0) }
            case "--blocks": blockKibibytes = try value(argument, list)
            case "--depths": depths = try value(argument, list)
            case "--huge": hugePages = true
            default:
                guard out.isEmpty, !argument.hasPrefix("-") else {
                    throw RunFailure(description: "unknown option \(argument)")
                }
                out = argument
            }
        }
        guard !out.isEmpty, repeats > 0, seconds > 0 else {
            throw RunFailure(description: "usage: ring OUT [options]")
        }
    }
}

/// Random bytes, so that no layer beneath can tell them from data; written past the page cache's limits by
/// syncing now and then.
private func makeFile(_ path: String, byteCount: Int) throws {
    let existing = try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int
    if existing == byteCount { return }
    FileHandle.standardError.write(Data("making \(path), \(byteCount >> 20) MiB\n".utf8))
    guard FileManager.default.createFile(atPath: path, contents: nil),
        let handle = FileHandle(forWritingAtPath: path)
    else {
        throw RunFailure(description: "\(path): cannot write")
    }
    var generator = SystemRandomNumberGenerator()
    var block = (0..<(4 << 20) / 8).map { _ in generator.next() as UInt64 }
    for _ in 0..<byteCount / (4 << 20) {
        let salt: UInt64 = generator.next()
        for index in block.indices { block[index] = (block[index] ^ salt) &* 0x9e37_79b9_7f4a_7c15 }
        try block.withUnsafeBytes { try handle.write(contentsOf: Data($0)) }
    }
    try handle.synchronize()
    try handle.close()
}

private func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

private func load() -> String {
    let text = try? String(contentsOfFile: "/proc/loadavg", encoding: .utf8)
    return String(text?.split(separator: " ").first ?? "unknown")
}

/// Prints a line at once, also into a file.
private func show(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }

private func format(_ pattern: String, _ values: CVarArg...) -> String {
    String(format: pattern, arguments: values)
}

private func run(_ options: Options) throws {
    // Neither our arena nor fio, which inherits it, gets huge pages behind the back of this comparison.
    if !options.hugePages && bench_huge_pages_forbid() != 0 {
        throw RunFailure(description: "the kernel cannot be kept from huge pages")
    }
    try FileManager.default.createDirectory(atPath: options.out, withIntermediateDirectories: true)
    let path = options.file ?? options.out + "/ring.bin"
    if options.file == nil { try makeFile(path, byteCount: options.fileByteCount) }
    let device = try DirectFile(path: path)
    let ours = RingRun(device: device, seconds: options.seconds)
    let fio = Fio(path: path, seconds: options.seconds, hugePages: options.hugePages)

    var lines = [
        "Ring beside \(try Fio.version()), io_uring, O_DIRECT, registered buffers and file, one thread, random reads, "
            + "\(options.hugePages ? "2 MiB" : "4 KiB") pages, a file of \(device.byteCount >> 20) MiB; "
            + "\(options.seconds) s a run, median of \(options.repeats); load at the start \(load()).",
        "",
        "| KiB | depth | ring IOPS | fio IOPS | ring GB/s | fio GB/s | ring / fio (least - most) | CPU µs a read: ring, fio |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines.forEach(show)
    var ratiosOfAll: [Double] = []
    for kibibytes in options.blockKibibytes {
        for depth in options.depths {
            let block = kibibytes << 10
            var pairs: [(ring: Rate, fio: Rate)] = []
            for pair in 0..<options.repeats {
                if pair % 2 == 0 {
                    let ring = try ours.run(blockByteCount: block, depth: depth)
                    pairs.append((ring, try fio.run(blockByteCount: block, depth: depth)))
                } else {
                    let other = try fio.run(blockByteCount: block, depth: depth)
                    pairs.append((try ours.run(blockByteCount: block, depth: depth), other))
                }
            }
            let ratios = pairs.map { $0.ring.readsPerSecond / $0.fio.readsPerSecond }
            ratiosOfAll.append(median(ratios))
            func figure(_ side: KeyPath<(ring: Rate, fio: Rate), Rate>, _ value: KeyPath<Rate, Double>)
                -> Double
            {
                median(pairs.map { $0[keyPath: side][keyPath: value] })
            }
            let line = format(
                "| %d | %d | %.0f | %.0f | %.3f | %.3f | %.2f (%.2f - %.2f) | %.2f, %.2f |", kibibytes, depth,
                figure(\.ring, \.readsPerSecond), figure(\.fio, \.readsPerSecond),
                figure(\.ring, \.bytesPerSecond) * 1e-9, figure(\.fio, \.bytesPerSecond) * 1e-9,
                median(ratios),
                ratios.min()!, ratios.max()!, figure(\.ring, \.processorMicroseconds),
                figure(\.fio, \.processorMicroseconds))
            show(line)
            lines.append(line)
        }
    }
    lines += [
        "",
        format(
            "Least ratio %.2f, median %.2f; load at the end %@.", ratiosOfAll.min()!, median(ratiosOfAll),
            load()),
    ]
    lines.suffix(2).forEach(show)
    try (lines.joined(separator: "\n") + "\n").write(
        toFile: options.out + "/ring.md", atomically: true, encoding: .utf8)
}

do {
    try run(Options(Array(CommandLine.arguments.dropFirst())))
} catch {
    FileHandle.standardError.write(Data("ring: \(error)\n".utf8))
    exit(1)
}
