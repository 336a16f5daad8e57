import CSodium
import Hypercore
import Hypha

/// What the page can call. `Web/core.mjs` has the same list; its functions say what goes in and comes out.
enum Method: UInt32 {
  case newPassphrase = 1
  case deriveKeys = 2
  case newWriter = 3
  case checkPassphrase = 4
  case load = 10
  case open = 11
  case commit = 12
  case committed = 13
  case status = 14
  case events = 15
  case tick = 16
  case post = 20
  case deletePost = 21
  case posts = 22
  case connect = 30
  case receive = 31
  case output = 32
  case disconnect = 33
  case request = 40
  case ownRequest = 41
  case requests = 42
  case approve = 43
  case deny = 44
  case devices = 50
  case rename = 51
  case revoke = 52
  case restore = 53

  /// Whether a passphrase or a key goes in or comes out.
  var isSecret: Bool {
    switch self {
    case .newPassphrase, .deriveKeys, .newWriter, .checkPassphrase, .open: true
    default: false
    }
  }

  func carryOut(
    _ request: inout RequestReader, _ response: inout ResponseWriter, _ instance: inout Instance
  ) throws(WebError) {
    switch self {
    case .newPassphrase, .deriveKeys, .newWriter, .checkPassphrase: try makeKeys(&request, &response)
    case .load:
      let name = try request.text()
      instance.files[name] = try request.data()
    case .open:
      let key = try request.key()
      var secretKey = try request.optional()
      defer { secretKey?.withUnsafeMutableBytes { SecretBytes.wipe($0) } }
      let channelKey = try request.secret(count: 32)
      let state = WebNode.WriterState(rawValue: try request.byte())
      let files = instance.files
      instance.files = [:]
      guard let state else { throw WebError("badRequest", "a writer is kept, new or behind") }
      instance.node = try WebNode(
        key, secretKey: secretKey, channelKey: channelKey, state: state, files: files)
    default:
      guard let node = instance.node else { throw WebError("badRequest", "no hypha is open") }
      defer { node.noteWritten() }
      switch self {
      case .commit, .committed, .status, .events, .tick: try useNode(node, &request, &response)
      case .post, .deletePost, .posts: try usePosts(node, &request, &response)
      case .connect, .receive, .output, .disconnect: try useConnection(node, &request, &response)
      case .request, .ownRequest, .requests, .approve, .deny: try useRequests(node, &request, &response)
      default: try useDevices(node, &request, &response)
      }
    }
  }

  // MARK: - Keys

  private func makeKeys(_ request: inout RequestReader, _ response: inout ResponseWriter) throws(WebError) {
    switch self {
    case .newPassphrase:
      response.append(Passphrase().reveal())
    case .deriveKeys:
      let (passphrase, domain) = (try request.text(), try request.text())
      do throws(HyphaError) {
        let keys = try HyphaKeys(Passphrase(typed: passphrase), domain: domain)
        response.append(keys.writer.publicKey)
        response.append(keys.writer.secretKey)
        response.append(keys.channel)
        response.append(keys.atRest)
      } catch {
        throw WebError(error)
      }
    case .checkPassphrase:
      let (words, wrong) = Passphrase.check(typed: try request.text())
      response.append(count: words)
      response.append(count: wrong.count)
      for word in wrong {
        response.append(count: word.place)
        response.append(word.hint ?? "")
      }
    default:
      let pair = KeyPair()
      response.append(pair.publicKey)
      response.append(pair.secretKey)
    }
  }

  // MARK: - Node

  private func useNode(
    _ node: WebNode, _ request: inout RequestReader, _ response: inout ResponseWriter
  ) throws(WebError) {
    switch self {
    case .commit: response.append(try node.commit())
    case .committed: try node.committed(now: try request.time())
    case .events:
      let events = node.takeEvents()
      response.append(events.map { $0.rawValue })
    case .tick:
      let closed = node.tick(clock: try request.uint64(), now: try request.time())
      response.append(count: closed.count)
      for id in closed { response.append(id) }
    default:
      response.append(try node.status())
    }
  }

  // MARK: - Posts

  private func usePosts(
    _ node: WebNode, _ request: inout RequestReader, _ response: inout ResponseWriter
  ) throws(WebError) {
    if self != .posts { try node.checkWhole() }
    switch self {
    case .post:
      let (text, device, now) = (try request.text(), try request.text(), try request.time())
      let post = try core { () throws(HyphaError) in
        try node.hypha.post(text, device: device, now: now, random: randomBytes(10))
      }
      node.wrote()
      response.append(post)
    case .deletePost:
      let id = try Self.postID(try request.text())
      try core { () throws(HyphaError) in try node.hypha.delete(id) }
      node.wrote()
    default:
      let limit = try request.count()
      let before = try request.text()
      let beforeID = before.isEmpty ? nil : try Self.postID(before)
      let (posts, more) = try core { () throws(HyphaError) in
        try node.hypha.posts(limit: limit, before: beforeID)
      }
      response.append(more)
      response.append(count: posts.count)
      for post in posts { response.append(post) }
    }
  }

  private static func postID(_ text: String) throws(WebError) -> PostID {
    guard let id = PostID(text) else { throw WebError("badID", "“\(text)” is no post's id") }
    return id
  }

  // MARK: - Connections

  private func useConnection(
    _ node: WebNode, _ request: inout RequestReader, _ response: inout ResponseWriter
  ) throws(WebError) {
    let id = try request.uint64()
    switch self {
    case .connect: try node.connect(id)
    case .receive:
      let (clock, now) = (try request.uint64(), try request.time())
      try node.receive(try request.data(), from: id, clock: clock, now: now)
    case .output: response.append(try node.output(of: id, unsent: try request.count()))
    default: node.disconnect(id)
    }
  }

  // MARK: - Requests and devices

  private func useRequests(
    _ node: WebNode, _ request: inout RequestReader, _ response: inout ResponseWriter
  ) throws(WebError) {
    switch self {
    case .request:
      let (name, now) = (try request.text(), try request.time())
      let own = try core { () throws(HyphaError) in
        try node.membership.request(
          name: name, lifetime: HyphaLimits.requestLifetime, now: now, random: randomBytes(40))
      }
      node.wrote()
      response.append(own)
    case .ownRequest:
      let own = node.membership.ownRequest(now: try request.time())
      response.append(own != nil)
      if let own { response.append(own) }
    case .requests:
      let all = node.membership.requests(now: try request.time())
      response.append(count: all.count)
      for received in all { response.append(received) }
    default:
      let (device, ownName, now) = (try request.text(), try request.text(), try request.time())
      let isApproval = self == .approve
      if isApproval { try node.checkWhole() }
      let answered = try core { () throws(HyphaError) in
        let found = try node.membership.find(device, now: now)
        return isApproval
          ? try node.membership.approve(found.id, device: ownName, now: now, random: randomBytes(24))
          : try node.membership.deny(found.id, device: ownName, now: now, random: randomBytes(24))
      }
      node.wrote()
      response.append(answered)
    }
  }

  private func useDevices(
    _ node: WebNode, _ request: inout RequestReader, _ response: inout ResponseWriter
  ) throws(WebError) {
    if self == .devices {
      let devices = try core { () throws(HyphaError) in try node.hypha.devices() }
      response.append(count: devices.count)
      for device in devices { response.append(device) }
      return
    }
    let writer = try request.key()
    try node.checkWhole()
    switch self {
    case .rename:
      let name = try request.text()
      try core { () throws(HyphaError) in try node.hypha.rename(writer, to: name) }
    case .revoke:
      let now = try request.time()
      try core { () throws(HyphaError) in try node.hypha.revoke(writer, now: now) }
    default: try core { () throws(HyphaError) in try node.hypha.restore(writer) }
    }
    node.wrote()
  }
}

private func core<T>(_ body: () throws(HyphaError) -> T) throws(WebError) -> T {
  do throws(HyphaError) { return try body() } catch { throw WebError(error) }
}

extension ResponseWriter {
  mutating func append(_ status: WebNode.Status) {
    append(status.canPost)
    append(status.isBehind)
    append(status.isRevoked)
    append(status.isForked)
    append(status.isCurrent)
    append(status.needsCommit)
    append(count: status.keptBy)
    append(status.heldBlocks)
    append(status.knownBlocks)
    append(status.ownLength)
    append(status.ownKey?.bytes ?? [])
    append(count: status.lengths.count)
    for (key, length) in status.lengths {
      append(key)
      append(length)
    }
  }

  mutating func append(_ post: Post) {
    append(post.id.text)
    append(post.text)
    append(time: post.created)
    append(post.device)
    append(post.writer)
  }

  /// What an own request and a received one have in common.
  private mutating func append(
    _ id: RequestID, _ name: String, _ words: [String], _ created: Int64, _ expires: Int64
  ) {
    append(id.hex)
    append(name)
    append(words.joined(separator: " "))
    append(time: created)
    append(time: expires)
  }

  mutating func append(_ request: OwnRequest) {
    append(request.id, request.name, request.words, request.created, request.expires)
    switch request.state {
    case .pending: append("pending")
    case .authorised: append("authorised")
    case .denied: append("denied")
    case .expired: append("expired")
    }
  }

  mutating func append(_ request: ReceivedRequest) {
    append(request.id, request.name, request.words, request.created, request.expires)
    switch request.state {
    case .pending: append("pending")
    case .approved: append("approved")
    case .denied: append("denied")
    case .expired: append("expired")
    }
    append(request.writer)
  }

  /// Times that are not known are 0.
  mutating func append(_ device: Device) {
    append(device.writer)
    append(device.name)
    append(device.isOrigin)
    append(time: device.approved ?? 0)
    append(device.revocation != nil)
    append(time: device.revocation?.time ?? 0)
  }
}
