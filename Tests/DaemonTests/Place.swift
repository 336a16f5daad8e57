import FoundationEssentials
import Glibc
import Hypercore
import HyphaControlAPI
import Testing

/// An always-on node with an origin that posts to it.
struct Place {
  let server: TestNode
  let origin: TestNode
  let key: PublicKey
  let passphrase: Secret
  let pid: pid_t

  init(settings: String = "", http: String = "") async throws {
    server = try TestNode(settings: settings)
    try server.configure(http: http)
    origin = try TestNode()
    try await server.start()
    try await origin.start()
    let client = try origin.client()
    passphrase = try client.call(PassphraseGenerate.self, .init()).passphrase
    let made = try client.call(
      NodeInitialise.self, .init(domain: "example.org", passphrase: passphrase, deviceName: "laptop"))
    key = try #require(PublicKey(hex: made.hyphalink.dropFirst("dat://".count)))
    for number in 0..<20 { _ = try client.call(PostsCreate.self, .init(text: "post \(number)")) }
    let code = try server.client().call(SetupCodeShow.self, .init()).code
    _ = try client.call(ConnectionsAdd.self, .init(url: server.url, setupCode: code))
    _ = try client.call(NodeWait.self, .init(for: .synced, timeoutSeconds: 60))
    pid = try #require(server.daemon).pid
  }

  func descriptors() throws -> Int {
    try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").count
  }

  func use() throws -> ProcessUse { try ProcessUse(pid) }

  /// A post that is made now gets there while the attack goes on, over the connection that was there before.
  func goodPeerSyncs(_ what: String, within seconds: Double = 60) async throws {
    let bound = Sanitizer.seconds(seconds)
    let start = ContinuousClock.now
    let id = try origin.client().call(PostsCreate.self, .init(text: "during \(what)")).id
    try await eventually(within: bound, "no post during \(what): \(server.log)") {
      try server.client().call(PostsList.self, .init(limit: 1)).posts.first?.id == id ? true : nil
    }
    let taken = start.duration(to: .now)
    #expect(taken < .seconds(bound), "a post during \(what) took \(taken)")
    // With a sanitizer it may be too slow to be taken for present.
    let connections = try origin.client().call(ConnectionsList.self, Nothing()).connections
    #expect(Sanitizer.isOn || connections.first?.state == .connected)
  }

  /// What was not taken, by kind.
  func rejected() throws -> [String: UInt64] {
    try rejections().values.reduce(into: [:]) { $0.merge($1, uniquingKeysWith: +) }
  }

  /// What was not taken, by address.
  func rejections() throws -> [String: [String: UInt64]] {
    var counts: [String: [String: UInt64]] = [:]
    for info in try server.client().call(PeersList.self, Nothing()).rejected ?? [] {
      counts[info.address, default: [:]][info.kind] = info.count
    }
    return counts
  }

  func stop() async throws {
    #expect(server.daemon?.poll() == nil && server.daemon?.pid == pid)
    try await origin.stop()
    try await server.stop()
  }
}
