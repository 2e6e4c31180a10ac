import Storage
import Testing

struct ArenaTests {
    @Test func memoryIsAlignedAndWritable() throws {
        let small = try ReadArena(byteCount: 5000)
        #expect(small.byteCount == 8192)
        #expect(Int(bitPattern: small.base) % 4096 == 0)
        let large = try ReadArena(byteCount: 3 << 20)
        #expect(large.byteCount == 4 << 20)
        #expect(Int(bitPattern: large.base) % (2 << 20) == 0)
        (large.base + large.byteCount - 1).storeBytes(of: 1, as: UInt8.self)
    }

    @Test func runsAreFirstFitAndJoinAgain() throws {
        let arena = try ReadArena(byteCount: 10 * 4096)
        let a = try #require(arena.allocate(byteCount: 4096))
        let b = try #require(arena.allocate(byteCount: 8192))
        let c = try #require(arena.allocate(byteCount: 1))
        #expect([a, b, c] == [0, 4096, 3 * 4096])
        #expect(arena.allocate(byteCount: 7 * 4096) == nil)
        arena.release(offset: b, byteCount: 8192)
        #expect(arena.allocate(byteCount: 4096) == 4096)
        arena.release(offset: 4096, byteCount: 4096)
        arena.release(offset: a, byteCount: 4096)
        arena.release(offset: c, byteCount: 1)
        #expect(arena.usedByteCount == 0)
        #expect(arena.allocate(byteCount: 10 * 4096) == 0)
    }

    /// Against a map of pages: no run overlaps another, and nothing gets lost.
    @Test func manyAllocationsNeverOverlap() throws {
        let pages = 1024
        let arena = try ReadArena(byteCount: pages * 4096)
        var taken = [Bool](repeating: false, count: pages)
        var held: [(offset: Int, pages: Int)] = []
        for byte in noise(20_000, seed: 3) {
            if byte & 1 == 0 || held.isEmpty {
                let count = Int(byte >> 5) + 1
                guard let offset = arena.allocate(byteCount: count * 4096) else { continue }
                for page in offset / 4096..<offset / 4096 + count {
                    #expect(!taken[page])
                    taken[page] = true
                }
                held.append((offset, count))
            } else {
                let run = held.remove(at: Int(byte) % held.count)
                for page in run.offset / 4096..<run.offset / 4096 + run.pages { taken[page] = false }
                arena.release(offset: run.offset, byteCount: run.pages * 4096)
            }
            #expect(arena.usedByteCount == held.reduce(0) { $0 + $1.pages * 4096 })
        }
        arena.releaseAll()
        #expect(arena.allocate(byteCount: pages * 4096) == 0)
    }

    @Test func extentsRoundAndJoin() {
        #expect(Extent(offset: 5000, byteCount: 10).alignedToPages == Extent(offset: 4096, byteCount: 4096))
        #expect(Extent(offset: 4095, byteCount: 2).alignedToPages == Extent(offset: 0, byteCount: 8192))
        let first = Extent(offset: 0, byteCount: 4096)
        #expect(
            first.joined(with: Extent(offset: 4096, byteCount: 4096)) == Extent(offset: 0, byteCount: 8192))
        #expect(first.joined(with: Extent(offset: 8192, byteCount: 4096)) == nil)
        #expect(first.joined(with: Extent(offset: 8192, byteCount: 4096), gap: 4096)?.byteCount == 12288)
        #expect(first.joined(with: Extent(offset: 4096, byteCount: 4096), limit: 4096) == nil)
    }
}
