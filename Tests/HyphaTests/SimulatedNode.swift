import Hyperdb
import TestSupport
import Testing

@testable import Hypercore
@testable import Hypha

/// A node of the simulated network: what the daemon's node does with a hypha and its connections, without a socket or a clock,
/// on a disk whose power can be cut.
final class SimulatedNode {
  enum Kind {
    case origin
    /// Has a writer, which is to be let in.
    case device
    /// Keeps and serves, and can open nothing.
    case server
  }

  /// What a power cut may leave of its files.
  struct Remains {
    var contents: SimulatedDisk.Contents
    var membership: [UInt8]?
  }

  static let extensionName = "secure-ephemeral"
  /// Bytes of a post's block, with its proof.
  private static let largestMessage = HyphaLimits.postBytes + 16 << 10
  private static let channelKey = [UInt8](repeating: 7, count: 32)

  let place: Int
  let kind: Kind
  /// Milliseconds that its clock is ahead.
  var skew: Int64 = 0
  private(set) var isUp = true
  private(set) var hypha: Hypha<SimulatedFile>
  private(set) var membership: Membership<SimulatedFile>
  private(set) var replicator = Replicator<SimulatedFile>()
  private let source: PublicKey
  private let secretKey: [UInt8]?
  private var disk: SimulatedDisk
  private var store: FeedStore<SimulatedFile>
  /// What it saved of requests and messages: a small file that is replaced as a whole.
  private var saved: [UInt8]?
  private var isDirty = false
  /// Blocks that it said are durable, for others to rely on.
  private(set) var acknowledged: [PublicKey: Set<UInt64>] = [:]
  /// Its own feed's blocks, as far as others may have seen them.
  private(set) var published: [[UInt8]] = []
  /// Called before each call to the disk.
  var beforeDiskCall: () -> Void = {} {
    didSet { disk.beforeCall = beforeDiskCall }
  }

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
    secretKey = number.map { FeedStore.secretKey($0) }
    disk = SimulatedDisk()
    store = Self.store(disk, secretKey)
    hypha = try Self.open(source, store)
    membership = Self.membership(hypha, kind, nil)
    try share()
  }

  private static func store(_ disk: SimulatedDisk, _ secretKey: [UInt8]?) -> FeedStore<SimulatedFile> {
    FeedStore(secretKey: secretKey) { key, name in disk.file("\(key)/\(name)") }
  }

  private static func open(_ source: PublicKey, _ store: FeedStore<SimulatedFile>) throws -> Hypha<
    SimulatedFile
  > {
    let own = try store.own.map { try store.feed($0) }
    return try Hypha(source: store.feed(source), local: own) { (key) throws(HyperdbError) in
      do { return try store.feed(key) } catch { throw HyperdbError(.unopened, "\(error)") }
    }
  }

  private static func membership(
    _ hypha: Hypha<SimulatedFile>, _ kind: Kind, _ state: [UInt8]?
  ) -> Membership<SimulatedFile> {
    let key = kind == .server ? nil : SecretBytes(count: 32) { $0.copyBytes(from: channelKey) }
    return Membership(hypha, channelKey: key, state: state)
  }

  var writer: PublicKey? { store.own }

  /// Ends at once, as when it is killed: what was not flushed is gone, connections are the network's to end.
  ///
  /// - Parameter remains: what is left of its files, if the power was cut as well.
  func kill(leaving remains: Remains?) {
    isUp = false
    replicator = Replicator()
    guard let remains else { return store.forget() }
    disk = SimulatedDisk(remains.contents)
    disk.beforeCall = beforeDiskCall
    store = Self.store(disk, secretKey)
    saved = remains.membership
  }

  func start() throws {
    hypha = try Self.open(source, store)
    membership = Self.membership(hypha, kind, saved)
    #expect(membership.isStateIntact)
    if let own = hypha.database.local {
      #expect(own.length >= published.count, "node \(place) lost blocks that others may have")
      for (index, block) in published.enumerated() { #expect(try own.block(at: UInt64(index)) == block) }
    }
    isUp = true
    try flush(0)
  }

  /// What might be left if the power were cut now.
  func cutPower(_ random: inout SeededRandom) -> Remains {
    Remains(contents: disk.cutPower(&random), membership: saved)
  }

  /// Another node with the same keys, from what a power cut left.
  func reopened(_ remains: Remains) throws -> SimulatedNode {
    let node = try SimulatedNode(place, kind, of: source)
    node.kill(leaving: remains)
    try node.start()
    return node
  }

  func feed(_ key: PublicKey) throws -> Feed<SimulatedFile> { try store.feed(key) }

  /// Carries out a change, and returns once it is durable: from then on it is acknowledged.
  func commit<T>(_ now: Int64, _ work: (Hypha<SimulatedFile>, Membership<SimulatedFile>) throws -> T) throws
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
      // Nobody here is copied or set back: however often their power goes, none signs two versions.
      case .forked(let key, _, let common): Issue.record("feed \(key.hex) is forked at \(common)")
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

  /// Says that a connection takes no more for now, as the daemon does.
  func setUnsent(_ bytes: Int, on id: ConnectionID) throws {
    try replicator.setUnsent(bytes, on: id)
  }

  /// Expects that no more waits here than is allowed, whatever its peers do.
  func checkBounds(on connections: [ConnectionID], _ comment: Comment) throws {
    for id in connections {
      let (bytes, questions) = replicator.backlog(of: id)
      #expect(bytes <= WireLimits.outputBytes + Self.largestMessage, comment)
      #expect(questions <= WireLimits.waitingRequests, comment)
    }
    let sealed = membership.sealed
    #expect(sealed.messages <= MailboxLimits().messages && sealed.bytes <= MailboxLimits().bytes, comment)
    // What a connection that opens, or a feed that is shared, has told of, until the next bytes come.
    #expect(try replicator.waitingEvents <= hypha.feeds().count * (connections.count + 1), comment)
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
    for (key, feed) in store.feeds where feed.heldBlocks != UInt64(acknowledged[key]?.count ?? 0) {
      acknowledged[key] = Set((0..<feed.length).filter { feed.has($0) })
    }
    if let local {
      for index in UInt64(published.count)..<local.length { published.append(try local.block(at: index)) }
    }
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
