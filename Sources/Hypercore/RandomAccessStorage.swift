/// A file of bytes that is read and written at any offset: a file on disk in the daemon, memory with
/// write-behind in the page.
///
/// Synchronous: a call returns when the bytes are with the storage, which is not yet durable;
/// ``sync()`` makes everything written before it durable.
public protocol RandomAccessStorage: AnyObject {
  /// Size in bytes.
  var size: UInt64 { get throws(StorageError) }

  /// Fills `buffer` with the bytes from `offset` on.
  ///
  /// - Throws: ``StorageError`` with code `.outOfRange` where the file ends before the buffer is full.
  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(StorageError)

  /// Writes all of `bytes` at `offset`; a gap between the old end and `offset` reads as zeros.
  func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(StorageError)

  /// Cuts the file to `size` bytes, or fills it up with zeros to that size.
  func truncate(to size: UInt64) throws(StorageError)

  /// Returns once everything written is durable. After an error the contents on disk are unknown, and
  /// the only safe way on is to open the files anew.
  func sync() throws(StorageError)
}

/// What a storage could not do.
public struct StorageError: Error, Equatable, Sendable {
  /// What went wrong, for a program.
  public enum Code: Equatable, Sendable {
    /// A read past the end.
    case outOfRange
    /// No room left: `ENOSPC`, `EDQUOT`, or the browser's quota.
    case full
    /// The system refused; the value is `errno` where there is one, else 0.
    case system(Int32)
  }

  public var code: Code
  /// What was being done, and to which file.
  public var context: String

  public init(_ code: Code, _ context: String) {
    self.code = code
    self.context = context
  }
}
