// Which files of vectors a command reads, and as what.

import ArgumentParser
import Build
import Index
import Learn
import Storage
import Vectors

extension VectorFileFormat: ExpressibleByArgument {
    public init?(argument: String) { self.init(rawValue: argument.lowercased()) }
}

/// What becomes of queries that distances mean nothing to.
enum BadQueryAction: String, ExpressibleByArgument, CaseIterable {
    case fail, empty
}

/// The option of it, shared by search and batch.
struct BadQueryOptions: ParsableArguments {
    @Option(
        help:
            "A query that is not finite, or zero under cosine: fail, or answer it empty (ids of all ones) and go on."
    )
    var onBadQuery: BadQueryAction = .fail

    /// "; 2 bad queries answered empty", or nothing.
    static func text(_ count: Int) -> String {
        count == 0 ? "" : "; \(count) bad quer\(count == 1 ? "y" : "ies") answered empty"
    }
}

/// What files of vectors hold where their names do not tell it.
struct InputOptions: ParsableArguments {
    @Option(
        help:
            "What the first named file of vectors holds, and every other whose name does not tell it (.bin, .bbin)."
    )
    var format: VectorFileFormat?

    /// Opens the file that the command is about: --format is its format, whatever its name.
    func openMain(_ path: String, first: Int? = nil, skip: Int = 0) throws -> VectorFile {
        try VectorFile.open(path: path, format: format, first: first, skip: skip)
    }

    /// Opens another one.
    func open(_ path: String, first: Int? = nil, atMost: Int? = nil) throws -> VectorFile {
        try VectorFile.open(
            path: path, format: VectorFileFormat(path: path) ?? format, first: first, atMost: atMost)
    }

    /// Opens queries as what the index holds: numbers of another type are taken where it holds them exactly.
    func openQueries(_ path: String, for index: DiskIndex, first: Int? = nil, skip: Int = 0) throws
        -> VectorFile
    {
        try VectorFile.open(path: path, format: format, first: first, skip: skip, as: index.elementType)
    }

    /// Opens vectors as those of another file, where the type holds them exactly.
    func open(_ path: String, first: Int? = nil, atMost: Int? = nil, as type: ElementType) throws
        -> VectorFile
    {
        try VectorFile.open(
            path: path, format: VectorFileFormat(path: path) ?? format, first: first, atMost: atMost, as: type
        )
    }
}
