import FoundationEssentials
import HyphaControlAPI
import Testing

/// Several devices that write, and an always-on node between them that cannot: all of them real processes.
@Suite("Several devices, one hypha", .fewAtOnce, .serialized)
struct ManyWritersFlowTests {
  /// A hypha's first device, an always-on node that it has claimed, and further devices that know only the server.
  private struct Hypha {
    var laptop: TestNode
    var server: TestNode
    var devices: [TestNode] = []
    /// The devices' writers.
    var writers: [String] = []
    var all: [TestNode] { [laptop, server] + devices }
  }

  private func hypha(devices count: Int) async throws -> Hypha {
    let laptop = try TestNode()
    let server = try TestNode()
    try await laptop.start()
    try await server.start()
    let client = try laptop.client()
    let passphrase = try client.call(PassphraseGenerate.self, .init()).passphrase
    let link = try client.call(
      NodeInitialise.self, .init(domain: "example.org", passphrase: passphrase, deviceName: "laptop")
    ).hyphalink
    let code = try server.client().call(SetupCodeShow.self, .init()).code
    _ = try client.call(ConnectionsAdd.self, .init(url: server.url, setupCode: code))
    var hypha = Hypha(laptop: laptop, server: server)
    for number in 0..<count {
      let device = try TestNode()
      try await device.start()
      let made = try device.client().call(
        NodeInitialise.self, .init(hyphalink: link, deviceName: "phone \(number)", writer: true))
      #expect(made.role == .reader)
      hypha.writers.append(try #require(made.writer))
      hypha.devices.append(device)
      _ = try device.client().call(ConnectionsAdd.self, .init(url: server.url))
    }
    return hypha
  }

  private func post(_ text: String, on node: TestNode) throws -> String {
    try node.client().call(PostsCreate.self, .init(text: text)).id
  }

  private func ids(on node: TestNode) throws -> [String] {
    try node.client().call(PostsList.self, .init(limit: 1000)).posts.map(\.id)
  }

  private func status(_ node: TestNode) throws -> NodeInfo {
    try node.client().call(NodeStatus.self, .init())
  }

  private func expectPosts(_ ids: [String], on nodes: [TestNode]) async throws {
    let expected = ids.sorted(by: >)
    for (place, node) in nodes.enumerated() {
      try await eventually("the posts do not come to node \(place)") {
        try self.ids(on: node) == expected ? true : nil
      }
    }
  }

  private func authorize(_ place: Int, of hypha: Hypha, by node: TestNode) async throws {
    let result = try node.client().call(DatabaseAuthorize.self, .init(key: hypha.writers[place]))
    #expect(result.new && result.key == hypha.writers[place])
    try await eventually("device \(place) does not learn that it may post") {
      try status(hypha.devices[place]).canPost ? true : nil
    }
  }

  private func folders(_ node: TestNode) throws -> [String] {
    (try? FileManager.default.contentsOfDirectory(atPath: "\(node.folder.path)/state/hypha/peers")) ?? []
  }

  @Test("A device is let in on live connections, through a server that cannot write")
  func live() async throws {
    let hypha = try await hypha(devices: 2)
    let (first, second) = (hypha.devices[0], hypha.devices[1])
    var posts = [try post("from the laptop", on: hypha.laptop)]
    try await expectPosts(posts, on: hypha.all)
    #expect(throws: ControlFailure.self) { try post("not yet", on: first) }
    #expect(try folders(hypha.server).isEmpty && status(hypha.server).feeds.count == 1)
    let connected = try hypha.all.map { try $0.client().call(PeersList.self, .init()).peers.map(\.connected) }

    try await authorize(0, of: hypha, by: hypha.laptop)
    #expect(try status(first).role == .authorised && status(first).writer == hypha.writers[0])
    posts.append(try post("from the first phone", on: first))
    try await expectPosts(posts, on: hypha.all)
    // The feed of the device that nobody let in is on no other node.
    #expect(try folders(hypha.server).count == 1 && folders(hypha.laptop).count == 1)

    // One that was let in lets in another.
    try await authorize(1, of: hypha, by: first)
    posts.append(try post("from the second phone", on: second))
    posts.append(try post("from the laptop again", on: hypha.laptop))
    try await expectPosts(posts, on: hypha.all)
    #expect(
      try hypha.all.map { try $0.client().call(PeersList.self, .init()).peers.map(\.connected) } == connected,
      "a connection was made anew")
    for node in hypha.all { #expect(try status(node).feeds.count == 3) }
    let again = try hypha.laptop.client().call(DatabaseAuthorize.self, .init(key: hypha.writers[1]))
    #expect(!again.new)
  }

  @Test("Devices that write while they are apart converge, killed or not; conflicts look the same on all")
  func apart() async throws {
    let hypha = try await hypha(devices: 2)
    try await authorize(0, of: hypha, by: hypha.laptop)
    try await authorize(1, of: hypha, by: hypha.laptop)
    var posts = [try post("all together", on: hypha.devices[0])]
    try await expectPosts(posts, on: hypha.all)

    try await hypha.server.kill()
    for (place, node) in [hypha.laptop, hypha.devices[0], hypha.devices[1]].enumerated() {
      for number in 0..<20 { posts.append(try post("apart \(place) \(number)", on: node)) }
      _ = try node.client().call(DatabasePut.self, .init(key: "profile/name", text: "name \(place)"))
    }
    try await hypha.laptop.kill()
    try await hypha.devices[1].kill()
    try await hypha.devices[1].start()
    try await hypha.laptop.start()
    try await hypha.server.start()
    try await expectPosts(posts, on: hypha.all)
    var found: [KeyInfo] = []
    for node in hypha.all {
      found.append(
        try await eventually("the versions of a key do not come together") {
          let info = try node.client().call(DatabaseGet.self, .init(key: "profile/name"))
          return info.entries.count == 3 ? info : nil
        })
    }
    #expect(Set(found.map { $0.winningEntry?.text }).count == 1)
    #expect(found.allSatisfy { Set($0.entries.compactMap(\.text)) == ["name 0", "name 1", "name 2"] })
    _ = try hypha.devices[0].client().call(DatabasePut.self, .init(key: "profile/name", text: "settled"))
    for node in hypha.all {
      try await eventually("a later value does not take the place of those in conflict") {
        let info = try node.client().call(DatabaseGet.self, .init(key: "profile/name"))
        return info.entries.map(\.text) == ["settled"] ? true : nil
      }
    }
  }
}
