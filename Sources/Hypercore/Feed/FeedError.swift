/// What a feed could not do.
public struct FeedError: Error, Equatable, Sendable {
  /// What went wrong, for a program.
  public enum Code: Equatable, Sendable {
    case storage(StorageError.Code)
    /// The feed has no secret key here.
    case notWritable
    /// The files belong to another feed, or the secret key does not fit the public key.
    case wrongKey
    /// A block or node that is not held.
    case missing
    /// A peer's nodes do not lead to the hash that is trusted.
    case badProof
    /// A signature that is not by the feed's owner.
    case badSignature
    /// Files that contradict themselves.
    case damaged
    /// Over one of ``Limits``.
    case tooLarge
    /// More than ``Feed/hasRoom`` allows.
    case noRoom
  }

  public var code: Code
  /// What was being done, to what.
  public var context: String

  public init(_ code: Code, _ context: String) {
    self.code = code
    self.context = context
  }

  init(_ error: StorageError) {
    self.init(.storage(error.code), error.context)
  }
}
