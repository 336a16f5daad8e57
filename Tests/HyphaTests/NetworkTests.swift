import Glibc
import Hypercore
import TestSupport
import Testing

@testable import Hypha

/// The whole life of a hypha on a network that fails: set-up, servers, devices that ask, are compared, let in or not, and post.
///
/// `HYPHA_NETWORKS` says how many runs there are, `HYPHA_NETWORK_SEED` from which seed on.
@Suite("A hypha on a network that fails") struct NetworkTests {
  /// What people did, and were told that it was done.
  private final class Life {
    let network: SimulatedNetwork
    private var random: SeededRandom
    var posted: [PostID: String] = [:]
    var deleted: Set<PostID> = []
    var approvals: [RequestID: Int] = [:]
    var denials: Set<RequestID> = []
    private var asked: [Int: RequestID] = [:]

    init(_ network: SimulatedNetwork) {
      self.network = network
      random = SeededRandom(network.seed ^ 0xFFFF)
    }

    func act() throws {
      guard let node = network.nodes.filter({ $0.isUp && $0.kind != .server }).randomElement(using: &random)
      else { return }
      let now = network.wall + node.skew
      if try !node.hypha.canPost() { return try ask(node, now) }
      switch Int.random(in: 0..<10, using: &random) {
      case 0: try deleteOne(node)
      case 1...4: try answer(node, now)
      default:
        let text = "\(node.place): \(String(repeating: "·", count: Int.random(in: 1...2000, using: &random)))"
        let random = self.random.bytes(10)
        let post = try node.commit(network.wall) { hypha, _ in
          try hypha.post(text, device: "device \(node.place)", now: now, random: random)
        }
        #expect(posted.updateValue(text, forKey: post.id) == nil, "an id was given out twice")
        network.note(10, node.place)
      }
    }

    /// A device asks to be let in, once it has asked nobody or was refused.
    private func ask(_ node: SimulatedNode, _ now: Int64) throws {
      if let own = node.membership.ownRequest(now: now), own.state == .pending || own.state == .authorised {
        return
      }
      // One that was denied stays out, so that some do.
      if let id = asked[node.place], denials.contains(id) { return }
      let random = self.random.bytes(40)
      let request = try node.commit(network.wall) { _, membership in
        try membership.request(
          name: "device \(node.place)", lifetime: HyphaLimits.requestLifetime, now: now, random: random)
      }
      asked[node.place] = request.id
      network.note(11, node.place)
    }

    /// A person compares the words, and lets the device in or not. Several may answer one request without knowing.
    private func answer(_ node: SimulatedNode, _ now: Int64) throws {
      let pending = node.membership.requests(now: now).filter { $0.state == .pending }
      guard let request = pending.randomElement(using: &random) else { return }
      let device = try #require(network.nodes.first { $0.writer == request.writer })
      if device.isUp, let own = device.membership.ownRequest(now: network.wall + device.skew),
        own.id == request.id
      {
        #expect(own.words == request.words)
      }
      let (nonce, denies) = (random.bytes(24), Int.random(in: 0..<8, using: &random) == 0)
      try node.commit(network.wall) { _, membership in
        if denies {
          _ = try membership.deny(request.id, device: "device \(node.place)", now: now, random: nonce)
        } else {
          _ = try membership.approve(request.id, device: "device \(node.place)", now: now, random: nonce)
        }
      }
      if denies { denials.insert(request.id) } else { approvals[request.id, default: 0] += 1 }
      network.note(12, node.place, denies ? 1 : 0)
    }

    private func deleteOne(_ node: SimulatedNode) throws {
      let posts = try node.hypha.posts(limit: 20).posts
      guard let post = posts.randomElement(using: &random) else { return }
      try node.commit(network.wall) { hypha, _ in try hypha.delete(post.id) }
      deleted.insert(post.id)
      network.note(13, node.place)
    }
  }

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
    getenv("HYPHA_NETWORK_SEED").flatMap { UInt64(String(cString: $0)) } ?? 1
  }

  @Test("Everything that was acknowledged reaches everybody", arguments: 0..<count)
  func converges(run: Int) throws {
    let seed = Self.first + UInt64(run)
    let devices = [4, 10, 24][run % 3]
    let life = try live(seed, servers: 3, devices: devices, steps: 600 + 30 * devices)
    let network = life.network
    #expect(try network.settle(within: 600_000), "seed \(seed): it does not come to rest")
    #expect(life.posted.count > 20 && !life.approvals.isEmpty, "seed \(seed): little happened")
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
