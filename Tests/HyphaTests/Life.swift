import Hypercore
import TestSupport
import Testing

@testable import Hypha

/// What people did, and were told that it was done.
final class Life {
  let network: SimulatedNetwork
  private var random: SeededRandom
  private(set) var posted: [PostID: String] = [:]
  /// What each device posted.
  private(set) var own: [Int: [PostID: String]] = [:]
  private(set) var deleted: Set<PostID> = []
  private(set) var approvals: [RequestID: Int] = [:]
  private(set) var denials: Set<RequestID> = []
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
      own[node.place, default: [:]][post.id] = text
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
    // From here on it may be gone.
    deleted.insert(post.id)
    try node.commit(network.wall) { hypha, _ in try hypha.delete(post.id) }
    network.note(13, node.place)
  }
}
