public import Hyperdb

/// What a hypha could not do.
public struct HyphaError: Error, Equatable, Sendable {
  public enum Code: Equatable, Sendable {
    case database(HyperdbError.Code)
    /// A passphrase that is none: too few words, or one that is not on the list.
    case badPassphrase
    /// A domain that is none.
    case badDomain
    /// Not enough memory to derive keys: 64 MiB are needed.
    case noMemory
    /// This node has no writer, or one that is not authorised.
    case readOnly
    /// This node's own newest entries have seen others that are not here: they have to come back first.
    case behind
    /// This node's writer was revoked: it may not write any longer.
    case revoked
    /// This node's writer signed two feeds that contradict each other: it may not write any longer.
    case forked
    /// The writer that was to be let in was revoked, or signed two feeds: its device needs a new one.
    case needsNewWriter
    /// No request that a person could mean.
    case unknownRequest
    /// A request that may not be answered any more.
    case requestExpired
    /// A request that was answered before.
    case requestAnswered
    /// A name or words that several pending requests have.
    case ambiguousRequest
    /// This device has asked to be let in, and nobody has answered yet.
    case requestPending
    /// This device may write already.
    case isAuthorised
    /// No device of this name or key.
    case unknownDevice
    /// A name that several devices have.
    case ambiguousDevice
    /// A device's name that is empty, too long, or has control characters.
    case badDeviceName
    /// The device that made the hypha, which cannot be revoked.
    case isOrigin
    /// A post without text.
    case textEmpty
    /// A post over ``HyphaLimits/postBytes``.
    case textTooLong
    /// No post of this id.
    case unknownPost
    /// An id that is none.
    case badID
  }

  public var code: Code
  /// What is wrong, and what to do next; never a secret.
  public var context: String

  public init(_ code: Code, _ context: String) {
    self.code = code
    self.context = context
  }

  public init(_ error: HyperdbError) {
    let code: Code =
      switch error.code {
      case .notWritable, .notAuthorized: .readOnly
      case .behind: .behind
      case .cutOff: .revoked
      case .forked: .forked
      case .otherCutOff: .needsNewWriter
      default: .database(error.code)
      }
    self.init(code, error.context)
  }
}

/// Bounds of a hypha.
public enum HyphaLimits {
  /// Bytes of a post's text.
  public static let postBytes = 64 << 10
  /// Bytes of a post as stored: every byte of text may take six, and names come on top.
  static let storedPostBytes = 6 * postBytes + 4096
  /// Bytes of a device's name.
  public static let deviceNameBytes = 128
  /// Bytes of what the database says of a device.
  static let deviceRecordBytes = 4096
  /// Blocks of a device's feed that are still replicated, but do not count, behind a revocation by another device.
  static let revokedTail: UInt64 = 256
  /// Bytes of a sealed message.
  public static let messageBytes = 4096
  /// Messages that one sender may send at once, and all together: two mailboxes full. Then one each interval, in milliseconds.
  static let messagesAtOnce: Int64 = 512
  static let messageInterval: Int64 = 1000
  /// Of these, a sender's that do not count for all together, and milliseconds until it has one more: a device asks, and answers.
  static let firstMessages: Int64 = 4
  static let firstMessageInterval: Int64 = 60_000
  /// Senders that are remembered.
  static let messageSenders = 1024
  /// Milliseconds in which a request can be answered: 7 days.
  public static let requestLifetime: Int64 = 7 * 86_400_000
  /// Milliseconds that another device's clock may be ahead.
  static let clockSkew: Int64 = 300_000
  /// Requests whose ids are remembered; further ones are dropped until some of these have expired.
  static let rememberedRequests = 4096
  /// Requests that wait for an answer.
  static let pendingRequests = 256
  /// Words by which two devices compare a request: 51 bits.
  static let approvalWords = 4
  /// Hexadecimal digits of a writer's key or a request's id that at least are needed to name it by.
  static let deviceKeyDigits = 8
  /// Words of a passphrase: 8 give 103 bits.
  public static let passphraseWords = 8...64
  /// Nesting of a post's JSON.
  static let jsonDepth = 16
}
