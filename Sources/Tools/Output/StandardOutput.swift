// What is printed must arrive, and must arrive where it was meant to.

// The C library's `stdout` is a variable; nothing here changes it.
@preconcurrency import Glibc

enum StandardOutput {
    /// A file that is opened must not become standard output where the caller closed that: what is printed would be
    /// written into it.
    static func keepDescriptors() {
        for descriptor in Int32(0)...2 where fcntl(descriptor, F_GETFD) == -1 && errno == EBADF {
            // Opened the wrong way round, so that its use fails as that of a closed one does.
            _ = open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY)
        }
    }

    /// Fails where not all that was printed has been taken.
    static func requireWritten() throws {
        guard fflush(stdout) == 0 else {
            throw CommandFailure("standard output: cannot write: \(String(cString: strerror(errno)))")
        }
        guard ferror(stdout) == 0 else { throw CommandFailure("standard output: cannot write all of it") }
    }
}
