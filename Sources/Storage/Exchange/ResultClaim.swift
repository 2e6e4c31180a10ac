// The right to write one output: its temporary, open and locked. Taken before anything that belongs to the job is
// looked at or removed, so that a running job never loses its journal to a second one.

import Glibc

/// The output at a path, claimed by this process until the value goes.
public final class ResultClaim {
    let place: OutputPlace
    let partPath: String
    let descriptor: Int32
    /// Whether nothing lay in the temporary.
    let isNew: Bool
    private let stream: Int32
    private var isSettled = false

    /// Where the journal of the job lies; nil where the output is written in place and cannot be continued.
    public var journalPath: String? { place.isStream ? nil : JobJournals.path(of: place.path) }

    /// - Throws: kind `exists` where another process has claimed it.
    public init(_ path: String) throws(StorageError) {
        place = try OutputPlace(path)
        guard place.isStream else {
            partPath = place.partPath
            stream = -1
            descriptor = try TemporaryFile.open(partPath, creates: true)
            var status = stat()
            isNew = fstat(descriptor, &status) == 0 && status.st_size == 0
            return
        }
        partPath = path
        isNew = true
        let opened = try place.openStream()
        do {
            descriptor = try TemporaryFile.anonymous()
        } catch {
            close(opened)
            throw error
        }
        stream = opened
    }

    deinit {
        var status = stat()
        // A temporary that was made and never written is no trace to leave.
        if !isSettled, stream < 0, isNew, fstat(descriptor, &status) == 0, status.st_size == 0 {
            unlink(partPath)
        }
        TemporaryFile.unlockAndClose(descriptor)
        if stream >= 0 { close(stream) }
    }

    /// Gives the file its name, or writes all of it to where it goes in place.
    func publish() throws(StorageError) -> Bool {
        if stream >= 0 {
            try TemporaryFile.copy(descriptor, to: stream, path: place.given)
        } else if rename(partPath, place.path) != 0 {
            throw StorageError.systemCall("rename", path: place.path, errno: errno)
        }
        isSettled = true
        return true
    }

    /// Removes the temporary.
    func discard() {
        if !isSettled, stream < 0 { unlink(partPath) }
        isSettled = true
    }
}
