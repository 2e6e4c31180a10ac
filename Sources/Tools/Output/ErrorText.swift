// The one line of an error: what the library says, and which command or option does what it advises. The library
// knows parameters; only here have they names that are typed.

import Build
import Foundation
import Index
import Storage

enum ErrorText {
    /// An error as it is printed, without the program's name.
    static func describe(_ error: any Error) -> String {
        switch error {
        case IndexError.unfinished(let cause, let workPath):
            return IndexError.unfinished(because: describe(cause), workPath: workPath) + " (--resume)"
        case IndexError.storage(let inner): return describe(inner)
        case IndexError.interrupted(let inner): return describe(inner)
        default: break
        }
        // Errors of ours describe themselves; Foundation's do it only in their localised form.
        let text = type(of: error) is NSError.Type ? error.localizedDescription : String(describing: error)
        return hint(error).map { "\(text) (\($0))" } ?? text
    }

    private static func hint(_ error: any Error) -> String? {
        switch error {
        case let error as StorageError: hint(error)
        case let error as IndexError: hint(error)
        default: nil
        }
    }

    private static func hint(_ error: StorageError) -> String? {
        if let remedy = error.remedy { return hint(remedy) }
        return switch error.kind {
        case .inexact:
            "`sonde convert FILE --out FILE` makes either file hold the other's type; with --lossy it rounds"
        case .unnamedFormat: "--format F"
        case .truncated where error.advice != nil: "--first N"
        case .unsupported where error.found == "f64": "`sonde convert`"
        default: nil
        }
    }

    private static func hint(_ remedy: StorageError.Remedy) -> String {
        switch remedy {
        case .beginAnew: "--restart"
        case .goOnOrBeginAnew: "--resume goes on, --restart begins anew"
        case .moreMemory: "--memory"
        case .memoryOrBeginAnew: "--memory, --restart"
        case .forecast: "--dry-run tells what is needed"
        case .split: "--first, --skip"
        case .joinParts: "`sonde batch --merge`"
        case .writeParts: "`sonde batch --shard`"
        }
    }

    private static func hint(_ error: IndexError) -> String? {
        switch error {
        case .memoryTooSmall: "--memory"
        case .residentTooSmall, .overBudget: "--resident"
        case .doubledId: "--ids, --first-id"
        case .notWholeBase: "--own-rows"
        default: nil
        }
    }
}
