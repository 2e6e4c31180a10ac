// Memory that plays a file: for tests, and for what a search costs without any device.

/// Bytes in memory behind the device protocol.
public final class MemoryDevice: BlockDevice {
    public let path: String
    public let kind = "memory"
    fileprivate let bytes: [UInt8]

    public init(path: String = "memory", bytes: [UInt8]) {
        self.path = path
        self.bytes = bytes
    }

    /// A file's bytes, read into memory.
    public convenience init(contentsOf path: String) throws(StorageError) {
        let all = try InputFile(path: path).readAll()
        self.init(path: path, bytes: Array(UnsafeRawBufferPointer(start: all.bytes, count: all.count)))
    }

    public var byteCount: UInt64 { UInt64(bytes.count) }

    public func makeQueue(depth: Int, arena: ReadArena) throws(StorageError) -> any ReadQueue {
        MemoryQueue(device: self, depth: max(1, depth), arena: arena)
    }
}

/// Completes each read when it is waited for, in the order of submission.
private final class MemoryQueue: ReadQueue {
    let depth: Int
    private let device: MemoryDevice
    private let arena: ReadArena
    private var ledger: ReadLedger
    private var queued: [Int] = []

    init(device: MemoryDevice, depth: Int, arena: ReadArena) {
        self.device = device
        self.depth = depth
        self.arena = arena
        ledger = ReadLedger(depth: depth, device: device)
        queued.reserveCapacity(depth)
    }

    var inFlight: Int { ledger.inFlight }
    var counters: IOCounters { ledger.counters }

    func submit(offset: UInt64, byteCount: Int, arenaOffset: Int, tag: UInt64) {
        queued.append(
            ledger.begin(
                offset: offset, byteCount: byteCount, arenaOffset: arenaOffset, tag: tag, arena: arena))
        ledger.count(byteCount: byteCount)
    }

    func flush() throws(StorageError) {}

    func wait(atLeast: Int, into completions: inout [ReadCompletion]) throws(StorageError) {
        let start = completions.count
        var failure: StorageError?
        for slot in queued {
            do {
                // What the file holds of the read comes at once, so there is never a rest to ask for.
                if let completion = try ledger.settle(slot, result: copy(ledger[slot])) {
                    completions.append(completion)
                }
            } catch {
                if failure == nil { failure = error }
            }
        }
        queued.removeAll(keepingCapacity: true)
        if let failure {
            completions.removeSubrange(start...)
            throw failure
        }
    }

    private func copy(_ read: ReadLedger.Read) -> Int {
        guard read.offset < device.byteCount else { return 0 }
        let count = Int(min(UInt64(read.byteCount), device.byteCount - read.offset))
        device.bytes.withUnsafeBytes { all in
            (arena.base + read.arenaOffset).copyMemory(
                from: all.baseAddress! + Int(read.offset), byteCount: count)
        }
        return count
    }
}
