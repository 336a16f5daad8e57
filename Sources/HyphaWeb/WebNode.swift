import CSodium
import Hypercore
import Hyperdb
import Hypha

/// The node in a page: a hypha, its feeds in memory, what is written for the page to keep, and connections.
///
/// What this node itself wrote is offered to peers, and messages go out, only once the page has said that the commit with
/// it is durable: a power cut must not take back what another node has seen.
final class WebNode {
  enum Event: UInt8 {
    case synced = 1
    case requested = 2
    case answered = 3
    case ownAnswered = 4
    /// The feed of a device cannot be kept, or no further; told once for each.
    case leftOut = 5
  }

  /// What is known of the own writer's feed.
  enum WriterState: UInt8 {
    /// All that it wrote is among the files that were kept.
    case kept = 0
    /// It has never written.
    case new = 1
    /// What it wrote is to come from other nodes first.
    case behind = 2
  }

  /// How things stand, for the page.
  struct Status {
    var canPost = false
    /// What this writer wrote is not all here: it must not write.
    var isBehind = false
    var isRevoked = false
    /// This writer signed two versions of its feed: it must not write any more.
    var isForked = false
    /// A peer has said what it holds, and all of that is here.
    var isCurrent = false
    var needsCommit = false
    /// Connected nodes that have everything that this one wrote.
    var keptBy = 0
    var heldBlocks: UInt64 = 0
    var knownBlocks: UInt64 = 0
    var ownLength: UInt64 = 0
    var ownKey: PublicKey?
    /// Blocks that count, by writer.
    var lengths: [(PublicKey, UInt64)] = []
  }

  private static let extensionName = "secure-ephemeral"
  private static let membershipFile = "membership"

  let hypha: Hypha<JournaledStorage>
  let membership: Membership<JournaledStorage>
  private let local: Feed<JournaledStorage>?
  private let replicator = Replicator<JournaledStorage>()
  private let journal: Journal
  private let membershipStorage: JournaledStorage
  private let sessionID = randomBytes(32)
  private var events: [Event] = []
  /// Feeds that cannot be kept, or no further.
  private var leftOut: Set<PublicKey> = []
  /// Something was written, by this node or a peer, that is in no commit yet.
  private var hasChanges = true
  /// This node itself wrote something that is in no commit yet, or in one that is not known to be durable.
  private var hasOwnChanges = false
  private var isCommittingOwn = false
  /// Blocks of the own feed in the commit that was taken last, until it is durable.
  private var committing: UInt64?
  /// Blocks of the own feed that are durable.
  private var durableLength: UInt64
  /// Blocks of the own feed that the replicator knows of.
  private var notedLength: UInt64
  private var isLocalShared = false
  /// All that the own writer wrote is to come from other nodes.
  private var catchesUp: Bool

  /// - Parameters:
  ///   - files: what was kept, by name.
  ///   - secretKey: of this node's own writer; without, it only reads.
  ///   - state: of the own writer. A writer that lost what it wrote, and does not fetch it back, would sign other blocks in
  ///     its place.
  init(
    _ key: PublicKey, secretKey: [UInt8]?, channelKey: consuming SecretBytes?, state: WriterState,
    files: [String: [UInt8]]
  ) throws(WebError) {
    let journal = Journal()
    self.journal = journal
    let store = FeedStore(files, journal)
    let own: Feed<JournaledStorage>?
    if let secretKey { own = try Self.own(secretKey, state, store) } else { own = nil }
    local = own
    catchesUp = own != nil && state == .behind
    durableLength = own?.length ?? 0
    notedLength = durableLength
    let source: Feed<JournaledStorage>
    if let own, own.key == key {
      source = own
    } else {
      do throws(FeedError) { source = try store.feed(key) } catch { throw WebError(error) }
    }
    do throws(HyphaError) {
      hypha = try Hypha(source: source, local: own === source ? nil : own, begins: state == .new) {
        (key) throws(HyperdbError) in
        do throws(FeedError) { return try store.feed(key) } catch {
          throw HyperdbError(.unopened, error.context)
        }
      }
    } catch {
      throw WebError(error)
    }
    let requests = files[Self.membershipFile]
    membershipStorage = JournaledStorage(Self.membershipFile, requests ?? [], journal)
    membership = Membership(hypha, channelKey: channelKey, state: requests)
    notedLength = own?.length ?? 0
    for evidence in try ForkFiles.read(files) { hypha.freeze(evidence.key, at: evidence.common) }
    try share()
  }

  private static func own(
    _ secretKey: [UInt8], _ state: WriterState, _ store: FeedStore
  ) throws(WebError) -> Feed<JournaledStorage> {
    guard let pair = KeyPair.stored(secretKey) else {
      throw WebError("badRequest", "the secret key does not hold together")
    }
    let feed: Feed<JournaledStorage>
    do throws(FeedError) { feed = try store.feed(pair) } catch { throw WebError(error) }
    switch state {
    case .new where feed.length > 0:
      throw WebError("alreadyWritten", "this writer is not new: it has written \(feed.length) blocks")
    case .kept where feed.length == 0:
      throw WebError(
        "storageLost", "what this device wrote is gone from its storage: it must be fetched back first")
    default: return feed
    }
  }

  private func share() throws(WebError) {
    do throws(HyphaError) {
      for feed in try hypha.feeds() {
        // Its own, too: it can be behind what it has published.
        do throws(WireError) { try replicator.share(feed, downloads: true, mayFail: feed !== local) } catch {
          throw HyphaError(.database(.tooLarge), error.context)
        }
        if feed === local { replicator.askForLength(of: feed.key, catchesUp) }
        replicator.limit(feed.key, to: try hypha.limit(of: feed.key))
        if feed === local, !isLocalShared {
          isLocalShared = true
          replicator.appended(durableLength..<max(durableLength, feed.length), to: feed.key)
        }
      }
    } catch {
      throw WebError(error)
    }
  }

  // MARK: - Keeping

  /// Notes that the next commit has something that this node itself wrote.
  func wrote() {
    hasChanges = true
    hasOwnChanges = true
    guard let local, local.length > notedLength else { return }
    replicator.appended(notedLength..<local.length, to: local.key)
    notedLength = local.length
  }

  /// Notes what a call wrote that then failed: it would be offered to peers before a commit has it.
  func noteWritten() {
    if let local, local.length > notedLength { wrote() }
  }

  /// - Throws: where this node's own writer must not write, because what it wrote before is not all here.
  func checkWhole() throws(WebError) {
    guard isBehind else { return }
    throw WebError(
      "behind", "what this device wrote before is still being fetched: try again when it is here")
  }

  private var isBehind: Bool { catchesUp || local.map { replicator.isFetching($0.key) } ?? false }

  var needsCommit: Bool { committing == nil && (hasChanges || membership.hasChanged) }

  /// What the page is to keep, all of it or nothing, after everything that it was given before.
  ///
  /// - Returns: the journal's records.
  func commit() throws(WebError) -> [UInt8] {
    guard committing == nil else {
      throw WebError("busy", "the last commit is not known to be durable yet")
    }
    do throws(HyphaError) {
      // Those of others first, which this node's own entries refer to.
      for feed in try hypha.feeds() where feed !== local {
        // One device's feed is not to keep all others from being kept.
        do throws(FeedError) { try feed.flush(durable: true) } catch { leaveOut(feed.key) }
      }
      do throws(FeedError) { try local?.flush(durable: true) } catch {
        throw HyphaError(.database(.feed(error.code)), error.context)
      }
      if membership.hasChanged {
        let state = membership.encodeState()
        do throws(StorageError) {
          try membershipStorage.truncate(to: UInt64(state.count))
          try state.withBytes { (bytes) throws(StorageError) in try membershipStorage.write(bytes, at: 0) }
        } catch {
          throw HyphaError(.database(.feed(.storage(error.code))), error.context)
        }
      }
    } catch {
      throw WebError(error)
    }
    hasChanges = false
    isCommittingOwn = hasOwnChanges
    hasOwnChanges = false
    committing = local?.length ?? 0
    return journal.take()
  }

  private func leaveOut(_ key: PublicKey) {
    if leftOut.insert(key).inserted { events.append(.leftOut) }
  }

  /// Takes note that the last commit is durable, and tells peers of what is in it.
  func committed(now: Int64) throws(WebError) {
    guard let length = committing else { throw WebError("badRequest", "there is no commit") }
    committing = nil
    durableLength = length
    isCommittingOwn = false
    try share()
    membership.tick(now: now)
    noteEvents()
    do throws(HyphaError) {
      for feed in try hypha.feeds() {
        replicator.announce(feed.key, below: feed === local ? durableLength : .max)
      }
    } catch {
      throw WebError(error)
    }
    if catchesUp, isOwnWhole, try isSynced() { catchesUp = false }
  }

  // MARK: - Connections

  /// Names this node's hypha on a connection that the page has opened.
  func connect(_ id: ConnectionID) throws(WebError) {
    do throws(WireError) {
      try replicator.connect(
        id, Session.Configuration(id: sessionID, live: true, extensions: [Self.extensionName]),
        first: hypha.source.key)
    } catch {
      throw WebError(error)
    }
  }

  func disconnect(_ id: ConnectionID) {
    replicator.disconnect(id)
    membership.disconnected(id)
  }

  /// Takes what came on a connection. An error means that the page is to close it.
  ///
  /// - Parameters:
  ///   - clock: milliseconds on a clock that only goes forward.
  ///   - now: milliseconds since 1970.
  func receive(_ bytes: [UInt8], from id: ConnectionID, clock: UInt64, now: Int64) throws(WebError) {
    var failure: WireError?
    do throws(WireError) { try replicator.receive(bytes, from: id, now: clock) } catch { failure = error }
    for event in replicator.takeEvents() {
      switch event {
      case .downloaded: hasChanges = true
      case .synced: events.append(.synced)
      case .handshake(let id): membership.connected(id)
      case .extension(let id, let key, let name, let payload):
        guard key == hypha.source.key, name == Self.extensionName else { continue }
        membership.receive(payload, from: id, address: "", now: now)
      case .forked(let key, let fork, let common): take(ForkEvidence(key: key, fork: fork, common: common))
      case .leftOut(let key): leaveOut(key)
      case .unknownFeed, .finished: break
      }
    }
    notedLength = local?.length ?? 0
    noteEvents()
    if let failure { throw WebError(failure) }
  }

  /// Freezes a feed where a peer has shown that its two versions part, and has the evidence kept.
  private func take(_ evidence: ForkEvidence) {
    guard evidence.common < hypha.frozen(evidence.key) ?? .max else { return }
    hypha.freeze(evidence.key, at: evidence.common)
    ForkFiles.write(evidence, to: journal)
    hasChanges = true
  }

  /// What is to be sent on a connection; call it until there is nothing.
  ///
  /// - Parameter unsent: bytes taken before that have not left yet.
  func output(of id: ConnectionID, unsent: Int) throws(WebError) -> [UInt8] {
    do throws(WireError) { try replicator.setUnsent(unsent, on: id) } catch { throw WebError(error) }
    let bytes = replicator.takeOutput(of: id)
    guard bytes.isEmpty, !hasOwnChanges, !isCommittingOwn, let message = membership.nextMessage(for: id)
    else { return bytes }
    _ = replicator.send(extension: Self.extensionName, message, feed: hypha.source.key, on: id)
    return replicator.takeOutput(of: id)
  }

  /// To be called once a second.
  ///
  /// - Returns: connections to be closed.
  func tick(clock: UInt64, now: Int64) -> [ConnectionID] {
    membership.tick(now: now)
    noteEvents()
    return replicator.tick(now: clock).map { $0.0 }
  }

  // MARK: - State

  private func noteEvents() {
    for event in membership.takeEvents() {
      switch event {
      case .requested: events.append(.requested)
      case .answered: events.append(.answered)
      case .ownAnswered: events.append(.ownAnswered)
      }
    }
  }

  func takeEvents() -> [Event] {
    defer { events = [] }
    return events
  }

  func status() throws(WebError) -> Status {
    var status = Status()
    do throws(HyphaError) {
      status.lengths = try hypha.lengths()
      status.canPost = try hypha.canPost()
      status.isCurrent = replicator.isAnswered(hypha.source.key)
      for feed in try hypha.feeds() {
        status.heldBlocks += feed.heldBlocks
        status.knownBlocks += max(replicator.knownLength(feed.key), feed.heldBlocks)
        if !replicator.isComplete(feed.key) { status.isCurrent = false }
      }
      if let local {
        status.isRevoked = try hypha.isRevoked(local.key)
        status.isForked = hypha.frozen(local.key) != nil
        status.keptBy = replicator.fullyHeldBy(local.key)
        status.ownKey = local.key
        status.ownLength = local.length
      }
    } catch {
      throw WebError(error)
    }
    status.isBehind = isBehind
    status.needsCommit = needsCommit
    return status
  }

  /// Whether all is here that the own writer is known to have signed. One that nobody has let in yet has nothing to miss.
  private var isOwnWhole: Bool {
    guard let local, isLocalShared else { return true }
    return replicator.isWhole(local.key)
  }

  /// Whether all that connected peers hold is here, and of each feed one of them holds all that is here.
  private func isSynced() throws(WebError) -> Bool {
    guard hypha.source.length > 0 else { return false }
    do throws(HyphaError) {
      return try hypha.feeds().allSatisfy {
        replicator.isComplete($0.key) && replicator.isHeldElsewhere($0.key)
      }
    } catch {
      throw WebError(error)
    }
  }
}

/// Feeds by key, opened once, in files named `KEY/data` and so on.
private final class FeedStore {
  private var files: [String: [UInt8]]
  private let journal: Journal
  private var feeds: [PublicKey: Feed<JournaledStorage>] = [:]

  init(_ files: [String: [UInt8]], _ journal: Journal) {
    self.files = files
    self.journal = journal
  }

  func feed(_ key: PublicKey) throws(FeedError) -> Feed<JournaledStorage> {
    if let feed = feeds[key] { return feed }
    let feed = try Feed(files: storage(key), key: key)
    // It lives as long as the store.
    feed.hasRoom = { blocks, bytes in self.hasRoom(key, blocks, bytes) }
    feeds[key] = feed
    return feed
  }

  /// Whether another device's feed may be as long and as large, beside those of the other ones.
  private func hasRoom(_ key: PublicKey, _ blocks: UInt64, _ bytes: UInt64) -> Bool {
    guard blocks <= WebLimits.feedBlocks, bytes <= WebLimits.feedBytes else { return false }
    var all = WebLimits.memory(blocks: blocks, bytes: bytes)
    for other in feeds.values where other.key != key && !other.isWritable {
      all += WebLimits.memory(blocks: other.length, bytes: other.byteLength)
    }
    return all <= WebLimits.othersBytes
  }

  func feed(_ pair: consuming KeyPair) throws(FeedError) -> Feed<JournaledStorage> {
    let key = pair.publicKey
    let feed = try Feed(files: storage(key), keyPair: pair, storeSecretKey: false)
    feeds[key] = feed
    return feed
  }

  private func storage(_ key: PublicKey) throws(FeedError) -> FeedFiles<JournaledStorage> {
    do throws(StorageError) {
      return try FeedFiles { (name) throws(StorageError) in
        let name = "\(key.hex)/\(name)"
        return JournaledStorage(name, files.removeValue(forKey: name) ?? [], journal)
      }
    } catch {
      throw FeedError(.storage(error.code), error.context)
    }
  }
}

/// From the system's cryptographic source.
func randomBytes(_ count: Int) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: count)
  randombytes_buf(&bytes, count)
  return bytes
}
