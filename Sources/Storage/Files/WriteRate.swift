// How fast a disk takes a long file.

import Glibc

/// A short measurement of writing.
public enum WriteRate {
    /// Bytes a second at which a file of up to `byteCount` bytes beside `path` is written and brought to the device;
    /// it takes about a second, and leaves nothing.
    public static func measure(beside path: String, byteCount: Int) throws(StorageError) -> Double {
        let name = Directory.parent(of: path) + "/.sonde-write-rate-\(getpid())"
        let file = try SpillFile(path: name, bufferByteCount: 1 << 20)
        // Nothing is left whatever happens from here on.
        unlink(name)
        let chunk = Scratch(1 << 20)
        for index in 0..<chunk.count / 8 {
            chunk.bytes.put(UInt64(index) &* 0x9e37_79b9_7f4a_7c15, at: index * 8)
        }
        let start = now()
        var written = 0
        while written < byteCount && now() - start < 0.5 {
            try file.append(chunk.raw, count: chunk.count)
            written += chunk.count
        }
        _ = try file.sync()
        return Double(written) / max(now() - start, 1e-6)
    }

    private static func now() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
