import FoundationEssentials
import Glibc
import HyphaControlAPI
import Testing

/// The main job, with daemons as they are run: processes that are started, stopped and killed.
@Suite("Two daemons, one hypha", .fewAtOnce, .serialized)
struct FlowTests {
  /// A node with a hypha of its own.
  private func origin() async throws -> TestNode {
    let node = try TestNode()
    try await node.start()
    let client = try node.client()
    let passphrase = try client.call(PassphraseGenerate.self, .init()).passphrase
    let result = try client.call(
      NodeInitialise.self, .init(domain: "example.org", passphrase: passphrase, deviceName: "origin"))
    #expect(result.role == .origin)
    #expect(!node.log.contains(passphrase.text))
    return node
  }

  /// An origin, and an always-on node that it has claimed.
  private func pair() async throws -> (origin: TestNode, server: TestNode) {
    let origin = try await origin()
    let server = try TestNode()
    try await server.start()
    let code = try server.client().call(SetupCodeShow.self, .init()).code
    _ = try origin.client().call(ConnectionsAdd.self, .init(url: server.url, setupCode: code))
    try origin.client().call(NodeWait.self, .init(for: .synced, timeoutSeconds: 30)).expectReady()
    #expect(!server.log.contains(code.text) && !origin.log.contains(code.text))
    return (origin, server)
  }

  private func post(_ text: String, on node: TestNode) throws -> String {
    try node.client().call(PostsCreate.self, .init(text: text)).id
  }

  /// Every post, newest first.
  private func posts(on node: TestNode) throws -> [PostInfo] {
    let client = try node.client()
    var posts: [PostInfo] = []
    while true {
      let page = try client.call(PostsList.self, .init(limit: 50, before: posts.last?.id))
      posts += page.posts
      guard page.more, !page.posts.isEmpty else { return posts }
    }
  }

  private func refusal(_ body: () throws -> Void) throws -> ControlError.Code? {
    do {
      try body()
      return nil
    } catch let failure as ControlFailure {
      guard case .refused(let error) = failure.code else { throw failure }
      return error.code
    }
  }

  @Test("A post made on one node is read on the other, live, and so is its deletion")
  func live() async throws {
    let (origin, server) = try await pair()
    let hyphalink = try #require(try origin.client().call(NodeStatus.self, .init()).hyphalink)
    let status = try server.client().call(NodeStatus.self, .init())
    #expect(status.role == .alwaysOn && status.hyphalink == hyphalink && status.ready && !status.canPost)
    #expect(try refusal { _ = try post("not here", on: server) } == .readOnly)
    let follower = try server.client()
    _ = try follower.call(EventsSubscribe.self, .init(kinds: [.posted, .deleted]))
    let text = "first line\nsecond: “ünï©ode” \u{1F33F}\n"
    let id = try post(text, on: origin)
    guard case .event(let posted) = try follower.nextNotification(timeoutSeconds: 20) else {
      Issue.record("no event of the post")
      return
    }
    #expect(posted.event.kind == .posted && posted.event.post?.id == id && posted.event.post?.text == text)
    #expect(try posts(on: server) == posts(on: origin))
    #expect(try posts(on: server).map(\.device) == ["origin"])
    try await eventually("the origin does not know that the server holds everything") {
      let feed = try origin.client().call(NodeStatus.self, .init()).feeds.first
      return feed?.fullyHeldBy == 1 && feed?.heldBlocks == feed?.length ? true : nil
    }
    _ = try origin.client().call(PostsDelete.self, .init(id: id))
    guard case .event(let deleted) = try follower.nextNotification(timeoutSeconds: 20) else {
      Issue.record("no event of the deletion")
      return
    }
    #expect(deleted.event.kind == .deleted && deleted.event.postID == id)
    #expect(try posts(on: server).isEmpty)
  }

  @Test("A node is claimed with its setup code only, and only once")
  func signUp() async throws {
    let origin = try await origin()
    let server = try TestNode()
    try await server.start()
    let code = try server.client().call(SetupCodeShow.self, .init()).code
    let wrong = Secret(String(code.text.reversed()) + "x")
    let client = try origin.client()
    #expect(
      try refusal { _ = try client.call(ConnectionsAdd.self, .init(url: server.url, setupCode: wrong)) }
        == .setupCodeRefused)
    #expect(try client.call(ConnectionsList.self, .init()).connections.isEmpty)
    let status = try server.client().call(NodeStatus.self, .init())
    #expect(status.role == .uninitialised && status.hyphalink == nil && !status.ready)
    // A wrong code does not use up the right one.
    #expect(try server.client().call(SetupCodeShow.self, .init()).code == code)
    _ = try client.call(ConnectionsAdd.self, .init(url: server.url, setupCode: code))
    try client.call(NodeWait.self, .init(for: .synced, timeoutSeconds: 30)).expectReady()
    #expect(
      try refusal { _ = try server.client().call(SetupCodeShow.self, .init()) } == .alreadyInitialised)
    // A stranger who has seen the code comes too late.
    let stranger = try await self.origin()
    #expect(
      try refusal {
        _ = try stranger.client().call(ConnectionsAdd.self, .init(url: server.url, setupCode: code))
      } == .setupCodeRefused)
    #expect(
      try server.client().call(NodeStatus.self, .init()).hyphalink
        == origin.client().call(NodeStatus.self, .init()).hyphalink)
  }

  @Test("A node that has lost everything is claimed again, without giving up the connection first")
  func again() async throws {
    let (origin, server) = try await pair()
    let id = try post("before", on: origin)
    let client = try origin.client()
    #expect(
      try refusal { _ = try client.call(ConnectionsAdd.self, .init(url: server.url, setupCode: Secret("x"))) }
        == .alreadyExists)
    try await server.kill()
    try FileManager.default.removeItem(atPath: server.statePath)
    try await server.start()
    let code = try server.client().call(SetupCodeShow.self, .init()).code
    try await eventually("the connection stands") {
      try client.call(ConnectionsList.self, .init()).connections.map(\.state) == [.waiting] ? true : nil
    }
    #expect(
      try refusal { _ = try client.call(ConnectionsAdd.self, .init(url: server.url, setupCode: Secret("x"))) }
        == .setupCodeRefused)
    #expect(try client.call(ConnectionsList.self, .init()).connections.count == 1)
    _ = try client.call(ConnectionsAdd.self, .init(url: server.url, setupCode: code))
    try client.call(NodeWait.self, .init(for: .synced, timeoutSeconds: 30)).expectReady()
    #expect(try posts(on: server).map(\.id) == [id])
    #expect(try client.call(ConnectionsList.self, .init()).connections.map(\.state) == [.connected])
  }

  @Test("A restart keeps posts and connections")
  func restart() async throws {
    let (origin, server) = try await pair()
    let first = try post("before", on: origin)
    let hyphalink = try origin.client().call(NodeStatus.self, .init()).hyphalink
    #expect(try await origin.stop()?.status == 0)
    #expect(try await server.stop()?.status == 0)
    try await server.start()
    try await origin.start()
    let status = try origin.client().call(NodeStatus.self, .init())
    #expect(status.hyphalink == hyphalink && status.role == .origin && status.canPost)
    #expect(try server.client().call(NodeStatus.self, .init()).role == .alwaysOn)
    try await eventually("the kept connection was not taken up again") {
      let connections = try origin.client().call(ConnectionsList.self, .init()).connections
      return connections.map(\.state) == [.connected] ? true : nil
    }
    let second = try post("after", on: origin)
    try await eventually("the second post does not arrive") {
      try posts(on: server).map(\.id) == [second, first] ? true : nil
    }
  }

  @Test(
    "A node that is killed while it posts has lost nothing that it acknowledged", .timeLimit(.minutes(15)))
  func kill() async throws {
    let (origin, server) = try await pair()
    var random = SystemRandomNumberGenerator()
    var acknowledged: [String: String] = [:]
    for round in 0..<6 {
      let socket = origin.socket
      let poster = Task.detached {
        var made: [String: String] = [:]
        guard let client = try? ControlClient(path: socket) else { return made }
        while made.count < 100_000 {
          let text = "round \(round), post \(made.count)"
          guard let id = try? client.call(PostsCreate.self, .init(text: text)).id else { break }
          made[id] = text
        }
        return made
      }
      try await Task.sleep(for: .milliseconds(Int.random(in: 50...400, using: &random)))
      // The other side is killed too, every other time: what it held then, it holds still.
      if round % 2 == 1 { try await server.kill() }
      try await origin.kill()
      let made = await poster.value
      acknowledged.merge(made) { _, new in new }
      if round % 2 == 1 { try await server.start() }
      try await origin.start()
      let held = Dictionary(try posts(on: origin).map { ($0.id, $0.text) }) { _, new in new }
      for (id, text) in acknowledged { #expect(held[id] == text, "round \(round): \(text)") }
      // At most one post was made and not acknowledged, in each round.
      #expect(held.count <= acknowledged.count + round + 1)
    }
    #expect(acknowledged.count > 6)
    try await eventually(within: 60, "the server does not catch up: \(server.log)") {
      try posts(on: server) == posts(on: origin) ? true : nil
    }
    #expect(try origin.client().call(NodeStatus.self, .init()).feeds.map(\.fullyHeldBy) == [1])
  }
}

extension NodeInfo {
  fileprivate func expectReady() {
    #expect(ready, "\(notReady ?? "")")
  }
}
