import Hyperdb
import TestSupport
import Testing

@testable import Hypercore
@testable import Hypha

/// A node of the simulated network: what the daemon's node does with a hypha and its connections, without a socket or a clock,
/// on a disk whose power can be cut.
final class SimulatedNode {
  enum Kind {
    /// Makes the hypha, and claims servers for it.
    case origin
    /// Looks the hypha up, reads, and signs in some time: then it has a writer, which is to be let in.
    case device
    /// Looks the hypha up, and only ever reads.
    case reader
    /// Waits to be claimed; then keeps and serves, and can open nothing.
    case server
    /// Offers servers a hypha of which no block ever comes.
    case stranger
  }

  /// What it is, in a small file that is replaced as a whole; without, the node holds nothing.
  struct Record: Equatable {
    var key: PublicKey
    /// It has a writer and the channel key.
    var hasWriter: Bool
  }

  /// What a power cut may leave of its files.
  struct Remains {
    var contents: SimulatedDisk.Contents
    var record: Record?
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
  /// When it last did something, by a clock that is right.
  private var now: Int64 = 1_700_000_000_000
  private(set) var record: Record?
  private(set) var claim = Claim()
  private(set) var hypha: Hypha<SimulatedFile>?
  private(set) var membership: Membership<SimulatedFile>?
  private(set) var replicator = Replicator<SimulatedFile>()
  private var connections: Set<ConnectionID> = []
  private var disk = SimulatedDisk()
  private var store: FeedStore<SimulatedFile>
  /// What it saved of requests and messages: a small file that is replaced as a whole.
  private var saved: [UInt8]?
  private var isDirty = false
  /// Of its disk, before it was started.
  private var failures = 0
  /// Blocks that it said are durable, for others to rely on.
  private(set) var acknowledged: [PublicKey: Set<UInt64>] = [:]
  /// Its own feed's blocks, as far as others may have seen them.
  private(set) var published: [[UInt8]] = []
  /// Called before each call to the disk.
  var beforeDiskCall: () -> Void = {} {
    didSet { disk.beforeCall = beforeDiskCall }
  }

  /// - Parameter key: of the hypha, for who has it from the start.
  init(_ place: Int, _ kind: Kind, of key: PublicKey?) throws {
    self.place = place
    self.kind = kind
    record = key.map { Record(key: $0, hasWriter: kind == .origin) }
    store = FeedStore(secretKey: nil) { _, _ in preconditionFailure("no feed is open yet") }
    try start()
  }

  /// The secret key of its writer, which comes from the passphrase on the origin.
  private var secretKey: [UInt8]? {
    guard record?.hasWriter == true else { return nil }
    return FeedStore.secretKey(kind == .origin ? 1 : UInt8(place) + 2)
  }

  var writer: PublicKey? { store.own }

  /// Ends at once, as when it is killed: what was not flushed is gone, connections are the network's to end.
  ///
  /// - Parameter remains: what is left of its files, if the power was cut as well.
  func kill(leaving remains: Remains?) {
    isUp = false
    close()
    guard let remains else { return }
    disk = SimulatedDisk(remains.contents)
    disk.beforeCall = beforeDiskCall
    record = remains.record
    saved = remains.membership
  }

  private func close() {
    hypha = nil
    membership = nil
    connections = []
    replicator = Replicator()
    isDirty = false
  }

  func start() throws {
    isUp = true
    fault = nil
    failures = disk.failures
    if let record {
      try open(record.key)
      let blocks = try store.feed(record.key).heldBlocks
      #expect(kind != .server || blocks > 0, "node \(place) is claimed, and holds nothing")
    } else {
      clear()
      let code = SetupCode(random: Array(repeating: UInt8(place), count: SetupCode.length))
      claim = Claim(code: kind == .server ? code : nil)
    }
    guard let own = hypha?.database.local else { return }
    #expect(own.length >= published.count, "node \(place) lost blocks that others may have")
    for (index, block) in published.enumerated() { #expect(try own.block(at: UInt64(index)) == block) }
  }

  /// What was begun and came to nothing is removed.
  private func clear() {
    disk = SimulatedDisk()
    failures = 0
    disk.beforeCall = beforeDiskCall
    saved = nil
  }

  private func open(_ key: PublicKey) throws {
    let disk = disk
    store = FeedStore(secretKey: secretKey) { key, name in disk.file("\(key)/\(name)") }
    let store = store
    let own = try store.own.map { try store.feed($0) }
    let hypha = try Hypha(source: store.feed(key), local: own) { (key) throws(HyperdbError) in
      do { return try store.feed(key) } catch { throw HyperdbError(.unopened, "\(error)") }
    }
    let channelKey =
      record?.hasWriter == true ? SecretBytes(count: 32) { $0.copyBytes(from: Self.channelKey) } : nil
    let membership = Membership(hypha, channelKey: channelKey, state: saved)
    #expect(membership.isStateIntact)
    (self.hypha, self.membership) = (hypha, membership)
    try flush()
  }

  /// What might be left if the power were cut now.
  func cutPower(_ random: inout SeededRandom) -> Remains {
    Remains(contents: disk.cutPower(&random), record: record, membership: saved)
  }

  /// Another node with the same keys, from what a power cut left.
  func reopened(_ remains: Remains) throws -> SimulatedNode {
    let node = try SimulatedNode(place, kind, of: nil)
    node.kill(leaving: remains)
    try node.start()
    return node
  }

  func feed(_ key: PublicKey) throws -> Feed<SimulatedFile> { try store.feed(key) }

  /// What is to fail of its disk, until it is started again.
  var fault: (after: Int, kind: SimulatedDisk.Fault, isLasting: Bool)? {
    get { disk.fault }
    set { disk.fault = newValue }
  }

  /// Whether its disk has failed since it was started: it is to end, whatever it was doing.
  var hasFailed: Bool { disk.failures > failures }

  // MARK: - Becoming something

  /// A device learns from a server which hypha there is.
  func read(_ key: PublicKey) throws {
    record = Record(key: key, hasWriter: false)
    try open(key)
  }

  /// A reader gets the channel key, from the passphrase, and a writer of its own. Its connections are to be ended before.
  func signIn() throws {
    guard let key = record?.key else { return }
    close()
    record = Record(key: key, hasWriter: true)
    try open(key)
  }

  /// A stranger passes on a message, sealed with a key that nobody here has.
  func passOn(_ nonce: [UInt8]) {
    let channel = SecureChannel(key: SecretBytes(count: 32) { $0[0] = 1 })
    membership?.receive(channel.seal(Array("{}".utf8), nonce: nonce), from: 0, address: "stranger", now: now)
  }

  /// Somebody offers a hypha, with what is said to be the setup code.
  func answer(to key: PublicKey, code: String, from place: Int, monotonic: Int64) throws -> Claim.Answer {
    let answer = claim.answer(
      to: key, code: code, from: [UInt8(place)], holding: record?.key, isBusy: false,
      now: Double(monotonic) / 1000)
    if answer == .begin {
      try open(key)
      claim.begin(key)
    }
    return answer
  }

  private func finishClaim() {
    guard let key = claim.claimed(blocks: hypha?.source.heldBlocks ?? 0) else { return }
    #expect(record == nil, "node \(place) holds a hypha already")
    record = Record(key: key, hasWriter: false)
    claim.finish()
  }

  private func abandonClaim() {
    guard connections.isEmpty, claim.abandon() else { return }
    close()
    clear()
  }

  // MARK: - Changes

  /// Carries out a change, and returns once it is durable: from then on it is acknowledged.
  func commit<T>(_ now: Int64, _ work: (Hypha<SimulatedFile>, Membership<SimulatedFile>) throws -> T) throws
    -> T
  {
    self.now = now
    let (hypha, membership) = (try #require(hypha), try #require(membership))
    let local = hypha.database.local
    let first = local?.length ?? 0
    let result = try work(hypha, membership)
    if let local { replicator.appended(first..<local.length, to: local.key) }
    try flush()
    return result
  }

  private func flush() throws {
    isDirty = false
    guard let hypha, let membership else { return }
    let local = hypha.database.local
    for feed in try hypha.feeds() where feed !== local { try feed.flush(durable: true) }
    try local?.flush(durable: true)
    finishClaim()
    if record != nil {
      for (key, feed) in store.feeds where feed.heldBlocks != UInt64(acknowledged[key]?.count ?? 0) {
        acknowledged[key] = Set((0..<feed.length).filter { feed.has($0) })
      }
    }
    if let local {
      for index in UInt64(published.count)..<local.length { published.append(try local.block(at: index)) }
    }
    for feed in try hypha.feeds() {
      try replicator.share(feed, downloads: true)
      replicator.limit(feed.key, to: try hypha.limit(of: feed.key))
    }
    membership.tick(now: now + skew)
    if membership.hasChanged { saved = membership.encodeState() }
    for (key, _) in try hypha.lengths() { replicator.announce(key) }
  }

  // MARK: - Connections

  func receive(_ bytes: [UInt8], from id: ConnectionID, now: Int64, monotonic: UInt64) throws {
    self.now = now
    try replicator.receive(bytes, from: id, now: monotonic)
    for event in replicator.takeEvents() {
      switch event {
      case .downloaded: isDirty = true
      case .handshake(let id): membership?.connected(id)
      case .extension(let id, let key, let name, let payload):
        #expect(key == hypha?.source.key && name == Self.extensionName)
        membership?.receive(payload, from: id, address: "node", now: now + skew)
      // Nobody here is copied or set back: however often their power goes, none signs two versions.
      case .forked(let key, _, let common): Issue.record("feed \(key.hex) is forked at \(common)")
      case .synced, .unknownFeed, .finished, .leftOut: break
      }
    }
  }

  func connect(_ id: ConnectionID, sessionID: [UInt8], nonce: [UInt8]) throws {
    let key = try #require(hypha).source.key
    connections.insert(id)
    try replicator.connect(
      id, Session.Configuration(id: sessionID, extensions: [Self.extensionName], nonce: nonce), first: key)
  }

  func disconnect(_ id: ConnectionID) {
    connections.remove(id)
    replicator.disconnect(id)
    membership?.disconnected(id)
    abandonClaim()
  }

  /// The next bytes for a connection; empty where there is nothing to say.
  func output(_ id: ConnectionID, unsent: Int) throws -> [UInt8] {
    try replicator.setUnsent(unsent, on: id)
    let bytes = replicator.takeOutput(of: id)
    if !bytes.isEmpty { return bytes }
    guard let hypha, let message = membership?.nextMessage(for: id),
      replicator.send(extension: Self.extensionName, message, feed: hypha.source.key, on: id)
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
  func checkBounds(_ comment: Comment) throws {
    guard let hypha, let membership else { return }
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
    self.now = now
    membership?.tick(now: now + skew)
    if isDirty || membership?.hasChanged == true { try flush() }
    return replicator.tick(now: monotonic).map(\.0)
  }
}
