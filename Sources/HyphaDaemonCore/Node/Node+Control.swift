import Hypercore
import Hyperdb
import Hypha
public import HyphaControlAPI

extension Node: ControlService {
  static let notInitialised = ControlError(
    .notInitialised,
    "This node holds no hypha yet: make one with “hyphactl init”, or claim it from your own node with "
      + "“hyphactl connect” and the code that “hyphactl setup-code” shows.")

  /// For a writer that was restored, made anew from the passphrase, or repaired.
  static let catchesUpError = ControlError(
    .behind,
    "This node may not write yet: its own feed came from a backup, lost blocks, or may have been begun before, and has to be in "
      + "sync with every node that it stays connected to first, or it could contradict what it wrote there. “hyphactl "
      + "wait --synced” waits for that, “hyphactl peers” shows who is missing; “hyphactl disconnect” those that are gone for good."
  )

  static func controlError(_ error: HyphaError) -> ControlError {
    switch error.code {
    case .readOnly:
      ControlError(
        .readOnly,
        "This node keeps the hypha but cannot write to it: do this on a node that is authorised, or have one of those "
          + "authorise this node's writer, if “hyphactl status” shows one.")
    case .revoked:
      ControlError(
        .revoked,
        "This device was revoked: it may not write any longer. To have it let in anew, “hyphactl sign-out” and sign in."
      )
    case .forked:
      ControlError(
        .forked,
        "This device's feed was signed in two versions, here and elsewhere, as happens when its state was copied or set back: "
          + "it may not write any longer. “hyphactl doctor” says what to do.")
    case .needsNewWriter:
      ControlError(
        .invalidParams,
        "That device's writer was revoked, let in only by one that was, or signed two versions of its feed: it counts no "
          + "longer. Have the device “hyphactl sign-out” and sign in anew, and let in its new writer.",
        field: "key")
    case .unknownRequest, .unknownDevice: ControlError(.notFound, error.context, field: "device")
    case .ambiguousRequest, .ambiguousDevice: ControlError(.ambiguous, error.context, field: "device")
    case .requestExpired: ControlError(.requestExpired, error.context, field: "device")
    case .requestAnswered: ControlError(.alreadyAnswered, error.context, field: "device")
    case .requestPending, .isAuthorised: ControlError(.alreadyExists, error.context)
    case .isOrigin: ControlError(.invalidParams, error.context, field: "device")
    case .badDeviceName: ControlError(.invalidParams, error.context, field: "name")
    case .behind:
      ControlError(
        .behind,
        "Entries that this node's own refer to are missing: connect to a node that has them, and try again.")
    case .textEmpty: ControlError(.textEmpty, error.context, field: "text")
    case .textTooLong: ControlError(.textTooLong, error.context, field: "text")
    case .unknownPost: ControlError(.notFound, error.context, field: "id")
    case .badID: ControlError(.invalidParams, error.context, field: "id")
    case .badPassphrase: ControlError(.invalidParams, error.context, field: "passphrase")
    case .badDomain: ControlError(.invalidParams, error.context, field: "domain")
    case .noMemory: ControlError(.internalError, error.context)
    case .database(.exists): ControlError(.alreadyExists, error.context, field: "key")
    case .database(.badVersion): ControlError(.notFound, error.context, field: "at")
    case .database(.badKey): ControlError(.invalidParams, error.context, field: "key")
    case .database(.tooLarge): ControlError(.limitReached, error.context)
    case .database(.feed(.storage(.full))): ControlError(.diskFull, "The disk is full: \(error.context)")
    case .database: ControlError(.storageFailed, error.context)
    }
  }

  static func controlError(_ error: NodeError) -> ControlError {
    ControlError(error.code == .full ? .diskFull : .storageFailed, error.context)
  }

  public func version() async throws(ControlError) -> NodeVersion.Result {
    NodeVersion.Result(name: "hyphad", version: ControlAPI.release)
  }

  public func status() async throws(ControlError) -> NodeInfo { try info() }

  func info() throws(ControlError) -> NodeInfo {
    let hypha = record == nil ? nil : hypha
    let (known, canPost): ([Feed<FileStorage>], Bool)
    do throws(HyphaError) {
      (known, canPost) = (try hypha?.feeds() ?? [], try hypha?.canPost() ?? false)
    } catch {
      throw Self.controlError(error)
    }
    let feeds = known.map { feed in
      let holders = replicator.fullHolders(of: feed.key)
      return FeedInfo(
        key: feed.key.hex, writable: feed.isWritable, length: feed.length, byteLength: feed.byteLength,
        heldBlocks: feed.heldBlocks, fullyHeldBy: holders.count,
        fullyHeldAt: holders.prefix(ControlLimits.holdersPerFeed).compactMap { address(of: $0) }.sorted(),
        forkedAt: hypha?.frozen(feed.key))
    }
    var role = record?.role ?? .uninitialised
    if role == .reader, canPost { role = .authorised }
    if let writer = hypha?.database.local?.key, revoked.contains(writer) { role = .revoked }
    return NodeInfo(
      role: role, hyphalink: record?.hyphalink, domain: record?.domain ?? domain,
      deviceName: record?.deviceName ?? deviceName(nil), ready: notReady == nil, notReady: notReady,
      canPost: canPost && record?.catchesUp != true, writer: hypha?.database.local?.key.hex,
      request: ownRequestInfo,
      sealedMessages: sealedMessages, feeds: feeds, peers: connections.count, diskBytes: files.diskBytes(),
      storage: storageInfo, catchesUp: record?.catchesUp, version: ControlAPI.release, started: started)
  }

  // MARK: - Becoming something

  public func generatePassphrase(
    _ params: PassphraseGenerate.Params
  ) async throws(ControlError) -> PassphraseGenerate.Result {
    wipeFreedMemory()
    let passphrase = Passphrase(randomWords: params.words ?? HyphaLimits.passphraseWords.lowerBound)
    return PassphraseGenerate.Result(
      passphrase: Secret(passphrase.reveal()), words: passphrase.wordCount,
      bits: Double(Passphrase.entropy(words: passphrase.wordCount)))
  }

  public func initialise(_ params: NodeInitialise.Params) async throws(ControlError) -> NodeInitialise.Result
  {
    try checkIsNobodys()
    try checkRoom()
    let name = try checkedDeviceName(params.deviceName)
    let record: NodeRecord
    var notAsked: String?
    switch (params.passphrase, params.hyphalink) {
    case (nil, let link?): record = try keeperRecord(link, params, name)
    case (let passphrase?, nil) where params.writer == nil:
      (record, notAsked) = try await makeOrigin(passphrase, params, name)
    default:
      throw ControlError(
        .invalidParams, "give either a passphrase and a domain, or a hyphalink, with a writer or without",
        field: "passphrase")
    }
    try become(record)
    await connectKept()
    return NodeInitialise.Result(
      hyphalink: record.hyphalink, role: record.role, writer: hypha?.database.local?.key.hex,
      notAsked: notAsked)
  }

  private func checkIsNobodys() throws(ControlError) {
    guard record == nil, claim.candidate == nil, restore == nil else {
      throw ControlError(
        .alreadyInitialised,
        "This node already keeps the hypha \(record?.hyphalink ?? "that is just being set up"), and keeps that one."
      )
    }
  }

  /// Opens what this node is from now on, and then says so on disk.
  func become(_ record: NodeRecord) throws(ControlError) {
    let before = self.record
    do throws(NodeError) {
      try openHypha(record, becomes: true)
      do throws(NodeError) { try files.write(record) } catch {
        // The next start would go by what the disk says.
        self.record = before
        throw error
      }
      try files.removeSetupCode()
    } catch {
      fail(error)
      throw Self.controlError(error)
    }
    logger.notice(
      "Initialised", metadata: ["role": "\(record.role.rawValue)", "hyphalink": "\(record.hyphalink)"])
    recordEvent(.initialised) { $0.hyphalink = record.hyphalink }
  }

  /// An always-on node's, or with a writer a device's, whose secret key is kept.
  private func keeperRecord(
    _ link: String, _ params: NodeInitialise.Params, _ name: String
  ) throws(ControlError) -> NodeRecord {
    guard let key = Self.key(hyphalink: link) else {
      throw ControlError(
        .invalidParams, "a hyphalink is dat:// and 64 hexadecimal digits, or these alone", field: "hyphalink")
    }
    var record = NodeRecord(
      role: .alwaysOn, key: key.hex, domain: try normalised(params.domain ?? domain), deviceName: name)
    if params.writer == true {
      let writer = KeyPair()
      do throws(NodeError) { try files.writeWriter(writer) } catch { throw Self.controlError(error) }
      record.role = .reader
      record.writer = writer.publicKey.hex
    }
    return record
  }

  /// Derives the keys and keeps the secrets: the origin's record and feed follow.
  ///
  /// - Returns: the record, and why the domain could not be asked whether there is such a hypha, if so.
  private func makeOrigin(
    _ passphrase: Secret, _ params: NodeInitialise.Params, _ name: String
  ) async throws(ControlError) -> (NodeRecord, notAsked: String?) {
    guard let domain = try normalised(params.domain ?? domain) else {
      throw ControlError(
        .invalidParams, "the domain is missing: the keys are derived from it and the passphrase",
        field: "domain")
    }
    let keys: HyphaKeys
    do throws(HyphaError) {
      keys = try HyphaKeys(Passphrase(typed: passphrase.text), domain: domain)
    } catch {
      throw Self.controlError(error)
    }
    let key = keys.writer.publicKey
    var record = NodeRecord(role: .origin, key: key.hex, domain: domain, deviceName: name)
    var notAsked: String?
    if params.generated != true {
      notAsked = try await checkIsNew(key, domain)
      record.mayBeKnown = true
      // Much may have happened meanwhile.
      try checkIsNobodys()
    }
    do throws(NodeError) { try files.writeSecrets(keys) } catch { throw Self.controlError(error) }
    return (record, notAsked)
  }

  /// Asks the domain whether there is the hypha already: begun anew, it would contradict what its origin wrote, and be frozen there.
  ///
  /// - Returns: why the domain could not be asked; `nil` where it answered, also that it has none.
  private func checkIsNew(_ key: PublicKey, _ domain: String) async throws(ControlError) -> String? {
    guard let lookup else { throw ControlError(.stopping, "The daemon is starting or stopping.") }
    let found: PublicKey
    do throws(LookupError) { found = try await lookup.key(of: HyphaAddress(domain)) } catch {
      return error.code == .notFound ? nil : error.context
    }
    guard found == key else { return nil }
    throw ControlError(
      .alreadyExists,
      "This passphrase has made the hypha dat://\(key.hex) already, which \(domain) has: nothing was made. “hyphactl sign-in "
        + "\(domain)” makes this node a further device of it; with --as-origin, it takes the place of the origin, if that is lost."
    )
  }

  /// What this device is to be called.
  func checkedDeviceName(_ asked: String?) throws(ControlError) -> String {
    do throws(HyphaError) { return try Device.checked(name: deviceName(asked)) } catch {
      throw ControlError(.invalidParams, error.context, field: "deviceName")
    }
  }

  func normalised(_ domain: String?) throws(ControlError) -> String? {
    guard let domain else { return nil }
    do throws(HyphaError) { return try HyphaKeys.normalise(domain: domain) } catch {
      throw Self.controlError(error)
    }
  }

  private static func key(hyphalink text: String) -> PublicKey? {
    let prefix = "dat://"
    var digits = text.hasPrefix(prefix) ? text.dropFirst(prefix.count) : text[...]
    if digits.hasSuffix("/") { digits = digits.dropLast() }
    return PublicKey(hex: digits)
  }

  public func setupCode(_ params: SetupCodeShow.Params) async throws(ControlError) -> SetupCodeShow.Result {
    let domain = try normalised(params.domain) ?? (settings.node.domain.isEmpty ? nil : settings.node.domain)
    guard let code = claim.code else {
      throw ControlError(
        .alreadyInitialised, "This node already keeps a hypha: no setup code is valid any more.")
    }
    return SetupCodeShow.Result(
      code: Secret(code.text), link: Secret("\(web.site(domain: domain))/#setup=\(code.text)"))
  }

  // MARK: - Posts

  public func createPost(_ params: PostsCreate.Params) async throws(ControlError) -> PostsCreate.Result {
    guard record != nil, let device = record?.deviceName else { throw Self.notInitialised }
    let post = try await commit { (hypha) throws(HyphaError) in
      try hypha.post(
        params.text, device: device, now: Self.now().milliseconds, random: Self.random(10))
    }
    return PostsCreate.Result(id: post.id.text, created: Timestamp(milliseconds: post.created))
  }

  public func listPosts(_ params: PostsList.Params) async throws(ControlError) -> PostsList.Result {
    guard record != nil, let hypha else { throw Self.notInitialised }
    let before = try params.before.map { (id) throws(ControlError) in try Self.postID(id, field: "before") }
    let limit = params.limit ?? ControlLimits.defaultPostsPerList
    do throws(HyphaError) {
      let found = try hypha.posts(
        limit: limit, since: params.since?.milliseconds, before: before, all: params.all ?? false)
      var posts: [PostInfo] = []
      var bytes = 0
      for post in found.posts {
        bytes += post.text.utf8.count
        if bytes > ControlLimits.textBytesPerList, !posts.isEmpty {
          return PostsList.Result(posts: posts, more: true)
        }
        posts.append(PostInfo(post))
      }
      return PostsList.Result(posts: posts, more: found.more)
    } catch {
      throw Self.controlError(error)
    }
  }

  public func deletePost(_ params: PostsDelete.Params) async throws(ControlError) -> PostsDelete.Result {
    guard record != nil else { throw Self.notInitialised }
    let id = try Self.postID(params.id, field: "id")
    try await commit { (hypha) throws(HyphaError) in try hypha.delete(id) }
    return PostsDelete.Result(id: id.text)
  }

  private static func postID(_ text: String, field: String) throws(ControlError) -> PostID {
    guard let id = PostID(text) else {
      throw ControlError(
        .invalidParams, "“\(text.prefix(40))” is not a post's id: 26 letters and digits", field: field)
    }
    return id
  }

  // MARK: - Peers and connections

  public func listPeers() async throws(ControlError) -> PeersList.Result {
    PeersList.Result(
      peers: connections.keys.sorted().compactMap { peerInfo($0) }, rejected: rejections.infos,
      refusedConnections: limiter?.refused ?? 0, droppedMessages: membership?.drops.counts)
  }

  public func listConnections() async throws(ControlError) -> ConnectionsList.Result {
    ConnectionsList.Result(connections: await outgoing?.statuses ?? [])
  }

  // MARK: - Waiting and events

  public func wait(_ params: NodeWait.Params) async throws(ControlError) -> NodeInfo {
    let deadline = Double(monotonic) / 1000 + (params.timeoutSeconds ?? ControlLimits.waitSeconds)
    while true {
      if try isFulfilled(params.for) { return try await status() }
      guard Double(monotonic) / 1000 < deadline, !Task.isCancelled, !isStopping else {
        throw ControlError(
          .timedOut,
          params.for == .answered
            ? "The request to be let in is not answered yet."
            : notReady
              ?? (record?.catchesUp == true
                ? Self.catchesUpError.message : "The node is ready, but not in sync with any other node."))
      }
      try? await Task.sleep(for: .milliseconds(50))
    }
  }

  private func isFulfilled(_ condition: NodeWait.Condition) throws(ControlError) -> Bool {
    switch condition {
    case .ready: return notReady == nil
    case .synced: return notReady == nil && isSynced && record?.catchesUp != true
    case .answered:
      guard record != nil, let hypha else { throw Self.notInitialised }
      do throws(HyphaError) {
        if try hypha.canPost() { return true }
      } catch {
        throw Self.controlError(error)
      }
      guard let request = ownRequestInfo else {
        throw ControlError(.notFound, "This node has not asked to be let in: “hyphactl sign-in” does.")
      }
      // What lets it in may come later than the word that it was.
      return request.state == .denied || request.state == .expired
    }
  }

  /// All that peers hold is here, and of each feed at least one of them holds all that is here.
  var isSynced: Bool {
    guard let hypha, !connections.isEmpty, let feeds = try? hypha.feeds() else { return false }
    guard hypha.source.length > 0 else { return false }
    return feeds.allSatisfy { replicator.isComplete($0.key) && replicator.isHeldElsewhere($0.key) }
  }

  public func events(after id: UInt64?) async -> AsyncStream<ControlEvent> {
    events.follow(after: id)
  }
}

extension PostInfo {
  init(_ post: Post) {
    self.init(
      id: post.id.text, text: post.text, created: Timestamp(milliseconds: post.created), device: post.device,
      writer: post.writer.hex, shown: post.isShown)
  }
}
