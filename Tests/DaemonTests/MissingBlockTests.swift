import Hypercore
import HyphaControlAPI
import Testing

@testable import HyphaDaemonCore

/// Blocks of which only the signature has arrived: the device that made them was lost, or keeps them back.
@Suite("Blocks that nobody has", .fewAtOnce, .timeLimit(.minutes(10))) struct MissingBlockTests {
  private let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
  }

  private func fresh() async throws -> TestNode {
    let node = try TestNode()
    try await node.start()
    return node
  }

  /// An origin and an always-on node that has all of it.
  private func pair() async throws -> (origin: TestNode, server: TestNode) {
    let (origin, server) = (try await fresh(), try await fresh())
    let passphrase = try origin.client().call(PassphraseGenerate.self, .init()).passphrase
    _ = try origin.client().call(
      NodeInitialise.self, .init(domain: "example.org", passphrase: passphrase, deviceName: "origin"))
    let code = try server.client().call(SetupCodeShow.self, .init()).code
    _ = try origin.client().call(ConnectionsAdd.self, .init(url: server.url, setupCode: code))
    _ = try origin.client().call(NodeWait.self, .init(for: .synced, timeoutSeconds: 60))
    return (origin, server)
  }

  /// A device that the origin has let in, and that the server has a post of.
  private func phone(of origin: TestNode, at server: TestNode) async throws -> TestNode {
    let phone = try await fresh()
    let link = try #require(try origin.status().hyphalink)
    let joined = try phone.client().call(
      NodeInitialise.self, .init(hyphalink: link, deviceName: "phone", writer: true))
    _ = try phone.client().call(ConnectionsAdd.self, .init(url: server.url))
    _ = try origin.client().call(DatabaseAuthorize.self, .init(key: try #require(joined.writer)))
    try await eventually("the phone is not let in") { try phone.status().canPost ? true : nil }
    try phone.post("from the phone")
    try await eventually("the phone's post does not come") {
      try server.texts().contains("from the phone") ? true : nil
    }
    return phone
  }

  /// Has a node that is connected to nobody write three posts, and ends it.
  private func postUnseen(_ node: TestNode, server: TestNode) async throws {
    _ = try node.client().call(ConnectionsRemove.self, .init(url: server.url))
    try await eventually { try node.status().peers == 0 ? true : nil }
    for number in 0..<3 { try node.post("unseen \(number)") }
    try await node.stop()
  }

  /// Gives a node some blocks of a feed as they are in the folder of one that has stopped, and no others.
  ///
  /// - Parameter name: the feed's folder.
  private func give(_ server: TestNode, _ blocks: Range<UInt64>, of node: TestNode, _ name: String)
    async throws
  {
    let files = try FeedFiles { (file) throws(StorageError) in
      try FileStorage("\(node.statePath)/hypha/\(name)/\(file)")
    }
    let bytes = try #require(try AtomicFile.read("\(node.statePath)/hypha/\(name)/key"))
    let feed = try Feed(files: files, key: try #require(PublicKey(bytes)))
    let source = try #require(try server.status().hyphalink).dropFirst("dat://".count)
    let peer = try await HostilePeer(port: server.port, key: try #require(PublicKey(hex: source)), id: 7)
    let channel = try peer.session.open(feed.key)
    peer.say(
      .have(Message.Have(start: blocks.lowerBound, length: UInt64(blocks.count))), on: channel)
    let tree = SparseBitfield()
    var left = blocks.count
    while left > 0 {
      for case .request(let request) in try await peer.listen() {
        let proof = try feed.proof(
          of: request.index, digest: request.nodes ?? 0, hashOnly: false, remoteTree: tree)
        peer.say(
          .data(Message.Data(index: request.index, value: try feed.block(at: request.index), proof: proof)),
          on: channel)
        left -= 1
      }
    }
    try await eventually("the blocks do not come: \(server.log)") {
      let there = try server.status().feeds.first { $0.key == feed.key.hex }
      return there.map { $0.length == feed.length && $0.heldBlocks >= blocks.upperBound } == true ? true : nil
    }
  }

  private func length(_ node: TestNode, _ key: String) throws -> (length: UInt64, held: UInt64) {
    let feed = try #require(try node.status().feeds.first { $0.key == key })
    return (feed.length, feed.heldBlocks)
  }

  @Test("of another device keep no restored writer from writing")
  func ofAnother() async throws {
    let (origin, server) = try await pair()
    let phone = try await phone(of: origin, at: server)
    let writer = try #require(try phone.status().writer)
    _ = try origin.client().call(NodeWait.self, .init(for: .synced, timeoutSeconds: 60))
    #expect(try await origin.ctl("backup", "\(folder.path)/backup").status == 0)
    try origin.post("after the backup")
    try await eventually { try server.texts().contains("after the backup") ? true : nil }
    let before = try length(server, writer).length
    try await postUnseen(phone, server: server)
    try await give(server, before..<before + 1, of: phone, "local")
    // The origin goes on as before.
    #expect(try await origin.ctl("wait", "--synced", "--timeout", "30").status == 0)
    try origin.post("after the loss")
    try await eventually { try server.texts().contains("after the loss") ? true : nil }
    try await origin.stop()

    let restored = try await fresh()
    #expect(try await restored.ctl("restore", "\(folder.path)/backup").status == 0)
    try await eventually(within: 60, "it does not catch up: \(restored.log)") {
      try restored.status().canPost ? true : nil
    }
    #expect(try Set(restored.texts()).isSuperset(of: ["after the backup", "after the loss"]))
    let (known, held) = try length(restored, writer)
    #expect(known > held && held > before)
    try restored.post("restored")
    #expect(try await restored.ctl("wait", "--synced", "--timeout", "30").status == 0)
    #expect(try server.texts().contains("restored"))
    let text = try await restored.ctl("doctor").text
    #expect(text.contains("blocks are missing that no connected node has"), "\(text)")
    _ = try restored.client().call(DevicesRevoke.self, .init(device: writer))
    try await eventually("the two are not in sync") {
      try restored.client().call(PeersList.self, .init()).peers.contains(where: \.synced) ? true : nil
    }
    #expect(!server.log.contains("disconnected for what it sent"))
    for node in [restored, server] { try await node.stop() }
  }

  @Test("of its own keep a restored writer from writing until they are here")
  func ofItsOwn() async throws {
    let (origin, server) = try await pair()
    try origin.post("one")
    #expect(try await origin.ctl("backup", "\(folder.path)/backup").status == 0)
    try origin.post("two")
    _ = try origin.client().call(NodeWait.self, .init(for: .synced, timeoutSeconds: 60))
    let key = try #require(try origin.status().writer)
    let before = try length(server, key).length
    try await postUnseen(origin, server: server)
    try await give(server, before..<before + 1, of: origin, "source")

    let restored = try await fresh()
    #expect(try await restored.ctl("restore", "\(folder.path)/backup").status == 0)
    try await eventually("nothing comes: \(restored.log)") {
      try length(restored, key).held == before + 1 ? true : nil
    }
    // Some ticks, in which it could decide wrongly.
    try await Task.sleep(for: .seconds(3))
    #expect(try !restored.status().canPost && restored.status().catchesUp == true)
    #expect(try await restored.ctl("post", "too early").stderr.contains("in sync with every node"))
    try await give(server, before + 1..<before + 3, of: origin, "source")
    try await eventually(within: 60, "it does not catch up: \(restored.log)") {
      try restored.status().canPost ? true : nil
    }
    try restored.post("restored")
    try await eventually { try server.texts().contains("restored") ? true : nil }
    #expect(try Set(restored.texts()) == ["one", "two", "unseen 0", "unseen 1", "unseen 2", "restored"])
    #expect(!server.log.contains("disconnected for what it sent"))
    for node in [restored, server] { try await node.stop() }
  }

  @Test(
    "of its own keep a restored writer from writing, also if what tells of them is one of the blocks that it has"
  )
  func behindWhatIsHere() async throws {
    let (origin, server) = try await pair()
    try origin.post("one")
    #expect(try await origin.ctl("backup", "\(folder.path)/backup").status == 0)
    let key = try #require(try origin.status().writer)
    let before = try length(origin, key).length
    try await postUnseen(origin, server: server)
    // A server that begins anew, and has from the writer its first block alone; the rest up to the backup from the backup.
    try await server.stop()
    let other = try await fresh()
    _ = try other.client().call(
      NodeInitialise.self, .init(hyphalink: "dat://\(key)", deviceName: nil, writer: false))
    try await give(other, 0..<1, of: origin, "source")
    let restored = try await fresh()
    #expect(try await restored.ctl("restore", "\(folder.path)/backup").status == 0)
    _ = try restored.client().call(ConnectionsRemove.self, .init(url: server.url))
    _ = try restored.client().call(ConnectionsAdd.self, .init(url: other.url))
    try await eventually("the other does not get what the backup has: \(other.log)") {
      try length(other, key).held == before ? true : nil
    }
    try await Task.sleep(for: .seconds(3))
    #expect(try length(restored, key).length == before)
    #expect(try !restored.status().canPost && restored.status().catchesUp == true)
    try await give(other, before..<before + 3, of: origin, "source")
    try await eventually(within: 60, "it does not catch up: \(restored.log)") {
      try restored.status().canPost ? true : nil
    }
    #expect(try restored.texts().count == 4)
    #expect(!other.log.contains("disconnected for what it sent"))
    for node in [restored, other] { try await node.stop() }
  }
}
