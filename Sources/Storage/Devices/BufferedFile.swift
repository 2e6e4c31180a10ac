// A file read through the page cache by a few threads: for filesystems without direct reads. Figures measured over it carry its name.

import Glibc

/// A regular file read with preadv.
public final class BufferedFile: BlockDevice {
    /// Why the file is not read directly, where that was tried.
    public let reason: String?
    private let file: InputFile
    private let threads: Int

    /// `threads` reads of a queue are under way at once.
    public init(path: String, threads: Int = 8, reason: String? = nil) throws(StorageError) {
        file = try InputFile(path: path)
        self.reason = reason
        self.threads = max(1, threads)
        // Only what is asked for: reading ahead would make bytes that no counter knows.
        posix_fadvise(file.descriptor, 0, 0, POSIX_FADV_RANDOM)
    }

    public var path: String { file.path }
    public var kind: String { "buffered" }
    public var byteCount: UInt64 { file.byteCount }

    public func makeQueue(depth: Int, arena: ReadArena) throws(StorageError) -> any ReadQueue {
        try ThreadedQueue(
            device: self, file: file, depth: max(1, depth), threads: min(threads, max(1, depth)), arena: arena
        )
    }
}

/// A pool of threads that belongs to one queue.
final class ThreadedQueue: ReadQueue {
    let depth: Int
    private let arena: ReadArena
    private var ledger: ReadLedger
    private let pool: ReaderPool
    private var queued: [ReaderPool.Job] = []
    private var results: [ReaderPool.Result] = []

    init(
        device: any BlockDevice, file: InputFile, depth: Int, threads: Int, arena: ReadArena
    ) throws(StorageError) {
        self.depth = depth
        self.arena = arena
        ledger = ReadLedger(depth: depth, device: device)
        pool = try ReaderPool(file: file, threads: threads, depth: depth)
    }

    deinit {
        if ledger.inFlight > 0 { try? drain() }
        pool.stop()
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
        queued.append(
            ReaderPool.Job(
                slot: slot, offset: read.restOffset, byteCount: read.restByteCount,
                target: arena.base + read.restArenaOffset))
    }

    func flush() throws(StorageError) {
        guard !queued.isEmpty else { return }
        pool.add(queued)
        queued.removeAll(keepingCapacity: true)
    }

    func wait(atLeast: Int, into completions: inout [ReadCompletion]) throws(StorageError) {
        let start = completions.count
        let wanted = min(atLeast, inFlight)
        var failure: StorageError?
        while true {
            try flush()
            let missing = failure == nil ? max(0, wanted - (completions.count - start)) : inFlight
            pool.take(atLeast: missing, into: &results)
            for result in results {
                do {
                    if let completion = try ledger.settle(result.slot, result: result.byteCountOrError) {
                        completions.append(completion)
                    } else if failure != nil {
                        ledger.end(result.slot)
                    } else {
                        queue(result.slot)
                    }
                } catch {
                    if failure == nil { failure = error }
                }
            }
            results.removeAll(keepingCapacity: true)
            if let failure {
                guard inFlight == 0 else { continue }
                completions.removeSubrange(start...)
                throw failure
            }
            if completions.count - start >= wanted { return }
        }
    }
}

/// Threads that take jobs from one list and put results on another, both under one lock.
private final class ReaderPool: @unchecked Sendable {
    struct Job {
        var slot: Int
        var offset: UInt64
        var byteCount: Int
        var target: UnsafeMutableRawPointer
    }
    struct Result {
        var slot: Int
        var byteCountOrError: Int
    }

    private let file: InputFile
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let work = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let done = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var jobs: [Job] = []
    private var results: [Result] = []
    private var stopping = false
    private var threads: [pthread_t] = []

    init(file: InputFile, threads count: Int, depth: Int) throws(StorageError) {
        self.file = file
        pthread_mutex_init(lock, nil)
        pthread_cond_init(work, nil)
        pthread_cond_init(done, nil)
        jobs.reserveCapacity(depth)
        results.reserveCapacity(depth)
        for _ in 0..<count {
            var thread = pthread_t()
            // Each thread holds the pool; `stop` joins them, which lets go of it.
            let held = Unmanaged.passRetained(self)
            let result = pthread_create(
                &thread, nil,
                { argument in
                    Unmanaged<ReaderPool>.fromOpaque(argument!).takeRetainedValue().run()
                    return nil
                }, held.toOpaque())
            if result != 0 {
                held.release()
                stop()
                throw StorageError.systemCall("pthread_create", path: file.path, errno: result)
            }
            threads.append(thread)
        }
    }

    deinit {
        pthread_cond_destroy(done)
        pthread_cond_destroy(work)
        pthread_mutex_destroy(lock)
        done.deallocate()
        work.deallocate()
        lock.deallocate()
    }

    func add(_ more: [Job]) {
        pthread_mutex_lock(lock)
        // Taken from the end, so that the oldest goes first when put there last.
        jobs.insert(contentsOf: more.reversed(), at: 0)
        if more.count == 1 { pthread_cond_signal(work) } else { pthread_cond_broadcast(work) }
        pthread_mutex_unlock(lock)
    }

    /// Waits until there are `atLeast` results and moves all of them.
    func take(atLeast: Int, into taken: inout [Result]) {
        pthread_mutex_lock(lock)
        while results.count < atLeast { pthread_cond_wait(done, lock) }
        taken.append(contentsOf: results)
        results.removeAll(keepingCapacity: true)
        pthread_mutex_unlock(lock)
    }

    func stop() {
        pthread_mutex_lock(lock)
        stopping = true
        pthread_cond_broadcast(work)
        pthread_mutex_unlock(lock)
        for thread in threads { pthread_join(thread, nil) }
        threads.removeAll()
    }

    private func run() {
        pthread_mutex_lock(lock)
        while true {
            while jobs.isEmpty && !stopping { pthread_cond_wait(work, lock) }
            guard let job = jobs.popLast() else { break }
            pthread_mutex_unlock(lock)
            var vector = iovec(iov_base: job.target, iov_len: job.byteCount)
            let got = preadv(file.descriptor, &vector, 1, off_t(job.offset))
            let result = Result(slot: job.slot, byteCountOrError: got < 0 ? -Int(errno) : got)
            pthread_mutex_lock(lock)
            results.append(result)
            pthread_cond_signal(done)
        }
        pthread_mutex_unlock(lock)
    }
}
