import Hypercore
import Hyperdb
import TestSupport
import Testing

@testable import Hypha

/// A node of the simulated network: what the daemon's node does with a hypha and its connections, without a socket, a disk or a
/// clock.
final class SimulatedNode {
  enum Kind {
    case origin
    /// Has a writer, which is to be let in.
    case device
    /// Keeps and serves, and can open nothing.
    case server
  }

  static let extensionName = "secure-ephemeral"
  private static let channelKey = [UInt8](repeating: 7, count: 32)

  let place: Int
  let kind: Kind
  /// Milliseconds that its clock is ahead.
  var skew: Int64 = 0
  private(set) var isUp = true
  private(set) var hypha: Hypha<MemoryStorage>
  private(set) var membership: Membership<MemoryStorage>
  private(set) var replicator = Replicator<MemoryStorage>()
  private let source: PublicKey
  private let store: FeedStore
  /// What it saved of requests and messages.
  private var saved: [UInt8]?
  private var isDirty = false

  init(_ place: Int, _ kind: Kind, of source: PublicKey) throws {
    self.place = place
    self.kind = kind
    self.source = source
    let number: UInt8? =
      switch kind {
      case .origin: 1
      case .device: UInt8(place) + 2
      case .server: nil
      }
    store = FeedStore(secretKey: number.map { FeedStore.secretKey($0) })
    hypha = try Self.open(source, store)
    membership = Self.membership(hypha, kind, nil)
    try share()
  }

  private static func open(_ source: PublicKey, _ store: FeedStore) throws -> Hypha<MemoryStorage> {
    let own = try store.own.map { try store.feed($0) }
    return try Hypha(source: store.feed(source), local: own) { (key) throws(HyperdbError) in
      do { return try store.feed(key) } catch { throw HyperdbError(.unopened, "\(error)") }
    }
  }

  private static func membership(
    _ hypha: Hypha<MemoryStorage>, _ kind: Kind, _ state: [UInt8]?
  ) -> Membership<MemoryStorage> {
    let key = kind == .server ? nil : SecretBytes(count: 32) { $0.copyBytes(from: channelKey) }
    return Membership(hypha, channelKey: key, state: state)
  }

  var writer: PublicKey? { store.own }

  /// Ends at once, as when it is killed: what was not flushed is gone, connections are the network's to end.
  func kill() {
    isUp = false
    store.forget()
    replicator = Replicator()
  }

  func start() throws {
    hypha = try Self.open(source, store)
    membership = Self.membership(hypha, kind, saved)
    #expect(membership.isStateIntact)
    isUp = true
    try flush(0)
  }

  /// Carries out a change, and returns once it is durable: from then on it is acknowledged.
  func commit<T>(_ now: Int64, _ work: (Hypha<MemoryStorage>, Membership<MemoryStorage>) throws -> T) throws
    -> T
  {
    let local = hypha.database.local
    let first = local?.length ?? 0
    let result = try work(hypha, membership)
    if let local { replicator.appended(first..<local.length, to: local.key) }
    try flush(now)
    return result
  }

  func receive(_ bytes: [UInt8], from id: ConnectionID, now: Int64, monotonic: UInt64) throws {
    try replicator.receive(bytes, from: id, now: monotonic)
    for event in replicator.takeEvents() {
      switch event {
      case .downloaded: isDirty = true
      case .handshake(let id): membership.connected(id)
      case .extension(let id, let key, let name, let payload):
        #expect(key == source && name == Self.extensionName)
        membership.receive(payload, from: id, address: "node", now: now + skew)
      case .synced, .unknownFeed, .finished: break
      }
    }
  }

  func connect(_ id: ConnectionID, sessionID: [UInt8], nonce: [UInt8]) throws {
    try replicator.connect(
      id, Session.Configuration(id: sessionID, extensions: [Self.extensionName], nonce: nonce), first: source)
  }

  func disconnect(_ id: ConnectionID) {
    replicator.disconnect(id)
    membership.disconnected(id)
  }

  /// The next bytes for a connection; empty where there is nothing to say.
  func output(_ id: ConnectionID, unsent: Int) throws -> [UInt8] {
    try replicator.setUnsent(unsent, on: id)
    let bytes = replicator.takeOutput(of: id)
    if !bytes.isEmpty { return bytes }
    guard let message = membership.nextMessage(for: id),
      replicator.send(extension: Self.extensionName, message, feed: source, on: id)
    else {
      return []
    }
    return replicator.takeOutput(of: id)
  }

  /// Makes durable what arrived, and tells of it, as the daemon does ten times a second.
  func tick(_ now: Int64, monotonic: UInt64) throws -> [ConnectionID] {
    membership.tick(now: now + skew)
    if isDirty || membership.hasChanged { try flush(now) }
    return replicator.tick(now: monotonic).map(\.0)
  }

  private func flush(_ now: Int64) throws {
    isDirty = false
    let local = hypha.database.local
    for feed in try hypha.feeds() where feed !== local { try feed.flush(durable: true) }
    try local?.flush(durable: true)
    try share()
    membership.tick(now: now + skew)
    if membership.hasChanged { saved = membership.encodeState() }
    for (key, _) in try hypha.lengths() { replicator.announce(key) }
  }

  private func share() throws {
    for feed in try hypha.feeds() {
      try replicator.share(feed, downloads: true)
      replicator.limit(feed.key, to: try hypha.limit(of: feed.key))
    }
  }
}
