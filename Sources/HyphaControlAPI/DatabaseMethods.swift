/// One entry of the database.
public struct EntryInfo: Codable, Equatable, Sendable {
  public var key: String
  /// The value, if it is UTF-8; otherwise `base64` has it. Neither for a deletion, or where `bytes` is given.
  public var text: String?
  /// The value in base 64, if it is not UTF-8, or too long as text in JSON.
  public var base64: String?
  /// The size of a value that is left out, since the answer would be too long: `database.get` with `feed` has it.
  public var bytes: Int?
  public var deleted: Bool
  /// Public key of the writer's feed, 64 hexadecimal digits.
  public var feed: String
  /// Its block there.
  public var seq: UInt64
  /// How many blocks of each feed its writer had seen, this one included.
  public var clock: [String: UInt64]

  public init(
    key: String, text: String?, base64: String?, bytes: Int? = nil, deleted: Bool, feed: String, seq: UInt64,
    clock: [String: UInt64]
  ) {
    self.key = key
    self.text = text
    self.base64 = base64
    self.bytes = bytes
    self.deleted = deleted
    self.feed = feed
    self.seq = seq
    self.clock = clock
  }
}

/// A key, and what it is set to.
public struct KeyInfo: Codable, Equatable, Sendable {
  /// The place in `entries` of the one that is the key's where only one can be, the same entry on every node; none where
  /// all are deletions.
  public var winner: Int?
  /// All entries that did not know of each other: several in a conflict, deletions among them.
  public var entries: [EntryInfo]

  public init(winner: Int?, entries: [EntryInfo]) {
    self.winner = winner
    self.entries = entries
  }

  public var winningEntry: EntryInfo? {
    winner.flatMap { entries.indices.contains($0) ? entries[$0] : nil }
  }
}

/// Where a change to the database was written.
public struct WrittenInfo: Codable, Equatable, Sendable {
  public var key: String
  /// Public key of this node's feed.
  public var feed: String
  /// The block.
  public var seq: UInt64
  /// Names the state of the database from this change on.
  public var version: String

  public init(key: String, feed: String, seq: UInt64, version: String) {
    self.key = key
    self.feed = feed
    self.seq = seq
    self.version = version
  }
}

/// `database.get`
public enum DatabaseGet: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    public var key: String
    /// A version, to read the database as it was.
    public var at: String?
    /// A writer's feed, 64 hexadecimal digits: only what stands there.
    public var feed: String?

    public init(key: String, at: String? = nil, feed: String? = nil) {
      self.key = key
      self.at = at
      self.feed = feed
    }
  }
  public static let name = "database.get"
  public static let summary = "What a key of the database is set to: all values, where there is a conflict."
  public static let errors: [ControlError.Code] = [
    .notInitialised, .notFound, .storageFailed, .answerTooLong,
  ]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> KeyInfo {
    try checkKey(params.key)
    return try await service.databaseGet(params)
  }
}

/// `database.put`
public enum DatabasePut: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    public var key: String
    /// The value as text; otherwise give `base64`.
    public var text: String?
    /// The value in base 64.
    public var base64: String?
    /// Refuse if the key is set.
    public var ifNotExists: Bool?

    public init(key: String, text: String? = nil, base64: String? = nil, ifNotExists: Bool? = nil) {
      self.key = key
      self.text = text
      self.base64 = base64
      self.ifNotExists = ifNotExists
    }
  }
  public static let name = "database.put"
  public static let summary = "Sets a key of the database, and answers once that is durable."
  public static let errors: [ControlError.Code] = [
    .notInitialised, .readOnly, .behind, .alreadyExists, .storageFailed, .revoked, .forked,
  ]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> WrittenInfo {
    try checkKey(params.key)
    guard (params.text == nil) != (params.base64 == nil) else {
      throw ControlError(.invalidParams, "give the value either as text or in base64", field: "text")
    }
    return try await service.databasePut(params)
  }
}

/// `database.delete`
public enum DatabaseDelete: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    public var key: String

    public init(key: String) {
      self.key = key
    }
  }
  public static let name = "database.delete"
  public static let summary =
    "Unsets a key of the database, and answers once that is durable; its history stays."
  public static let errors: [ControlError.Code] = [
    .notInitialised, .readOnly, .behind, .notFound, .storageFailed, .revoked, .forked,
  ]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> WrittenInfo {
    try checkKey(params.key)
    return try await service.databaseDelete(params)
  }
}

/// `database.list`
public enum DatabaseList: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    /// Only keys below this one; all if not given.
    public var prefix: String?
    /// Only keys behind this one: the last of the page before.
    public var after: String?
    /// A version, to read the database as it was: that of the page before, so that pages fit together.
    public var at: String?
    /// 1 to ``ControlLimits/entriesPerList``, which it is if not given.
    public var limit: Int?

    public init(prefix: String? = nil, after: String? = nil, at: String? = nil, limit: Int? = nil) {
      self.prefix = prefix
      self.after = after
      self.at = at
      self.limit = limit
    }
  }
  public struct Result: Codable, Equatable, Sendable {
    /// In the order of the database's trie, which is the same on every node but not that of the alphabet.
    public var keys: [KeyInfo]
    /// There are further keys.
    public var more: Bool
    /// The state that was listed.
    public var version: String

    public init(keys: [KeyInfo], more: Bool, version: String) {
      self.keys = keys
      self.more = more
      self.version = version
    }
  }
  public static let name = "database.list"
  public static let summary = "Keys of the database and what they are set to."
  public static let errors: [ControlError.Code] = [
    .notInitialised, .notFound, .storageFailed, .answerTooLong,
  ]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> Result {
    try checkLimit(params.limit)
    return try await service.databaseList(params)
  }
}

/// `database.history`
public enum DatabaseHistory: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    /// The history of one key; of all if not given.
    public var key: String?
    /// A version: what led to that state. With the `next` of the page before, the page behind it.
    public var at: String?
    /// 1 to ``ControlLimits/entriesPerList``, which it is if not given.
    public var limit: Int?

    public init(key: String? = nil, at: String? = nil, limit: Int? = nil) {
      self.key = key
      self.at = at
      self.limit = limit
    }
  }
  public struct Result: Codable, Equatable, Sendable {
    /// Newest first; each step has the entries that stood beside each other: one, but for a key with conflicts.
    public var steps: [[EntryInfo]]
    /// Where the history goes on; none at its end.
    public var next: String?

    public init(steps: [[EntryInfo]], next: String?) {
      self.steps = steps
      self.next = next
    }
  }
  public static let name = "database.history"
  public static let summary = "Every entry that was ever written, or those of one key, newest first."
  public static let errors: [ControlError.Code] = [
    .notInitialised, .notFound, .storageFailed, .answerTooLong,
  ]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> Result {
    if let key = params.key { try checkKey(key) }
    try checkLimit(params.limit)
    return try await service.databaseHistory(params)
  }
}

/// `database.authorize`
public enum DatabaseAuthorize: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    /// The other node's writer: 64 hexadecimal digits, `writer` in its `node.status`.
    public var key: String

    public init(key: String) {
      self.key = key
    }
  }
  public struct Result: Codable, Equatable, Sendable {
    public var key: String
    /// It was not authorised before.
    public var new: Bool

    public init(key: String, new: Bool) {
      self.key = key
      self.new = new
    }
  }
  public static let name = "database.authorize"
  public static let summary = "Lets another writer write to the hypha, and answers once that is durable."
  public static let errors: [ControlError.Code] = [
    .notInitialised, .readOnly, .behind, .limitReached, .storageFailed, .revoked, .forked,
  ]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> Result {
    try await service.authorize(params)
  }
}

private func checkKey(_ key: String) throws(ControlError) {
  guard !key.isEmpty, key != "/", key.utf8.count <= ControlLimits.keyBytes else {
    throw ControlError(.invalidParams, "a key has 1 to \(ControlLimits.keyBytes) bytes", field: "key")
  }
}

private func checkLimit(_ limit: Int?) throws(ControlError) {
  if let limit, !(1...ControlLimits.entriesPerList).contains(limit) {
    throw ControlError(.invalidParams, "limit must be 1 to \(ControlLimits.entriesPerList)", field: "limit")
  }
}
