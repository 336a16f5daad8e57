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
  /// Something was written, by this node or a peer, that is in no commit yet.
  private var hasChanges = true
  /// This node itself wrote something that is in no commit yet, or in one that is not known to be durable.
  private var hasOwnChanges = false
  private var isCommittingOwn = false
  /// Blocks of the own feed in the commit that was taken last, until it is durable.
  private var committing: UInt64?
  /// Blocks of the own feed that are durable.
  private var durableLength: UInt64

  /// - Parameters:
  ///   - files: what was kept, by name.
  ///   - secretKey: of this node's own writer; without, it only reads.
  ///   - isNew: the own writer has never written. If not so, its feed must be among the files: a writer that lost what it
  ///     wrote would sign other blocks in its place.
  init(
    _ key: PublicKey, secretKey: [UInt8]?, channelKey: consuming SecretBytes?, isNew: Bool,
    files: [String: [UInt8]]
  ) throws(WebError) {
    let journal = Journal()
    self.journal = journal
    let store = FeedStore(files, journal)
    let own: Feed<JournaledStorage>?
    if let secretKey { own = try Self.own(secretKey, isNew, store) } else { own = nil }
    local = own
    durableLength = own?.length ?? 0
    let source: Feed<JournaledStorage>
    if let own, own.key == key {
      source = own
    } else {
      do throws(FeedError) { source = try store.feed(key) } catch { throw WebError(error) }
    }
    do throws(HyphaError) {
      hypha = try Hypha(source: source, local: own === source ? nil : own) { (key) throws(HyperdbError) in
        do throws(FeedError) { return try store.feed(key) } catch {
          throw HyperdbError(.unopened, error.context)
        }
      }
    } catch {
      throw WebError(error)
    }
    let state = files[Self.membershipFile]
    membershipStorage = JournaledStorage(Self.membershipFile, state ?? [], journal)
    membership = Membership(hypha, channelKey: channelKey, state: state)
    try share()
  }

  private static func own(
    _ secretKey: [UInt8], _ isNew: Bool, _ store: FeedStore
  ) throws(WebError) -> Feed<JournaledStorage> {
    guard let pair = KeyPair.stored(secretKey) else {
      throw WebError("badRequest", "the secret key does not hold together")
    }
    let feed: Feed<JournaledStorage>
    do throws(FeedError) { feed = try store.feed(pair) } catch { throw WebError(error) }
    guard isNew == (feed.length == 0) else {
      throw WebError(
        isNew ? "alreadyWritten" : "storageLost",
        isNew
          ? "this writer is not new: it has written \(feed.length) blocks"
          : "what this device wrote is gone from its storage: sign in anew, with a new writer")
    }
    return feed
  }

  private func share() throws(WebError) {
    do throws(HyphaError) {
      for feed in try hypha.feeds() {
        do throws(WireError) { try replicator.share(feed, downloads: !feed.isWritable) } catch {
          throw HyphaError(.database(.tooLarge), error.context)
        }
        let limit = try hypha.limit(of: feed.key)
        replicator.limit(feed.key, to: feed === local ? min(limit ?? .max, durableLength) : limit)
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
  }

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
      for feed in try hypha.feeds() where feed !== local { try flush(feed) }
      if let local { try flush(local) }
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

  private func flush(_ feed: Feed<JournaledStorage>) throws(HyphaError) {
    do throws(FeedError) { try feed.flush(durable: true) } catch {
      throw HyphaError(.database(.feed(error.code)), error.context)
    }
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
      for (key, _) in try hypha.lengths() { replicator.announce(key) }
    } catch {
      throw WebError(error)
    }
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
      case .unknownFeed, .finished: break
      }
    }
    noteEvents()
    if let failure { throw WebError(failure) }
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

  var ownKey: PublicKey? { local?.key }

  /// Whether all that connected peers hold is here.
  func isComplete() throws(WebError) -> Bool {
    do throws(HyphaError) { return try hypha.feeds().allSatisfy { replicator.isComplete($0.key) } } catch {
      throw WebError(error)
    }
  }

  /// On how many connected nodes all is that this node wrote and that is durable.
  var keptBy: Int { local.map { replicator.fullyHeldBy($0.key) } ?? 0 }
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
    feeds[key] = feed
    return feed
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
