/// The messages of hypercore-protocol 6. An optional field is `nil` where it was not sent.
///
/// Source: hypercore-protocol 6.9.0 `schema.proto`; DEP-0010, "Wire protocol messages".
public enum Message: Equatable, Sendable {
  case feed(Feed)
  case handshake(Handshake)
  case info(Info)
  case have(Have)
  case unhave(Unhave)
  case want(Want)
  case unwant(Want)
  case request(Request)
  case cancel(Cancel)
  case data(Data)
  case `extension`(Extension)

  /// Opens a channel.
  public struct Feed: Equatable, Sendable {
    public var discoveryKey: DiscoveryKey
    /// 24 bytes; on the first channel of an encrypted connection.
    public var nonce: [UInt8]?

    public init(discoveryKey: DiscoveryKey, nonce: [UInt8]? = nil) {
      self.discoveryKey = discoveryKey
      self.nonce = nonce
    }
  }

  /// About the connection; sent once, on the first channel.
  public struct Handshake: Equatable, Sendable {
    /// Names the node while it runs, so that it is known when met by several ways.
    public var id: [UInt8]?
    /// Stay connected when in sync.
    public var live: Bool?
    public var userData: [UInt8]?
    /// Names of the extensions spoken; an extension message names its own by its place here.
    public var extensions: [String]
    public var ack: Bool?

    public init(
      id: [UInt8]?, live: Bool?, userData: [UInt8]? = nil, extensions: [String] = [], ack: Bool? = false
    ) {
      self.id = id
      self.live = live
      self.userData = userData
      self.extensions = extensions
      self.ack = ack
    }
  }

  /// What the sender will still do on this channel; at first both are true.
  public struct Info: Equatable, Sendable {
    public var uploading: Bool?
    public var downloading: Bool?

    public init(uploading: Bool?, downloading: Bool?) {
      self.uploading = uploading
      self.downloading = downloading
    }
  }

  /// Blocks that the sender holds.
  public struct Have: Equatable, Sendable {
    public var start: UInt64
    /// Blocks from `start` on; 1 where it was not sent.
    public var length: UInt64?
    /// Which of those, as a ``RunLengthBitfield``; all of them where it was not sent.
    public var bitfield: [UInt8]?

    public init(start: UInt64, length: UInt64? = nil, bitfield: [UInt8]? = nil) {
      self.start = start
      self.length = length
      self.bitfield = bitfield
    }
  }

  /// Blocks that the sender holds no longer.
  public struct Unhave: Equatable, Sendable {
    public var start: UInt64
    /// 1 where it was not sent.
    public var length: UInt64?

    public init(start: UInt64, length: UInt64? = nil) {
      self.start = start
      self.length = length
    }
  }

  /// Blocks about which the sender wants to be told, or no longer does.
  public struct Want: Equatable, Sendable {
    public var start: UInt64
    /// To the end where it was not sent.
    public var length: UInt64?

    public init(start: UInt64, length: UInt64?) {
      self.start = start
      self.length = length
    }
  }

  /// Asks for a block.
  public struct Request: Equatable, Sendable {
    public var index: UInt64
    /// Where not zero, the block that this byte of the feed is in, instead of `index`.
    public var bytes: UInt64?
    /// Only the proof of its hash.
    public var hash: Bool?
    /// What the sender has of its proof: `Feed.digest(of:)`.
    public var nodes: UInt64?

    public init(index: UInt64, bytes: UInt64? = 0, hash: Bool? = false, nodes: UInt64? = 0) {
      self.index = index
      self.bytes = bytes
      self.hash = hash
      self.nodes = nodes
    }
  }

  /// Takes a request back.
  public struct Cancel: Equatable, Sendable {
    public var index: UInt64
    public var bytes: UInt64?
    public var hash: Bool?

    public init(index: UInt64, bytes: UInt64? = nil, hash: Bool? = nil) {
      self.index = index
      self.bytes = bytes
      self.hash = hash
    }
  }

  /// A block, or without `value` only its hash, and what proves it.
  public struct Data: Equatable, Sendable {
    public var index: UInt64
    public var value: [UInt8]?
    public var proof: Proof

    public init(index: UInt64, value: [UInt8]?, proof: Proof) {
      self.index = index
      self.value = value
      self.proof = proof
    }
  }

  /// Something that an extension sends.
  public struct Extension: Equatable, Sendable {
    /// Place in the sender's list of extensions.
    public var id: UInt64
    public var payload: [UInt8]

    public init(id: UInt64, payload: [UInt8]) {
      self.id = id
      self.payload = payload
    }
  }
}
