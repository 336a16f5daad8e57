import FoundationEssentials
import Glibc
import Hypercore
import HyphaControlAPI
import Synchronization
import Testing

@testable import HyphaDaemonCore

/// What strangers do to an always-on node, while a good peer goes on syncing with it.
@Suite("Hostile peers", .fewAtOnce, .timeLimit(.minutes(20))) struct HostilePeerTests {
  /// What a stranger says, and what comes of it.
  private struct Attack: Sendable {
    enum Outcome: Sendable {
      /// The node ends the connection with a close code of WebSocket, and counts it as of that kind.
      case closed(Int, kind: String)
      /// The connection lives on, and gives the stranger a block; so many messages to devices are dropped, by reason.
      case livesOn(dropped: [String: Double] = [:])
    }

    let name: String
    let outcome: Outcome
    let carryOut: @Sendable (HostilePeer) async throws -> Void

    init(
      _ name: String, _ outcome: Outcome, _ carryOut: @escaping @Sendable (HostilePeer) async throws -> Void
    ) {
      self.name = name
      self.outcome = outcome
      self.carryOut = carryOut
    }

    /// Sends the same message a million times, or until the node has had enough.
    static func flood(
      _ name: String, _ outcome: Outcome, _ message: Message, times: Int = 1_000_000
    ) -> Self {
      Attack(name, outcome) { peer in
        peer.repeatedly(times / 1000, peer.bytes([Message](repeating: message, count: 1000)))
      }
    }

    /// Connects, attacks, and sees what comes of it.
    func run(_ port: Int, _ key: PublicKey, begun: @escaping @Sendable () -> Void) async throws {
      let peer = try await HostilePeer(port: port, key: key)
      peer.client.afterSending = begun
      do {
        try await carryOut(peer)
        switch outcome {
        case .closed(let code, _):
          let end = try await peer.client.readClose()
          #expect(end.0 == code, "\(name): \(end)")
        case .livesOn: try await peer.fetch()
        }
      } catch {
        throw HarnessError("\(name): \(error)")
      }
    }
  }

  /// How many do the same at one time.
  private static let strangers = 4
  private static let far = Limits.feedBlocks
  /// A thread for each: who floods the node waits for it, and is not to keep the good peer waiting.
  private static let threads = OwnThreads(strangers)

  private static let attacks: [Attack] = [
    Attack("a false block", .closed(1002, kind: "unverified")) { peer in
      peer.say(.have(Message.Have(start: 0, length: 1000)))
      let index = try await peer.untilAsked().index
      peer.say(.data(Message.Data(index: index, value: [1, 2, 3], proof: Proof(nodes: [], signature: nil))))
    },
    Attack("a false signature", .closed(1002, kind: "unverified")) { peer in
      peer.say(.have(Message.Have(start: 0, length: 1000)))
      let index = try await peer.untilAsked().index
      let proof = Proof(nodes: [], signature: Signature([UInt8](repeating: 7, count: 64)[...]))
      peer.say(.data(Message.Data(index: index, value: [1, 2, 3], proof: proof)))
    },
    Attack("a false size", .closed(1009, kind: "tooLarge")) { peer in
      peer.say(.have(Message.Have(start: 0, length: 1000)))
      let index = try await peer.untilAsked().index
      let nodes = (0..<20).map { Node(treeIndex: 2 * index + 2 * $0, hash: .zero, byteSize: 1 << 62) }
      peer.say(.data(Message.Data(index: index, value: [1], proof: Proof(nodes: nodes, signature: nil))))
    },
    Attack("a block that nobody asked for", .closed(1002, kind: "unasked")) { peer in
      peer.say(.data(Message.Data(index: 5, value: [1], proof: Proof(nodes: [], signature: nil))))
    },
    Attack("a feed of nearly as many blocks as can be", .livesOn()) { peer in
      peer.say(.have(Message.Have(start: far - 1)), .request(Message.Request(index: far - 1)))
      peer.say(.want(Message.Want(start: (far - 1) & ~8191, length: 8192)))
    },
    Attack("a feed of more blocks than can be", .closed(1009, kind: "tooLarge")) { peer in
      peer.say(.have(Message.Have(start: far, length: 2)))
    },
    Attack("a feed of nearly 2^40 blocks", .closed(1009, kind: "tooLarge")) { peer in
      peer.say(.have(Message.Have(start: 1 << 40 - 1)))
    },
    Attack("a bitfield that expands to gigabytes", .closed(1002, kind: "malformed")) { peer in
      // Runs of ones of 2^30 bytes each.
      let run: [UInt8] = [0x83, 0x80, 0x80, 0x80, 0x10]
      peer.say(
        .have(
          Message.Have(start: 0, length: 1 << 23, bitfield: Array(repeatElement(run, count: 1000).joined()))))
    },
    Attack("what it has strewn over all of a feed", .closed(1009, kind: "tooLarge")) { peer in
      for _ in 0..<100 where !peer.client.isEnded {
        let haves = (0..<1000).map { _ in Message.have(Message.Have(start: UInt64.random(in: 0..<far))) }
        peer.client.frame(0x82, peer.bytes(haves))
      }
    },
    .flood(
      "millions of blocks, said to be there again and again", .closed(1009, kind: "tooLarge"),
      .have(Message.Have(start: 0, length: 1 << 23))),
    Attack("what it has never had, taken back without end", .livesOn()) { peer in
      peer.say(.have(Message.Have(start: 1000, length: 1 << 23)))
      let all = Message.unhave(Message.Unhave(start: 0, length: far))
      peer.repeatedly(300, peer.bytes([Message](repeating: all, count: 1000)))
    },
    .flood("a million requests", .closed(1009, kind: "tooLarge"), .request(Message.Request(index: 3))),
    .flood(
      "a million wants", .closed(1009, kind: "tooLarge"), .want(Message.Want(start: 0, length: 1 << 23))),
    .flood("haves of what is there", .livesOn(), .have(Message.Have(start: 0, length: 1)), times: 300_000),
    Attack("haves of what is nowhere", .livesOn()) { peer in
      // So far behind what is there that nobody is asked for them.
      let haves = (0..<1000).map { _ in
        Message.have(Message.Have(start: UInt64.random(in: 1 << 20..<1 << 21)))
      }
      peer.repeatedly(300, peer.bytes(haves))
    },
    .flood("requests taken back", .livesOn(), .cancel(Message.Cancel(index: 1)), times: 300_000),
    Attack("feeds that nobody has", .closed(1002, kind: "malformed")) { peer in
      var encoder = FrameEncoder()
      for number in 1..<1000 {
        var key = [UInt8](repeating: 1, count: 32)
        (key[0], key[1]) = (UInt8(number & 255), UInt8(number >> 8))
        let feed = Message.Feed(discoveryKey: DiscoveryKey(key) ?? .zero)
        encoder.append(.feed(feed), channel: number)
      }
      peer.client.frame(0x82, encoder.takeOutput())
    },
    Attack("many messages for a feed that nobody has", .closed(1002, kind: "violation")) { peer in
      let channel = try peer.session.open(.zero)
      for _ in 0..<16 { peer.say(.request(Message.Request(index: 0)), on: channel) }
      try await peer.fetch()
      peer.say(.request(Message.Request(index: 0)), on: channel)
    },
    Attack("long messages for a feed that nobody has", .closed(1002, kind: "violation")) { peer in
      let channel = try peer.session.open(.zero)
      let long = Message.data(
        Message.Data(
          index: 0, value: [UInt8](repeating: 1, count: 100_000), proof: Proof(nodes: [], signature: nil)))
      for _ in 0..<10 { peer.say(long, on: channel) }
      try await peer.fetch()
      peer.say(long, on: channel)
    },
    Attack("short messages to devices without end", .livesOn(dropped: ["malformed": 100_000])) { peer in
      let junk = [UInt8](repeating: 0x55, count: 100)
      let thousand = try await peer.bytes(toDevices: [[UInt8]](repeating: junk, count: 1000))
      peer.repeatedly(100, thousand)
    },
    Attack("long messages to devices without end", .livesOn(dropped: ["oversized": 1000])) { peer in
      let junk = [UInt8](repeating: 0x55, count: 60_000)
      peer.repeatedly(1000, try await peer.bytes(toDevices: [junk]))
    },
    Attack("a message of 2^40 bytes", .closed(1009, kind: "tooLarge")) { peer in
      peer.client.frame(0x82, [0x80, 0x80, 0x80, 0x80, 0x80, 0x20])
    },
    Attack("bytes that are none", .closed(1002, kind: "malformed")) { peer in
      peer.client.frame(0x82, [UInt8](repeating: 0xFF, count: 100))
    },
    Attack("a frame of 2^60 bytes", .closed(1009, kind: "badFrame")) { peer in
      peer.client.frame(0x82, [1, 2, 3], size: 1 << 60)
    },
    Attack("fragments without end", .livesOn()) { peer in
      peer.client.frame(0x02, [])
      let empty = [UInt8](repeatElement([0x00, 0x80, 1, 2, 3, 4], count: 500).joined())
      let keepAlive = RawClient.frame(0x00, [0])
      for _ in 0..<500 where !peer.client.isEnded { peer.client.send(empty + keepAlive) }
      peer.client.frame(0x80, [])
    },
    Attack("pings without end", .livesOn()) { peer in
      let pings = [UInt8](repeatElement([0x89, 0x80, 1, 2, 3, 4], count: 500).joined())
      for _ in 0..<500 where !peer.client.isEnded {
        peer.client.send(pings)
        peer.keepAlive()
      }
    },
  ]

  /// How far an attack is.
  private final class Siege: Sendable {
    /// A post got through while it was under way.
    let isOutlived = Atomic(false)
    let isOver = Atomic(false)
  }

  /// Four strangers carry an attack out, again and again until a post has got through meanwhile.
  ///
  /// - Returns: how often they did.
  private func carryOut(_ attack: Attack, on place: Place) async throws -> Int {
    let (port, key) = (place.server.port, place.key)
    let siege = Siege()
    let (begun, begin) = AsyncStream.makeStream(of: Void.self)
    let strangers = Task(executorPreference: Self.threads) {
      defer {
        siege.isOver.store(true, ordering: .relaxed)
        begin.finish()
      }
      return try await withThrowingTaskGroup(of: Int.self) { group in
        for _ in 0..<Self.strangers {
          group.addTask {
            var rounds = 0
            repeat {
              try await attack.run(port, key) { begin.yield() }
              rounds += 1
            } while !siege.isOutlived.load(ordering: .relaxed)
            return rounds
          }
        }
        return try await group.reduce(0, +)
      }
    }
    for await _ in begun.prefix(Self.strangers) {}
    do {
      repeat {
        try await place.goodPeerSyncs(attack.name, within: 15)
        siege.isOutlived.store(true, ordering: .relaxed)
        try await Task.sleep(for: .milliseconds(100))
      } while !siege.isOver.load(ordering: .relaxed)
    } catch {
      siege.isOutlived.store(true, ordering: .relaxed)
      throw error
    }
    return try await strangers.value
  }

  @Test("Whatever a stranger says costs the stranger its connection, and nobody else anything")
  func words() async throws {
    let scraped = try freePorts(1)[0]
    let place = try await Place(settings: "[metrics]\naddress = \"127.0.0.1:\(scraped)\"")
    // What is counted of strangers. With a sanitizer one may be too slow to be taken for present.
    func counted() async throws -> [String: Double] {
      try await metrics(scraped).filter {
        $0.value > 0 && !(Sanitizer.isOn && $0.key.contains("timedOut"))
          && ($0.key.hasPrefix(MetricsNames.rejected) || $0.key.hasPrefix("hypha_messages_dropped_total"))
      }
    }
    for attack in Self.attacks {
      var expected = try await counted()
      let before = try place.use()
      let rounds = Double(try await carryOut(attack, on: place))
      let after = try place.use()
      // Each time is counted, and nothing else; and told of.
      var told: [String] = []
      switch attack.outcome {
      case .closed(_, let kind):
        let name = "\(MetricsNames.rejected){\(MetricsText.label("kind", kind))}"
        expected[name, default: 0] += rounds
        told.append("127.0.0.1  rejected: \(kind), \(Int(expected[name] ?? 0)) times, last ")
        after.expectBounded(attack.name, since: before, cpuSeconds: 10)
      case .livesOn(let dropped):
        for (reason, count) in dropped {
          let name = "hypha_messages_dropped_total{\(MetricsText.label("reason", reason))}"
          expected[name, default: 0] += rounds * count
          told.append("\(reason) \(Int(expected[name] ?? 0))")
        }
        after.expectBounded("\(attack.name), \(Int(rounds)) times", since: before, cpuSeconds: 5 * rounds)
      }
      var counts: [String: Double] = [:]
      try await eventually(within: 30, "\(attack.name): counted \(counts), expected \(expected)") {
        counts = try await counted()
        return counts == expected ? true : nil
      }
      let peers = try await place.server.ctl("peers").text
      for text in told { #expect(peers.contains(text), "\(attack.name): \(peers)") }
    }
    try await place.stop()
  }

  @Test(
    "A feed whose owner signed that it is as long and as large as can be takes room for what there is of it")
  func vast() async throws {
    let feed = VastFeed()
    let node = try TestNode()
    try await node.start()
    _ = try node.client().call(NodeInitialise.self, .init(hyphalink: "dat://\(feed.key.hex)"))
    let peer = try await HostilePeer(port: node.port, key: feed.key, id: 1)
    for index in [0, VastFeed.far, VastFeed.far + 1, Limits.feedBlocks - 1] {
      peer.say(.have(Message.Have(start: index)))
    }
    for index in [0, VastFeed.far] {
      #expect(try await peer.untilAsked().index == index)
      peer.say(.data(feed.data(index)))
    }
    func held() throws -> FeedInfo? { try node.client().call(NodeStatus.self, Nothing()).feeds.first }
    try await eventually("\(node.log)") { try held()?.heldBlocks == 2 ? true : nil }
    #expect(try held()?.length == Limits.feedBlocks && held()?.byteLength == Limits.feedBytes)
    try await node.stop()
    try await node.start()
    let before = try ProcessUse(#require(node.daemon).pid)
    #expect(try held()?.heldBlocks == 2)
    let backup = try await node.ctl("backup", "\(node.folder.path)/backup")
    #expect(backup.status == 0, "\(backup)")
    let status = try node.client().call(NodeStatus.self, Nothing())
    #expect(status.diskBytes < 10 << 20)
    try ProcessUse(#require(node.daemon).pid).expectBounded("a vast feed", since: before, cpuSeconds: 3)
    try await node.stop()
  }

  @Test("Thousands of connections that say nothing keep nobody out")
  func silence() async throws {
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    limit.rlim_cur = limit.rlim_max
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    let place = try await Place()
    let before = try place.use()
    // Each is kept open as long as the daemon keeps it, a half of a header or of a handshake sent.
    let beginnings = [
      "", "GET / HT", "GET /hypha HTTP/1.1\r\nHost: x\r\n",
      "GET /hypha HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    ]
    var held: [RawClient] = []
    for number in 0..<10_000 {
      let client = try RawClient(port: place.server.port)
      client.send(beginnings[number % beginnings.count])
      held.append(client)
      if number % 2500 == 1250 { try await place.goodPeerSyncs("connection \(number)") }
    }
    // As fast as they come, and gone at once.
    for _ in 0..<5000 { _ = try RawClient(port: place.server.port) }
    try await place.goodPeerSyncs("15,000 connections")
    // A newcomer finds a place, too.
    let phone = try TestNode()
    try await phone.start()
    _ = try phone.client().call(NodeInitialise.self, .init(hyphalink: "dat://\(place.key.hex)"))
    _ = try phone.client().call(ConnectionsAdd.self, .init(url: place.server.url))
    try await eventually(within: 60, "\(phone.log)") {
      try phone.client().call(PostsList.self, .init(limit: 1000)).posts.count >= 20 ? true : nil
    }
    try place.use().expectBounded("15,000 silent connections", since: before, cpuSeconds: 20)
    let list = try place.server.client().call(PeersList.self, Nothing())
    #expect(list.refusedConnections.map { $0 > 9000 } == true)
    #expect(
      try await place.server.ctl("peers").text.contains(" connections turned away: too many at one time"))
    // Those that were turned away are closed a little later.
    try await eventually(within: 30, "descriptors stay open") {
      try FileManager.default.contentsOfDirectory(atPath: "/proc/\(place.pid)/fd").count < 400 ? true : nil
    }
    withExtendedLifetime(held) {}
    try await phone.stop()
    try await place.stop()
  }
}
