/// What a node is.
public enum NodeRole: String, Codable, CaseIterable, Sendable {
  /// Holds no hypha yet.
  case uninitialised
  /// Has the passphrase's keys: may post.
  case origin
  /// Has only the hyphalink: keeps and serves.
  case alwaysOn
  /// Has a writer of its own that was authorised: may post.
  case authorised
  /// Has only the hyphalink, on a device that asks to be authorised or only reads.
  case reader
  /// Had a writer of its own that was authorised, until another device revoked it.
  case revoked
}

/// One feed of the hypha, as this node holds it.
public struct FeedInfo: Codable, Equatable, Sendable {
  /// Public key, 64 hexadecimal digits.
  public var key: String
  /// This node can append to it.
  public var writable: Bool
  /// Blocks in the feed, as far as this node knows.
  public var length: UInt64
  /// Bytes in those blocks.
  public var byteLength: UInt64
  /// Blocks that this node holds.
  public var heldBlocks: UInt64
  /// On how many other nodes, of those that are connected, every block is held.
  public var fullyHeldBy: Int
  /// Addresses of up to ``ControlLimits/holdersPerFeed`` of these nodes; none from a daemon that does not say.
  public var fullyHeldAt: [String]?
  /// Its owner signed another version of it, too: how many blocks both have in common, and count. Absent for all other feeds.
  public var forkedAt: UInt64?

  public init(
    key: String, writable: Bool, length: UInt64, byteLength: UInt64, heldBlocks: UInt64, fullyHeldBy: Int,
    fullyHeldAt: [String]? = nil, forkedAt: UInt64? = nil
  ) {
    self.key = key
    self.writable = writable
    self.length = length
    self.byteLength = byteLength
    self.heldBlocks = heldBlocks
    self.fullyHeldBy = fullyHeldBy
    self.fullyHeldAt = fullyHeldAt
    self.forkedAt = forkedAt
  }
}

/// Room on the disk for more.
public struct StorageInfo: Codable, Equatable, Sendable {
  public enum State: String, Codable, CaseIterable, Sendable {
    /// Everything is taken.
    case enough
    /// The disk has less room than is to stay free: nothing is posted or fetched.
    case low
    /// Other writers' feeds take up what they may: nothing more of them is fetched.
    case quotaReached
  }

  public var state: State
  /// Bytes that this node may still write to the disk; none where the system does not say.
  public var freeBytes: UInt64?
  /// Bytes that are to stay free.
  public var reserveBytes: UInt64
  /// Bytes that other writers' feeds may take up; none without a quota.
  public var quotaBytes: UInt64?
  /// Bytes that they take up; none without a quota.
  public var replicatedBytes: UInt64?

  public init(
    state: State, freeBytes: UInt64? = nil, reserveBytes: UInt64, quotaBytes: UInt64? = nil,
    replicatedBytes: UInt64? = nil
  ) {
    self.state = state
    self.freeBytes = freeBytes
    self.reserveBytes = reserveBytes
    self.quotaBytes = quotaBytes
    self.replicatedBytes = replicatedBytes
  }
}

/// The result of `node.status`.
public struct NodeInfo: Codable, Equatable, Sendable {
  public var role: NodeRole
  /// `dat://` and 64 hexadecimal digits; none while uninitialised.
  public var hyphalink: String?
  public var domain: String?
  public var deviceName: String?
  /// Initialised, its feeds open, and its web address (if configured) listening.
  public var ready: Bool
  /// What is missing, in a sentence, if not ready.
  public var notReady: String?
  /// This node may post and delete.
  public var canPost: Bool
  /// Public key of this node's own feed, 64 hexadecimal digits; none for one that only keeps the hypha.
  public var writer: String?
  /// How this node's request to be let in stands, if it made one.
  public var request: OwnRequestInfo?
  /// Messages that this node keeps for its hypha's devices.
  public var sealedMessages: Int
  public var feeds: [FeedInfo]
  /// Nodes that are connected now.
  public var peers: Int
  /// Bytes that the state folder takes up on disk.
  public var diskBytes: UInt64
  /// Room on the disk; none from a daemon that does not say.
  public var storage: StorageInfo?
  /// This node's own feed may lack blocks that it has published: it may not write before it is in sync with all nodes
  /// that it stays connected to.
  public var catchesUp: Bool?
  public var version: String
  public var started: Timestamp

  public init(
    role: NodeRole, hyphalink: String? = nil, domain: String? = nil, deviceName: String? = nil, ready: Bool,
    notReady: String? = nil, canPost: Bool, writer: String? = nil, request: OwnRequestInfo? = nil,
    sealedMessages: Int = 0, feeds: [FeedInfo], peers: Int, diskBytes: UInt64,
    storage: StorageInfo? = nil, catchesUp: Bool? = nil, version: String, started: Timestamp
  ) {
    self.role = role
    self.hyphalink = hyphalink
    self.domain = domain
    self.deviceName = deviceName
    self.ready = ready
    self.notReady = notReady
    self.canPost = canPost
    self.writer = writer
    self.request = request
    self.sealedMessages = sealedMessages
    self.feeds = feeds
    self.peers = peers
    self.diskBytes = diskBytes
    self.storage = storage
    self.catchesUp = catchesUp
    self.version = version
    self.started = started
  }
}

/// One post.
public struct PostInfo: Codable, Equatable, Sendable {
  /// Sorts by time, and is the same on every node.
  public var id: String
  public var text: String
  public var created: Timestamp
  /// Name of the device that made it.
  public var device: String
  /// Public key of the feed that it is in, 64 hexadecimal digits.
  public var writer: String
  /// `false` for a version that lost against another one of the same post, or against its deletion; such are listed
  /// only where they are asked for.
  public var shown: Bool

  public init(
    id: String, text: String, created: Timestamp, device: String, writer: String, shown: Bool = true
  ) {
    self.id = id
    self.text = text
    self.created = created
    self.device = device
    self.writer = writer
    self.shown = shown
  }
}

/// A node that is connected now.
public struct PeerInfo: Codable, Equatable, Sendable {
  public enum Direction: String, Codable, CaseIterable, Sendable {
    /// It connected to this node.
    case incoming
    /// This node connected to it.
    case outgoing
  }

  /// Names this peer while it is connected.
  public var id: String
  /// The URL for an outgoing connection, else the host and port that it came from.
  public var address: String
  public var direction: Direction
  /// `ws`, `wss` or `tcp`.
  public var transport: String
  public var connected: Timestamp
  public var bytesReceived: UInt64
  public var bytesSent: UInt64
  /// It holds every block of every feed that this node knows.
  public var synced: Bool

  public init(
    id: String, address: String, direction: Direction, transport: String, connected: Timestamp,
    bytesReceived: UInt64, bytesSent: UInt64, synced: Bool
  ) {
    self.id = id
    self.address = address
    self.direction = direction
    self.transport = transport
    self.connected = connected
    self.bytesReceived = bytesReceived
    self.bytesSent = bytesSent
    self.synced = synced
  }
}

/// What was not taken from somebody since the daemon started.
public struct RejectedInfo: Codable, Equatable, Sendable {
  /// Of IPv6, the network of 64 bits that one household has.
  public var address: String
  /// What it was: `malformed`, `tooLarge`, `unasked`, `unverified`, `timedOut` and such of replication, after which the connection ends,
  /// `badFrame` of WebSocket, `stalled` where what was sent was not taken; `badRequest`, `noRequest` and `badTLS` of HTTP, the first
  /// two of sign-ups, too; `tooMany` for a connection that was one too many of its address, or in all; `setupCode` for a wrong setup
  /// code, `setupCodeRate` for one that was not looked at because there were too many.
  public var kind: String
  public var count: UInt64
  public var last: Timestamp

  public init(address: String, kind: String, count: UInt64, last: Timestamp) {
    self.address = address
    self.kind = kind
    self.count = count
    self.last = last
  }
}

/// A connection that this node keeps to another node.
public struct ConnectionInfo: Codable, Equatable, Sendable {
  public enum State: String, Codable, CaseIterable, Sendable {
    case connecting
    case connected
    /// The last attempt failed; the next follows by itself.
    case waiting
  }

  public var url: String
  public var state: State
  /// Why the last attempt failed.
  public var lastError: String?
  /// Attempts in a row that failed.
  public var failures: Int

  public init(url: String, state: State, lastError: String? = nil, failures: Int = 0) {
    self.url = url
    self.state = state
    self.lastError = lastError
    self.failures = failures
  }
}

/// Something that happened on the node.
public struct ControlEvent: Codable, Equatable, Sendable {
  /// Which of the other fields are set depends on this.
  public enum Kind: String, Codable, CaseIterable, Sendable {
    /// The node holds a hypha from now on (`hyphalink`).
    case initialised
    /// A post was made here or arrived (`post`).
    case posted
    /// A post was deleted here or elsewhere (`postID`).
    case deleted
    /// Another node is connected (`peer`).
    case peerConnected
    /// It is no longer (`peer`, and `reason` if not in good order).
    case peerDisconnected
    /// This node holds all that its peers announced.
    case synced
    /// A device asks to be let in (`request`).
    case requested
    /// A device's request was approved or denied, here or elsewhere (`request`).
    case answered
    /// This node's own request was answered, or has expired (`ownRequest`).
    case ownAnswered
    /// A device was revoked, here or elsewhere; it may be this one (`device`).
    case revoked
    /// A revocation was taken back (`device`).
    case restored
    /// The node has forgotten its keys (`hyphalink`).
    case signedOut
    /// A feed's owner signed two versions of it; what comes after the blocks that both have counts no longer (`feed`, `blocks`).
    case forked
  }

  /// Increases by one from event to event while the daemon runs, and starts again at 1 with it.
  public var id: UInt64
  public var time: Timestamp
  public var kind: Kind
  public var hyphalink: String?
  public var post: PostInfo?
  public var postID: String?
  public var peer: PeerInfo?
  public var request: RequestInfo?
  public var ownRequest: OwnRequestInfo?
  public var device: DeviceInfo?
  public var reason: String?
  /// A feed's key, 64 hexadecimal digits.
  public var feed: String?
  public var blocks: UInt64?

  public init(
    id: UInt64, time: Timestamp, kind: Kind, hyphalink: String? = nil, post: PostInfo? = nil,
    postID: String? = nil, peer: PeerInfo? = nil, request: RequestInfo? = nil,
    ownRequest: OwnRequestInfo? = nil,
    device: DeviceInfo? = nil, reason: String? = nil, feed: String? = nil, blocks: UInt64? = nil
  ) {
    self.id = id
    self.time = time
    self.kind = kind
    self.hyphalink = hyphalink
    self.post = post
    self.postID = postID
    self.peer = peer
    self.request = request
    self.ownRequest = ownRequest
    self.device = device
    self.reason = reason
    self.feed = feed
    self.blocks = blocks
  }
}
