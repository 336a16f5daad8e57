import CSodium
import CWipe
import CoreMetrics
import Glibc
import Hypercore
import Hyperdb
import Hypha
import HyphaControlAPI
public import Logging
public import NIOCore

/// The node: what it holds, who is connected, and what the two sides that talk to it, web and control, may do.
///
/// Everything happens on one event loop of its own, which may block in `fdatasync` without holding up the
/// network. Posts that wait while it does are made together and share the next sync.
public actor Node {
  /// Carries the devices' sealed messages.
  static let extensionName = "secure-ephemeral"
  /// Milliseconds for which memory is overwritten as it is given back, after a passphrase was about.
  private static let wipeInterval: Int64 = 10_000
  /// Milliseconds between two syncs of blocks that arrive.
  private static let syncInterval: Int64 = 100
  /// Events that are recorded for posts that arrived together; the first copy of a long hypha is no news.
  private static let postEventsAtOnce: UInt64 = 100

  public nonisolated let loop: any EventLoop
  public nonisolated var unownedExecutor: UnownedSerialExecutor { loop.executor.asUnownedSerialExecutor() }

  let files: NodeFiles
  var settings: Configuration
  let logger: Logger
  let started: Timestamp
  /// Names this node to its peers while it runs.
  private let sessionID: [UInt8]
  /// Called once when the disk fails: the process is to stop, and to recover from disk at its next start.
  private let onFailure: @Sendable (NodeError) -> Void

  var record: NodeRecord?
  var hypha: Hypha<FileStorage>?
  var membership: Membership<FileStorage>?
  /// Until when saves of messages that only pass through have used up their share of time, on the monotonic clock.
  var messageSavesUntil: Int64 = 0
  /// Devices that were revoked when this was last looked at.
  var revoked: Set<PublicKey> = []
  var replicator = Replicator<FileStorage>() {
    didSet { replicator.takesBlocks = room.state == .enough }
  }
  var room = StorageRoom()
  /// Bytes that came since the room was last looked at.
  var arrivedBytes = 0
  /// The hypha is about to be opened anew, since the disk refused a write.
  var isReopening = false
  private var isPumpDue = false
  /// How the node is claimed, while it holds no hypha.
  var claim = Claim()
  var rejections = Rejections()
  private let badPeerLines = LineLimit()
  let setupCodeLines = LineLimit()
  private var doubts = Doubts()
  private(set) var limiter: ConnectionLimiter?
  var backup: Backup?
  var restore: Restore?
  var check: Verification?
  /// What feed readers got last, and which blocks there were.
  var publicPosts: (blocks: [UInt64], posts: PublicPosts)?
  var connections: [ConnectionID: Attached] = [:]
  private var nextConnection: ConnectionID = 1
  var outgoing: OutgoingConnections?
  /// Of the configuration's connections, those that somebody ended.
  var endedConnections: Set<ReplicationURL> = []
  var connector: ReplicationConnector?
  var lookup: WellKnownLookup?
  /// Where the web side is served.
  var web = WebPlaces()
  var events = EventLog()
  /// The first entry of each feed that no event was recorded for.
  private var nextEventSeq: [PublicKey: UInt64] = [:]
  private var waitingCommits: [Commit] = []
  private var commitScheduled = false
  private var flushScheduled = false
  private var lastFlush: Int64 = 0
  private var ticking: RepeatedTask?
  /// Until when memory is overwritten as it is given back, on the monotonic clock.
  private var wipesUntil: Int64 = 0
  /// Since when something that was made here is on no other node that was connected, on the monotonic clock.
  var unsyncedSince: Int64?
  var isServing = false
  private(set) var isStopping = false

  /// A connection to another node.
  struct Attached {
    let transport: ReplicationTransport
    let since: Timestamp
  }

  private struct Commit {
    /// Carries it out; what it returns is called once it is known whether the result is durable.
    let run: (Hypha<FileStorage>?) -> (_ isDurable: Bool) -> Void
  }

  /// - Parameter loop: of a group with this one loop alone.
  public init(
    folder: StateFolder, settings: Configuration, loop: any EventLoop, logger: Logger,
    onFailure: @escaping @Sendable (NodeError) -> Void
  ) {
    let credential = settings.node.secretsCredential
    files = NodeFiles(
      folder,
      credential: credential.isEmpty
        ? nil
        : SecretFiles.Credential(
          name: credential, folder: getenv("CREDENTIALS_DIRECTORY").map { String(cString: $0) }))
    self.settings = settings
    self.loop = loop
    self.logger = logger
    self.onFailure = onFailure
    started = Self.now()
    sessionID = Self.random(32)
  }

  static func now() -> Timestamp {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Timestamp(milliseconds: Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000)
  }

  static func random(_ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    randombytes_buf(&bytes, count)
    return bytes
  }

  /// Milliseconds on a clock that only goes forward.
  var monotonic: Int64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
  }

  // MARK: - Life

  /// Opens what is in the state folder.
  public func open() throws(NodeError) {
    wipeFreedMemory()
    try files.prepareSecrets()
    try files.settleNames()
    if let record = try files.readRecord() {
      // A process before may have been killed when it had become somebody's.
      try files.removeSetupCode()
      try finishSignOut(record)
      try files.removeStaging()
      try openHypha(try resync(record))
    } else {
      try files.checkNothingIsLost()
      try waitForOwner()
    }
    ticking = loop.scheduleRepeatedTask(initialDelay: .seconds(1), delay: .seconds(1)) { [weak self] _ in
      self?.assumeIsolated { $0.tick() }
    }
  }

  /// Clears away what is left of an attempt to become something. The setup code is as valid as before.
  private func waitForOwner() throws(NodeError) {
    try files.removeUnfinished()
    claim.code = try files.setupCode()
  }

  /// Is again what it was before it was to become something, for which there was no room.
  func beNobodys() {
    do throws(NodeError) { try waitForOwner() } catch { stopForGood(error) }
  }

  /// From here on the node is ready, if it is initialised.
  func serve(
    outgoing: OutgoingConnections, connector: ReplicationConnector, web: WebPlaces, limiter: ConnectionLimiter
  ) async {
    self.limiter = limiter
    self.web = web
    self.outgoing = outgoing
    self.connector = connector
    lookup = WellKnownLookup(connector)
    isServing = true
    await connectKept()
  }

  /// Lets what was begun finish, closes connections, and makes everything durable.
  public func stop() async {
    guard !isStopping else { return }
    isStopping = true
    isServing = false
    runCommits()
    await outgoing?.stop()
    for attached in connections.values {
      attached.transport.close(CloseReason(.goingAway, "This node stops."))
    }
    flushNow()
    ticking?.cancel()
    events.close()
  }

  /// Opens the hypha of a node that is, or becomes, what `record` says.
  ///
  /// - Parameter becomes: there is no such record yet, and so the node's own feed may begin.
  func openHypha(_ record: NodeRecord, becomes: Bool = false) throws(NodeError) {
    guard let key = record.publicKey else { throw NodeError(.damaged, "node.json has no key") }
    let own: Feed<FileStorage>?
    switch (record.role, record.writerKey) {
    case (.origin, _): own = try writable(NodeFiles.source, key)
    case (_, let writer?): own = try writable(NodeFiles.local, writer)
    case (_, nil): own = nil
    }
    let record = becomes ? record : try noteLoss(of: own, record)
    let source: Feed<FileStorage>
    if record.role == .origin, let own { source = own } else { source = try feed(NodeFiles.source, key) }
    try adopt(source, local: own, catchesUp: record.catchesUp == true)
    for (key, length) in try visibleLengths() { nextEventSeq[key] = length }
    self.record = record
    askForLength()
    claim.finish()
    revoked = try revokedDevices()
  }

  /// A record is written once its writer's feed has begun: one that is empty was lost. Begun anew, it would contradict what it was.
  private func noteLoss(of own: Feed<FileStorage>?, _ record: NodeRecord) throws(NodeError) -> NodeRecord {
    guard let own, own.length == 0, record.catchesUp != true else { return record }
    var record = record
    record.noteLoss()
    try files.write(record)
    logger.error(
      "This node's own feed is gone: it may not write before that is back from other nodes",
      metadata: ["feed": "\(own.key.hex)"])
    return record
  }

  /// Ends everything that has to do with the hypha, to open it as something else.
  func closeHypha(_ reason: CloseReason) {
    for id in connections.keys { end(id, reason) }
    hypha = nil
    backup = nil
    check = nil
    publicPosts = nil
    membership = nil
    replicator = Replicator()
    nextEventSeq = [:]
  }

  /// Opens the hypha anew from what is on disk. What comes back is no news.
  func reopen(_ record: NodeRecord) throws(NodeError) {
    let told = nextEventSeq
    closeHypha(CloseReason(.goingAway, "This node opens the hypha anew."))
    try openHypha(record)
    nextEventSeq.merge(told) { max($0, $1) }
  }

  /// Opens a feed that this node only reads, or makes it.
  private func feed(_ folder: String, _ key: PublicKey) throws(NodeError) -> Feed<FileStorage> {
    let storage = try files.feedFiles(folder)
    let feed: Feed<FileStorage>
    do throws(FeedError) { feed = try Feed(files: storage, key: key) } catch {
      throw NodeError(opening: error)
    }
    logRecovery(of: feed)
    return feed
  }

  /// Opens the feed that this node writes to, or makes it.
  private func writable(_ folder: String, _ key: PublicKey) throws(NodeError) -> Feed<FileStorage> {
    let writer = try files.readWriter()
    guard writer.publicKey == key else {
      throw NodeError(.damaged, "the stored secret key is not that of the feed \(key.hex)")
    }
    let storage = try files.feedFiles(folder)
    let feed: Feed<FileStorage>
    do throws(FeedError) { feed = try Feed(files: storage, keyPair: writer, storeSecretKey: false) } catch {
      throw NodeError(opening: error)
    }
    logRecovery(of: feed)
    return feed
  }

  private func logRecovery(of feed: Feed<FileStorage>) {
    guard feed.recovery.foundBlocks > 0 || feed.recovery.cutBlocks > 0 else { return }
    logger.notice(
      "Recovered from an unclean stop",
      metadata: [
        "feed": "\(feed.key.hex)", "found": "\(feed.recovery.foundBlocks)",
        "cut": "\(feed.recovery.cutBlocks)", "length": "\(feed.length)",
      ])
  }

  /// Takes feeds for the hypha's, and shares them with every connection.
  ///
  /// - Parameter catchesUp: this node's own feed is to come from other nodes first.
  private func adopt(
    _ source: Feed<FileStorage>, local: Feed<FileStorage>?, catchesUp: Bool = false
  ) throws(NodeError) {
    let (files, logger) = (files, logger)
    do throws(HyphaError) {
      hypha = try Hypha(source: source, local: local, begins: !catchesUp) { (key) throws(HyperdbError) in
        let folder: FeedFiles<FileStorage>
        do throws(NodeError) { folder = try files.feedFiles(NodeFiles.peer(Crypto.discoveryKey(key))) } catch
        {
          throw HyperdbError(error.code == .full ? .feed(.storage(.full)) : .unopened, error.context)
        }
        do throws(FeedError) {
          let feed = try Feed(files: folder, key: key)
          logger.info("Another device's feed is open", metadata: ["feed": "\(key.hex)"])
          return feed
        } catch {
          throw HyperdbError(.feed(error.code), error.context)
        }
      }
    } catch {
      throw NodeError(opening: error)
    }
    try freezeForked()
    try openMembership()
    try flushFeeds()
    try shareFeeds()
  }

  /// Shares the feeds of all writers that are authorised, also those that became known since this was last called; of
  /// those that were revoked, as much as is of use.
  private func shareFeeds() throws(NodeError) {
    guard let hypha else { return }
    do throws(HyphaError) {
      for feed in try hypha.feeds() {
        // Its own, too: one that was restored or made anew can be behind what it has published.
        do throws(WireError) { try replicator.share(feed, downloads: true) } catch {
          throw HyphaError(.database(.tooLarge), error.context)
        }
        if feed === hypha.database.local { askForLength() }
        replicator.limit(feed.key, to: try hypha.limit(of: feed.key))
      }
    } catch {
      throw NodeError(opening: error)
    }
  }

  /// A writer that may have been set back asks each node how much of its own feed that node knows to be signed.
  func askForLength() {
    guard let local = hypha?.database.local else { return }
    replicator.askForLength(of: local.key, record?.catchesUp == true)
  }

  /// Makes all feeds durable: those of others first, which this node's own entries refer to.
  func flushFeeds() throws(NodeError) {
    guard let hypha else { return }
    do throws(HyphaError) {
      let local = hypha.database.local
      let others = try hypha.feeds().filter { $0 !== local }
      for feed in others + (local.map { [$0] } ?? []) {
        do throws(FeedError) { try feed.flush(durable: true) } catch {
          throw HyphaError(.database(.feed(error.code)), error.context)
        }
      }
    } catch {
      throw NodeError(opening: error)
    }
  }

  private func visibleLengths() throws(NodeError) -> [(PublicKey, UInt64)] {
    do throws(HyphaError) { return try hypha?.lengths() ?? [] } catch { throw NodeError(opening: error) }
  }

  /// The disk failed: what is in memory may not be what is on it.
  func fail(_ error: NodeError) {
    if error.code == .full { reopenFull(error) } else { stopForGood(error) }
  }

  func stopForGood(_ error: NodeError) {
    guard !isStopping else { return }
    logger.critical("Stopping, to recover from disk at the next start", metadata: ["reason": "\(error)"])
    isStopping = true
    onFailure(error)
  }

  // MARK: - Writing

  /// Carries out a change, and returns once it is durable.
  ///
  /// All changes that wait when the last sync ends are carried out together, and share the next.
  ///
  /// - Parameter isUrgent: try it also where room is low.
  func commit<T: Sendable>(
    isUrgent: Bool = false, _ work: @escaping (Hypha<FileStorage>) throws(HyphaError) -> T
  ) async throws(ControlError) -> T {
    guard !isStopping else { throw ControlError(.stopping, "The daemon is stopping.") }
    if !isUrgent { try checkRoom() }
    // What it has published before must be here before it signs anything more.
    if record?.catchesUp == true { throw Self.catchesUpError }
    if hypha?.database.local.map({ replicator.isFetching($0.key) }) == true {
      throw Self.controlError(HyphaError(.behind, ""))
    }
    let begun = monotonic
    defer { Timer(label: MetricsNames.commit).recordMilliseconds(monotonic - begun) }
    let result = await withCheckedContinuation {
      (continuation: CheckedContinuation<Result<T, ControlError>, Never>) in
      waitingCommits.append(
        Commit { hypha in
          guard let hypha else {
            continuation.resume(returning: .failure(Self.notInitialised))
            return { _ in }
          }
          do throws(HyphaError) {
            let value = try work(hypha)
            return { isDurable in
              continuation.resume(
                returning: isDurable
                  ? .success(value)
                  : .failure(
                    ControlError(
                      .storageFailed, "The change could not be made durable: see the daemon's log.")))
            }
          } catch {
            continuation.resume(returning: .failure(Self.controlError(error)))
            return { _ in }
          }
        })
      guard !commitScheduled else { return }
      commitScheduled = true
      loop.execute { self.assumeIsolated { $0.runCommits() } }
    }
    return try result.get()
  }

  private func runCommits() {
    commitScheduled = false
    let commits = waitingCommits
    waitingCommits = []
    guard !commits.isEmpty else { return }
    let local = hypha?.database.local
    let first = local?.length ?? 0
    let answers = commits.map { $0.run(hypha) }
    if let local { replicator.appended(first..<local.length, to: local.key) }
    let isDurable = flushNow()
    if isDurable { noteUnsynced() }
    for answer in answers { answer(isDurable) }
  }

  /// Makes what arrived or was made durable, and only then tells of it.
  ///
  /// - Returns: whether that worked.
  @discardableResult
  func flushNow() -> Bool {
    flushScheduled = false
    guard let hypha, !isReopening else { return !isReopening }
    lastFlush = monotonic
    hypha.database.tryAgain()
    do throws(NodeError) {
      try flushFeeds()
      try finishSignUp()
      try finishCatchUp()
      try shareFeeds()
      try lookAtDevices()
      for (key, _) in try visibleLengths() { replicator.announce(key) }
      try recordPosts(hypha)
    } catch {
      fail(error)
      return false
    }
    pump()
    return true
  }

  private func scheduleFlush() {
    guard !flushScheduled else { return }
    flushScheduled = true
    let delay = max(0, lastFlush + Self.syncInterval - monotonic)
    loop.scheduleTask(in: .milliseconds(delay)) { self.assumeIsolated { _ = $0.flushNow() } }
  }

  private func recordPosts(_ hypha: Hypha<FileStorage>) throws(NodeError) {
    for (key, length) in try visibleLengths() {
      var seq = nextEventSeq[key] ?? 0
      if length > seq + Self.postEventsAtOnce { seq = length - Self.postEventsAtOnce }
      while seq < length {
        do throws(HyphaError) {
          switch try hypha.postChange(at: seq, of: key) {
          case .posted(let post): recordEvent(.posted) { $0.post = PostInfo(post) }
          case .deleted(let id): recordEvent(.deleted) { $0.postID = id.text }
          case nil: break
          }
        } catch {
          logger.warning("An entry cannot be read", metadata: ["reason": "\(error.context)"])
        }
        seq += 1
      }
      nextEventSeq[key] = seq
    }
  }

  func recordEvent(_ kind: ControlEvent.Kind, _ fill: (inout ControlEvent) -> Void) {
    events.record(kind, at: Self.now(), fill)
  }

  // MARK: - Connections

  /// Takes over a connection.
  func attachHere(_ transport: ReplicationTransport) {
    guard !isStopping, let key = keyToShare(on: transport) else {
      return transport.close(CloseReason(.refused, "This node does not hold that hypha."))
    }
    let id = nextConnection
    nextConnection += 1
    connections[id] = Attached(transport: transport, since: Self.now())
    // Its end is told of, too, where it is refused.
    transport.start(on: loop) { event in self.assumeIsolated { $0.handle(event, id) } }
    do throws(WireError) {
      try replicator.connect(
        id,
        Session.Configuration(
          id: sessionID, live: true, extensions: [Self.extensionName],
          nonce: transport.encryptsProtocol ? Self.random(24) : nil), first: key,
        isDistrusted: doubts.contains(transport.remoteAddress, now: Double(monotonic) / 1000))
    } catch {
      return end(id, CloseReason(.refused, error.context))
    }
    recordEvent(.peerConnected) { $0.peer = peerInfo(id) }
    pump()
  }

  private func keyToShare(on transport: ReplicationTransport) -> PublicKey? {
    guard let own = hypha?.source.key else { return nil }
    switch transport.target {
    case .hypha: return own
    case .replicate(let key), .signUp(let key): return key == own ? own : nil
    }
  }

  private func handle(_ event: ReplicationTransport.Event, _ id: ConnectionID) {
    switch event {
    case .bytes(let buffers):
      // At once: how small the pieces are is up to who sends them.
      var bytes: [UInt8] = []
      bytes.reserveCapacity(buffers.reduce(0) { $0 + $1.readableBytes })
      for buffer in buffers { bytes.append(contentsOf: buffer.readableBytesView) }
      receive(bytes, id)
    case .writable: break
    case .closed(let reason):
      guard let peer = peerInfo(id) else { return }
      switch reason.code {
      case .badFrame: countRejected("badFrame", peer.address)
      case .stalled: countRejected("stalled", peer.address)
      case .normal, .goingAway, .protocolError, .refused, .tooLarge, .timeout, .lost: break
      }
      disconnect(id)
      connections[id] = nil
      membership?.disconnected(id)
      recordEvent(.peerDisconnected) {
        $0.peer = peer
        if reason.code != .normal && reason.code != .goingAway { $0.reason = reason.text }
      }
      abandonSignUp()
    }
    pump()
  }

  private func receive(_ bytes: [UInt8], _ id: ConnectionID) {
    guard connections[id] != nil, !isReopening else { return }
    noteArrival(of: bytes.count)
    do throws(WireError) {
      try replicator.receive(bytes, from: id, now: UInt64(monotonic))
    } catch {
      take(error, id)
    }
    var downloaded = false
    for event in replicator.takeEvents() {
      switch event {
      case .downloaded: downloaded = true
      case .synced: recordEvent(.synced) { _ in }
      case .unknownFeed(_, let discoveryKey):
        logger.debug(
          "A peer asks for a feed that is not here", metadata: ["discoveryKey": "\(discoveryKey.hex)"])
      case .handshake(let id):
        connections[id]?.transport.keep()
        membership?.connected(id)
      case .extension(let id, let key, let name, let payload):
        if key == hypha?.source.key, name == Self.extensionName { receive(message: payload, id) }
      case .forked(let key, let fork, let common):
        take(fork, of: key, common: common)
        downloaded = true
      case .finished, .leftOut: break
      }
    }
    if downloaded || isMembershipDue { scheduleFlush() }
    noteSynced()
  }

  /// Ends a connection for what its peer did, or the process for what the disk did.
  private func take(_ error: WireError, _ id: ConnectionID) {
    if case .local(.storage(let code)) = error.code {
      return fail(NodeError(StorageError(code, error.context)))
    }
    if case .local = error.code {
      logger.error("A feed cannot be served: check it by verify", metadata: ["reason": "\(error.context)"])
      return end(id, CloseReason(.goingAway, "This node cannot read what it keeps."))
    }
    let peer = connections[id]?.transport.remoteAddress ?? ""
    countRejected("\(error.code)", peer)
    badPeerLines.notice(
      logger, error.code == .timedOut ? "Peer given up" : "Peer disconnected for what it sent",
      ["peer": "\(peer)", "kind": "\(error.code)", "reason": "\(error.context)"])
    let code: CloseReason.Code =
      switch error.code {
      case .tooLarge: .tooLarge
      case .timedOut: .timeout
      case .unknownFeed: .refused
      default: .protocolError
      }
    end(id, CloseReason(code, error.context))
  }

  /// Counts what somebody did that was not taken.
  func countRejected(_ kind: String, _ address: String) {
    MetricsNames.countRejected(kind)
    rejections.count(kind, of: address, at: Self.now())
  }

  private func end(_ id: ConnectionID, _ reason: CloseReason) {
    disconnect(id)
    connections[id]?.transport.close(reason)
  }

  /// Gives up what was asked of a peer, and remembers whether it kept its word.
  private func disconnect(_ id: ConnectionID) {
    noteDoubt(of: id)
    replicator.disconnect(id)
  }

  /// Remembers that a peer has not kept its word about this node's own feed, if so, and believes no other from there either: a writer
  /// waits for what it is said to have written. Those that this node was told to connect to are not strangers.
  private func noteDoubt(of id: ConnectionID) {
    guard let own = hypha?.database.local?.key, let transport = connections[id]?.transport,
      transport.direction == .incoming, replicator.isDoubtful(id, of: own),
      doubts.add(transport.remoteAddress, now: Double(monotonic) / 1000)
    else { return }
    let household = IPAddress.household(of: transport.remoteAddress)
    for (other, attached) in connections where attached.transport.direction == .incoming {
      if IPAddress.household(of: attached.transport.remoteAddress) == household { replicator.distrust(other) }
    }
  }

  /// Hands what is to be sent to the connections, as long as they take it. Who asks for much gets it piece by piece, so that others
  /// have their turn, and the node its own.
  func pump() {
    for (id, attached) in connections {
      do throws(WireError) {
        while attached.transport.isWritable {
          // Said before the output is taken: requests that waited for room have their answers in it.
          try replicator.setUnsent(0, on: id)
          let bytes = replicator.takeOutput(of: id)
          if !bytes.isEmpty {
            attached.transport.send(bytes)
            guard bytes.count >= WireLimits.outputBytes else { continue }
            pumpSoon()
            break
          } else if !sendMessage(id) {
            break
          }
        }
        if !attached.transport.isWritable {
          try replicator.setUnsent(attached.transport.bufferedBytes, on: id)
        }
      } catch {
        take(error, id)
      }
    }
  }

  private func pumpSoon() {
    guard !isPumpDue else { return }
    isPumpDue = true
    loop.execute {
      self.assumeIsolated {
        $0.isPumpDue = false
        $0.pump()
      }
    }
  }

  /// Has memory overwritten as it is given back, for a while: texts of a passphrase are copied by all that reads them.
  func wipeFreedMemory() {
    wipesUntil = monotonic + Self.wipeInterval
    cwipe_set(true)
  }

  private func tick() {
    // A node that has its keys takes no passphrase, and has better things to do.
    let takesPassphrase = record == nil || record?.role == .reader && record?.writer == nil
    if takesPassphrase { wipeFreedMemory() } else if monotonic > wipesUntil { cwipe_set(false) }
    lookAtRoom()
    tickBackups()
    for (id, error) in replicator.tick(now: UInt64(monotonic)) { take(error, id) }
    for id in connections.keys { noteDoubt(of: id) }
    membership?.tick(now: Self.now().milliseconds)
    recordMembershipEvents()
    if isMembershipDue || record?.catchesUp == true || hypha?.database.lacksRoom == true { scheduleFlush() }
    pump()
  }

  func peerInfo(_ id: ConnectionID) -> PeerInfo? {
    guard let attached = connections[id] else { return nil }
    let transport = attached.transport
    let counts = transport.counts
    return PeerInfo(
      id: String(id), address: Self.address(of: transport),
      direction: transport.direction == .incoming ? .incoming : .outgoing, transport: transport.kind.rawValue,
      connected: attached.since, bytesReceived: counts.received, bytesSent: counts.sent,
      synced: replicator.isSynced(id))
  }

  /// Where a connection goes to, or comes from.
  func address(of id: ConnectionID) -> String? {
    connections[id].map { Self.address(of: $0.transport) }
  }

  private static func address(of transport: ReplicationTransport) -> String {
    transport.url.map { "\(ReplicationURL($0, target: .hypha))" } ?? transport.remoteAddress
  }

  // MARK: - Becoming an always-on node by sign-up

  /// Begins to take a hypha that an owner with the setup code offers.
  func beginSignUp(_ key: PublicKey) throws(NodeError) {
    try adopt(feed(NodeFiles.source, key), local: nil)
    nextEventSeq = [:]
    claim.begin(key)
  }

  /// Once a block under the offered key is durable, the node holds that hypha only.
  private func finishSignUp() throws(NodeError) {
    guard let key = claim.claimed(blocks: hypha?.source.heldBlocks ?? 0) else { return }
    let name = deviceName(nil)
    let record = NodeRecord(role: .alwaysOn, key: key.hex, domain: domain, deviceName: name)
    try files.write(record)
    self.record = record
    claim.finish()
    try files.removeSetupCode()
    logger.notice("Initialised: this node now keeps a hypha", metadata: ["hyphalink": "\(record.hyphalink)"])
    recordEvent(.initialised) { $0.hyphalink = record.hyphalink }
    Task { await connectKept() }
  }

  /// The connection that offered a hypha ended before a block of it came.
  private func abandonSignUp() {
    guard connections.isEmpty, claim.abandon() else { return }
    hypha = nil
    membership = nil
    replicator = Replicator()
    logger.notice("A set-up ended before the first block came; the setup code is still valid")
    do throws(NodeError) { try files.removeUnfinished() } catch { fail(error) }
  }

  /// A name for this device: as asked, as configured, or the host's.
  func deviceName(_ asked: String?) -> String {
    if let asked, !asked.isEmpty { return asked }
    if !settings.node.deviceName.isEmpty { return settings.node.deviceName }
    var name = [CChar](repeating: 0, count: 256)
    gethostname(&name, name.count - 1)
    let host = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return host.isEmpty ? "hypha node" : host
  }

  var domain: String? { settings.node.domain.isEmpty ? nil : settings.node.domain }
}
