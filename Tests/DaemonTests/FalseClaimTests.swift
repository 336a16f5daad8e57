import Hypercore
import HyphaControlAPI
import Testing

@testable import HyphaDaemonCore

/// Strangers who say that they have blocks, and send none. Without what there is against that, each of these would take half a
/// minute; the bounds leave a busy machine room. `ReplicationCostTests` counts the seconds.
@Suite("Strangers who claim what they do not have", .fewAtOnce) struct FalseClaimTests {
  /// A device that may write, which others can connect to.
  private func writer() async throws -> (node: TestNode, key: PublicKey) {
    let node = try await HyphactlTests.origin()
    for number in 0..<20 { _ = try node.client().call(PostsCreate.self, .init(text: "post \(number)")) }
    let link = try node.client().call(NodeStatus.self, Nothing()).hyphalink ?? ""
    return (node, try #require(PublicKey(hex: link.dropFirst("dat://".count))))
  }

  /// Posts until it works.
  ///
  /// - Returns: how long it took.
  private func post(_ node: TestNode, _ text: String) async throws -> Duration {
    let start = ContinuousClock.now
    try await eventually(within: 30, "the writer may not post") {
      do {
        _ = try node.client().call(PostsCreate.self, .init(text: text))
        return true
      } catch let failure as ControlFailure {
        guard case .refused(let error) = failure.code, error.code == .behind else { throw failure }
        return nil
      }
    }
    return .now - start
  }

  @Test("keep a device from writing for seconds at most, and only once")
  func writing() async throws {
    let (node, key) = try await writer()
    let port = node.port
    // It says that the writer's own feed is longer, and says so anew each time that it is asked.
    func claim(_ id: UInt8) async throws -> Task<Void, any Error> {
      let (claimed, claims) = AsyncStream.makeStream(of: Void.self)
      let task = Task {
        defer { claims.finish() }
        let peer = try await HostilePeer(port: port, key: key, id: id)
        peer.say(.have(Message.Have(start: 0, length: 1000)))
        _ = try await peer.untilAsked()
        claims.finish()
        for number in 0..<300 as Range<UInt64> where !peer.client.isEnded {
          peer.say(
            .unhave(Message.Unhave(start: 20, length: 1000)),
            .have(Message.Have(start: 1000 + 10 * number, length: 5)))
          try await Task.sleep(for: .milliseconds(50))
        }
      }
      for await _ in claimed {}
      return task
    }
    var claimers = [try await claim(1)]
    #expect(try await post(node, "during a claim") < .seconds(15))
    for number in 0..<5 { #expect(try await post(node, "later \(number)") < .seconds(15)) }
    // The next come from the same address.
    for id in 2..<5 as Range<UInt8> {
      claimers.append(try await claim(id))
      #expect(try await post(node, "during claim \(id)") < .seconds(15))
    }
    for claimer in claimers { claimer.cancel() }
    try await node.stop()
  }

  @Test("do not delay what others send by more than a second or two")
  func delaying() async throws {
    let (origin, key) = try await writer()
    let server = try TestNode()
    try await server.start()
    _ = try server.client().call(
      NodeInitialise.self, .init(hyphalink: "dat://\(key.hex)"))
    var strangers: [HostilePeer] = []
    for id in 1..<5 as Range<UInt8> {
      let peer = try await HostilePeer(port: server.port, key: key, id: id)
      peer.say(.have(Message.Have(start: 0, length: 10_000)))
      strangers.append(peer)
    }
    _ = try origin.client().call(ConnectionsAdd.self, .init(url: server.url))
    _ = try origin.client().call(NodeWait.self, .init(for: .ready, timeoutSeconds: 30))
    for number in 0..<5 {
      let start = ContinuousClock.now
      let id = try origin.client().call(PostsCreate.self, .init(text: "new \(number)")).id
      try await eventually(within: 30, "a post does not come: \(server.log)") {
        try server.client().call(PostsList.self, .init(limit: 1)).posts.first?.id == id ? true : nil
      }
      // The first time, twenty and more blocks were asked of those who do not have them.
      if number > 0 { #expect(ContinuousClock.now - start < .seconds(15), "post \(number)") }
    }
    withExtendedLifetime(strangers) {}
    try await server.stop()
    try await origin.stop()
  }
}
