public import Hypercore
public import HyphaControlAPI

/// What the network side asks of the node. Called from any thread.
public protocol EdgeDelegate: Sendable {
  /// What `/.well-known/dat` answers; `nil` while uninitialised, for a 404.
  func wellKnownDat() async -> WellKnownDat?

  /// The posts for feed readers; `nil` while uninitialised, for a 404.
  func publicPosts() async -> PublicPosts?

  /// What `/healthz` answers.
  func health() async -> Health

  /// Whether a connection that another node opened is wanted. For a sign-up it is asked once, when the setup
  /// code has come; who guesses codes must be slowed down here, by the remote address.
  func admit(_ request: ReplicationRequest) async -> Admission

  /// Somebody was cut off or turned away for what came, or did not come.
  ///
  /// - Parameters:
  ///   - kind: as ``RejectedInfo/kind``.
  ///   - address: without port.
  func reject(_ kind: String, from address: String)

  /// A connection, incoming and admitted or outgoing, is open: from here on the node owns it, and must
  /// ``ReplicationTransport/start(on:_:)`` or close it.
  func attach(_ transport: ReplicationTransport) async
}

/// The contents of `/.well-known/dat` (DEP-0005).
public struct WellKnownDat: Equatable, Sendable {
  public var key: PublicKey
  /// Seconds for which others may remember it.
  public var ttl: UInt32

  public init(key: PublicKey, ttl: UInt32) {
    self.key = key
    self.ttl = ttl
  }
}

/// What feed readers get.
public struct PublicPosts: Equatable, Sendable {
  public struct Post: Equatable, Sendable {
    public var id: String
    public var text: String
    public var created: Timestamp
    /// Name of the device that wrote it.
    public var device: String

    public init(id: String, text: String, created: Timestamp, device: String) {
      self.id = id
      self.text = text
      self.created = created
      self.device = device
    }
  }

  /// Of the hypha.
  public let key: PublicKey
  /// Newest first.
  public let posts: [Post]
  /// When this node last saw anything of the hypha change.
  public let changed: Timestamp
  /// The posts as each of the feeds has them: written once, since strangers may ask for them as often as they like.
  let entries: PostFeeds.Entries

  public init(key: PublicKey, posts: [Post], changed: Timestamp) {
    self.key = key
    self.posts = posts
    self.changed = changed
    entries = PostFeeds.Entries(posts, of: key)
  }
}

/// The contents of `/healthz`: status 200 if ready, else 503.
public struct Health: Equatable, Sendable {
  public var ready: Bool
  /// One plain sentence for anyone, so without secrets and local paths.
  public var text: String

  public init(ready: Bool, text: String) {
    self.ready = ready
    self.text = text
  }
}

/// Another node asks to replicate.
public struct ReplicationRequest: Sendable {
  public var target: ReplicationTarget
  /// Only for a sign-up.
  public var setupCode: Secret?
  public var kind: ReplicationTransport.Kind
  /// Host of the other end, without its port.
  public var remoteAddress: String

  public init(
    target: ReplicationTarget, setupCode: Secret? = nil, kind: ReplicationTransport.Kind,
    remoteAddress: String
  ) {
    self.target = target
    self.setupCode = setupCode
    self.kind = kind
    self.remoteAddress = remoteAddress
  }
}

/// The answer to a ``ReplicationRequest``.
public enum Admission: Equatable, Sendable {
  case accept
  /// `status` is of HTTP (a sign-up and TCP have no use for it); `reason` one plain sentence that the other
  /// node gets.
  case refuse(status: Int, reason: String)
}
