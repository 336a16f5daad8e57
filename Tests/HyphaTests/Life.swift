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
  /// What they tried to post and delete, and whom to let in: where a disk failed, it may have come about all the same.
  private(set) var begun:
    (posts: [PostID: String], deletions: Set<PostID>, admissions: [PublicKey: Set<Int>]) = ([:], [], [:])
  private(set) var approvals: Set<RequestID> = []
  /// Who let each writer in.
  private(set) var admissions: [PublicKey: Set<Int>] = [:]
  private(set) var denials: Set<RequestID> = []
  private var asked: [Int: RequestID] = [:]

  init(_ network: SimulatedNetwork) {
    self.network = network
    random = SeededRandom(network.seed ^ 0xFFFF)
  }

  /// The origin has a past, of more bytes than one connection may have waiting.
  func begin() throws {
    for number in 0..<40 {
      try post(String(repeating: "·", count: HyphaLimits.postBytes / 2 - number), on: network.nodes[0])
    }
  }

  func act() throws {
    let people = network.nodes.filter { $0.isUp && ($0.kind == .origin || $0.kind == .device) }
    // The origin more often than others: until it has let some in, they can do little.
    let isOrigin = Int.random(in: 0..<4, using: &random) == 0
    let node = isOrigin ? people.first { $0.kind == .origin } : people.randomElement(using: &random)
    guard let node, let hypha = node.hypha, let membership = node.membership else { return }
    try network.attempt(node) { try act(on: node, hypha, membership) }
  }

  private func act(
    on node: SimulatedNode, _ hypha: Hypha<SimulatedFile>, _ membership: Membership<SimulatedFile>
  ) throws {
    let now = network.wall + node.skew
    if node.writer == nil {
      if Int.random(in: 0..<4, using: &random) == 0 { try network.signIn(node) }
      return
    }
    if try !hypha.canPost() { return try ask(node, membership, now) }
    switch Int.random(in: 0..<10, using: &random) {
    case 0: try deleteOne(node, hypha)
    case 1...4: try answer(node, hypha, membership, now)
    default:
      let dots = String(repeating: "·", count: Int.random(in: 1...2000, using: &random))
      try post("\(node.place): \(dots)", on: node)
    }
  }

  private func post(_ text: String, on node: SimulatedNode) throws {
    let (now, random) = (network.wall + node.skew, self.random.bytes(10))
    let post = try node.commit(network.wall) { hypha, _ in
      let post = try hypha.post(text, device: "device \(node.place)", now: now, random: random)
      begun.posts[post.id] = text
      return post
    }
    #expect(posted.updateValue(text, forKey: post.id) == nil, "an id was given out twice")
    own[node.place, default: [:]][post.id] = text
    network.note(10, node.place)
  }

  /// A device asks to be let in, once it has asked nobody or was refused.
  private func ask(_ node: SimulatedNode, _ membership: Membership<SimulatedFile>, _ now: Int64) throws {
    if let own = membership.ownRequest(now: now), own.state == .pending || own.state == .authorised {
      return
    }
    // One that was denied stays out, so that some do.
    if let id = asked[node.place], denials.contains(id) { return }
    let lifetime = Bool.random(using: &self.random) ? 3_600_000 : HyphaLimits.requestLifetime
    let random = self.random.bytes(40)
    let request = try node.commit(network.wall) { _, membership in
      try membership.request(
        name: "device \(node.place)", lifetime: lifetime, now: now, random: random)
    }
    asked[node.place] = request.id
    network.note(11, node.place)
  }

  /// A person compares the words, and lets the device in or not. Several may answer one request without knowing.
  private func answer(
    _ node: SimulatedNode, _ hypha: Hypha<SimulatedFile>, _ membership: Membership<SimulatedFile>,
    _ now: Int64
  ) throws {
    let pending = membership.requests(now: now).filter { $0.state == .pending }
    guard let request = pending.randomElement(using: &random) else { return }
    let device = try #require(network.nodes.first { $0.writer == request.writer })
    if device.isUp, let own = device.membership?.ownRequest(now: network.wall + device.skew),
      own.id == request.id
    {
      #expect(own.words == request.words)
    }
    #expect(
      try !hypha.database.isAuthorized(request.writer),
      "seed \(network.seed): node \(node.place) is asked about \(device.place), which it knows is let in")
    let (nonce, denies) = (random.bytes(24), Int.random(in: 0..<8, using: &random) == 0)
    if !denies { begun.admissions[request.writer, default: []].insert(node.place) }
    try node.commit(network.wall) { _, membership in
      if denies {
        _ = try membership.deny(request.id, device: "device \(node.place)", now: now, random: nonce)
      } else {
        _ = try membership.approve(request.id, device: "device \(node.place)", now: now, random: nonce)
      }
    }
    if denies {
      denials.insert(request.id)
    } else {
      approvals.insert(request.id)
      #expect(
        admissions[request.writer, default: []].insert(node.place).inserted,
        "seed \(network.seed): node \(node.place) let one device in twice")
    }
    network.note(12, node.place, denies ? 1 : 0)
  }

  private func deleteOne(_ node: SimulatedNode, _ hypha: Hypha<SimulatedFile>) throws {
    let posts = try hypha.posts(limit: 20).posts
    guard let post = posts.randomElement(using: &random) else { return }
    begun.deletions.insert(post.id)
    try node.commit(network.wall) { hypha, _ in try hypha.delete(post.id) }
    deleted.insert(post.id)
    network.note(13, node.place)
  }
}
