import Hypercore
import Hypha

extension FeedError {
  /// A file is not what it should be; not that the disk refused.
  var isDamage: Bool {
    if case .storage(let code) = code { code == .outOfRange } else { true }
  }
}

/// Why a node cannot start, or cannot go on.
public struct NodeError: Error, Equatable, Sendable, CustomStringConvertible {
  public enum Code: Equatable, Sendable {
    /// The disk refused; what is on it decides at the next start.
    case storage
    /// There is no room on the disk.
    case full
    /// A file in the state folder is not what it should be.
    case damaged
    /// Stored secrets are sealed, and the credential to open them is missing or another.
    case credential
  }

  public var code: Code
  /// What is wrong, where, and what to do next.
  public var context: String

  init(_ code: Code, _ context: String) {
    self.code = code
    self.context = context
  }

  /// For a file that could not be read or written.
  init(_ error: StorageError) {
    self.init(error.code == .full ? .full : .storage, error.context)
  }

  /// For a feed that could not be opened.
  init(opening error: FeedError) {
    self.init(opening: HyphaError(.database(.feed(error.code)), error.context))
  }

  /// For a hypha that could not be opened.
  init(opening error: HyphaError) {
    switch error.code {
    case .database(.feed(.storage(.full))):
      self.init(.full, error.context)
    case .database(.unopened), .database(.feed(.storage)):
      self.init(.storage, "The hypha cannot be opened: \(error.context).")
    default:
      self.init(
        .damaged,
        "The hypha cannot be opened: \(error.context). Nothing was changed. Have what is damaged fetched anew from other "
          + "nodes (make an empty file “resync” in the state folder, and start hyphad), or restore a backup on a new one."
      )
    }
  }

  public var description: String { context }
}
