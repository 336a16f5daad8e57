import TestSupport

@testable import Hypercore

/// One node with one feed, and any number of peers that say what a test has them say.
struct Victim {
  let node = Replicator<MemoryStorage>()
  let feed: Feed<MemoryStorage>
  private var count: UInt8 = 0
  var now: UInt64 = 1

  init(
    _ feed: Feed<MemoryStorage>, downloads: Bool, mayFail: Bool = false,
    fetchWindow: UInt64 = WireLimits.fetchWindow
  ) throws {
    self.feed = feed
    node.fetchWindow = fetchWindow
    try node.share(feed, downloads: downloads, mayFail: mayFail)
  }

  struct Peer {
    let id: ConnectionID
    let session: Session
    let channel: Int
  }

  /// - Parameter stranger: who it is that comes; somebody new where it is not given.
  mutating func connect(as stranger: UInt8? = nil, isDistrusted: Bool = false) throws -> Peer {
    count += 1
    let id = ConnectionID(count)
    try node.connect(
      id, Session.Configuration(id: [UInt8](repeating: 0xff, count: 32), extensions: ["test"]),
      first: feed.key, isDistrusted: isDistrusted)
    let session = Session(
      Session.Configuration(id: [UInt8](repeating: stranger ?? count, count: 32), extensions: ["test"]))
    let peer = Peer(id: id, session: session, channel: try session.open(feed.key))
    try deliver(peer)
    return peer
  }

  /// Carries bytes both ways once.
  ///
  /// - Returns: what the node sent.
  @discardableResult
  func deliver(_ peer: Peer) throws -> [Message] {
    try node.receive(peer.session.takeOutput(), from: peer.id, now: now)
    return try read(peer)
  }

  /// What the node has sent by now.
  func read(_ peer: Peer) throws -> [Message] {
    var messages: [Message] = []
    try peer.session.receive(node.takeOutput(of: peer.id)) { event in
      if case .message(let message, _) = event { messages.append(message) }
    }
    return messages
  }

  /// What ends the connection once `messages` have arrived.
  func code(_ peer: Peer, _ messages: [Message]) -> WireError.Code? {
    for message in messages { peer.session.send(message, on: peer.channel) }
    do throws(WireError) {
      try node.receive(peer.session.takeOutput(), from: peer.id, now: now)
      return nil
    } catch {
      return error.code
    }
  }
}

/// The blocks that are asked for.
func requests(_ messages: [Message]) -> [UInt64] {
  messages.compactMap { if case .request(let request) = $0 { request.index } else { nil } }
}

/// A writer's feed of forty blocks, durable.
func fortyBlocks(_ number: UInt64) throws -> Feed<MemoryStorage> {
  var random = SeededRandom(number)
  let seed = random.bytes(32)
  let feed = try Feed(
    files: FeedFiles<MemoryStorage>.empty(), keyPair: seed.span.bytes.withUnsafeBytes { KeyPair(seed: $0) })
  try feed.append(contentsOf: (0..<40).map { _ in random.bytes(30) })
  try feed.flush(durable: true)
  return feed
}

/// A block, with a proof for who knows nothing of the feed.
func data(_ index: UInt64, of feed: Feed<MemoryStorage>) throws -> Message {
  let proof = try feed.proof(of: index, digest: 0, hashOnly: false, remoteTree: SparseBitfield())
  return .data(Message.Data(index: index, value: try feed.block(at: index), proof: proof))
}
