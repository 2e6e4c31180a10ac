// The titles under which `--help` groups options: the same words in every command.

import ArgumentParser

enum HelpTitle {
    static let index = "The index"
    static let queries = "Queries and answers"
    static let stop = "How much is read"
    static let codes = "Codes"
    static let router = "Router"
    static let copies = "Copies"
    static let shards = "Shards"
    static let results = "What is told"
    static let work = "Work"
    /// Shown by `--help-hidden` alone, and told on a page of their own (docs/reference/research-options.md).
    static let research = "For researchers"
}
