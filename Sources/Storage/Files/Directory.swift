// Directories by path: names, syncing, removal, locks, free space.

import Glibc

/// Directories by path.
public enum Directory {
    /// Bytes that a process may still write on the device of `path`; where there is no `path` yet, on that of the
    /// nearest directory that it will lie in.
    public static func freeByteCount(at path: String) throws(StorageError) -> UInt64 {
        var status = statvfs()
        var places = [path]
        // As far up as there is something: the directories between are made later.
        while let last = places.last, last != ".", last != "/" { places.append(parent(of: last)) }
        for place in places {
            if statvfs(place, &status) == 0 { return UInt64(status.f_bavail) * UInt64(status.f_frsize) }
            if errno != ENOENT { break }
        }
        throw StorageError.systemCall("statvfs", path: path, errno: errno)
    }

    /// Whether anything has that name.
    public static func exists(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0
    }

    /// Removes a file or a directory with all that is in it; whatever is not there is not missed.
    public static func removeTree(_ path: String) throws(StorageError) {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            if errno == ENOENT { return }
            throw StorageError.systemCall("lstat", path: path, errno: errno)
        }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            guard unlink(path) == 0 || errno == ENOENT else {
                throw StorageError.systemCall("unlink", path: path, errno: errno)
            }
            return
        }
        for name in try names(path) { try removeTree(path + "/" + name) }
        guard rmdir(path) == 0 || errno == ENOENT else {
            throw StorageError.systemCall("rmdir", path: path, errno: errno)
        }
    }

    /// Makes a directory where there is none.
    public static func make(_ path: String) throws(StorageError) {
        guard mkdir(path, 0o755) == 0 || errno == EEXIST else {
            throw StorageError.systemCall("mkdir", path: path, errno: errno)
        }
    }

    /// Makes the directories that a new `path` lies in, where they are not there yet.
    static func makeParents(of path: String) throws(StorageError) {
        let parent = parent(of: path)
        if exists(parent) {
            guard access(parent, W_OK | X_OK) == 0 else {
                throw StorageError.systemCall("access", path: parent, errno: errno)
            }
            return
        }
        try makeParents(of: parent)
        try make(parent)
    }

    static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    static func name(of path: String) -> String {
        path.lastIndex(of: "/").map { String(path[path.index(after: $0)...]) } ?? path
    }

    /// Names in the directory, sorted, without "." and "..".
    public static func names(_ path: String) throws(StorageError) -> [String] {
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

    /// A directory whose sync fails in what a test runs.
    @TaskLocal package static var unsyncable: String?

    /// fsync of a file or a directory.
    public static func sync(_ path: String) throws(StorageError) {
        if unsyncable == path { throw StorageError.systemCall("fsync", path: path, errno: EIO) }
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw StorageError.systemCall("open", path: path, errno: errno) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 || errno == EINVAL else {
            throw StorageError.systemCall("fsync", path: path, errno: errno)
        }
    }
}

/// A directory that one process works in: locked while the value lives, whatever becomes of its name. The kernel
/// unlocks it when the process dies, however it dies.
final class DirectoryLock {
    /// The file in the directory that is locked: network file systems do not lock directories.
    static let name = "lock"
    private let descriptor: Int32

    private init(descriptor: Int32) { self.descriptor = descriptor }

    deinit {
        // By name: a process that was forked meanwhile may still hold the descriptor, and the lock with it.
        flock(descriptor, LOCK_UN)
        close(descriptor)
    }

    /// Locks the directory at `path`, which is made where it is not there.
    ///
    /// - Returns: nil where another process works in it.
    static func take(_ path: String) throws(StorageError) -> DirectoryLock? {
        while true {
            guard mkdir(path, 0o755) == 0 || errno == EEXIST else {
                throw StorageError.systemCall("mkdir", path: path, errno: errno)
            }
            var status = stat()
            if lstat(path, &status) == 0, status.st_mode & S_IFMT != S_IFDIR {
                throw StorageError(
                    .unsupported, path: path, detail: "a directory of this name is needed, and it is none",
                    advice: "remove it or choose another name (a symlink is not followed)")
            }
            let file = path + "/" + name
            let descriptor = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
            if descriptor < 0 {
                if errno == ENOENT { continue }
                throw StorageError.systemCall("open", path: file, errno: errno)
            }
            let lock = DirectoryLock(descriptor: descriptor)
            guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
                if errno == EWOULDBLOCK { return nil }
                throw StorageError.systemCall("flock", path: file, errno: errno)
            }
            // Whoever had it may have renamed or removed it between the opening and the lock.
            var (named, held) = (stat(), stat())
            if fstat(descriptor, &held) == 0, lstat(file, &named) == 0, named.st_ino == held.st_ino,
                named.st_dev == held.st_dev
            {
                return lock
            }
        }
    }
}
