/// Every method, in the order in which `rpc.discover` lists them.
public let controlMethods: [any ControlMethod.Type] = [
  Discover.self,
  NodeVersion.self,
  NodeStatus.self,
  NodeInitialise.self,
  NodeSignIn.self,
  NodeRequestAgain.self,
  NodeSignOut.self,
  NodeWait.self,
  PassphraseGenerate.self,
  SetupCodeShow.self,
  PostsCreate.self,
  PostsList.self,
  PostsDelete.self,
  DatabaseGet.self,
  DatabasePut.self,
  DatabaseDelete.self,
  DatabaseList.self,
  DatabaseHistory.self,
  DatabaseAuthorize.self,
  RequestsList.self,
  RequestsFind.self,
  RequestsApprove.self,
  RequestsDeny.self,
  DevicesList.self,
  DevicesFind.self,
  DevicesRename.self,
  DevicesRevoke.self,
  DevicesRestore.self,
  PeersList.self,
  ConnectionsAdd.self,
  ConnectionsRemove.self,
  ConnectionsList.self,
  WebAudit.self, NodeDoctor.self,
  BackupBegin.self,
  BackupRead.self,
  BackupEnd.self,
  RestoreBegin.self,
  RestoreWrite.self,
  RestoreFinish.self,
  RestoreCancel.self,
  NodeVerify.self,
  NodeRepair.self,
  EventsSubscribe.self,
  EventsUnsubscribe.self,
]

/// `rpc.discover`
public enum Discover: ControlMethod {
  public static let name = "rpc.discover"
  public static let summary = "Describes this API: an OpenRPC document."

  public static func call(_: Nothing, on _: some ControlService) async throws(ControlError) -> JSONValue {
    openRPCDocument()
  }
}

/// `node.version`
public enum NodeVersion: ControlMethod {
  public struct Result: Codable, Equatable, Sendable {
    /// The program: `hyphad`.
    public var name: String
    public var version: String
    /// Version of this API: ``ControlAPI/version``.
    public var api: Int

    public init(name: String, version: String, api: Int = ControlAPI.version) {
      self.name = name
      self.version = version
      self.api = api
    }
  }
  public static let name = "node.version"
  public static let summary = "The daemon's version, and that of this API."

  public static func call(_: Nothing, on service: some ControlService) async throws(ControlError) -> Result {
    try await service.version()
  }
}

/// The API as a whole.
public enum ControlAPI {
  /// Grows when a change could break a caller; new methods and fields do not count.
  public static let version = 1
  /// Version of the programs, which are released together.
  public static let release = "0.1.0"
}

/// `node.status`
public enum NodeStatus: ControlMethod {
  public static let name = "node.status"
  public static let summary = "What the node is, what it holds, who is connected, and whether it is ready."

  public static func call(_: Nothing, on service: some ControlService) async throws(ControlError) -> NodeInfo
  {
    try await service.status()
  }
}

/// `node.initialise`
public enum NodeInitialise: ControlMethod {
  /// Either `domain` and `passphrase` (an origin node), or `hyphalink` (an always-on node; with `writer`, a device
  /// that another one can authorise).
  public struct Params: Codable, Equatable, Sendable {
    /// The hypha's domain, the salt of its keys: `example.org`.
    public var domain: String?
    public var passphrase: Secret?
    /// The passphrase was generated just now: no hypha can have been made with it, and the domain is not asked for one.
    public var generated: Bool?
    /// `dat://` and 64 hexadecimal digits, or these alone.
    public var hyphalink: String?
    /// The host's name if not given.
    public var deviceName: String?
    /// With a hyphalink: make a writer for this node, which can post once it is authorised.
    public var writer: Bool?

    public init(
      domain: String? = nil, passphrase: Secret? = nil, generated: Bool? = nil, hyphalink: String? = nil,
      deviceName: String? = nil, writer: Bool? = nil
    ) {
      self.domain = domain
      self.passphrase = passphrase
      self.generated = generated
      self.hyphalink = hyphalink
      self.deviceName = deviceName
      self.writer = writer
    }
  }
  public struct Result: Codable, Equatable, Sendable {
    public var hyphalink: String
    public var role: NodeRole
    /// Public key of this node's own feed, 64 hexadecimal digits; none for an always-on node.
    public var writer: String?
    /// Why the domain could not be asked whether the passphrase has made a hypha before.
    public var notAsked: String?

    public init(hyphalink: String, role: NodeRole, writer: String? = nil, notAsked: String? = nil) {
      self.hyphalink = hyphalink
      self.role = role
      self.writer = writer
      self.notAsked = notAsked
    }
  }
  public static let name = "node.initialise"
  public static let summary = "Makes this the origin node of a hypha, or an always-on node for one."
  public static let errors: [ControlError.Code] = [.alreadyInitialised, .alreadyExists, .storageFailed]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> Result {
    try await service.initialise(params)
  }
}

/// `node.wait`
public enum NodeWait: ControlMethod {
  public enum Condition: String, Codable, CaseIterable, Sendable {
    /// `node.status` says `ready`.
    case ready
    /// Ready, not waiting to be in sync before it may write, at least one node is connected, this node holds all that its peers
    /// announced, and at least one of them holds all that this node has.
    case synced
    /// This node may write, or its request to be let in was denied or has expired.
    case answered
  }
  public struct Params: Codable, Equatable, Sendable {
    public var `for`: Condition
    /// More than 0, at most ``ControlLimits/waitSeconds``; that if not given.
    public var timeoutSeconds: Double?

    public init(for condition: Condition, timeoutSeconds: Double? = nil) {
      self.for = condition
      self.timeoutSeconds = timeoutSeconds
    }
  }
  public static let name = "node.wait"
  public static let summary =
    "Answers once the node is ready, in sync with its peers, or its request to be let in answered."
  public static let errors: [ControlError.Code] = [.notFound, .timedOut]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> NodeInfo {
    if let seconds = params.timeoutSeconds {
      guard seconds > 0, seconds <= ControlLimits.waitSeconds else {
        throw ControlError(
          .invalidParams, "timeoutSeconds must be more than 0 and at most \(Int(ControlLimits.waitSeconds))",
          field: "timeoutSeconds")
      }
    }
    return try await service.wait(params)
  }
}

/// `passphrase.generate`
public enum PassphraseGenerate: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    /// 8 if not given, and no fewer: 100 bits at least.
    public var words: Int?

    public init(words: Int? = nil) {
      self.words = words
    }
  }
  public struct Result: Codable, Equatable, Sendable {
    /// Words of the EFF long list, with a space between.
    public var passphrase: Secret
    public var words: Int
    /// Entropy.
    public var bits: Double

    public init(passphrase: Secret, words: Int, bits: Double) {
      self.passphrase = passphrase
      self.words = words
      self.bits = bits
    }
  }
  public static let name = "passphrase.generate"
  public static let summary = "A new random Diceware passphrase; the daemon does not keep it."

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> Result {
    if let words = params.words {
      guard (8...32).contains(words) else {
        throw ControlError(.invalidParams, "words must be 8 to 32", field: "words")
      }
    }
    return try await service.generatePassphrase(params)
  }
}

/// `setupCode.show`
public enum SetupCodeShow: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    /// This node's, for the link; left out: `domain` of the settings, or else a link for this machine.
    public var domain: String?

    public init(domain: String? = nil) {
      self.domain = domain
    }
  }

  public struct Result: Codable, Equatable, Sendable {
    public var code: Secret
    /// Opens the setup page with the code filled in. The code is behind a `#`, which no server sees.
    public var link: Secret

    public init(code: Secret, link: Secret) {
      self.code = code
      self.link = link
    }
  }
  public static let name = "setupCode.show"
  public static let summary = "The one-time code with which an owner claims this uninitialised node."
  public static let errors: [ControlError.Code] = [.alreadyInitialised]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> Result {
    try await service.setupCode(params)
  }
}

/// `posts.create`
public enum PostsCreate: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    /// 1 byte to 64 KiB of UTF-8, not only white space; newlines are kept.
    public var text: String

    public init(text: String) {
      self.text = text
    }
  }
  public struct Result: Codable, Equatable, Sendable {
    public var id: String
    public var created: Timestamp

    public init(id: String, created: Timestamp) {
      self.id = id
      self.created = created
    }
  }
  public static let name = "posts.create"
  public static let summary = "Makes a post, and answers once it is durable."
  public static let errors: [ControlError.Code] = [
    .notInitialised, .readOnly, .behind, .textEmpty, .textTooLong, .revoked, .storageFailed, .forked,
  ]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> Result {
    let bytes = params.text.utf8.count
    guard bytes <= ControlLimits.postBytes else {
      throw ControlError(
        .textTooLong, "the text is \(bytes) bytes long; a post has at most \(ControlLimits.postBytes)",
        field: "text")
    }
    guard !params.text.allSatisfy(\.isWhitespace) else {
      throw ControlError(.textEmpty, "the text is empty", field: "text")
    }
    return try await service.createPost(params)
  }
}

/// `posts.list`
public enum PostsList: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    /// 1 to ``ControlLimits/postsPerList``; ``ControlLimits/defaultPostsPerList`` if not given.
    public var limit: Int?
    /// Only posts created at or after this time.
    public var since: Timestamp?
    /// Only posts older than the one with this id: the last of the page before.
    public var before: String?
    /// Also the versions of posts that are not shown otherwise: see ``PostInfo/shown``.
    public var all: Bool?

    public init(limit: Int? = nil, since: Timestamp? = nil, before: String? = nil, all: Bool? = nil) {
      self.limit = limit
      self.since = since
      self.before = before
      self.all = all
    }
  }
  public struct Result: Codable, Equatable, Sendable {
    /// Newest first. Fewer than `limit` if their texts would exceed ``ControlLimits/textBytesPerList``.
    public var posts: [PostInfo]
    /// There are older posts that match.
    public var more: Bool

    public init(posts: [PostInfo], more: Bool) {
      self.posts = posts
      self.more = more
    }
  }
  public static let name = "posts.list"
  public static let summary = "Posts of the hypha, newest first."
  public static let errors: [ControlError.Code] = [.notInitialised, .storageFailed]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> Result {
    if let limit = params.limit {
      guard (1...ControlLimits.postsPerList).contains(limit) else {
        throw ControlError(.invalidParams, "limit must be 1 to \(ControlLimits.postsPerList)", field: "limit")
      }
    }
    return try await service.listPosts(params)
  }
}

/// `posts.delete`
public enum PostsDelete: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    public var id: String

    public init(id: String) {
      self.id = id
    }
  }
  public struct Result: Codable, Equatable, Sendable {
    public var id: String

    public init(id: String) {
      self.id = id
    }
  }
  public static let name = "posts.delete"
  public static let summary =
    "Deletes a post, and answers once that is durable. Its block stays in history."
  public static let errors: [ControlError.Code] = [
    .notInitialised, .readOnly, .behind, .notFound, .revoked, .storageFailed, .forked,
  ]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> Result {
    try await service.deletePost(params)
  }
}

/// `peers.list`
public enum PeersList: ControlMethod {
  public struct Result: Codable, Equatable, Sendable {
    public var peers: [PeerInfo]
    /// The latest first; those that ended longest ago are forgotten.
    public var rejected: [RejectedInfo]?
    /// Connections that were turned away, or gave way to others, because there were too many.
    public var refusedConnections: UInt64?
    /// Messages to the hypha's devices that were dropped since the daemon started, by reason, as `requests.list` has them.
    public var droppedMessages: [String: UInt64]?

    public init(
      peers: [PeerInfo], rejected: [RejectedInfo]? = nil, refusedConnections: UInt64? = nil,
      droppedMessages: [String: UInt64]? = nil
    ) {
      self.peers = peers
      self.rejected = rejected
      self.refusedConnections = refusedConnections
      self.droppedMessages = droppedMessages
    }
  }
  public static let name = "peers.list"
  public static let summary = "The nodes that are connected now."

  public static func call(_: Nothing, on service: some ControlService) async throws(ControlError) -> Result {
    try await service.listPeers()
  }
}

/// `connections.add`
public enum ConnectionsAdd: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    /// `wss://host[:port]`, or `ws://` for loopback; no user, query or fragment.
    public var url: String
    /// Claims an uninitialised always-on node for this node's hypha.
    public var setupCode: Secret?

    public init(url: String, setupCode: Secret? = nil) {
      self.url = url
      self.setupCode = setupCode
    }
  }
  public static let name = "connections.add"
  public static let summary =
    "Keeps a connection to another node from now on. With a setup code, claims that node first."
  public static let errors: [ControlError.Code] = [
    .notInitialised, .alreadyExists, .setupCodeRefused, .connectionFailed, .storageFailed,
  ]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> ConnectionInfo {
    try await service.addConnection(params)
  }
}

/// `connections.remove`
public enum ConnectionsRemove: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    public var url: String

    public init(url: String) {
      self.url = url
    }
  }
  public struct Result: Codable, Equatable, Sendable {
    public var url: String

    public init(url: String) {
      self.url = url
    }
  }
  public static let name = "connections.remove"
  public static let summary = "Closes a connection, and does not keep it any longer."
  public static let errors: [ControlError.Code] = [.notFound, .storageFailed]

  public static func call(
    _ params: Params, on service: some ControlService
  ) async throws(ControlError) -> Result {
    try await service.removeConnection(params)
  }
}

/// `connections.list`
public enum ConnectionsList: ControlMethod {
  public struct Result: Codable, Equatable, Sendable {
    public var connections: [ConnectionInfo]

    public init(connections: [ConnectionInfo]) {
      self.connections = connections
    }
  }
  public static let name = "connections.list"
  public static let summary = "The connections that this node keeps."

  public static func call(_: Nothing, on service: some ControlService) async throws(ControlError) -> Result {
    try await service.listConnections()
  }
}

/// `events.subscribe`
public enum EventsSubscribe: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    /// Only these; all if not given.
    public var kinds: [ControlEvent.Kind]?
    /// Begin after the event with this id, as far as the daemon still has them; from now on if not given.
    public var after: UInt64?

    public init(kinds: [ControlEvent.Kind]? = nil, after: UInt64? = nil) {
      self.kinds = kinds
      self.after = after
    }
  }
  public struct Result: Codable, Equatable, Sendable {
    /// In every notification of this subscription.
    public var subscription: Int

    public init(subscription: Int) {
      self.subscription = subscription
    }
  }
  public static let name = "events.subscribe"
  public static let summary = "Sends events as notifications `events.event` on this connection from now on."
  public static let errors: [ControlError.Code] = [.limitReached]

  /// Never reached: a subscription belongs to a connection, so the server answers.
  public static func call(_: Params, on _: some ControlService) async throws(ControlError) -> Result {
    throw ControlError(.methodNotFound, "\(name) needs a connection")
  }
}

/// `events.unsubscribe`
public enum EventsUnsubscribe: ControlMethod {
  public struct Params: Codable, Equatable, Sendable {
    public var subscription: Int

    public init(subscription: Int) {
      self.subscription = subscription
    }
  }
  public static let name = "events.unsubscribe"
  public static let summary = "Ends a subscription of this connection."
  public static let errors: [ControlError.Code] = [.notFound]

  /// Never reached: a subscription belongs to a connection, so the server answers.
  public static func call(_: Params, on _: some ControlService) async throws(ControlError) -> Nothing {
    throw ControlError(.methodNotFound, "\(name) needs a connection")
  }
}

/// What the server sends unasked, without an id.
public enum ControlNotification {
  /// `events.event`: params are ``EventParams``.
  public static let event = "events.event"
  /// `events.ended`: params are ``EndedParams``; no more events of this subscription follow.
  public static let ended = "events.ended"

  public struct EventParams: Codable, Equatable, Sendable {
    public var subscription: Int
    public var event: ControlEvent

    public init(subscription: Int, event: ControlEvent) {
      self.subscription = subscription
      self.event = event
    }
  }

  public struct EndedParams: Codable, Equatable, Sendable {
    public var subscription: Int
    /// Why, in a sentence.
    public var reason: String

    public init(subscription: Int, reason: String) {
      self.subscription = subscription
      self.reason = reason
    }
  }
}
