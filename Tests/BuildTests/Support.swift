// What several test targets share is known to all files of this one.

@_exported import TestSupport
