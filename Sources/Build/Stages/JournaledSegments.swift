// segments.bin while a journal tells of it: the segments of the partitions that are finished, and their entries in a file
// beside them, so that a run that follows a kill appends behind the last one.

import Index
import Storage

/// Writes the segments of a job in the order of their partitions.
final class JournaledSegments {
    let writer: SegmentWriter
    /// Partitions that an earlier run has finished.
    let done: Int
    private let job: BuildJob
    private let entries: SpillFile
    private let entryBytes = UnsafeMutableRawPointer.allocate(
        byteCount: SegmentEntry.byteCount, alignment: 8)

    /// Begins the file, or goes on with it.
    init(_ job: BuildJob, layout: PageLayout) throws {
        self.job = job
        let done = job.position(.write)
        let entries = try SpillFile(keeping: job.path(.entries), continuing: job.digest(.entries))
        if done == 0 { try Directory.removeTree(job.files.segments) }
        writer = try SegmentWriter(
            path: job.files.segments, layout: layout,
            continuing: done == 0
                ? nil : job.digest(.segments).map { ($0, try Self.read(entries, count: done)) })
        (self.done, self.entries) = (done, entries)
    }

    deinit { entryBytes.deallocate() }

    private static func read(_ file: SpillFile, count: Int) throws(StorageError) -> [SegmentEntry] {
        let bytes = UnsafeMutableRawPointer.allocate(byteCount: SegmentEntry.byteCount, alignment: 8)
        defer { bytes.deallocate() }
        try file.rewind()
        var entries: [SegmentEntry] = []
        entries.reserveCapacity(count)
        for _ in 0..<count {
            try file.read(into: bytes, count: SegmentEntry.byteCount)
            entries.append(SegmentEntry(decoding: bytes))
        }
        return entries
    }

    /// Notes what the writer has appended.
    func note(_ entry: SegmentEntry) throws(StorageError) {
        entry.encode(into: entryBytes)
        try entries.append(entryBytes, count: SegmentEntry.byteCount)
    }

    /// Makes all segments last that were appended up to partition `position`.
    ///
    /// - Parameter superfluous: files that are not needed from here on.
    func finish(position: Int, superfluous: [BuildJob.File] = []) throws {
        try job.finish(
            .write, position: position,
            files: [(.segments, try writer.sync()), (.entries, try entries.sync())]
                + superfluous.map { ($0, nil) })
    }
}
