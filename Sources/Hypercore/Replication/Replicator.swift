/// Names a connection, for as long as it lasts; the caller chooses.
public typealias ConnectionID = UInt64

/// Keeps feeds the same on this node and its peers, over any number of connections with any number of feeds.
///
/// It has no socket and no clock: the caller hands in what arrives (``receive(_:from:now:)``) and how much of what
/// was taken has not been sent yet (``setUnsent(_:on:)``), takes what is to be sent (``takeOutput(of:)``) after
/// every call, and calls ``tick(now:)`` once a second. Time is in milliseconds on a clock that only goes forward.
///
/// Blocks that arrive are verified and put into their feed, but not announced: once the caller has made the
/// feed durable it calls ``announce(_:)``. An error from ``receive(_:from:now:)`` is about that connection alone,
/// which the caller then closes and removes; only `.local` is about this node's own disk.
///
/// Blocks are asked for in order, each of one peer at a time, deep enough in advance to keep a connection busy; of peers that
/// have nothing to do some are asked for a second time, lest one that sends nothing holds up the others.
/// A peer's requests are answered while few bytes wait to be sent, so a slow peer costs no memory.
///
/// Source: hypercore 6.26.0 `lib/replicate.js`.
public final class Replicator<Storage: RandomAccessStorage> {
  /// What happened, for the caller.
  public enum Event: Equatable, Sendable {
    /// A block arrived, verified, and is in the feed, not yet durable.
    case downloaded(PublicKey, index: UInt64)
    /// All that this side and its peers know of a feed is here.
    case synced(PublicKey)
    /// A peer said who it is.
    case handshake(ConnectionID)
    /// A peer asks for a feed that is not shared here.
    case unknownFeed(ConnectionID, DiscoveryKey)
    /// An extension's message.
    case `extension`(ConnectionID, PublicKey, name: String, payload: [UInt8])
    /// Both sides are done, on a connection that is not live.
    case finished(ConnectionID)
    /// A peer has another feed that the same owner signed; it is the same up to `common` and no longer. From there on, blocks are
    /// neither asked for nor offered any more, as after ``limit(_:to:)``; that peer is not asked for them even if the limit is raised.
    case forked(PublicKey, Fork, common: UInt64)
    /// A block of a feed that may fail could not be kept: that peer is asked for none from there on.
    case leftOut(PublicKey)
  }

  private final class Connection {
    let id: ConnectionID
    let session: Session
    let live: Bool
    /// Feeds by channel.
    var feeds: [Int: (shared: SharedFeed<Storage>, remote: RemoteFeed)] = [:]
    /// What all feeds on it share.
    let budget = PeerBudget()
    /// It comes from where others did not send what they said they had.
    var isDistrusted: Bool
    var unsent = 0
    var finished = false
    /// Bytes of a message that is not whole yet.
    var partialBytes = 0
    /// What the peer did that ends the connection, where nobody was there to be told.
    var failure: WireError?

    init(id: ConnectionID, session: Session, live: Bool, isDistrusted: Bool) {
      self.id = id
      self.session = session
      self.live = live
      self.isDistrusted = isDistrusted
    }

    /// Bytes that wait to be sent, those included that were taken and have not left.
    var waitingBytes: Int { session.outputCount + unsent }
    var isFull: Bool { waitingBytes >= WireLimits.outputBytes }
  }

  private static var regionBlocks: UInt64 { 1 << 20 }

  private var feeds: [PublicKey: SharedFeed<Storage>] = [:]
  private var byDiscoveryKey: [DiscoveryKey: SharedFeed<Storage>] = [:]
  private var connections: [ConnectionID: Connection] = [:]
  private var events: [Event] = []
  private var now: UInt64 = 0
  /// Bytes of messages that are not whole yet, of all connections.
  private var partialBytes = 0
  /// See ``WireLimits/fetchWindow``; of feeds that are shared from now on.
  var fetchWindow = WireLimits.fetchWindow

  /// Whether peers are asked for blocks. While not, what is here is served all the same.
  public var takesBlocks = true {
    didSet {
      guard takesBlocks, !oldValue else { return }
      for shared in feeds.values {
        for peer in shared.peers { request(from: peer, shared) }
      }
    }
  }

  public init() {}

  /// What happened since it was last asked.
  public func takeEvents() -> [Event] {
    let taken = events
    events = []
    return taken
  }

  // MARK: - Feeds

  /// Shares a feed on every connection that there is and will be.
  ///
  /// What peers have sent about it already is taken up; who sent what ends a connection is told of by ``tick(now:)``.
  ///
  /// - Parameters:
  ///   - downloads: ask peers for what is missing.
  ///   - mayFail: where it cannot be kept it is left out, and connections go on.
  /// - Throws: `.tooLarge` over ``WireLimits/channels`` feeds; then it is not shared.
  public func share(_ feed: Feed<Storage>, downloads: Bool, mayFail: Bool = false) throws(WireError) {
    guard feeds[feed.key] == nil else { return }
    guard feeds.count < WireLimits.channels else {
      throw WireError(.tooLarge, "over \(WireLimits.channels) feeds to share")
    }
    let shared = SharedFeed(feed, downloads: downloads, mayFail: mayFail, fetchWindow: fetchWindow)
    feeds[feed.key] = shared
    byDiscoveryKey[feed.discoveryKey] = shared
    for connection in connections.values {
      do throws(WireError) { try open(shared, on: connection) } catch { connection.failure = error }
    }
  }

  /// Says that only the first blocks of a feed are of use: others are neither asked for nor offered from now on.
  ///
  /// - Parameter limit: `nil` for all. Call ``announce(_:)`` after it was raised.
  public func limit(_ key: PublicKey, to limit: UInt64?) {
    guard let shared = feeds[key], shared.limit != limit ?? .max else { return }
    let before = shared.limit
    shared.limit = limit ?? .max
    guard shared.limit > before else { return }
    if shared.length > before { shared.noteHeld(before..<shared.length) }
    for peer in shared.peers {
      peer.cursor = min(peer.cursor, before)
      request(from: peer, shared)
    }
  }

  /// Has each peer show, before it is asked for blocks, how long a feed it knows, or no longer: for a writer that may not know
  /// all that it has signed. A peer can know of more than it has blocks to tell of. Until it has shown that, it does not count as in
  /// sync; and the feed is not ``isWhole(_:)`` before all is here that a signature was shown of.
  public func askForLength(of key: PublicKey, _ isAsked: Bool) {
    feeds[key]?.asksForLength = isAsked
  }

  /// Notes blocks that this node has appended; call ``announce(_:)`` once they are durable.
  public func appended(_ range: Range<UInt64>, to key: PublicKey) {
    guard !range.isEmpty, let shared = feeds[key] else { return }
    shared.noteNew(range)
    shared.proofEnd = min(shared.proofEnd, range.lowerBound)
  }

  /// Tells peers of the blocks that are new, now that they are durable.
  ///
  /// - Parameter end: those from here on are not durable yet. Of a feed that this node has appended to, all before were signed as a feed
  ///   of that length.
  public func announce(_ key: PublicKey, below end: UInt64 = .max) {
    guard let shared = feeds[key] else { return }
    let ranges = shared.unannounced.map { $0.clamped(to: 0..<min(end, shared.limit)) }.filter { !$0.isEmpty }
    shared.unannounced = shared.unannounced.map { $0.clamped(to: end..<UInt64.max) }.filter { !$0.isEmpty }
    if shared.proofEnd != .max { shared.proofEnd = end < shared.feed.length ? end : .max }
    for peer in shared.peers where peer.isTold {
      guard let session = connections[peer.connection]?.session else { continue }
      for range in ranges {
        for start in stride(from: range.lowerBound, to: range.upperBound, by: Int(Self.regionBlocks)) {
          let length = min(range.upperBound - start, Self.regionBlocks)
          session.send(
            .have(Message.Have(start: start, length: length == 1 ? nil : length)), on: peer.channel)
        }
      }
    }
    for peer in shared.peers { finishIfDone(peer) }
  }

  /// On how many other nodes, of those connected, every block of a feed is.
  public func fullyHeldBy(_ key: PublicKey) -> Int { fullHolders(of: key).count }

  /// The nodes that hold every block of a feed, a connection to each.
  public func fullHolders(of key: PublicKey) -> [ConnectionID] {
    guard let shared = feeds[key], shared.length > 0 else { return [] }
    var nodes: Set<[UInt8]> = []
    var holders: [ConnectionID] = []
    for peer in shared.peers where peer.holds(first: shared.length) {
      guard let id = connections[peer.connection]?.session.remoteHandshake?.id else { continue }
      if nodes.insert(id).inserted { holders.append(peer.connection) }
    }
    return holders
  }

  /// Whether another node has all that is here of a feed, whether that is the whole feed or not.
  public func isHeldElsewhere(_ key: PublicKey) -> Bool {
    guard let shared = feeds[key] else { return false }
    return shared.peers.contains { shared.isHeld(by: $0) }
  }

  /// Whether a peer has said what it holds of a feed.
  public func isAnswered(_ key: PublicKey) -> Bool {
    feeds[key]?.peers.contains { $0.isAnswered } ?? false
  }

  /// Blocks of use in a feed, as far as this node and its peers know.
  public func knownLength(_ key: PublicKey) -> UInt64 {
    feeds[key]?.knownLength ?? 0
  }

  /// Whether blocks of a feed are on their way: some that are known to be, by the owner's signature, or that a peer says it has
  /// of whom there is no reason to doubt it. One that does not send them is doubted within seconds.
  public func isFetching(_ key: PublicKey) -> Bool {
    guard let shared = feeds[key] else { return false }
    let isKnown = shared.feed.heldBlocks < shared.length
    return shared.peers.contains { !$0.requested.isEmpty && (isKnown || !$0.isDoubtful && !$0.isDistrusted) }
  }

  /// Whether all that peers say they hold of a feed is here. What nobody holds is not waited for.
  public func isComplete(_ key: PublicKey) -> Bool {
    feeds[key]?.isComplete ?? false
  }

  /// Whether every block of use is here that the owner is known to have signed, whoever has it. A writer that does not know
  /// all that it has signed must not sign more before.
  public func isWhole(_ key: PublicKey) -> Bool {
    feeds[key]?.isWhole ?? false
  }

  // MARK: - Connections

  /// Takes up a connection, and opens on it every feed that is shared, `first` before the others.
  ///
  /// - Parameter isDistrusted: it comes from where ``isDoubtful(_:of:)`` was so for another.
  public func connect(
    _ id: ConnectionID, _ configuration: Session.Configuration, first: PublicKey, isDistrusted: Bool = false
  ) throws(WireError) {
    guard let shared = feeds[first] else {
      throw WireError(.unknownFeed, "feed \(first.hex) is not shared here")
    }
    let connection = Connection(
      id: id, session: Session(configuration), live: configuration.live, isDistrusted: isDistrusted)
    connections[id] = connection
    try open(shared, on: connection)
    for other in feeds.values where other !== shared { try open(other, on: connection) }
  }

  /// Gives up a connection; what was asked of it is asked of others.
  public func disconnect(_ id: ConnectionID) {
    guard let connection = connections.removeValue(forKey: id) else { return }
    partialBytes -= connection.partialBytes
    for (shared, remote) in connection.feeds.values {
      shared.peers.removeAll { $0 === remote }
      shared.release(remote)
      requestReleased(shared)
    }
  }

  /// Whether a peer has said what it has, and it and this side have the same blocks of every feed that is shared.
  public func isSynced(_ id: ConnectionID) -> Bool {
    guard let connection = connections[id], connection.feeds.count == feeds.count else { return false }
    return connection.feeds.values.allSatisfy {
      $0.shared.isHeld(by: $0.remote) && $0.shared.hasAll(of: $0.remote)
    }
  }

  /// Whether a peer has not sent what it said it had of a feed, and nothing since.
  public func isDoubtful(_ id: ConnectionID, of key: PublicKey) -> Bool {
    connections[id]?.feeds.values.contains { $0.shared.feed.key == key && $0.remote.isDoubtful } ?? false
  }

  /// Doubts what a peer says that it has, until it sends a block: others where it comes from did not send what they said they had.
  public func distrust(_ id: ConnectionID) {
    guard let connection = connections[id] else { return }
    connection.isDistrusted = true
    for (_, remote) in connection.feeds.values { remote.isDistrusted = true }
  }

  /// Takes the bytes to be sent.
  public func takeOutput(of id: ConnectionID) -> [UInt8] {
    connections[id]?.session.takeOutput() ?? []
  }

  /// Says how many of the bytes taken have not left yet, and answers requests while they are few.
  public func setUnsent(_ bytes: Int, on id: ConnectionID) throws(WireError) {
    guard let connection = connections[id] else { return }
    connection.unsent = bytes
    try answerRequests(on: connection)
    for (shared, remote) in connection.feeds.values where remote.isHeldUp && !connection.isFull {
      remote.isHeldUp = false
      want(remote, shared, connection)
      request(from: remote, shared)
    }
  }

  /// Sends an extension's message on a feed's channel.
  ///
  /// - Returns: whether the peer speaks it.
  public func send(extension name: String, _ payload: [UInt8], feed: PublicKey, on id: ConnectionID) -> Bool {
    guard let connection = connections[id] else { return false }
    for (channel, entry) in connection.feeds where entry.shared.feed.key == feed {
      return connection.session.send(extension: name, payload, on: channel)
    }
    return false
  }

  /// What waits on a connection: bytes to be sent, and the most questions of the peer about one feed.
  func backlog(of id: ConnectionID) -> (bytes: Int, questions: Int) {
    guard let connection = connections[id] else { return (0, 0) }
    let questions = connection.feeds.values.map { $0.remote.waitingQuestions }
    return (connection.waitingBytes, questions.max() ?? 0)
  }

  /// Events that were not taken yet.
  var waitingEvents: Int { events.count }

  private func open(_ shared: SharedFeed<Storage>, on connection: Connection) throws(WireError) {
    let channel = try connection.session.open(shared.feed.key)
    guard connection.feeds[channel] == nil else { return }
    let remote = RemoteFeed(
      connection: connection.id, channel: channel, budget: connection.budget,
      isDistrusted: connection.isDistrusted)
    connection.feeds[channel] = (shared, remote)
    shared.peers.append(remote)
    want(remote, shared, connection)
    try connection.session.receiveWaiting(on: channel) { (event) throws(WireError) in
      try handle(event, connection)
    }
  }

  // MARK: - Receiving

  /// Takes what arrived on a connection.
  ///
  /// - Throws: what the peer did that ends the connection; nothing of it was stored.
  public func receive(_ bytes: [UInt8], from id: ConnectionID, now: UInt64) throws(WireError) {
    self.now = max(self.now, now)
    guard let connection = connections[id] else { return }
    if let failure = connection.failure { throw failure }
    connection.budget.refill(now: self.now)
    // Once, however much is said: it takes a look at every peer.
    defer {
      for (shared, _) in connection.feeds.values where shared.hasNewClaims { noteSynced(shared) }
    }
    try connection.session.receive(bytes) { (event) throws(WireError) in
      try handle(event, connection)
    }
    for (shared, remote) in connection.feeds.values {
      request(from: remote, shared)
      requestReleased(shared)
    }
    try answerRequests(on: connection)
    try noteUnfinished(connection)
  }

  /// Messages that are not whole yet are the one thing that a peer may have this side keep before it is known what it is.
  private func noteUnfinished(_ connection: Connection) throws(WireError) {
    partialBytes += connection.session.inputCount - connection.partialBytes
    connection.partialBytes = connection.session.inputCount
    guard partialBytes <= WireLimits.partialBytes || connection.partialBytes <= WireLimits.partialShareBytes
    else { throw WireError(.tooLarge, "too many bytes of messages that are not whole yet") }
  }

  private func handle(_ event: Session.Event, _ connection: Connection) throws(WireError) {
    switch event {
    case .wants(let discoveryKey):
      if let shared = byDiscoveryKey[discoveryKey] {
        try open(shared, on: connection)
      } else {
        events.append(.unknownFeed(connection.id, discoveryKey))
      }
    case .handshake:
      events.append(.handshake(connection.id))
    case .extension(let name, let payload, let channel):
      guard let (shared, _) = connection.feeds[channel] else { return }
      events.append(.extension(connection.id, shared.feed.key, name: name, payload: payload))
    case .message(let message, let channel):
      guard let (shared, remote) = connection.feeds[channel] else { return }
      try handle(message, remote, shared, connection)
    }
  }

  private func handle(
    _ message: Message, _ remote: RemoteFeed, _ shared: SharedFeed<Storage>, _ connection: Connection
  ) throws(WireError) {
    switch message {
    case .data(let data):
      if let probe = remote.probe {
        try take(data, provingBlock: probe, remote, shared, connection)
      } else {
        try take(data, remote, shared, connection)
      }
    case .request(let request): try remote.ask(.request(request))
    case .have(let have):
      if have.bitfield != nil { remote.openWants = max(0, remote.openWants - 1) }
      try remote.note(have)
      let range = have.start..<have.start + RemoteFeed.covered(by: have)
      let work = shared.noteClaims(of: remote, about: range)
      // One without a bitfield has paid for each block already, and takes none back.
      if have.bitfield != nil { try connection.budget.spend(work) }
      want(remote, shared, connection)
      shared.hasNewClaims = true
    case .unhave(let unhave):
      try remote.note(unhave)
      try connection.budget.spend(shared.noteClaims(of: remote, about: 0..<0))
      if let probe = remote.probe, unhave.start == probe {
        // Another block shows as well how long the feed is.
        if shared.asksForLength { remote.isProbed = false }
        endProbe(remote, shared, connection)
      }
      let released = shared.release(remote, from: unhave.start, count: unhave.length ?? 1)
      if released > 0 { remote.isDoubtful = true }
      try connection.budget.spend(UInt64(released) * WireLimits.takenBackBlocks)
      shared.hasNewClaims = true
    case .want(let want): try remote.ask(.want(want))
    case .cancel(let cancel): try remote.cancel(cancel)
    case .info(let info):
      remote.downloads = info.downloading ?? remote.downloads
      finishIfDone(remote)
    case .feed, .handshake, .unwant, .extension: break
    }
  }

  private func take(
    _ data: Message.Data, _ remote: RemoteFeed, _ shared: SharedFeed<Storage>, _ connection: Connection
  ) throws(WireError) {
    guard remote.requested.remove(data.index) != nil else {
      throw WireError(.unasked, "block \(data.index) was not asked for")
    }
    shared.reserved.remove(data.index)
    remote.lastProgress = now
    guard let value = data.value else {
      throw WireError(.unasked, "block \(data.index) came without its contents")
    }
    let isNew = !shared.feed.has(data.index)
    let length = shared.feed.length
    do throws(FeedError) {
      try shared.feed.put(value, at: data.index, proof: data.proof)
    } catch {
      // Others have it, perhaps, who were not asked because this one was.
      shared.offerAgain(from: data.index)
      let error = WireError(Self.code(error), error.context)
      if shared.mayFail, case .local = error.code {
        remote.part(at: min(data.index, shared.feed.length))
        events.append(.leftOut(shared.feed.key))
        return noteSynced(shared)
      }
      guard error.code == .unverified else { throw error }
      if let node = connection.session.remoteHandshake?.id { shared.suspect(node) }
      throw error
    }
    if data.index >= length {
      // Beyond what was known, what a peer sends is proved by its newest signature.
      remote.hasShownLength = true
    } else if shared.asksForLength, !remote.hasShownLength,
      let place = Self.signedPlace(data, value, shared.feed.key)
    {
      // So is the first that one sends who was asked when nothing was known, though another has sent more by now.
      (remote.hasShownLength, shared.shownLength) = (true, max(shared.shownLength, place.length))
    }
    guard isNew else { return }
    (remote.isDoubtful, remote.isDistrusted) = (false, false)
    shared.meanBlockBytes += (value.count - shared.meanBlockBytes) / 8
    shared.noteNew(data.index..<data.index + 1)
    events.append(.downloaded(shared.feed.key, index: data.index))
    noteSynced(shared)
  }

  // MARK: - Forks

  /// Asks a node that has sent what does not verify, or each that is to show how long a feed it knows, for proof of a block that both
  /// have: as somebody who knows nothing, so that the proof goes up to a signature. That has to come before any request on the
  /// connection that says what is known.
  private func probe(_ remote: RemoteFeed, _ shared: SharedFeed<Storage>, _ connection: Connection) {
    let end = min(shared.feed.length, remote.length)
    guard !remote.isProbed, !remote.wasAsked, end > 0, let node = connection.session.remoteHandshake?.id
    else { return }
    remote.isProbed = true
    guard shared.takeSuspicion(of: node) || shared.asksForLength else { return }
    // The last block, above which and to the left of which is all that both should have in common.
    let index = remote.held[end - 1] ? end - 1 : remote.held.first(true, in: 0..<end)
    if let index { ask(remote, connection, toProve: index) }
  }

  private func ask(_ remote: RemoteFeed, _ connection: Connection, toProve index: UInt64) {
    remote.probe = index
    remote.lastProgress = now
    connection.session.send(.request(Message.Request(index: index, nodes: 0)), on: remote.channel)
  }

  private func take(
    _ data: Message.Data, provingBlock index: UInt64, _ remote: RemoteFeed, _ shared: SharedFeed<Storage>,
    _ connection: Connection
  ) throws(WireError) {
    guard data.index == index, let value = data.value else {
      throw WireError(.unasked, "block \(data.index) was not asked for")
    }
    guard let place = Self.signedPlace(data, value, shared.feed.key) else {
      throw WireError(.unverified, "block \(index) does not belong to the feed")
    }
    remote.hasShownLength = true
    shared.shownLength = max(shared.shownLength, place.length)
    let found: (fork: Fork?, common: (length: UInt64, isExact: Bool))
    do throws(FeedError) {
      found = (try shared.feed.fork(with: place), try shared.feed.common(with: place))
    } catch {
      throw WireError(Self.code(error), error.context)
    }
    guard let fork = found.fork else { return endProbe(remote, shared, connection) }
    // Each answer tells of more that is the same, or that there is no more to be told; of an owner who has signed more than two
    // versions, it may be of another one each time.
    let next = found.common.length
    remote.shown = (fork, next)
    remote.probeSteps += 1
    let isFurther = next > index && next < min(shared.feed.length, place.length)
    if !found.common.isExact, isFurther || next < index, remote.probeSteps < WireLimits.probeSteps {
      return ask(remote, connection, toProve: next)
    }
    endProbe(remote, shared, connection)
  }

  /// - Returns: `nil` where what came along with a block does not lead up to a signature by the feed's owner.
  private static func signedPlace(_ data: Message.Data, _ value: [UInt8], _ key: PublicKey) -> SignedPlace? {
    let leaf = Node(
      treeIndex: 2 * data.index, hash: value.withBytes { Crypto.leaf($0) }, byteSize: UInt64(value.count))
    return data.proof.signature.flatMap {
      SignedPlace(index: data.index, path: [leaf] + data.proof.nodes, signature: $0, key: key)
    }
  }

  /// Draws the conclusion from what a peer has shown.
  private func endProbe(_ remote: RemoteFeed, _ shared: SharedFeed<Storage>, _ connection: Connection) {
    remote.probe = nil
    guard let (fork, common) = remote.shown else { return }
    remote.shown = nil
    remote.part(at: common)
    // When it comes again, it is asked for proof again, before it can send what does not verify.
    if let node = connection.session.remoteHandshake?.id { shared.suspect(node) }
    limit(shared.feed.key, to: min(common, shared.limit))
    events.append(.forked(shared.feed.key, fork, common: common))
    noteSynced(shared)
  }

  private static func code(_ error: FeedError) -> WireError.Code {
    switch error.code {
    case .badProof, .badSignature: .unverified
    case .tooLarge: .tooLarge
    default: .local(error.code)
    }
  }

  private func noteSynced(_ shared: SharedFeed<Storage>) {
    shared.hasNewClaims = false
    let isComplete = shared.isComplete
    if isComplete, !shared.saidSynced { events.append(.synced(shared.feed.key)) }
    shared.saidSynced = isComplete
  }

  // MARK: - Asking

  /// Asks about the next regions: always the first, and further ones as far as the peer or this side has blocks.
  private func want(_ remote: RemoteFeed, _ shared: SharedFeed<Storage>, _ connection: Connection) {
    let length = max(remote.length, shared.feed.length, 1)
    while remote.wantedRegions * Self.regionBlocks < length, remote.openWants < WireLimits.openWants {
      if connection.isFull {
        remote.isHeldUp = true
        return
      }
      connection.session.send(
        .want(Message.Want(start: remote.wantedRegions * Self.regionBlocks, length: Self.regionBlocks)),
        on: remote.channel)
      remote.wantedRegions += 1
      remote.openWants += 1
    }
  }

  private func request(from remote: RemoteFeed, _ shared: SharedFeed<Storage>) {
    guard takesBlocks, shared.downloads, let connection = connections[remote.connection] else { return }
    probe(remote, shared, connection)
    guard remote.probe == nil else { return }
    // Many at a time: each piece that is sent by itself costs both sides a system call and a change of process.
    let isDue = remote.requested.count <= shared.requestDepth / 2
    while isDue, remote.requested.count < shared.requestDepth {
      if connection.isFull {
        remote.isHeldUp = true
        break
      }
      guard let index = shared.nextToRequest(from: remote) else { break }
      request(index, from: remote, shared, connection)
    }
    finishIfDone(remote)
  }

  private func request(
    _ index: UInt64, from remote: RemoteFeed, _ shared: SharedFeed<Storage>, _ connection: Connection
  ) {
    if remote.requested.isEmpty { remote.lastProgress = now }
    remote.requested.insert(index)
    remote.wasAsked = true
    shared.reserved.insert(index)
    connection.session.send(
      .request(Message.Request(index: index, nodes: shared.feed.digest(of: index))), on: remote.channel)
  }

  /// Asks other peers for what one has given up, and for what a gap kept from being asked for.
  private func requestReleased(_ shared: SharedFeed<Storage>) {
    guard shared.hasReleased else { return }
    shared.hasReleased = false
    for peer in shared.peers { request(from: peer, shared) }
  }

  /// Asks peers that have nothing to do for blocks that others have not sent yet.
  private func requestAgain(_ shared: SharedFeed<Storage>) {
    guard takesBlocks, shared.downloads else { return }
    for remote in shared.peers where remote.probe == nil {
      guard let connection = connections[remote.connection], !connection.isFull else { continue }
      probe(remote, shared, connection)
      guard remote.probe == nil else { continue }
      for index in shared.secondRequests(of: remote) { request(index, from: remote, shared, connection) }
    }
  }

  // MARK: - Answering

  private func answer(
    _ want: Message.Want, _ remote: RemoteFeed, _ shared: SharedFeed<Storage>, _ connection: Connection
  ) throws(WireError) {
    let length = want.length ?? Self.regionBlocks
    guard want.start & 8191 == 0, length & 8191 == 0, want.start <= Limits.feedBlocks else { return }
    guard length <= WireLimits.wantBlocks else {
      throw WireError(.tooLarge, "a want of \(length) blocks")
    }
    if !remote.isTold, shared.length > 0, shared.offers(shared.length - 1) {
      // The feed's length, before any bitfield.
      connection.session.send(.have(Message.Have(start: shared.length - 1)), on: remote.channel)
    }
    remote.isTold = true
    // Of a long feed of which there is little, most regions are empty.
    let region = min(want.start, shared.length)..<min(want.start + length, shared.length)
    let isEmpty = shared.feed.firstHeld(in: region) == nil
    try connection.budget.spend(isEmpty ? min(8192, length) : UInt64(region.count))
    let bits = RunLengthBitfield.encode(shared.offered(start: want.start, length: length))
    connection.session.send(
      .have(Message.Have(start: want.start, length: length, bitfield: bits)), on: remote.channel)
  }

  private func answerRequests(on connection: Connection) throws(WireError) {
    for (shared, remote) in connection.feeds.values {
      while !connection.isFull, let question = remote.nextQuestion() {
        switch question {
        case .want(let want): try answer(want, remote, shared, connection)
        case .request(let request): try answer(request, remote, shared, connection)
        }
      }
    }
  }

  private func answer(
    _ request: Message.Request, _ remote: RemoteFeed, _ shared: SharedFeed<Storage>, _ connection: Connection
  ) throws(WireError) {
    let feed = shared.feed
    let hashOnly = request.hash ?? false
    do throws(FeedError) {
      var index = request.index
      var digest = request.nodes ?? 0
      if let byte = request.bytes, byte > 0 {
        index = try feed.index(ofByte: byte) ?? index
        digest = 0
      }
      guard hashOnly || shared.offers(index) else {
        connection.session.send(.unhave(Message.Unhave(start: index)), on: remote.channel)
        return
      }
      let proof = try feed.proof(
        of: index, digest: digest, hashOnly: hashOnly, remoteTree: remote.tree, below: shared.proofEnd)
      let value = hashOnly ? nil : try feed.block(at: index)
      connection.session.send(
        .data(Message.Data(index: index, value: value, proof: proof)), on: remote.channel)
    } catch {
      if error.code == .missing || shared.mayFail {
        connection.session.send(.unhave(Message.Unhave(start: request.index)), on: remote.channel)
        return
      }
      throw WireError(.local(error.code), error.context)
    }
  }

  // MARK: - Ending

  /// On a connection that is not live, says when this side has all, and ends when both sides have.
  private func finishIfDone(_ remote: RemoteFeed) {
    guard let connection = connections[remote.connection], !connection.live, !connection.finished,
      let (shared, _) = connection.feeds[remote.channel]
    else { return }
    let hasAll = !shared.downloads || (remote.openWants == 0 && remote.requested.isEmpty && shared.isComplete)
    guard hasAll else { return }
    if !remote.saidDone {
      remote.saidDone = true
      connection.session.send(.info(Message.Info(uploading: true, downloading: false)), on: remote.channel)
    }
    let done = connection.feeds.values.allSatisfy { $0.remote.saidDone && !$0.remote.downloads }
    if done {
      connection.finished = true
      events.append(.finished(connection.id))
    }
  }

  // MARK: - Time

  /// Keeps connections alive.
  ///
  /// - Returns: the connections whose peer is gone or does not answer, and why, to be closed.
  public func tick(now: UInt64) -> [(ConnectionID, WireError)] {
    self.now = max(self.now, now)
    var gone: [(ConnectionID, WireError)] = []
    for connection in connections.values {
      do throws(WireError) {
        if let failure = connection.failure { throw failure }
        connection.budget.refill(now: self.now)
        try connection.session.tick(now: now)
        guard connection.waitingBytes < WireLimits.unreadBytes else {
          throw WireError(.tooLarge, "over \(WireLimits.unreadBytes) bytes that the peer does not read")
        }
        for (_, remote) in connection.feeds.values where !remote.requested.isEmpty || remote.probe != nil {
          if self.now >= remote.lastProgress + WireLimits.doubtMilliseconds { remote.isDoubtful = true }
          guard now < remote.lastProgress + WireLimits.requestMilliseconds else {
            throw WireError(.timedOut, "a block asked for did not come")
          }
        }
      } catch {
        gone.append((connection.id, error))
      }
    }
    for shared in feeds.values { requestAgain(shared) }
    return gone
  }
}
