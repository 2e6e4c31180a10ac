// Where an output that somebody named really goes: a file behind symlinks, or a device, FIFO or open descriptor that is
// written in place. The one place that opens temporaries, so that none is shared, followed or taken from its writer.

import Glibc

/// A path that is to be written, looked at before anything is.
public struct OutputPlace: Sendable, Equatable {
    /// What lies there.
    public enum Kind: Sendable, Equatable {
        /// A regular file, or nothing yet: written beside its name and renamed.
        case file
        /// A character device or a FIFO: written in place, never replaced.
        case stream
        /// An open descriptor of this process (/dev/stdout, /dev/fd/N): written through it.
        case descriptor(Int32)
    }

    /// The path as it was given.
    public let given: String
    /// The path behind all symlinks; where a symlink leads to nothing, what it names.
    public let path: String
    public let kind: Kind

    /// Whether the place is written in place.
    public var isStream: Bool { kind != .file }

    /// Where a file lies while it is being written.
    public var partPath: String { path + ".part" }

    private static let linkMaximum = 40

    /// Looks at the path, following symlinks by hand: what is at the end decides.
    ///
    /// - Throws: kind `unsupported` for directories, block devices and sockets.
    public init(_ given: String) throws(StorageError) {
        self.given = given
        var path = given
        for _ in 0..<Self.linkMaximum {
            if let number = Self.descriptorNumber(path) {
                self.path = path
                kind = .descriptor(number)
                return
            }
            var status = stat()
            guard lstat(path, &status) == 0 else {
                guard errno == ENOENT else {
                    throw StorageError.systemCall("lstat", path: given, errno: errno)
                }
                self.path = path
                kind = .file
                return
            }
            switch status.st_mode & S_IFMT {
            case S_IFLNK: path = try Self.target(of: path)
            case S_IFREG:
                self.path = path
                kind = .file
                return
            case S_IFCHR, S_IFIFO:
                self.path = path
                kind = .stream
                return
            case S_IFDIR:
                throw StorageError(.unsupported, path: given, detail: "cannot be written: is a directory")
            default:
                throw StorageError(
                    .unsupported, path: given, detail: "cannot be written: is a block device or a socket",
                    advice: "name a file, a FIFO or /dev/null")
            }
        }
        throw StorageError.systemCall("lstat", path: given, errno: ELOOP)
    }

    private static func target(of link: String) throws(StorageError) -> String {
        let room = Scratch(Int(PATH_MAX))
        let count = readlink(link, room.bytes.assumingMemoryBound(to: CChar.self), room.count)
        guard count > 0 else { throw StorageError.systemCall("readlink", path: link, errno: errno) }
        let target = String(decoding: UnsafeRawBufferPointer(start: room.bytes, count: count), as: UTF8.self)
        if target.hasPrefix("/") { return target }
        let parent = Directory.parent(of: link)
        return (parent == "/" ? "/" : parent + "/") + target
    }

    /// N of /proc/self/fd/N and its other names.
    private static func descriptorNumber(_ path: String) -> Int32? {
        switch path {
        case "/dev/stdout": return 1
        case "/dev/stderr": return 2
        default: break
        }
        let own = ["/proc/self/fd/", "/dev/fd/", "/proc/\(getpid())/fd/"]
        guard let prefix = own.first(where: { path.hasPrefix($0) }) else { return nil }
        return Int32(path.dropFirst(prefix.count))
    }

    /// Opens what is written in place. A FIFO waits for its reader.
    func openStream() throws(StorageError) -> Int32 {
        let descriptor: Int32 =
            if case .descriptor(let number) = kind {
                dup(number)
            } else {
                open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC)
            }
        guard descriptor >= 0 else { throw StorageError.systemCall("open", path: given, errno: errno) }
        return descriptor
    }
}

/// Temporaries of this process alone.
enum TemporaryFile {
    /// Opens a temporary that has a name, and locks it until it is closed: a second writer is refused, what a dead one
    /// has left is taken over. A symlink is refused.
    ///
    /// - Parameter creates: makes it where it is not there; without, kind `missing` is thrown.
    static func open(_ path: String, creates: Bool) throws(StorageError) -> Int32 {
        while true {
            let descriptor = Glibc.open(
                path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (creates ? O_CREAT : 0), 0o644)
            guard descriptor >= 0 else {
                let code = errno
                if code == ENOENT && !creates {
                    throw StorageError(.missing, path: path, detail: "there is no such file")
                }
                if code == ELOOP { throw notOurs(path, "is a symlink") }
                if code == ENXIO { throw notOurs(path, "is not a regular file") }
                throw StorageError.systemCall("open", path: path, errno: code)
            }
            var (held, named) = (stat(), stat())
            guard fstat(descriptor, &held) == 0 else {
                let code = errno
                close(descriptor)
                throw StorageError.systemCall("fstat", path: path, errno: code)
            }
            guard held.st_mode & S_IFMT == S_IFREG, held.st_nlink <= 1 else {
                close(descriptor)
                throw notOurs(
                    path, held.st_nlink > 1 ? "is a file with a second name" : "is not a regular file")
            }
            guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
                let code = errno
                close(descriptor)
                guard code == EWOULDBLOCK else {
                    throw StorageError.systemCall("flock", path: path, errno: code)
                }
                throw StorageError(
                    .exists, path: path, detail: "another process is writing it",
                    advice: "wait for it or choose another name")
            }
            // Whoever had it may have renamed or removed it between the opening and the lock.
            if lstat(path, &named) == 0, named.st_ino == held.st_ino, named.st_dev == held.st_dev {
                return descriptor
            }
            unlockAndClose(descriptor)
        }
    }

    /// A file without a name.
    static func anonymous() throws(StorageError) -> Int32 {
        let folder = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var name = Array((folder + "/sonde-XXXXXX").utf8CString)
        let descriptor = mkstemp(&name)
        guard descriptor >= 0 else { throw StorageError.systemCall("mkstemp", path: folder, errno: errno) }
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        unlink(name)
        return descriptor
    }

    /// By name: a process that was forked meanwhile may still hold the descriptor, and the lock with it.
    static func unlockAndClose(_ descriptor: Int32) {
        flock(descriptor, LOCK_UN)
        close(descriptor)
    }

    /// Copies a whole file to a stream, and closes neither.
    static func copy(_ descriptor: Int32, to stream: Int32, path: String) throws(StorageError) {
        let buffer = Scratch(1 << 20)
        var offset: off_t = 0
        while true {
            let got = pread(descriptor, buffer.bytes, buffer.count, offset)
            if got < 0 && errno == EINTR { continue }
            guard got >= 0 else { throw StorageError.systemCall("pread", path: path, errno: errno) }
            if got == 0 { return }
            var done = 0
            while done < got {
                let written = write(stream, buffer.bytes + done, got - done)
                if written < 0 && errno == EINTR { continue }
                guard written > 0 else {
                    throw StorageError.systemCall(
                        "write", path: path, errno: written < 0 ? errno : ENOSPC)
                }
                done += written
            }
            offset += off_t(got)
        }
    }

    private static func notOurs(_ path: String, _ what: String) -> StorageError {
        StorageError(
            .unsupported, path: path, detail: "a temporary of this name is needed, and it \(what)",
            advice: "remove it or choose another output")
    }
}

/// Texts of any kind, whole or not at all.
public enum TextFile {
    /// Writes a text to a place that somebody named.
    public static func write(_ text: String, path: String) throws(StorageError) {
        _ = try OutputFile.write(Array(text.utf8), path: path, atomically: true)
    }
}
