import Glibc
import HyphaControlAPI
import Testing

@testable import HyphaDaemonCore

/// One hypha on several always-on nodes: none of them is needed, and a new one gets all from the others.
@Suite("Several always-on nodes", .fewAtOnce, .timeLimit(.minutes(15))) struct SeveralServersTests {
  private func origin() async throws -> (node: TestNode, hyphalink: String) {
    let node = try TestNode()
    try await node.start()
    let passphrase = try node.client().call(PassphraseGenerate.self, .init()).passphrase
    let made = try node.client().call(
      NodeInitialise.self,
      .init(domain: "example.org", passphrase: passphrase, generated: true, deviceName: "laptop"))
    return (node, made.hyphalink)
  }

  /// A server that keeps the hypha, and is connected to others.
  private func server(
    _ hyphalink: String, _ others: [TestNode] = [], host: String = "127.0.0.1", port: Int? = nil
  ) async throws -> TestNode {
    let urls = others.map { "\"\($0.url)\"" }.joined(separator: ", ")
    let node = try TestNode(settings: "[connections]\nurls = [\(urls)]", host: host, port: port)
    try await node.start()
    _ = try node.client().call(NodeInitialise.self, .init(hyphalink: hyphalink))
    #expect(
      try node.client().call(ConnectionsList.self, Nothing()).connections.map(\.url)
        == others.map(\.url).sorted())
    return node
  }

  private func post(_ text: String, on node: TestNode) throws -> String {
    try node.client().call(PostsCreate.self, .init(text: text)).id
  }

  private func expectPosts(_ ids: [String], on nodes: [TestNode]) async throws {
    for node in nodes {
      try await eventually("\(node.url) has not all of \(ids.count) posts; it logged: \(node.log)") {
        let posts = try node.client().call(PostsList.self, .init(limit: 1000)).posts
        return posts.map(\.id) == ids.reversed() ? true : nil
      }
    }
  }

  private func wellKnown(_ node: TestNode) async throws -> String {
    let client = try RawClient(host: node.host, port: node.port)
    client.send("GET /.well-known/dat HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n")
    let answer = String(decoding: try await client.readToEnd(), as: UTF8.self)
    return try #require(answer.firstRange(of: "\r\n\r\n").map { String(answer[$0.upperBound...]) })
  }

  private func fullyHeld(_ node: TestNode) throws -> [Int] {
    try node.client().call(NodeStatus.self, Nothing()).feeds.map(\.fullyHeldBy)
  }

  @Test("One of three dies for good, and another takes its place")
  func replaced() async throws {
    let (laptop, hyphalink) = try await origin()
    var first: TestNode? = try await server(hyphalink)
    let second = try await server(hyphalink, [try #require(first)])
    let third = try await server(hyphalink, [second])
    _ = try laptop.client().call(ConnectionsAdd.self, .init(url: try #require(first).url))
    var posts = [try post("one", on: laptop)]
    // The laptop knows the first only; from there it goes on to the others.
    try await expectPosts(posts, on: [try #require(first), second, third])
    for node in [second, third] {
      #expect(try await wellKnown(node) == wellKnown(try #require(first)))
      #expect(try await wellKnown(node).hasPrefix(hyphalink))
    }
    for node in [second, third] { _ = try laptop.client().call(ConnectionsAdd.self, .init(url: node.url)) }
    try await eventually("the laptop does not see three that hold all") {
      try fullyHeld(laptop) == [3] ? true : nil
    }

    // A second writer, let in through another server than the laptop's first one.
    let phone = try TestNode()
    try await phone.start()
    let made = try phone.client().call(NodeInitialise.self, .init(hyphalink: hyphalink, writer: true))
    _ = try phone.client().call(ConnectionsAdd.self, .init(url: third.url))
    _ = try laptop.client().call(DatabaseAuthorize.self, .init(key: try #require(made.writer)))
    try await eventually("the phone may not post") {
      try phone.client().call(NodeStatus.self, Nothing()).canPost ? true : nil
    }

    // It dies: its disk, too.
    let dead = try #require(first).url
    try await first?.kill()
    first = nil
    posts.append(try post("two", on: phone))
    posts.append(try post("three", on: laptop))
    try await expectPosts(posts, on: [laptop, phone, second, third])
    let status = try laptop.client().call(ConnectionsList.self, Nothing()).connections
    #expect(status.first { $0.url == dead }?.state != .connected)
    _ = try laptop.client().call(ConnectionsRemove.self, .init(url: dead))

    let fourth = try await server(hyphalink, [third])
    try await expectPosts(posts, on: [fourth])
    #expect(try await wellKnown(fourth) == wellKnown(second))
    _ = try laptop.client().call(ConnectionsAdd.self, .init(url: fourth.url))
    try await eventually("the laptop does not see three that hold all") {
      try fullyHeld(laptop) == [3, 3] ? true : nil
    }
    let shown = try await laptop.ctl("status").text
    for node in [second, third, fourth] { #expect(shown.contains(node.url), "\(shown)") }
    posts.append(try post("four", on: phone))
    try await expectPosts(posts, on: [laptop, phone, second, third, fourth])
    for node in [laptop, phone, second, third, fourth] { try await node.stop() }
  }

  @Test(
    "A device goes to another address of the domain where one does not answer",
    .enabled(if: OwnMounts.isAllowed, "this system lets the user have no names of their own"))
  func fallsOver() async throws {
    let (laptop, hyphalink) = try await origin()
    let port = try freePorts(1)[0]
    let first = try await server(hyphalink, host: "127.0.0.2", port: port)
    let second = try await server(hyphalink, [first], host: "127.0.0.3", port: port)
    // For the laptop, localhost is both.
    let hosts = try laptop.folder.write("hosts", "127.0.0.2 localhost\n127.0.0.3 localhost\n# both\n".utf8)
    try await laptop.stop()
    laptop.mounts = try await OwnMounts(
      "mount --bind \"$1\" /etc/hosts; mount -t tmpfs tmpfs /mnt; touch /mnt/.there", [hosts],
      mark: "/mnt/.there")
    try await laptop.start()
    _ = try laptop.client().call(ConnectionsAdd.self, .init(url: "ws://localhost:\(port)"))
    var posts = [try post("one", on: laptop)]
    try await expectPosts(posts, on: [first, second])
    let both = [first, second]
    for node in both {
      // Whichever the laptop is at.
      try await node.stop()
      posts.append(try post("without \(node.host)", on: laptop))
      let other = try #require(both.first { $0 !== node })
      try await expectPosts(posts, on: [other])
      try await node.start()
      try await expectPosts(posts, on: [node])
    }
    for node in [laptop, first, second] { try await node.stop() }
  }
}
