/// `backup.begin`
public enum BackupBegin: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    /// Encrypts the backup: at least ``ControlLimits/backupPassphraseBytes`` bytes.
    public var passphrase: Secret?

    public init(passphrase: Secret? = nil) {
      self.passphrase = passphrase
    }
  }

  public struct Result: Codable, Equatable, Sendable {
    /// Names the backup in the calls that follow.
    public var id: String
    /// Bytes that the backup will have at most.
    public var bytes: UInt64
    public var hyphalink: String
    public var role: NodeRole
    public var feeds: Int
    /// Blocks in it.
    public var blocks: UInt64
    /// It has the secret key of this node's own feed.
    public var hasWriter: Bool

    public init(
      id: String, bytes: UInt64, hyphalink: String, role: NodeRole, feeds: Int, blocks: UInt64,
      hasWriter: Bool
    ) {
      self.id = id
      self.bytes = bytes
      self.hyphalink = hyphalink
      self.role = role
      self.feeds = feeds
      self.blocks = blocks
      self.hasWriter = hasWriter
    }
  }

  public static let name = "backup.begin"
  public static let summary = "Begins a backup of the node as it is now; posts go on meanwhile."
  public static let errors: [ControlError.Code] = [
    .ownerOnly, .notInitialised, .limitReached, .storageFailed,
  ]
  public static let isOwnerOnly = true

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> Result {
    if let passphrase = params.passphrase {
      guard passphrase.text.utf8.count >= ControlLimits.backupPassphraseBytes else {
        throw ControlError(
          .invalidParams,
          "a backup's passphrase has at least \(ControlLimits.backupPassphraseBytes) characters",
          field: "passphrase")
      }
    }
    return try await service.beginBackup(params)
  }
}

/// `backup.read`
public enum BackupRead: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    public var id: String

    public init(id: String) {
      self.id = id
    }
  }

  public struct Result: Codable, Equatable, Sendable {
    /// The next bytes.
    public var base64: String
    /// Nothing follows: the backup is complete, and its id forgotten.
    public var last: Bool

    public init(base64: String, last: Bool) {
      self.base64 = base64
      self.last = last
    }
  }

  public static let name = "backup.read"
  public static let summary = "The next bytes of a backup; one call at a time."
  public static let errors: [ControlError.Code] = [.ownerOnly, .notFound, .storageFailed]
  public static let isOwnerOnly = true

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> Result {
    try await service.readBackup(params)
  }
}

/// `backup.end`
public enum BackupEnd: ControlMethod {
  public static let name = "backup.end"
  public static let summary = "Gives up a backup that was not read to its end."
  public static let isOwnerOnly = true

  public static func call(
    _ params: BackupRead.Params, on service: some ControlService
  ) async throws(ControlError) -> Nothing {
    await service.endBackup(params)
    return Nothing()
  }
}

/// `restore.begin`
public enum RestoreBegin: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    /// The backup's, where it is encrypted.
    public var passphrase: Secret?
    /// Drop the writer that the backup has, and make another, which asks to be let in.
    public var newWriter: Bool?
    /// With a new writer: this device's name, if it is to have another one.
    public var deviceName: String?

    public init(passphrase: Secret? = nil, newWriter: Bool? = nil, deviceName: String? = nil) {
      self.passphrase = passphrase
      self.newWriter = newWriter
      self.deviceName = deviceName
    }
  }

  public struct Result: Codable, Equatable, Sendable {
    /// Names the restore in the calls that follow.
    public var id: String

    public init(id: String) {
      self.id = id
    }
  }

  public static let name = "restore.begin"
  public static let summary = "Begins to restore a backup, on a node that holds no hypha."
  public static let errors: [ControlError.Code] = [.alreadyInitialised, .limitReached, .storageFailed]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> Result {
    try await service.beginRestore(params)
  }
}

/// `restore.write`
public enum RestoreWrite: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    public var id: String
    /// The next bytes of the backup, at most ``ControlLimits/backupChunkBytes``.
    public var base64: String

    public init(id: String, base64: String) {
      self.id = id
      self.base64 = base64
    }
  }

  public static let name = "restore.write"
  public static let summary = "Hands in the next bytes of a backup; one call at a time."
  public static let errors: [ControlError.Code] = [
    .notFound, .badBackup, .backupPassphrase, .diskFull, .storageFailed,
  ]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> Nothing {
    try await service.writeRestore(params)
    return Nothing()
  }
}

/// `restore.finish`
public enum RestoreFinish: ControlMethod {
  public struct Result: Codable, Equatable, Sendable {
    public var hyphalink: String
    public var role: NodeRole
    /// Public key of this node's own feed; none where it has none.
    public var writer: String?
    /// When the backup was made.
    public var created: Timestamp
    public var feeds: Int
    /// Blocks that were checked and are here now.
    public var blocks: UInt64
    /// The node may write once it has got back, from another one, what it wrote since the backup was made.
    public var catchesUp: Bool
    /// With a new writer: the request to be let in.
    public var request: OwnRequestInfo?

    public init(
      hyphalink: String, role: NodeRole, writer: String?, created: Timestamp, feeds: Int, blocks: UInt64,
      catchesUp: Bool, request: OwnRequestInfo?
    ) {
      self.hyphalink = hyphalink
      self.role = role
      self.writer = writer
      self.created = created
      self.feeds = feeds
      self.blocks = blocks
      self.catchesUp = catchesUp
      self.request = request
    }
  }

  public static let name = "restore.finish"
  public static let summary =
    "Checks all that was handed in, every block, hash and signature, and makes this the node that it is of."
  public static let errors: [ControlError.Code] = [
    .notFound, .badBackup, .alreadyInitialised, .diskFull, .storageFailed,
  ]

  public static func call(
    _ params: BackupRead.Params, on service: some ControlService
  ) async throws(ControlError) -> Result {
    try await service.finishRestore(params)
  }
}

/// `restore.cancel`
public enum RestoreCancel: ControlMethod {
  public static let name = "restore.cancel"
  public static let summary = "Gives up a restore; nothing of it stays."

  public static func call(
    _ params: BackupRead.Params, on service: some ControlService
  ) async throws(ControlError) -> Nothing {
    await service.cancelRestore(params)
    return Nothing()
  }
}
