// Before a job begins: may its outputs be written, and does none of them destroy what it reads? Files are compared by
// device and inode, so that no second name, symlink or relative path hides that two are the same.

import Glibc

/// The outputs and inputs of one job.
public struct OutputGuard {
    private struct Identity: Hashable {
        var device: UInt64
        var inode: UInt64
    }

    private var inputs: [Identity: String] = [:]
    /// Directories that are inputs as a whole: nothing is written within.
    private var folders: [Identity: String] = [:]
    /// Every ancestor of an input, with that input: a temporary directory that is emptied must not be one.
    private var ancestors: [Identity: String] = [:]
    private var outputs: [Identity: String] = [:]
    private var outputPaths: [String: String] = [:]

    private static let depthMaximum = 3

    /// - Parameter inputs: files, and directories with all that lies in them; what is not there is left to whoever
    ///   reads it.
    public init(inputs: [String?]) {
        for case let path? in inputs { add(path, named: path, depth: 0) }
    }

    /// Checks outputs that are files.
    ///
    /// - Throws: kind `exists` where one is an input, lies in an input or is given twice; `unsupported` or a system call
    ///   where it cannot be written.
    public mutating func check(files: [String?]) throws(StorageError) {
        for case let path? in files {
            let place = try OutputPlace(path)
            guard case .file = place.kind else {
                if place.kind == .stream, access(place.path, W_OK) != 0 {
                    throw Self.unwritable(path, errno)
                }
                continue
            }
            let parent = Directory.parent(of: place.path)
            guard access(parent, W_OK | X_OK) == 0 else { throw Self.unwritable(path, errno) }
            try refuseWithin(parent, path)
            let journal = JobJournals.path(of: place.path)
            let companions = [place.path, place.partPath, journal, journal + ".part"]
            for name in companions { try refuseInput(name, output: path) }
            try refuseTwice(companions, output: path)
        }
    }

    /// Checks outputs that are new directories.
    public mutating func check(directories: [String?]) throws(StorageError) {
        for case let path? in directories {
            let (name, work) = try AtomicDirectory.names(of: path)
            try refuseWithin(Directory.parent(of: name), path)
            for place in [name, work] {
                try refuseInput(place, output: path)
                if let identity = Self.identity(place)?.identity, let input = ancestors[identity] {
                    throw StorageError(
                        .exists, path: path,
                        detail: "writing it would empty \(place), in which \(input) lies",
                        advice: "choose another name")
                }
            }
            try refuseTwice([name, work], output: path)
        }
    }

    /// Checks directories, perhaps there already, that files of names of their own are put into. Before the others.
    public mutating func check(shared: [String?]) throws(StorageError) {
        for case let path? in shared {
            try refuseInput(path, output: path)
            try refuseWithin(Self.identity(path) == nil ? Directory.parent(of: path) : path, path)
            try refuseTwice([path], output: path)
            // What empties a directory must not empty this one.
            if Self.identity(path) != nil { addAncestors(of: path, named: path) }
        }
    }

    private mutating func refuseTwice(_ names: [String], output: String) throws(StorageError) {
        for name in names {
            let parent = Self.identity(Directory.parent(of: name))?.identity
            let key = parent.map { "\($0.device) \($0.inode) \(Directory.name(of: name))" } ?? name
            let identity = Self.identity(name)?.identity
            if let other = outputPaths[key] ?? identity.flatMap({ outputs[$0] }),
                other != output || name == names[0]
            {
                throw StorageError(
                    .exists, path: output,
                    detail: other == output
                        ? "is given for two outputs" : "and \(other) would be written to one place",
                    advice: "choose another name")
            }
            outputPaths[key] = output
            if let identity { outputs[identity] = output }
        }
    }

    private func refuseInput(_ name: String, output: String) throws(StorageError) {
        guard let identity = Self.identity(name)?.identity, let input = inputs[identity] ?? folders[identity]
        else { return }
        let what = name == output ? "" : " (by \(name))"
        throw StorageError(
            .exists, path: output, detail: "is also an input, \(input)\(what), and is not overwritten",
            advice: "choose another name")
    }

    /// Walks up from `parent` and refuses to meet an input.
    private func refuseWithin(_ parent: String, _ output: String) throws(StorageError) {
        var path = parent
        var last: Identity?
        while let found = Self.identity(path), found.identity != last {
            if let input = folders[found.identity] {
                throw StorageError(
                    .exists, path: output, detail: "lies within an input, \(input), which is only read",
                    advice: "choose another place")
            }
            last = found.identity
            path += "/.."
        }
    }

    private mutating func add(_ path: String, named: String, depth: Int) {
        guard let (identity, mode) = Self.identity(path) else { return }
        if mode & S_IFMT == S_IFDIR {
            folders[identity] = named
            if depth < Self.depthMaximum {
                for name in (try? Directory.names(path)) ?? [] {
                    add(path + "/" + name, named: named, depth: depth + 1)
                }
            }
        } else if mode & S_IFMT == S_IFREG {
            inputs[identity] = path
        }
        guard depth == 0 else { return }
        // Through its parent where it is a file: a symlink's target may lie elsewhere, and is what counts.
        addAncestors(
            of: mode & S_IFMT == S_IFDIR ? path : Directory.parent(of: Self.resolved(path)), named: named)
    }

    private mutating func addAncestors(of path: String, named: String) {
        var above = path
        var last: Identity?
        while let found = Self.identity(above), found.identity != last {
            ancestors[found.identity] = named
            last = found.identity
            above += "/.."
        }
    }

    private static func resolved(_ path: String) -> String {
        guard let real = realpath(path, nil) else { return path }
        defer { free(real) }
        return String(cString: real)
    }

    private static func identity(_ path: String) -> (identity: Identity, mode: mode_t)? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        return (Identity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino)), status.st_mode)
    }

    private static func unwritable(_ path: String, _ code: Int32) -> StorageError {
        StorageError(
            .systemCall(name: "access", errno: code), path: path,
            detail: code == ENOENT
                ? "cannot write: there is no directory \(Directory.parent(of: path))"
                : "cannot write: \(String(cString: strerror(code)))")
    }
}
