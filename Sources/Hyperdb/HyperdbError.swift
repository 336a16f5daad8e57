public import Hypercore

/// What a database could not do.
public struct HyperdbError: Error, Equatable, Sendable {
  public enum Code: Equatable, Sendable {
    case feed(FeedError.Code)
    /// The feed's first block does not say that it is a database.
    case notHyperdb
    /// An entry that cannot be read, or points to what cannot be.
    case badEntry
    /// A writer's feed could not be opened or made.
    case unopened
    /// This node has no writer of its own.
    case notWritable
    /// This node's own writer is not authorised by any that is.
    case notAuthorized
    /// This node's own writer is cut off: what it writes does not count.
    case cutOff
    /// The writer that was to be let in is cut off, or frozen: it needs a new feed.
    case otherCutOff
    /// This node's own writer signed two feeds that contradict each other: it is frozen where they part.
    case forked
    /// This node's own newest entry has seen entries that are not here any more: they have to come back first.
    case behind
    /// A key that was to be created is set already.
    case exists
    /// A version of another database, or of entries that are not here.
    case badVersion
    /// A key that nothing can be put to.
    case badKey
    /// Over one of ``HyperdbLimits``.
    case tooLarge
  }

  public var code: Code
  public var context: String

  public init(_ code: Code, _ context: String) {
    self.code = code
    self.context = context
  }

  init(_ error: FeedError) {
    self.init(.feed(error.code), error.context)
  }
}

/// Bounds on entries, whoever wrote them.
public enum HyperdbLimits {
  /// Bytes of a key.
  public static let keyBytes = 4096
  /// Components of a key: what is between slashes.
  public static let keyComponents = 128
  /// Bytes of a value.
  public static let valueBytes = 4 << 20
  /// Bytes of an entry's trie.
  public static let trieBytes = 512 << 10
  /// Writers of a database.
  public static let writers = 256
  /// Writers up to which others are let in: two devices may each let one in without knowing of the other's, and a device that waits
  /// has its own among those that it knows. Who does not know all that an entry names cannot read it.
  public static let authorizedWriters = 240
  /// Entries that one look-up may go through. The longest path has 4,129 values, and honest tries lead along it once
  /// for each head; one made to mislead could have more ways to the same entries than can ever be walked.
  static let lookupEntries = 32_768
  /// Bytes of an entry's trie for which it counts as one more in that.
  static let countedTrieBytes = 4096
  /// Pointers in a trie that is written, which stays far below ``trieBytes`` with them, and comparisons of such for it.
  static let triePointers = 32_768
  static let pointerComparisons = 1 << 24
  /// Blocks of all feeds up to which a put makes the same trie as the reference would.
  static let exactBlocks: UInt64 = 1024
  /// Pointers at one place of a trie that are compared with each other; more are taken as they are, and not written.
  static let bucketPointers = 4096
  /// Entries that do not count, and that one key's value is looked for behind.
  static let replacedEntries = 4096
  /// Entries, without their values, that are kept decoded: in each of the cache's two generations.
  static let cachedEntries = 16_384
  /// Bytes of such entries, in each generation.
  static let cachedBytes = 6 << 20
  /// Lists of feeds that are kept for each writer; an honest one makes one for each feed that it learns of.
  static let cachedFeedLists = 16
}
