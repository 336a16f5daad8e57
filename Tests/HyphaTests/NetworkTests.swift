import Glibc
import Hypercore
import TestSupport
import Testing

@testable import Hypha

/// The whole life of a hypha on a network that fails: set-up, servers, devices that ask, are compared, let in or not, and post.
///
/// `HYPHA_NETWORKS` says how many runs there are, `HYPHA_SEED` from which seed on.
@Suite("A hypha on a network that fails") struct NetworkTests {
  private func live(_ seed: UInt64, servers: Int, devices: Int, steps: Int) throws -> Life {
    let network = try SimulatedNetwork(
      seed: seed, servers: servers, devices: devices, weather: SimulatedNetwork.Weather())
    let life = Life(network)
    for step in 0..<steps {
      try network.advance()
      if step % 3 == 0 { try life.act() }
    }
    return life
  }

  private static var count: Int { getenv("HYPHA_NETWORKS").flatMap { Int(String(cString: $0)) } ?? 3 }
  private static var first: UInt64 {
    getenv("HYPHA_SEED").flatMap { UInt64(String(cString: $0)) } ?? 1
  }

  @Test("Everything that was acknowledged reaches everybody", arguments: 0..<count)
  func converges(run: Int) throws {
    let seed = Self.first + UInt64(run)
    let devices = [4, 10, 24][run % 3]
    let life = try live(seed, servers: 3, devices: devices, steps: 600 + 30 * devices)
    let network = life.network
    #expect(try network.settle(within: 600_000), "seed \(seed): it does not come to rest")
    #expect(life.posted.count > 5, "seed \(seed): little happened")
    let expected = Set(life.posted.keys).subtracting(life.deleted)
    let known = try network.nodes[0].hypha.devices()
    for node in network.nodes {
      var texts: [PostID: String] = [:]
      for post in try node.hypha.posts(limit: 100_000).posts { texts[post.id] = post.text }
      #expect(Set(texts.keys) == expected, "seed \(seed), node \(node.place): posts are missing or too many")
      for (id, text) in texts { #expect(text == life.posted[id]) }
      #expect(
        try node.hypha.devices().map(\.writer) == known.map(\.writer), "seed \(seed), node \(node.place)")
      #expect(
        node.membership.drops.forged == 0 && node.membership.drops.malformed == 0,
        "seed \(seed), node \(node.place)")
    }
    // Each is let in once, however many answered.
    #expect(Set(known.map(\.writer)).count == known.count, "seed \(seed): a device is there twice")
    let approved = Set(life.approvals.keys)
    for node in network.nodes where node.kind == .device {
      let own = node.membership.ownRequest(now: network.wall + node.skew)
      let isIn = try node.hypha.canPost()
      if let own, approved.contains(own.id) {
        #expect(isIn, "seed \(seed), node \(node.place): let in, and does not know")
      }
      if let own, life.denials.contains(own.id), !approved.contains(own.id) {
        #expect(own.state == .denied, "seed \(seed), node \(node.place): denied, and does not know")
      }
      #expect(isIn == known.contains { $0.writer == node.writer })
    }
    #expect(
      network.mostInFlight < 16 << 20, "seed \(seed): \(network.mostInFlight) bytes waited on one connection")
  }

  @Test(
    "The same seed gives the same run",
    .enabled(if: getenv("SWIFT_DETERMINISTIC_HASHING") != nil, "needs SWIFT_DETERMINISTIC_HASHING=1"))
  func isDeterministic() throws {
    let traces = try (0..<2).map { _ in try live(77, servers: 2, devices: 5, steps: 600).network.trace }
    #expect(traces[0] == traces[1])
    #expect(try live(78, servers: 2, devices: 5, steps: 600).network.trace != traces[0])
  }
}
