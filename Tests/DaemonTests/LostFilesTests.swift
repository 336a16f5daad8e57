import FoundationEssentials
import Glibc
import HyphaControlAPI
import Testing

/// What a disk, or who tidied it up, may have taken from a state folder while the rest stayed.
@Suite("Files that are gone from a state folder", .fewAtOnce, .timeLimit(.minutes(10))) struct LostFilesTests
{
  /// An origin with posts, an always-on node that has them, and a device that is not let in yet.
  private func three() async throws -> (origin: TestNode, server: TestNode, phone: TestNode) {
    let (origin, server) = (try await HyphactlTests.origin(), try await HyphactlTests.fresh())
    for number in 0..<3 { try origin.post("post \(number)") }
    let code = try server.client().call(SetupCodeShow.self, .init()).code
    _ = try origin.client().call(ConnectionsAdd.self, .init(url: server.url, setupCode: code))
    _ = try origin.client().call(NodeWait.self, .init(for: .synced, timeoutSeconds: 60))
    let phone = try await HyphactlTests.fresh()
    _ = try phone.client().call(
      NodeInitialise.self,
      .init(hyphalink: try origin.status().hyphalink, deviceName: "phone", writer: true))
    _ = try phone.client().call(ConnectionsAdd.self, .init(url: server.url))
    return (origin, server, phone)
  }

  private func letIn(_ phone: TestNode, by origin: TestNode) throws {
    let writer = try #require(try phone.status().writer)
    _ = try origin.client().call(DatabaseAuthorize.self, .init(key: writer))
  }

  private func expectCanPost(_ node: TestNode) async throws {
    try await eventually("it may not post: \(node.log)") { try node.status().canPost ? true : nil }
  }

  private func remove(_ name: String, of node: TestNode) throws {
    try FileManager.default.removeItem(atPath: "\(node.statePath)/\(name)")
  }

  // MARK: - A writer's feed

  @Test(
    "A writer whose feed is gone does not begin it anew, and goes on from what others have of it",
    arguments: [true, false])
  func ownFeed(isOrigin: Bool) async throws {
    let (origin, server, phone) = try await three()
    try letIn(phone, by: origin)
    try await expectCanPost(phone)
    let node = isOrigin ? origin : phone
    for number in 0..<3 { try node.post("own \(number)") }
    let texts = Set(try node.texts())
    try await eventually("the server has not all") { Set(try server.texts()) == texts ? true : nil }
    try await node.stop()
    try await server.stop()
    try remove(isOrigin ? "hypha/source" : "hypha/local", of: node)
    try await node.start()
    #expect(node.log.contains("own feed is gone"))
    #expect(try !node.status().canPost && node.status().catchesUp == true)
    #expect(try await node.ctl("post", "too early").status == 1)
    try await server.start()
    try await expectCanPost(node)
    try node.post("afterwards")
    for other in [origin, server, phone] {
      try await eventually("not all is everywhere: \(other.log)") {
        Set(try other.texts()) == texts.union(["afterwards"]) ? true : nil
      }
      #expect(try other.status().feeds.allSatisfy { $0.forkedAt == nil })
    }
  }

  @Test("A device whose feed was gone before it was let in begins it then") func waitingDevice() async throws
  {
    let (origin, server, phone) = try await three()
    try await phone.stop()
    try remove("hypha/local", of: phone)
    try await phone.start()
    #expect(try phone.status().catchesUp == true)
    try letIn(phone, by: origin)
    try await expectCanPost(phone)
    try phone.post("let in")
    try await eventually("the post does not arrive: \(phone.log)") {
      try origin.texts().contains("let in") && server.texts().contains("let in") ? true : nil
    }
    try await phone.kill()
    try await phone.start()
    try phone.post("after a restart")
  }

  @Test("A device whose feed is damaged signs out; the feed is set aside, and comes back from others")
  func damagedSignsOut() async throws {
    let (origin, server, phone) = try await three()
    try letIn(phone, by: origin)
    try await expectCanPost(phone)
    try phone.post("from the phone")
    let texts = Set(try phone.texts())
    try await eventually("the server has not all") { Set(try server.texts()) == texts ? true : nil }
    let file = open("\(phone.statePath)/hypha/local/signatures", O_WRONLY | O_CLOEXEC)
    #expect(pwrite(file, [UInt8](repeating: 0xFF, count: 32), 32, 0) == 32)
    close(file)
    let ended = try await phone.ctl("sign-out", "--yes")
    #expect(ended.status == 0, "\(ended.stderr) \(phone.log)")
    #expect(FileManager.default.fileExists(atPath: "\(phone.statePath)/damaged/hypha-local/data"))
    #expect(phone.log.contains("was set aside"))
    try await phone.kill()
    try await phone.start()
    #expect(try phone.status().writer == nil)
    try await eventually("its posts do not come back: \(phone.log)") {
      Set(try phone.texts()) == texts ? true : nil
    }
  }
}
