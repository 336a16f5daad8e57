import Hypercore
import Hypha
import HyphaControlAPI
import NIOCore

extension Node: EdgeDelegate {
  public func wellKnownDat() async -> WellKnownDat? {
    guard let key = record?.publicKey else { return nil }
    return WellKnownDat(key: key, ttl: settings.dat.ttl)
  }

  public func publicPosts() async -> PublicPosts? {
    guard let hypha, let key = record?.publicKey else { return nil }
    let posts: [PublicPosts.Post]
    do throws(HyphaError) {
      // Blocks that count, and those that are here: the same as before mean the same posts.
      let blocks = try hypha.lengths().map { $0.1 } + hypha.feeds().map { $0.heldBlocks }
      if let publicPosts, publicPosts.blocks == blocks { return publicPosts.posts }
      var room = EdgeLimits.feedBytes
      posts = try hypha.posts(limit: EdgeLimits.feedPosts).posts.prefix { post in
        room -= post.text.utf8.count
        return room >= 0
      }.map {
        PublicPosts.Post(
          id: $0.id.text, text: $0.text, created: Timestamp(milliseconds: $0.created), device: $0.device)
      }
      publicPosts = (blocks, PublicPosts(key: key, posts: posts, changed: Self.now()))
    } catch {
      logger.warning("The posts cannot be read", metadata: ["reason": "\(error.context)"])
      return nil
    }
    return publicPosts?.posts
  }

  public func health() async -> Health {
    if let reason = notReady { return Health(ready: false, text: reason) }
    return Health(ready: true, text: "Ready.")
  }

  /// What is missing, in a sentence; `nil` where the node is ready.
  var notReady: String? {
    if isStopping { return "The node is stopping." }
    if record == nil { return "The node is not initialised: it holds no hypha yet." }
    if !isServing { return "The node is starting." }
    return nil
  }

  public func admit(_ request: ReplicationRequest) async -> Admission {
    if isStopping { return .refuse(status: 503, reason: "This node is stopping.") }
    switch request.target {
    case .hypha:
      return record == nil ? .refuse(status: 404, reason: "This node holds no hypha yet.") : .accept
    case .replicate(let key):
      return key == record?.publicKey
        ? .accept : .refuse(status: 404, reason: "This node does not hold that feed.")
    case .signUp(let key):
      return admitSignUp(key, request)
    }
  }

  private func admitSignUp(_ key: PublicKey, _ request: ReplicationRequest) -> Admission {
    let answer = claim.answer(
      to: key, code: request.setupCode?.text, from: IPAddress.household(of: request.remoteAddress),
      holding: record?.publicKey, isBusy: restore != nil, now: Double(monotonic) / 1000)
    switch answer {
    case .accept: return .accept
    case .begin:
      do throws(NodeError) {
        try beginSignUp(key)
        return .accept
      } catch {
        fail(error)
        return .refuse(status: 500, reason: "This node cannot write to its disk.")
      }
    case .refuse(let refusal): return refuse(refusal, request.remoteAddress)
    }
  }

  private func refuse(_ refusal: Claim.Refusal, _ address: String) -> Admission {
    switch refusal {
    case .otherHypha:
      return .refuse(status: 403, reason: "This node already keeps a hypha, and keeps that one.")
    case .missingCode:
      return .refuse(status: 403, reason: "The setup code is missing.")
    case .tooManyAttempts:
      setupCodeLines.notice(logger, "Too many wrong setup codes", ["peer": "\(address)"])
      countRejected("setupCodeRate", address)
      return .refuse(status: 429, reason: "Too many wrong setup codes: try again in half a minute.")
    case .wrongCode:
      setupCodeLines.notice(logger, "A wrong setup code", ["peer": "\(address)"])
      countRejected("setupCode", address)
      return .refuse(
        status: 403, reason: "The setup code is wrong: “hyphactl setup-code” on the server shows it.")
    case .busy:
      return .refuse(status: 409, reason: "A backup is being restored on this node.")
    case .otherOffer:
      return .refuse(status: 409, reason: "Another set-up of this node is under way.")
    }
  }

  public nonisolated func reject(_ kind: String, from address: String) {
    loop.execute { self.assumeIsolated { $0.countRejected(kind, address) } }
  }

  public func attach(_ transport: ReplicationTransport) async {
    attachHere(transport)
  }
}
