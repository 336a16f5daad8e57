import FoundationEssentials
import Glibc
import Hypercore
import HyphaControlAPI
import Testing

@testable import HyphaDaemonCore

/// A device whose state was copied, so that two nodes sign blocks with the same numbers.
@Suite("Forks", .fewAtOnce, .timeLimit(.minutes(15))) struct ForkTests {
  private static let common = 5

  /// An origin with posts, a copy of it, and an always-on node that has what both have.
  private struct Copied {
    let origin: TestNode
    let copy: TestNode
    let server: TestNode
    let key: String
    /// Blocks of the origin's feed that it and the copy have in common.
    let blocks: UInt64
  }

  /// - Parameter phone: another device, that the origin lets in before it is copied.
  private func copied(serverSettings: String = "", phone: TestNode? = nil) async throws -> Copied {
    let (origin, copy, server) = (
      try TestNode(), try TestNode(), try TestNode(settings: serverSettings)
    )
    try await origin.start()
    try await server.start()
    let passphrase = try origin.client().call(PassphraseGenerate.self, .init()).passphrase
    _ = try origin.client().call(
      NodeInitialise.self, .init(domain: "example.org", passphrase: passphrase, deviceName: "laptop"))
    for number in 0..<Self.common { try post("both \(number)", on: origin) }
    if let phone { try await letIn(phone, by: origin) }
    let code = try server.client().call(SetupCodeShow.self, .init()).code
    _ = try origin.client().call(ConnectionsAdd.self, .init(url: server.url, setupCode: code))
    _ = try origin.client().call(NodeWait.self, .init(for: .synced, timeoutSeconds: 60))
    _ = try origin.client().call(ConnectionsRemove.self, .init(url: server.url))
    let feed = try #require(try status(origin).feeds.first { $0.writable })
    try await origin.stop()
    let copying = try Running("/bin/cp", ["-a", "\(origin.statePath)/.", copy.statePath])
    #expect(try await copying.end().status == 0)
    try await origin.start()
    try await copy.start()
    return Copied(origin: origin, copy: copy, server: server, key: feed.key, blocks: feed.length)
  }

  private func letIn(_ phone: TestNode, by origin: TestNode) async throws {
    try await phone.start()
    let link = try #require(try status(origin).hyphalink)
    let joined = try phone.client().call(
      NodeInitialise.self, .init(hyphalink: link, deviceName: "phone", writer: true))
    _ = try origin.client().call(DatabaseAuthorize.self, .init(key: try #require(joined.writer)))
  }

  private func status(_ node: TestNode) throws -> NodeInfo {
    try node.client().call(NodeStatus.self, Nothing())
  }

  private func texts(_ node: TestNode) throws -> [String] {
    try node.client().call(PostsList.self, .init(limit: 1000)).posts.map(\.text)
  }

  private func post(_ text: String, on node: TestNode) throws {
    _ = try node.client().call(PostsCreate.self, .init(text: text))
  }

  private func connect(_ node: TestNode, to server: TestNode) throws {
    _ = try node.client().call(ConnectionsAdd.self, .init(url: server.url))
  }

  private func forkedAt(_ node: TestNode) throws -> UInt64? {
    try status(node).feeds.lazy.compactMap(\.forkedAt).first
  }

  private func evidencePath(_ node: TestNode, _ key: String) throws -> String {
    "\(node.statePath)/hypha/forks/\(Crypto.discoveryKey(try #require(PublicKey(hex: key))).hex)"
  }

  private func expectEvidence(_ node: TestNode, _ nodes: Copied) throws {
    let bytes = try #require(try AtomicFile.read(evidencePath(node, nodes.key)))
    let evidence = try #require(ForkEvidence(decoding: bytes))
    #expect(evidence.key.hex == nodes.key && evidence.common == nodes.blocks)
    // Anybody with the key can check it.
    #expect(Fork(decoding: evidence.fork.encode(), key: evidence.key) == evidence.fork)
    for offset in [3, bytes.count / 2, bytes.count - 1] {
      var altered = bytes
      altered[offset] ^= 1
      #expect(ForkEvidence(decoding: altered) == nil, "\(offset)")
    }
  }

  @Test("A device that was copied finds out, and writes no more")
  func ownWriter() async throws {
    let nodes = try await copied()
    let (origin, copy, server) = (nodes.origin, nodes.copy, nodes.server)
    for number in 0..<4 { try post("laptop \(number)", on: origin) }
    try connect(origin, to: server)
    _ = try origin.client().call(NodeWait.self, .init(for: .synced, timeoutSeconds: 60))
    try post("copy", on: copy)
    try connect(copy, to: server)
    try await eventually("\(copy.log)") { try forkedAt(copy) == nodes.blocks ? true : nil }
    let refused = try await copy.ctl("post", "more")
    #expect(refused.status == 1 && refused.stderr.contains("signed in two versions"), "\(refused.stderr)")
    #expect(try #require(try status(copy).feeds.first).length == nodes.blocks + 1)
    #expect(try !status(copy).canPost && status(copy).role == .origin)
    #expect(try await copy.ctl("status").text.contains("(signed in two versions: may not write)"))
    let doctor = try copy.client().call(NodeDoctor.self, Nothing())
    let check = try #require(doctor.checks.first { $0.name == "forks" })
    #expect(check.state == .problem && check.text.contains("\(nodes.blocks) blocks in common"))
    #expect(doctor.checks.first { $0.name == "hypha" }?.text.contains("may not write any longer") == true)
    #expect(try await copy.ctl("events").text.contains("\"kind\":\"forked\""))
    #expect(copy.log.contains("this device may not write any longer"))
    #expect(try texts(copy) == (0..<Self.common).reversed().map { "both \($0)" })
    try expectEvidence(copy, nodes)
    // The laptop and the server are as before.
    #expect(try forkedAt(server) == nil && forkedAt(origin) == nil)
    try post("laptop 4", on: origin)
    try await eventually("\(server.log)") { try texts(server).first == "laptop 4" ? true : nil }
    // It is not asked for what it cannot have, and not sent away either.
    try await eventually { try status(copy).peers == 1 ? true : nil }
    try await copy.stop()
    try await copy.start()
    #expect(try forkedAt(copy) == nodes.blocks)
    #expect(try await copy.ctl("post", "more").stderr.contains("signed in two versions"))
    for node in [origin, copy, server] { try await node.stop() }
  }

  @Test("An always-on node freezes a feed that comes in two versions, keeps the evidence, and serves on")
  func othersFeed() async throws {
    let port = try freePorts(1)[0]
    // Another device goes on whatever becomes of the first one's feed.
    let phone = try TestNode()
    let nodes = try await copied(
      serverSettings: "[metrics]\naddress = \"127.0.0.1:\(port)\"", phone: phone)
    let (origin, copy, server) = (nodes.origin, nodes.copy, nodes.server)
    for number in 0..<2 { try post("laptop \(number)", on: origin) }
    try connect(origin, to: server)
    try connect(phone, to: server)
    _ = try origin.client().call(NodeWait.self, .init(for: .synced, timeoutSeconds: 60))
    for number in 0..<7 { try post("copy \(number)", on: copy) }
    try connect(copy, to: server)
    try await eventually("\(server.log)") { try forkedAt(server) == nodes.blocks ? true : nil }
    #expect(server.log.contains("A feed was signed in two versions"))
    #expect(try texts(server) == (0..<Self.common).reversed().map { "both \($0)" })
    #expect(try status(server).ready)
    try await eventually { try status(server).peers == 3 ? true : nil }
    #expect(
      try await server.ctl("status").text.contains(
        "signed in two versions: only blocks before number \(nodes.blocks) count"))
    #expect(try await server.ctl("doctor").text.contains("was signed in two versions"))
    try expectEvidence(server, nodes)
    let values = try await metrics(port)
    #expect(values["hypha_feeds_forked"] == 1)
    // Once it did not verify; then the copy showed its proof, and stays connected.
    #expect(values["hypha_rejected_input_total{kind=\"unverified\"}"] == 1, "\(values)")
    try await eventually("\(phone.log)") { try status(phone).canPost ? true : nil }
    try post("phone", on: phone)
    let counting = ["phone"] + (0..<Self.common).reversed().map { "both \($0)" }
    try await eventually("\(server.log)") { try texts(server) == counting ? true : nil }
    // What only the server can have given it.
    let reader = try TestNode()
    try await reader.start()
    let link = try #require(try status(phone).hyphalink)
    _ = try reader.client().call(
      NodeInitialise.self, .init(hyphalink: link, deviceName: "reader", writer: false))
    try await phone.stop()
    try connect(reader, to: server)
    try await eventually("\(reader.log)") { try texts(reader).contains("phone") ? true : nil }
    #expect(try Set(texts(reader)).isSuperset(of: counting))
    try await reader.stop()
    try await copy.stop()
    try await origin.stop()

    // It stays so, also without those who showed it.
    try await server.stop()
    try await server.start()
    #expect(try forkedAt(server) == nodes.blocks && texts(server) == counting)
    try await server.stop()
    // Evidence that is damaged does not let the feed count again unnoticed.
    let path = try evidencePath(server, nodes.key)
    var bytes = try #require(try AtomicFile.read(path))
    bytes[100] ^= 1
    try AtomicFile.replace(path, with: bytes)
    let refused = try await server.startInVain()
    #expect(refused.status != 0 && refused.stderr.contains(path) && refused.stderr.contains("is damaged"))
  }
}
