// What can go wrong above the files: a request that means nothing, or an index that contradicts itself.
// Every public door of Index, Learn and Build throws this one type: errors of files, devices and routers are carried
// within, with path and offset.

import Router
import Storage
import Vectors

/// An error of building, opening or searching an index. Where a case carries a sentence, it says what is wrong and
/// what to do; what a caller could act on beside it, the values tell.
public enum IndexError: Error, Sendable, CustomStringConvertible {
    /// The request means nothing, in a way that only a person can mend.
    case invalid(String)
    /// A parameter that is outside of what it may be.
    case outOfRange(String, allowed: String, found: String)
    /// Vectors of another dimension or type than those that they belong to.
    case unlikeVectors(String, expected: VectorKind, found: VectorKind)
    /// A vector for which no distance means anything: without a direction, or too long or short for its squares.
    case unusableVector(String)
    /// The memory allowed for the work does not do; `least` bytes would.
    case memoryTooSmall(String, given: Int, least: Int)
    /// No index holds so few resident bytes; `least` would do.
    case residentTooSmall(String, given: Int, least: Int)
    /// No index that was tried reaches the wanted recall.
    case recallNotReached(String)
    /// Learn queries are needed, or go with what was asked for, and are not given.
    case noLearnFile(String)
    /// Too few queries to learn from.
    case tooFewQueries(String, given: Int, least: Int)
    /// What was asked for needs a trained router, which the index has not.
    case untrained(String)
    /// Neighbours that are not those of these queries and vectors, or too few of them.
    case otherTruth(String)
    /// Shards that make no whole, or an index that is no shard.
    case shards(String)
    /// Another count of vectors than the plan is for.
    case notWholeBase(String, expected: Int, found: Int)
    /// A library of the system that is needed and not there.
    case missingLibrary(String)
    /// A segment's page failed its checksum: it is damaged, or the page of another place or index.
    case corruptSegment(path: String, partition: Int, offset: UInt64)
    /// A page of codes failed its checksum: it is damaged, or the page of another place or index.
    case corruptCodes(path: String, offset: UInt64)
    /// A segment's pages (of format 1) are whole, but not the ones that segments.table describes.
    case straySegment(path: String, partition: Int, offset: UInt64)
    /// The files of an index do not fit each other.
    case inconsistent(path: String, detail: String)
    /// The open index would hold more memory than was promised or allowed.
    case overBudget(path: String, resident: Int, limit: Int)
    /// Two shards give one id, each to a vector of its own.
    case doubledId(UInt64, String, String)
    /// What a file or a device did.
    case storage(StorageError)
    /// Bytes that are whole and hold no router.
    case router(RouterError)
    /// A job that stopped before its end and can be gone on with: why, and the directory that holds what is finished.
    indirect case unfinished(IndexError, workPath: String)
    /// A result that is whole and has its name, and could not be read again to tell of it.
    indirect case unread(IndexError, path: String)
    /// What a caller's own code threw, where it is called during the work.
    case interrupted(any Error)

    public var description: String {
        switch self {
        case .invalid(let detail), .unlikeVectors(let detail, _, _), .unusableVector(let detail),
            .memoryTooSmall(let detail, _, _), .residentTooSmall(let detail, _, _),
            .recallNotReached(let detail),
            .noLearnFile(let detail), .tooFewQueries(let detail, _, _), .untrained(let detail),
            .otherTruth(let detail), .shards(let detail), .notWholeBase(let detail, _, _),
            .missingLibrary(let detail):
            detail
        case .outOfRange(let parameter, let allowed, let found):
            "\(parameter) must be \(allowed), found \(found)"
        case .corruptSegment(let path, let partition, let offset):
            "\(path): segment of partition \(partition): the page at offset \(offset) fails its checksum (it is "
                + "damaged, or the page of another place or index); run `sonde verify` for all damaged pages and rebuild the index"
        case .corruptCodes(let path, let offset):
            "\(path): the page at offset \(offset) fails its checksum (it is damaged, or the page of another place or "
                + "index); run `sonde verify` for all damaged pages and rebuild the index"
        case .straySegment(let path, let partition, let offset):
            "\(path): segment of partition \(partition): the pages at offset \(offset) are not those that "
                + "segments.table describes; run `sonde verify` for all damaged pages and rebuild the index"
        case .inconsistent(let path, let detail):
            "\(path): \(detail)"
        case .overBudget(let path, let resident, let limit):
            "\(path): holds \(resident) resident bytes, expected at most \(limit); allow as many, or plan a smaller "
                + "index"
        case .doubledId(let id, let first, let second):
            "\(first) and \(second) both hold the id \(id); an id names one vector: build one of them again with other "
                + "ids"
        case .storage(let error): error.description
        case .router(let error): error.description
        case .unfinished(let cause, let workPath):
            Self.unfinished(because: cause.description, workPath: workPath)
        case .unread(let cause, let path):
            "\(path) is finished and published; it could not be read again to tell of it: \(cause)"
        case .interrupted(let error): "\(error)"
        }
    }

    /// Whether what was asked for is done all the same.
    public var isOfFinishedWork: Bool { if case .unread = self { true } else { false } }

    /// The sentence of an unfinished job, whoever words the cause.
    public static func unfinished(because cause: String, workPath: String) -> String {
        "\(cause); what is finished is kept in \(workPath): the same build goes on from there"
    }
}

extension IndexError {
    /// Any error of the rooms below as one of this room.
    package init(_ error: any Error) {
        self =
            switch error {
            case let error as IndexError: error
            case let error as StorageError: .storage(error)
            case let error as RouterError: .router(error)
            default: .interrupted(error)
            }
    }

    /// Runs the inside of a public door.
    package static func door<Value>(_ body: () throws -> Value) throws(IndexError) -> Value {
        do {
            return try body()
        } catch {
            throw IndexError(error)
        }
    }
}
