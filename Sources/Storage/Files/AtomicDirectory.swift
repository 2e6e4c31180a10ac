// A directory that appears whole or not at all: written beside its name, brought to the device, renamed. What is
// temporary lies in one hidden sibling that is locked while somebody works in it, so that two builders of one index
// refuse each other and what a dead one has left is known as such.

import Glibc

/// A directory on its way to be published under a name that nothing has yet.
///
///     let target = try AtomicDirectory.create(path: "photos.sonde")
///     // write what is to be published into target.contentPath, anything else into target.workPath
///     try target.publish()
///
/// A process that dies before `publish` leaves only the sibling `.NAME.building`. What lies in it without a journal is
/// of no use to anybody and is removed by the next one; a journal says how to go on.
public final class AtomicDirectory {
    /// What to do with an unfinished job that an earlier run has left.
    public enum Start: Sendable, Equatable {
        /// Refuse.
        case fresh
        /// Go on; begin where there is none.
        case resume
        /// Remove it and begin.
        case restart
    }

    /// The name it will have.
    public let path: String
    /// The locked sibling, for everything that is temporary.
    public let workPath: String
    /// Within it: what will be published.
    public var contentPath: String { workPath + "/index" }
    private var lock: DirectoryLock?

    private init(path: String, workPath: String, lock: DirectoryLock) {
        self.path = path
        self.workPath = workPath
        self.lock = lock
    }

    /// Makes the temporary sibling of `path`, or takes it over.
    ///
    /// - Parameter start: what to do with a sibling that holds a journal.
    /// - Throws: kind `exists` where `path` is taken, another process works on it or (`fresh`) an unfinished job was
    ///   left.
    public static func create(path: String, start: Start = .fresh) throws(StorageError) -> AtomicDirectory {
        let (name, work) = try names(of: path)
        if Directory.exists(name) {
            try clearRemains(work)
            throw taken(name)
        }
        try Directory.makeParents(of: name)
        let target = AtomicDirectory(path: name, workPath: work, lock: try take(work))
        // The builder that held the lock until now may have published.
        if Directory.exists(name) {
            target.discard()
            throw taken(name)
        }
        if start == .fresh && JobJournals.exists(at: target.journalPath) {
            throw StorageError(
                .exists, path: name, detail: "an unfinished build of it lies in \(work)",
                advice:
                    "go on with it, or begin anew (or remove that directory)", remedy: .goOnOrBeginAnew)
        }
        if start != .resume || !JobJournals.exists(at: target.journalPath) { try target.empty() }
        try Directory.make(target.contentPath)
        // What is synced in it later is of no use where its own name is lost.
        try Directory.sync(Directory.parent(of: work))
        return target
    }

    /// The sibling of a `path` that was published by a process that died before it had cleared up; nil where there is
    /// none, or `path` is not there.
    public static func published(path: String) throws(StorageError) -> AtomicDirectory? {
        let (name, work) = try names(of: path)
        guard Directory.exists(name), Directory.exists(work) else { return nil }
        let target = AtomicDirectory(path: name, workPath: work, lock: try take(work))
        if JobJournals.exists(at: target.journalPath) { return target }
        target.discard()
        return nil
    }

    /// Refuses a `path` that is taken.
    public static func refuseExisting(_ path: String) throws(StorageError) {
        let (name, _) = try names(of: path)
        if Directory.exists(name) { throw taken(name) }
    }

    /// Where the journal of a job that makes this directory lies.
    public var journalPath: String { workPath + "/journal" }

    /// The file by which the sibling is locked.
    public var lockPath: String { temporary(DirectoryLock.name) }

    /// Where a file of that name is written that will be published.
    public func file(_ name: String) -> String { contentPath + "/" + name }

    /// Where a temporary file of that name is written.
    public func temporary(_ name: String) -> String { workPath + "/" + name }

    /// Brings all files and the directory to the device, gives the directory its name and removes the sibling.
    ///
    /// - Throws: kind `exists` where the name has been taken meanwhile; nothing is replaced.
    public func publish() throws(StorageError) {
        precondition(lock != nil)
        for name in try Directory.names(contentPath) { try Directory.sync(file(name)) }
        try Directory.sync(contentPath)
        if Directory.exists(path) { throw Self.taken(path) }
        guard rename(contentPath, path) == 0 else {
            let code = errno
            // Renaming never replaces a directory with files in it, or a file.
            if code == ENOTEMPTY || code == EEXIST || code == ENOTDIR { throw Self.taken(path) }
            throw StorageError.systemCall("rename", path: path, errno: code)
        }
        try Directory.sync(Directory.parent(of: path))
        discard()
    }

    /// Removes the sibling and all that is in it, journal and lock last; harmless after `publish`.
    public func discard() {
        guard lock != nil else { return }
        try? empty()
        unlink(lockPath)
        rmdir(workPath)
        lock = nil
    }

    /// Leaves the sibling for another run, unlocked; harmless after `publish`.
    public func leave() { lock = nil }

    private func empty() throws(StorageError) {
        let last = [journalPath, lockPath].map { Directory.name(of: $0) }
        for name in try Directory.names(workPath) where !last.contains(name) {
            try Directory.removeTree(temporary(name))
        }
        try Directory.removeTree(journalPath)
    }

    /// The name without trailing slashes, and the sibling's.
    static func names(of path: String) throws(StorageError) -> (name: String, work: String) {
        var name = path
        while name.count > 1 && name.hasSuffix("/") { name.removeLast() }
        let parent = Directory.parent(of: name)
        let last = Directory.name(of: name)
        guard !last.isEmpty, last != ".", last != ".." else {
            throw StorageError(.invalidValue, path: path, detail: "is no name for a new directory")
        }
        let prefix = parent == "." && !name.hasPrefix("./") ? "" : parent == "/" ? "/" : parent + "/"
        return (name, prefix + ".\(last).building")
    }

    private static func take(_ work: String) throws(StorageError) -> DirectoryLock {
        if let lock = try DirectoryLock.take(work) { return lock }
        throw StorageError(
            .exists, path: work, detail: "another process is building there",
            advice: "wait for it or choose another name")
    }

    /// A builder that dies after it has published and removed its journal leaves a directory without any.
    private static func clearRemains(_ work: String) throws(StorageError) {
        guard Directory.exists(work), let lock = try DirectoryLock.take(work) else { return }
        withExtendedLifetime(lock) {
            if !JobJournals.exists(at: work + "/journal") { try? Directory.removeTree(work) }
        }
    }

    private static func taken(_ path: String) -> StorageError {
        StorageError(
            .exists, path: path, detail: "exists already and is not overwritten",
            advice: "remove it or choose another name")
    }
}
