/// Why a node cannot start, or cannot go on.
public struct NodeError: Error, Equatable, Sendable, CustomStringConvertible {
  public enum Code: Equatable, Sendable {
    /// The disk refused; what is on it decides at the next start.
    case storage
    /// A file in the state folder is not what it should be.
    case damaged
  }

  public var code: Code
  /// What is wrong, where, and what to do next.
  public var context: String

  init(_ code: Code, _ context: String) {
    self.code = code
    self.context = context
  }

  public var description: String { context }
}
