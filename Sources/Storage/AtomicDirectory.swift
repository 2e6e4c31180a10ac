// A directory that appears whole or not at all: written beside its name, brought to the device, renamed.

import Glibc

/// A directory on its way to be published under a name that nothing has yet.
///
///     let target = try AtomicDirectory.create(path: "photos.sonde")
///     // write files into target.temporaryPath
///     try target.publish()
///
/// A process that dies before `publish` leaves only the temporary sibling `.NAME.building-PID`.
public final class AtomicDirectory {
    /// The name it will have.
    public let path: String
    /// Where files are written until then.
    public let temporaryPath: String
    private var settled = false

    private init(path: String, temporaryPath: String) {
        self.path = path
        self.temporaryPath = temporaryPath
    }

    /// Makes the temporary sibling of `path`.
    ///
    /// - Throws: kind `exists` where `path` is taken.
    public static func create(path: String) throws(StorageError) -> AtomicDirectory {
        var name = path
        while name.count > 1 && name.hasSuffix("/") { name.removeLast() }
        let parent = Directory.parent(of: name)
        let last = Directory.name(of: name)
        guard !last.isEmpty, last != ".", last != ".." else {
            throw StorageError(.invalidValue, path: path, detail: "is no name for a new directory")
        }
        try refuseExisting(name)
        let stem =
            (parent == "." && !name.hasPrefix("./") ? "" : parent == "/" ? "/" : parent + "/")
            + ".\(last).building-\(getpid())"
        // A killed process of the same number may have left its own.
        for attempt in 0..<1000 {
            let temporary = attempt == 0 ? stem : "\(stem).\(attempt)"
            if mkdir(temporary, 0o755) == 0 { return AtomicDirectory(path: name, temporaryPath: temporary) }
            if errno != EEXIST { throw StorageError.systemCall("mkdir", path: temporary, errno: errno) }
        }
        throw StorageError.systemCall("mkdir", path: stem, errno: EEXIST)
    }

    /// Where a file of that name is written.
    public func file(_ name: String) -> String { temporaryPath + "/" + name }

    /// Brings all files and the directory to the device and gives the directory its name.
    ///
    /// - Throws: kind `exists` where the name has been taken meanwhile; nothing is replaced.
    public func publish() throws(StorageError) {
        precondition(!settled)
        for name in try Directory.names(temporaryPath) { try Directory.sync(file(name)) }
        try Directory.sync(temporaryPath)
        try Self.refuseExisting(path)
        guard rename(temporaryPath, path) == 0 else {
            let code = errno
            // Renaming never replaces a directory with files in it, or a file.
            if code == ENOTEMPTY || code == EEXIST || code == ENOTDIR { throw Self.taken(path) }
            throw StorageError.systemCall("rename", path: path, errno: code)
        }
        settled = true
        try Directory.sync(Directory.parent(of: path))
    }

    /// Removes the temporary directory and the files in it; harmless after `publish`.
    public func discard() {
        guard !settled else { return }
        settled = true
        for name in (try? Directory.names(temporaryPath)) ?? [] { unlink(file(name)) }
        rmdir(temporaryPath)
    }

    private static func refuseExisting(_ path: String) throws(StorageError) {
        var status = stat()
        if lstat(path, &status) == 0 { throw taken(path) }
        if errno != ENOENT { throw StorageError.systemCall("lstat", path: path, errno: errno) }
    }

    private static func taken(_ path: String) -> StorageError {
        StorageError(
            .exists, path: path, detail: "exists already and is not overwritten",
            advice: "remove it or choose another name")
    }
}

/// Directories by path.
enum Directory {
    static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    static func name(of path: String) -> String {
        path.lastIndex(of: "/").map { String(path[path.index(after: $0)...]) } ?? path
    }

    /// Names in the directory, sorted, without "." and "..".
    static func names(_ path: String) throws(StorageError) -> [String] {
        guard let directory = opendir(path) else {
            throw StorageError.systemCall("opendir", path: path, errno: errno)
        }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// fsync of a file or a directory.
    static func sync(_ path: String) throws(StorageError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw StorageError.systemCall("open", path: path, errno: errno) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 || errno == EINVAL else {
            throw StorageError.systemCall("fsync", path: path, errno: errno)
        }
    }
}
