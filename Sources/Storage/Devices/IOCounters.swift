// What was asked of a device, and what the kernel says was.

/// Read operations and bytes, counted where they are submitted.
public struct IOCounters: Sendable, Equatable {
    /// Read operations; the rest of a read that came back short counts as one more.
    public var reads: UInt64 = 0
    public var bytes: UInt64 = 0

    public init(reads: UInt64 = 0, bytes: UInt64 = 0) {
        self.reads = reads
        self.bytes = bytes
    }

    public static func + (left: IOCounters, right: IOCounters) -> IOCounters {
        IOCounters(reads: left.reads + right.reads, bytes: left.bytes + right.bytes)
    }

    public static func - (left: IOCounters, right: IOCounters) -> IOCounters {
        IOCounters(reads: left.reads - right.reads, bytes: left.bytes - right.bytes)
    }

    /// Bytes that this process has caused to be read from devices, by the kernel's own count; exact for
    /// direct reads once none is in flight, because the kernel counts at submission. Nil where the kernel
    /// does not tell.
    public static func processReadBytes() -> UInt64? {
        guard let file = try? ProcFile.read("/proc/self/io") else { return nil }
        for line in file.split(separator: "\n") where line.hasPrefix("read_bytes: ") {
            return UInt64(line.dropFirst("read_bytes: ".count))
        }
        return nil
    }
}
