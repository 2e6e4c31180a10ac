// Small text files of the kernel, whose size is not known before they are read.

import CKernels
import Glibc

/// What the kernel says of this process.
public enum ProcessMemory {
    /// From now on large pieces that are freed go back to the kernel at once. By default glibc raises the size from which
    /// they do, up to 32 MiB, and keeps what is below: a build of a million vectors within 80 MiB then peaked at 82 MiB
    /// instead of 57, in the same time.
    public static func returnFreed() { sonde_return_freed_memory() }

    /// Gives back to the kernel what was freed in small pieces. After an index was opened: what decoding its router has
    /// left behind.
    public static func trim() { sonde_trim_heap() }

    /// The most memory that this process has had resident, or nil where the kernel does not tell.
    public static func peakByteCount() -> UInt64? { value("VmHWM:") }

    /// The memory that this process has resident, or nil where the kernel does not tell.
    public static func residentByteCount() -> UInt64? { value("VmRSS:") }

    /// What of it is its own, or nil where the kernel does not tell. The rest is program and libraries, mapped from
    /// their files: processes share it, and the kernel takes it back when memory is short.
    public static func ownByteCount() -> UInt64? { value("RssAnon:") }

    private static func value(_ name: String) -> UInt64? {
        guard let text = try? ProcFile.read("/proc/self/status") else { return nil }
        for line in text.split(separator: "\n") where line.hasPrefix(name) {
            return line.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first.flatMap {
                UInt64($0)
            }
            .map { $0 * 1024 }
        }
        return nil
    }
}

enum ProcFile {
    /// Up to 64 KiB of text.
    static func read(_ path: String) throws(StorageError) -> String {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw StorageError.systemCall("open", path: path, errno: errno) }
        defer { close(descriptor) }
        let scratch = Scratch(1 << 16)
        var count = 0
        while count < scratch.count {
            let got = Glibc.read(descriptor, scratch.bytes + count, scratch.count - count)
            if got < 0 && errno == EINTR { continue }
            guard got >= 0 else { throw StorageError.systemCall("read", path: path, errno: errno) }
            if got == 0 { break }
            count += got
        }
        return String(decoding: UnsafeRawBufferPointer(start: scratch.bytes, count: count), as: UTF8.self)
    }
}
