/// Why a connection cannot go on: what the peer did.
public struct WireError: Error, Equatable, Sendable {
  public enum Code: Equatable, Sendable {
    /// Bytes that are no message.
    case malformed
    /// A message at the wrong time, or on a channel that is not open.
    case violation
    /// Something that was not asked for.
    case unasked
    /// Over one of ``WireLimits``.
    case tooLarge
    /// A block or hash that does not lead to what the owner signed.
    case unverified
    /// Nothing arrived for too long.
    case timedOut
    /// The peer wants a feed that is not here, or offers no key in common.
    case unknownFeed
    /// A fault on this side: its own disk, not the peer.
    case local(FeedError.Code)
  }

  public var code: Code
  public var context: String

  public init(_ code: Code, _ context: String) {
    self.code = code
    self.context = context
  }
}

/// Bounds on what a peer can send or cause.
public enum WireLimits {
  /// Nodes, for each feed, of which is remembered that they sent what does not verify.
  static let suspects = 64
  /// Bytes of one message: as the reference.
  public static let messageBytes = 8 << 20
  /// Channels on a connection: as the reference.
  public static let channels = 256
  /// Messages kept for a channel that the peer opened and this side has not yet: as the reference.
  public static let unopenedMessages = 16
  /// Bytes in all messages kept so on a connection.
  public static let unopenedBytes = 1 << 20
  /// Nodes in a proof: a path and the roots of the longest feed.
  public static let proofNodes = 128
  /// Extensions in a handshake, and bytes of one's name.
  public static let extensions = 64
  public static let extensionNameBytes = 256
  /// Bytes of a handshake's id and user data.
  public static let handshakeBytes = 4096
  /// Bytes of an extension message.
  public static let extensionBytes = 64 << 10
  /// Blocks that one `want` is about: 2^20 is what the reference asks for.
  public static let wantBlocks: UInt64 = 1 << 23
  /// Blocks that one `have` is about.
  public static let haveBlocks: UInt64 = 1 << 23
  /// Bytes of memory for what one peer says it has, in all feeds together: 16 million blocks. As many connections as a node
  /// has places for then stay below what a small machine has.
  public static let remoteBitfieldBytes = 2 << 20
  /// Blocks that a peer's messages may make this side look at, at once, and how many more with each second. Honest peers speak
  /// of each block once; this is four times what ``remoteBitfieldBytes`` holds.
  public static let workBlocks: UInt64 = 1 << 26
  public static let workBlocksPerSecond: UInt64 = 1 << 20
  /// What it costs a peer to take back a block that it was asked for, as if it had spoken of so many: others are asked anew.
  static let takenBackBlocks: UInt64 = 1 << 12
  /// Bytes of messages that are not whole yet, of all connections; above it, one with more than ``partialShareBytes`` ends.
  public static let partialBytes = 64 << 20
  static let partialShareBytes = 1 << 20
  /// Requests and wants of one peer for one feed that wait to be answered.
  public static let waitingRequests = 2048
  /// Steps in search of where two versions of a feed part; each halves what is left, two ways at most.
  static let probeSteps = 128
  /// Blocks that a peer without anything to do is asked for each second, though another was asked for them before: who says
  /// that it has a block and does not send it holds up nobody for long.
  static let secondRequests = 8
  /// Wants sent and not yet answered.
  static let openWants = 16
  /// Blocks asked of one peer and not yet received: at most so many, and about so many bytes.
  static let openRequests = 512
  static let openRequestBytes = 4 << 20
  /// How far behind the first missing block of a feed others are asked for: five pages of a bitfield at most. What nodes have of
  /// as many feeds as there can be, and tell each other, then stays below ``remoteBitfieldBytes``, however strewn it is.
  static let fetchWindow: UInt64 = 1 << 15
  /// Bytes that wait to be sent, from which on no more requests are answered.
  public static let outputBytes = 1 << 20
  /// Bytes that wait to be sent, from which on a peer that reads nothing is given up: it is told of new blocks at once, and that
  /// it is here, however much waits.
  static let unreadBytes = 16 << 20
  /// Milliseconds without a byte sent after which a keep-alive is sent; without one received, after which the
  /// peer is given up; and with a request open, after which that is.
  public static let keepAliveMilliseconds: UInt64 = 3_000
  public static let timeOutMilliseconds: UInt64 = 20_000
  public static let requestMilliseconds: UInt64 = 30_000
  /// Milliseconds that a peer has to say who it is, however steadily its bytes come.
  public static let openingMilliseconds: UInt64 = 60_000
  /// Milliseconds without a block that was asked for after which it is doubted that the peer has it.
  static let doubtMilliseconds: UInt64 = 3_000
}
