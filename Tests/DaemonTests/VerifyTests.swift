import FoundationEssentials
import Glibc
import HyphaControlAPI
import Testing

/// Damage on disk, and how it is found and mended, with the programs as they are built.
@Suite("Verify and repair", .fewAtOnce, .timeLimit(.minutes(15)))
struct VerifyTests {
  private static let posts = 120

  /// An origin with posts, and an always-on node that has them.
  private func pair() async throws -> (origin: TestNode, server: TestNode) {
    let (origin, server) = (try TestNode(), try TestNode())
    try await origin.start()
    try await server.start()
    let client = try origin.client()
    let passphrase = try client.call(PassphraseGenerate.self, .init()).passphrase
    _ = try client.call(
      NodeInitialise.self, .init(domain: "example.org", passphrase: passphrase, deviceName: "origin"))
    for number in 0..<Self.posts { try origin.post("post \(number)") }
    let code = try server.client().call(SetupCodeShow.self, .init()).code
    _ = try client.call(ConnectionsAdd.self, .init(url: server.url, setupCode: code))
    _ = try client.call(NodeWait.self, .init(for: .synced, timeoutSeconds: 30))
    try await eventually { try server.texts().count == Self.posts ? true : nil }
    return (origin, server)
  }

  /// Changes bytes of a file.
  private func flip(_ node: TestNode, _ file: String, at offsets: [Int], count: Int = 1) throws {
    let path = "\(node.statePath)/hypha/source/\(file)"
    let handle = open(path, O_RDWR | O_CLOEXEC)
    try #require(handle >= 0)
    defer { close(handle) }
    for offset in offsets {
      var bytes = [UInt8](repeating: 0, count: count)
      try #require(pread(handle, &bytes, count, off_t(offset)) == count)
      bytes = bytes.map { $0 ^ 0x55 }
      try #require(pwrite(handle, bytes, count, off_t(offset)) == count)
    }
  }

  private func size(_ node: TestNode, _ file: String) -> Int {
    var found = stat()
    stat("\(node.statePath)/hypha/source/\(file)", &found)
    return found.st_size
  }

  private func verify(_ node: TestNode) async throws -> (status: Int32, FeedCheckInfo) {
    let ended = try await node.ctl("verify", "--json")
    let result = try JSONDecoder().decode(NodeVerify.Result.self, from: Data(ended.stdout))
    #expect(result.done && result.checked == result.total)
    return (ended.status, try #require(result.feeds.first))
  }

  private func expectMended(_ node: TestNode, _ place: SourceLocation = #_sourceLocation) async throws {
    let ended = try await node.ctl("repair")
    #expect(ended.status == 0, "\(ended.stderr) \(ended.text) \(node.log)", sourceLocation: place)
    #expect(try await verify(node).status == 0, sourceLocation: place)
    #expect(try await node.ctl("repair").stderr.contains("Nothing is damaged"), sourceLocation: place)
    try await eventually { try node.texts().count >= Self.posts ? true : nil }
  }

  @Test("A node that was left alone is whole") func clean() async throws {
    let (origin, server) = try await pair()
    for node in [origin, server] {
      let (status, feed) = try await verify(node)
      #expect(status == 0 && feed.damaged == 0 && feed.checkedBlocks == feed.length)
      #expect(
        feed.length > UInt64(Self.posts) && feed.checkedNodes > feed.length && feed.checkedSignatures > 0)
      let shown = try await node.ctl("verify")
      #expect(shown.status == 0 && shown.text.hasPrefix("ok ") && shown.stderr.isEmpty)
    }
  }

  @Test("What is damaged while a node runs is named, and comes back from another", arguments: [true, false])
  func running(isOwn: Bool) async throws {
    let (origin, server) = try await pair()
    let node = isOwn ? origin : server
    // In a block in the middle, in a leaf's hash, in a parent.
    try flip(node, "data", at: [size(node, "data") / 2])
    try flip(node, "tree", at: [32 + 40 * 20, 32 + 40 * 31 + 35])
    let (code, feed) = try await verify(node)
    #expect(code == 1 && feed.damaged == 3)
    #expect(feed.damagedBlocks.count == 1 && feed.damagedSignatures == [])
    #expect(feed.damagedNodes == [.init(first: 20, last: 20), .init(first: 31, last: 31)])
    let shown = try await node.ctl("verify")
    #expect(shown.text.contains("DAMAGED") && shown.text.contains("tree nodes: 20, 31"))
    #expect(shown.stderr.contains("hyphactl repair"))
    try await expectMended(node)
    if isOwn { try await eventually { try origin.status().canPost ? true : nil } }
    try origin.post("after")
    try await eventually { try server.texts().first == "after" ? true : nil }
    #expect(try server.texts() == origin.texts())
  }

  @Test("A repair that nobody reads of mends all the same") func unread() async throws {
    let (origin, _) = try await pair()
    try flip(origin, "tree", at: [32 + 40 * 20])
    #expect(try await origin.ctl(["repair"], streams: ">&3").status == 0)
    #expect(try await verify(origin).status == 0)
  }

  @Test("What is damaged while a node is stopped comes back, and nothing else is signed in its place")
  func stopped() async throws {
    let (origin, server) = try await pair()
    let before = try origin.texts()
    _ = try await origin.stop()
    _ = try await server.stop()
    try flip(origin, "data", at: [100, 5000])
    try flip(origin, "signatures", at: [32 + 64 * 50])
    try await origin.start()
    let (code, feed) = try await verify(origin)
    #expect(code == 1 && feed.damagedBlocks.count == 2)
    #expect(feed.damagedSignatures == [.init(first: 50, last: 50)])
    // Without another node, they are missing, and nothing is written.
    let ended = try await origin.ctl("repair", "--timeout", "1")
    #expect(ended.status == 1 && ended.stderr.contains("2 blocks are missing still"), "\(ended.stderr)")
    #expect(try await origin.ctl("post", "too early").status == 1)
    _ = try await origin.stop()
    try await origin.start()
    #expect(try await origin.ctl("post", "too early").status == 1)
    try await server.start()
    try await eventually(within: 60, "\(origin.log)") { try origin.status().canPost ? true : nil }
    #expect(try origin.texts() == before)
    #expect(try await verify(origin).status == 0)
    try origin.post("after")
    try await eventually { try server.texts().first == "after" ? true : nil }
    #expect(!server.log.contains("disconnected for what it sent"))
  }

  @Test("Signatures and a lost sector of the tree", arguments: [true, false])
  func treeAndSignatures(isOwn: Bool) async throws {
    let (origin, server) = try await pair()
    let node = isOwn ? origin : server
    try flip(node, "signatures", at: [size(node, "signatures") - 64])
    try flip(node, "tree", at: [2048], count: 1024)
    let (code, feed) = try await verify(node)
    #expect(code == 1 && !feed.damagedNodes.isEmpty && feed.damagedSignatures.count >= 1)
    try await expectMended(node)
  }

  @Test(
    "A node that cannot open what is on its disk says what to do, and that works", arguments: [true, false])
  func resync(isOwn: Bool) async throws {
    let (origin, server) = try await pair()
    let node = isOwn ? origin : server
    let before = try origin.texts()
    _ = try await node.stop()
    // All signatures, and the first header of the tree.
    let count = size(node, "signatures") - 32
    try flip(node, "signatures", at: [32], count: count)
    let ended = try await node.startInVain()
    #expect(ended.status == 1 && ended.stderr.contains("resync"), "\(ended.stderr)")
    #expect(FileManager.default.createFile(atPath: "\(node.statePath)/resync", contents: nil))
    if isOwn { _ = try await server.stop() }
    try await node.start()
    #expect(access("\(node.statePath)/resync", F_OK) != 0)
    #expect(access("\(node.statePath)/damaged/hypha-source/data", F_OK) == 0)
    if isOwn {
      #expect(try await node.ctl("status").text.contains("not yet"))
      #expect(try await node.ctl("post", "too early").status == 1)
      try await server.start()
    }
    try await eventually(within: 60, "\(node.log)") { try node.texts() == before ? true : nil }
    if isOwn { try await eventually(within: 60) { try node.status().canPost ? true : nil } }
    try origin.post("after")
    try await eventually { try server.texts().first == "after" ? true : nil }
    #expect(try await verify(node).status == 0)
  }

  @Test("A check does not hold up the node") func servesMeanwhile() async throws {
    let (origin, _) = try await pair()
    let text = String(repeating: "x", count: 60_000)
    for _ in 0..<200 { try origin.post(text) }
    let running = try origin.startCtl(["verify"])
    let client = try origin.client()
    var slowest = Duration.zero
    repeat {
      let start = ContinuousClock.now
      _ = try client.call(NodeVersion.self, .init())
      slowest = max(slowest, ContinuousClock.now - start)
    } while running.poll() == nil
    #expect(try await running.end().status == 0)
    // A slice has 20 ms; the rest is for a busy machine.
    #expect(slowest < .milliseconds(Sanitizer.isOn ? 5000 : 500))
  }
}
