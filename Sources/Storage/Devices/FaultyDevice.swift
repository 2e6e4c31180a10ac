// A device that fails on purpose, for tests: the same seed makes the same faults at the same offsets.

import Glibc

/// What goes wrong with a read.
public enum Fault: Sendable, Equatable {
    /// The read fails with this errno.
    case error(Int32)
    /// The first attempt brings only a part; the rest can be had.
    case short
    /// One bit of the data is another; the number picks it.
    case flip(UInt64)
    /// The completion is held back for this many waits, so that later reads overtake it.
    case delay(Int)
}

/// Which reads go wrong: those listed by offset, and of all others a share drawn from the seed.
public struct FaultPlan: Sendable {
    public var seed: UInt64 = 1
    public var errorShare = 0.0
    public var shortShare = 0.0
    public var flipShare = 0.0
    public var delayShare = 0.0
    /// By the offset that a read starts at.
    public var at: [UInt64: Fault] = [:]

    public init() {}

    /// The fault of reads that start at `offset`.
    public func fault(at offset: UInt64) -> Fault? {
        if let fault = at[offset] { return fault }
        let bits = Self.mix(seed ^ Self.mix(offset))
        let draw = Double(bits >> 11) * 0x1p-53
        var bound = errorShare
        if draw < bound { return .error(EIO) }
        bound += shortShare
        if draw < bound { return .short }
        bound += flipShare
        if draw < bound { return .flip(Self.mix(bits)) }
        bound += delayShare
        if draw < bound { return .delay(1 + Int(bits & 3)) }
        return nil
    }

    /// The finaliser of splitmix64.
    private static func mix(_ value: UInt64) -> UInt64 {
        var z = value &+ 0x9e37_79b9_7f4a_7c15
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

/// Another device with faults on top.
public final class FaultyDevice: BlockDevice {
    private let device: any BlockDevice
    fileprivate let plan: FaultPlan

    public init(_ device: any BlockDevice, plan: FaultPlan) {
        self.device = device
        self.plan = plan
    }

    public var path: String { device.path }
    public var kind: String { device.kind }
    public var byteCount: UInt64 { device.byteCount }

    public func makeQueue(depth: Int, arena: ReadArena) throws(StorageError) -> any ReadQueue {
        FaultyQueue(device: self, inner: try device.makeQueue(depth: depth, arena: arena), arena: arena)
    }
}

private final class FaultyQueue: ReadQueue {
    let depth: Int
    private let device: FaultyDevice
    private let inner: any ReadQueue
    private let arena: ReadArena
    private var ledger: ReadLedger
    /// Operations whose results are known and wait for their time.
    private var held: [(slot: Int, result: Int, waits: Int)] = []
    private var fetched: [ReadCompletion] = []

    init(device: FaultyDevice, inner: any ReadQueue, arena: ReadArena) {
        self.device = device
        self.inner = inner
        self.arena = arena
        depth = inner.depth
        ledger = ReadLedger(depth: inner.depth, device: device)
    }

    var inFlight: Int { ledger.inFlight }
    var counters: IOCounters { ledger.counters }

    func submit(offset: UInt64, byteCount: Int, arenaOffset: Int, tag: UInt64) {
        queue(
            ledger.begin(
                offset: offset, byteCount: byteCount, arenaOffset: arenaOffset, tag: tag, arena: arena))
    }

    private func queue(_ slot: Int) {
        let read = ledger[slot]
        ledger.count(byteCount: read.restByteCount)
        let page = PageLayout.pageByteCount
        let isFirst = read.done == 0 && read.stalls == 0
        switch isFirst ? device.plan.fault(at: read.offset) : nil {
        case .error(let code):
            held.append((slot, -Int(code), 0))
        case .short where read.byteCount == page:
            // Less than a page: the read starts over.
            held.append((slot, 512, 0))
        case .short:
            inner.submit(
                offset: read.offset, byteCount: (read.byteCount / 2 + page - 1) / page * page,
                arenaOffset: read.arenaOffset, tag: UInt64(slot))
        case .flip, .delay, nil:
            inner.submit(
                offset: read.restOffset, byteCount: read.restByteCount, arenaOffset: read.restArenaOffset,
                tag: UInt64(slot))
        }
    }

    func flush() throws(StorageError) { try inner.flush() }

    func wait(atLeast: Int, into completions: inout [ReadCompletion]) throws(StorageError) {
        let start = completions.count
        let wanted = min(atLeast, inFlight)
        var failure: StorageError?
        repeat {
            try fetch(atLeast: held.isEmpty ? min(1, inner.inFlight) : 0)
            let due = held.filter { $0.waits <= 0 || failure != nil }
            held = held.filter { $0.waits > 0 && failure == nil }.map { ($0.slot, $0.result, $0.waits - 1) }
            for operation in due {
                do {
                    if let completion = try ledger.settle(operation.slot, result: operation.result) {
                        completions.append(completion)
                    } else if failure != nil {
                        ledger.end(operation.slot)
                    } else {
                        queue(operation.slot)
                    }
                } catch {
                    if failure == nil { failure = error }
                }
            }
        } while failure == nil ? completions.count - start < wanted : inFlight > 0
        if let failure {
            completions.removeSubrange(start...)
            throw failure
        }
    }

    /// Moves what the inner queue has completed into `held`, with delays and flips.
    private func fetch(atLeast: Int) throws(StorageError) {
        fetched.removeAll(keepingCapacity: true)
        do {
            try inner.wait(atLeast: atLeast, into: &fetched)
        } catch {
            // The inner queue has drained; nothing of ours is under way any more.
            held.removeAll()
            ledger.endAll()
            throw error
        }
        for completion in fetched {
            let slot = Int(completion.tag)
            let read = ledger[slot]
            var waits = 0
            if read.done == 0 {
                switch device.plan.fault(at: read.offset) {
                case .flip(let number):
                    let bit = number % UInt64(read.byteCount * 8)
                    let byte = (arena.base + read.arenaOffset + Int(bit / 8)).assumingMemoryBound(
                        to: UInt8.self)
                    byte.pointee ^= 1 << UInt8(bit % 8)
                case .delay(let count):
                    waits = count
                default:
                    break
                }
            }
            held.append((slot, completion.byteCount, waits))
        }
    }
}
