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

  @Test("Who signs out while catching up waits no longer, now or as the device that signs in next")
  func signsOutMeanwhile() async throws {
    let (origin, server, phone) = try await three()
    try letIn(phone, by: origin)
    try await expectCanPost(phone)
    try await origin.stop()
    try remove("hypha/source", of: origin)
    try await server.stop()
    try await origin.start()
    #expect(try origin.status().catchesUp == true)
    #expect(try await origin.ctl("sign-out", "--yes").status == 0)
    #expect(try origin.status().catchesUp == nil)
    try await server.start()
    #expect(try await origin.ctl("wait", "--synced", "--timeout", "30").status == 0)
    let asked = try await origin.ctl(
      "sign-in", "http://127.0.0.1:\(server.port)", "--domain", "example.org", "--passphrase-file", "-",
      input: HyphactlTests.passphrase)
    #expect(asked.status == 0, "\(asked.stderr)")
    try letIn(origin, by: phone)
    try await expectCanPost(origin)
    try origin.post("signed in anew")
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

  // MARK: - The record

  @Test("Where node.json is gone the daemon removes nothing, says so and ends; with it back, all is there")
  func record() async throws {
    let (origin, server, phone) = try await three()
    try await eventually("the phone gets nothing") {
      try phone.status().feeds.contains { $0.heldBlocks > 1 } ? true : nil
    }
    for node in [origin, server, phone] {
      try await node.stop()
      let (there, away) = ("\(node.statePath)/node.json", "\(node.folder.path)/node.json")
      try FileManager.default.moveItem(atPath: there, toPath: away)
      // Also the next time.
      for _ in 0..<2 {
        let ended = try await node.startInVain()
        #expect(ended.status == EXIT_FAILURE)
        #expect(
          ended.stderr.contains("\(there) is missing") && ended.stderr.contains("move the folder"),
          "\(ended.stderr)")
      }
      try FileManager.default.moveItem(atPath: away, toPath: there)
      try await node.start()
    }
    try origin.post("afterwards")
    try await eventually("the post does not arrive") {
      try phone.texts().contains("afterwards") && server.texts().contains("afterwards") ? true : nil
    }
  }

  @Test("Keys alone are not removed either") func keysAlone() async throws {
    let origin = try await HyphactlTests.origin()
    try await origin.stop()
    for name in ["node.json", "hypha"] { try remove(name, of: origin) }
    #expect(try await origin.startInVain().stderr.contains("node.json is missing"))
    #expect(FileManager.default.fileExists(atPath: "\(origin.statePath)/secrets/writer"))
  }

  @Test("The setup code does not outlive a stop between it and the record") func setupCode() async throws {
    let origin = try await HyphactlTests.origin()
    try await origin.stop()
    let code = "\(origin.statePath)/setup-code"
    #expect(FileManager.default.createFile(atPath: code, contents: Data("left".utf8)))
    try await origin.start()
    #expect(!FileManager.default.fileExists(atPath: code))
  }
}
