// Errors that a test expects, by their kind.

import Index
import Storage
import Testing

/// The error that `body` throws as an IndexError; a failure of the test where it throws none or another.
package func indexError(_ body: () throws -> Void, _ location: SourceLocation = #_sourceLocation)
    -> IndexError?
{
    do {
        try body()
        Issue.record("nothing was thrown", sourceLocation: location)
    } catch let error as IndexError {
        return error
    } catch {
        Issue.record("\(error) was thrown", sourceLocation: location)
    }
    return nil
}

/// The text of the IndexError that `body` throws.
package func refusal(_ body: () throws -> Void, _ location: SourceLocation = #_sourceLocation) -> String {
    indexError(body, location).map { "\($0)" } ?? ""
}

/// The error that `body` throws as a StorageError, or as an IndexError that carries one.
package func storageError(_ body: () throws -> Void, _ location: SourceLocation = #_sourceLocation)
    -> StorageError?
{
    do {
        try body()
        Issue.record("nothing was thrown", sourceLocation: location)
    } catch let error as StorageError {
        return error
    } catch IndexError.storage(let error) {
        return error
    } catch {
        Issue.record("\(error) was thrown", sourceLocation: location)
    }
    return nil
}

/// Why the job that `body` does stopped, where it can be gone on with.
package func unfinished(_ body: () throws -> Void, _ location: SourceLocation = #_sourceLocation)
    -> IndexError?
{
    guard case .unfinished(let cause, _) = indexError(body, location) else { return nil }
    return cause
}
