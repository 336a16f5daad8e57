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
  /// - Returns: how long it took, and whether it was refused at first.
  private func post(_ node: TestNode, _ text: String) async throws -> (time: Duration, isHeldUp: Bool) {
    let start = ContinuousClock.now
    var isHeldUp = false
    try await eventually(within: Sanitizer.seconds(30), "the writer may not post") {
      do {
        _ = try node.client().call(PostsCreate.self, .init(text: text))
        return true
      } catch let failure as ControlFailure {
        guard case .refused(let error) = failure.code, error.code == .behind else { throw failure }
        isHeldUp = true
        return nil
      }
    }
    return (.now - start, isHeldUp)
  }

  @Test("keep a device from writing for seconds at most, and only once")
  func writing() async throws {
    let (node, key) = try await writer()
    // Each says that the writer's own feed is longer, and sends nothing of that when it is asked.
    func claim(_ peer: HostilePeer) async throws {
      peer.say(.have(Message.Have(start: 0, length: 10_000)))
      _ = try await peer.untilAsked()
    }
    // One is there from the beginning, and claims nothing before another one was doubted.
    let patient = try await HostilePeer(port: node.port, key: key)
    try await patient.fetch()
    let first = try await HostilePeer(port: node.port, key: key)
    try await claim(first)
    let held = try await post(node, "during a claim")
    #expect(held.isHeldUp && held.time < .seconds(Sanitizer.seconds(10)), "\(held)")
    patient.keepAlive()
    #expect(try await !post(node, "later").isHeldUp)
    patient.keepAlive()
    // From then on nobody of that address holds it up: neither while the first is there, nor once it is gone, nor who claims anew
    // each time that it is asked.
    var claimers = [first, patient]
    try await claim(patient)
    #expect(try await !post(node, "during a patient claim").isHeldUp)
    for number in 0..<3 {
      let peer = try await HostilePeer(port: node.port, key: key)
      try await claim(peer)
      claimers.append(peer)
      #expect(try await !post(node, "during claim \(number)").isHeldUp)
    }
    claimers = []
    let last = try await HostilePeer(port: node.port, key: key)
    for number in 0..<20 as Range<UInt64> {
      try await claim(last)
      #expect(try await !post(node, "during a claim made anew").isHeldUp)
      last.say(.unhave(Message.Unhave(start: 20 + number, length: 10_000)))
    }
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
      try await eventually(within: Sanitizer.seconds(30), "a post does not come: \(server.log)") {
        try server.client().call(PostsList.self, .init(limit: 1)).posts.first?.id == id ? true : nil
      }
      // The first time, twenty and more blocks were asked of those who do not have them.
      if number > 0 {
        #expect(ContinuousClock.now - start < .seconds(Sanitizer.seconds(15)), "post \(number)")
      }
    }
    withExtendedLifetime(strangers) {}
    try await server.stop()
    try await origin.stop()
  }
}
