import TestSupport
import Testing

@testable import Hypercore

/// Nodes in memory, and connections between them that carry bytes in pieces of random sizes.
private struct Network {
  struct Link {
    let a, b: Int
    var id: ConnectionID
    var toA: [UInt8] = []
    var toB: [UInt8] = []
  }
  var random: SeededRandom
  var nodes: [Replicator<MemoryStorage>] = []
  var links: [Link] = []
  /// Blocks that arrived, by node.
  var downloaded: [Int: [UInt64]] = [:]
  var now: UInt64 = 1

  init(seed: UInt64) {
    random = SeededRandom(seed)
  }

  mutating func add() -> Int {
    nodes.append(Replicator())
    return nodes.count - 1
  }

  mutating func connect(_ a: Int, _ b: Int, key: PublicKey, live: Bool = true, encrypted: Bool = false) throws
  {
    let id = ConnectionID(links.count)
    for node in [a, b] {
      let configuration = Session.Configuration(
        id: [UInt8](repeating: UInt8(node), count: 32), live: live, extensions: ["test"],
        nonce: encrypted ? random.bytes(24) : nil)
      try nodes[node].connect(id, configuration, first: key)
    }
    links.append(Link(a: a, b: b, id: id))
  }

  /// Carries bytes until nothing moves any more.
  mutating func settle(flush: [Int: Feed<MemoryStorage>] = [:]) throws {
    var quiet = 0
    while quiet < 2 {
      var moved = false
      for place in links.indices {
        let link = links[place]
        links[place].toB += nodes[link.a].takeOutput(of: link.id)
        links[place].toA += nodes[link.b].takeOutput(of: link.id)
        moved = try carry(place, \.toA, to: link.a) || moved
        moved = try carry(place, \.toB, to: link.b) || moved
      }
      for node in nodes.indices {
        for event in nodes[node].takeEvents() {
          if case .downloaded(let key, let index) = event {
            downloaded[node, default: []].append(index)
            if downloaded[node, default: []].count % 10 == 0 { nodes[node].announce(key) }
          }
        }
        if !moved, let feed = flush[node] { nodes[node].announce(feed.key) }
      }
      quiet = moved ? 0 : quiet + 1
    }
  }

  private mutating func carry(
    _ place: Int, _ path: WritableKeyPath<Link, [UInt8]>, to node: Int
  ) throws -> Bool {
    let waiting = links[place][keyPath: path].count
    guard waiting > 0 else { return false }
    let count = min(waiting, Int.random(in: 1...5000, using: &random))
    let bytes = Array(links[place][keyPath: path].prefix(count))
    links[place][keyPath: path].removeFirst(count)
    now += 1
    try nodes[node].receive(bytes, from: links[place].id, now: now)
    try nodes[node].setUnsent(0, on: links[place].id)
    return true
  }
}

@Suite("Replication")
struct ReplicationTests {
  private func source(_ random: inout SeededRandom, blocks: Int) throws -> (Feed<MemoryStorage>, [[UInt8]]) {
    let seed = random.bytes(32)
    let feed = try Feed(files: .empty(), keyPair: seed.span.bytes.withUnsafeBytes { KeyPair(seed: $0) })
    let contents = (0..<blocks).map { _ in random.bytes(Int.random(in: 0...300, using: &random)) }
    try feed.append(contentsOf: contents)
    try feed.flush(durable: true)
    return (feed, contents)
  }

  private func expectEqual(_ feed: Feed<MemoryStorage>, _ blocks: [[UInt8]]) throws {
    #expect(feed.heldBlocks == UInt64(blocks.count))
    for (index, block) in blocks.enumerated() { #expect(try feed.block(at: UInt64(index)) == block) }
  }

  @Test("behind a limit nothing is asked for or offered, until it is lifted")
  func limit() throws {
    var network = Network(seed: 12)
    let (source, _) = try source(&network.random, blocks: 20)
    let (a, b, c) = (network.add(), network.add(), network.add())
    let (copyB, copyC) = (
      try Feed(files: .empty(), key: source.key), try Feed(files: .empty(), key: source.key)
    )
    try network.nodes[a].share(source, downloads: false)
    try network.nodes[b].share(copyB, downloads: true)
    try network.nodes[c].share(copyC, downloads: true)
    // One does not take, one does not give.
    network.nodes[b].limit(source.key, to: 7)
    try network.connect(a, b, key: source.key)
    try network.connect(b, c, key: source.key)
    try network.settle()
    try network.settle(flush: [b: copyB, c: copyC])
    #expect(copyB.heldBlocks == 7 && copyC.heldBlocks == 7)
    // The signature says that there are more, but who is connected to the second alone cannot get them.
    #expect(network.nodes[b].isComplete(source.key) && network.nodes[c].isComplete(source.key))
    #expect(network.nodes[b].isWhole(source.key) && !network.nodes[c].isWhole(source.key))
    #expect(network.nodes[b].fullyHeldBy(source.key) == 2)
    network.nodes[b].limit(source.key, to: nil)
    #expect(!network.nodes[b].isComplete(source.key))
    try network.settle()
    try network.settle(flush: [b: copyB])
    #expect(copyB.heldBlocks == 20 && copyC.heldBlocks == 20)
    // Lowered below what is here: it is no longer offered.
    network.nodes[b].limit(source.key, to: 5)
    let d = network.add()
    let copyD = try Feed(files: .empty(), key: source.key)
    try network.nodes[d].share(copyD, downloads: true)
    try network.connect(b, d, key: source.key)
    try network.settle()
    #expect(copyD.heldBlocks == 5 && network.nodes[b].isComplete(source.key))
    network.nodes[b].limit(source.key, to: 9)
    network.nodes[b].announce(source.key)
    try network.settle()
    #expect(copyD.heldBlocks == 9)
  }

  @Test("what one side holds and the other lacks is found as by looking at each block")
  func differences() {
    var random = SeededRandom(16)
    for _ in 0..<40 {
      let (feed, peer) = (FeedBitfield(), SparseBitfield())
      let span = UInt64.random(in: 1...40_000, using: &random)
      for _ in 0..<Int.random(in: 0...30, using: &random) {
        let start = UInt64.random(in: 0..<span, using: &random)
        let range = start..<min(span, start + UInt64.random(in: 1...9000, using: &random))
        if Bool.random(using: &random) { feed.set(range) } else { peer.set(range) }
      }
      for _ in 0..<10 {
        let start = UInt64.random(in: 0..<span, using: &random)
        let range = start..<UInt64.random(in: start...span + 10_000, using: &random)
        var work: UInt64 = 0
        #expect(
          peer.first(in: range, notIn: feed, work: &work) == range.first { peer[$0] && !feed.has($0) })
        #expect(work <= UInt64(range.count) / 64 + 2)
        #expect(peer.firstUnset(in: range, of: feed) == range.first { feed.has($0) && !peer[$0] })
      }
    }
  }

  /// A copy of a feed with some blocks of it; that there are more is known by the owner's signature.
  private func copy(_ feed: Feed<MemoryStorage>, with blocks: [UInt64]) throws -> Feed<MemoryStorage> {
    let copy = try Feed(files: FeedFiles<MemoryStorage>.empty(), key: feed.key)
    for index in blocks {
      let proof = try feed.proof(of: index, digest: 0, hashOnly: false, remoteTree: SparseBitfield())
      try copy.put(feed.block(at: index), at: index, proof: proof)
    }
    return copy
  }

  @Test("what no peer holds is not waited for")
  func gap() throws {
    var network = Network(seed: 14)
    let (source, _) = try source(&network.random, blocks: 20)
    let (a, b, c) = (network.add(), network.add(), network.add())
    let (copyB, copyC) = (try copy(source, with: [0, 1, 2, 3, 7]), try copy(source, with: [1, 2, 9]))
    try network.nodes[b].share(copyB, downloads: true)
    try network.nodes[c].share(copyC, downloads: true)
    let key = source.key
    try network.connect(b, c, key: key)
    #expect(!network.nodes[b].isSynced(0) && !network.nodes[b].isHeldElsewhere(key))
    // The signature says that there are more, and nobody has said yet that they are not to be had.
    #expect(!network.nodes[b].isComplete(key))
    try network.settle(flush: [b: copyB, c: copyC])
    for node in [b, c] {
      #expect(network.nodes[node].isSynced(0) && network.nodes[node].isComplete(key))
      #expect(network.nodes[node].isHeldElsewhere(key))
      // What is not here counts where it is about the whole feed.
      #expect(network.nodes[node].fullyHeldBy(key) == 0 && !network.nodes[node].isWhole(key))
    }
    #expect(copyB.heldBlocks == 6 && copyC.heldBlocks == 6 && copyB.length == 20)
    // One who has more comes: it is waited for again, until all is here.
    try network.nodes[a].share(source, downloads: false)
    try network.connect(a, b, key: key)
    try network.settle(flush: [c: copyC])
    try network.settle(flush: [b: copyB, c: copyC])
    #expect(copyB.heldBlocks == 20 && copyC.heldBlocks == 20)
    for (node, link) in [(a, 1), (b, 0), (b, 1), (c, 0)] {
      #expect(network.nodes[node].isSynced(ConnectionID(link)) && network.nodes[node].isWhole(key))
    }
    #expect(network.nodes[b].fullyHeldBy(key) == 2)
  }

  @Test("what is far behind a gap is asked for once that is closed, also of who has nothing else")
  func window() throws {
    var network = Network(seed: 18)
    let (source, blocks) = try source(&network.random, blocks: 100)
    let (a, b, c, d) = (network.add(), network.add(), network.add(), network.add())
    // What one has from before, farther than it would ask for now.
    let strewn = try copy(source, with: [0, 1, 2, 12, 14, 40, 70, 99])
    let clone = try Feed(files: FeedFiles<MemoryStorage>.empty(), key: source.key)
    let key = source.key
    for (node, feed) in [(a, strewn), (b, clone)] {
      network.nodes[node].fetchWindow = 10
      try network.nodes[node].share(feed, downloads: true)
    }
    try network.connect(a, b, key: key)
    let flush = [a: strewn, b: clone]
    try network.settle(flush: flush)
    #expect(clone.heldBlocks == 4 && clone.has(12) && clone.length == 100)
    // Neither waits for the other, though it is known that this is not all.
    for node in [a, b] {
      #expect(network.nodes[node].isComplete(key) && network.nodes[node].isSynced(0))
      #expect(!network.nodes[node].isWhole(key))
    }
    // Who closes the first gap, and has nothing behind it, brings what is behind it from the other.
    try network.nodes[c].share(try copy(source, with: Array(3...11)), downloads: false)
    try network.connect(c, b, key: key)
    try network.settle(flush: flush)
    try network.settle(flush: flush)
    #expect(clone.heldBlocks == 14 && clone.has(14) && !clone.has(40) && strewn.heldBlocks == 17)
    #expect(network.nodes[a].isSynced(0) && network.nodes[b].isSynced(0))
    try network.nodes[d].share(source, downloads: false)
    try network.connect(d, b, key: key)
    for _ in 0..<3 { try network.settle(flush: flush) }
    try expectEqual(clone, blocks)
    try expectEqual(strewn, blocks)
    #expect(network.nodes[a].isWhole(key) && network.nodes[b].isWhole(key))
  }

  @Test("of its own feed a writer asks for all, however far behind a gap")
  func ownWindow() throws {
    var network = Network(seed: 19)
    let seed = network.random.bytes(32)
    let pair = { seed.span.bytes.withUnsafeBytes { KeyPair(seed: $0) } }
    let source = try Feed(files: FeedFiles<MemoryStorage>.empty(), keyPair: pair())
    try source.append(contentsOf: (0..<50).map { [UInt8($0)] })
    let (a, b) = (network.add(), network.add())
    let lost = try Feed(files: FeedFiles<MemoryStorage>.empty(), keyPair: pair())
    network.nodes[b].fetchWindow = 10
    try network.nodes[a].share(try copy(source, with: [0, 30, 49]), downloads: false)
    try network.nodes[b].share(lost, downloads: true)
    try network.connect(a, b, key: source.key)
    try network.settle(flush: [b: lost])
    #expect(lost.heldBlocks == 3 && lost.length == 50)
  }

  @Test(
    "a writer that was set back learns how much it has signed, also from who has no such block",
    arguments: [UInt64(0), 3, 5])
  func setBack(first: UInt64) throws {
    var network = Network(seed: 17)
    let (writer, _) = try source(&network.random, blocks: 6)
    let older = try Feed(files: writer.copiedFiles(), key: writer.key)
    try writer.append(contentsOf: (0..<9).map { _ in network.random.bytes(20) })
    // Each block that it lacked came from the writer, and so the signature over all; the rest from the older copy.
    let copy = try copy(writer, with: [first])
    let (a, b) = (network.add(), network.add())
    try network.nodes[a].share(older, downloads: true)
    network.nodes[a].askForLength(of: writer.key, true)
    try network.nodes[b].share(copy, downloads: true)
    try network.connect(a, b, key: writer.key)
    try network.settle(flush: [a: older, b: copy])
    #expect(older.length == 6 && copy.heldBlocks == 6 && copy.length == 15)
    #expect(!network.nodes[a].isWhole(writer.key))
    // Who has the rest comes.
    let c = network.add()
    try network.nodes[c].share(writer, downloads: true)
    try network.connect(b, c, key: writer.key)
    for _ in 0..<3 { try network.settle(flush: [a: older, b: copy]) }
    #expect(older.heldBlocks == 15 && network.nodes[a].isWhole(writer.key) && network.nodes[a].isSynced(0))
  }

  @Test(
    "a writer that has nothing of its own feed learns from each of several nodes how much of it that knows",
    arguments: 0..<4 as Range<UInt64>)
  func nothingHere(seed: UInt64) throws {
    var network = Network(seed: seed)
    let pair = network.random.bytes(32)
    let keys = { pair.span.bytes.withUnsafeBytes { KeyPair(seed: $0) } }
    let writer = try Feed(files: FeedFiles<MemoryStorage>.empty(), keyPair: keys())
    // More than is asked of one at a time.
    try writer.append(contentsOf: (0..<2 * WireLimits.openRequests).map { [UInt8($0 & 0xFF)] })
    let older = try Feed(files: writer.copiedFiles(), key: writer.key)
    let length = writer.length
    try writer.append(contentsOf: [[1], [2]])
    let lost = try Feed(files: FeedFiles<MemoryStorage>.empty(), keyPair: keys())
    let (a, b, c) = (network.add(), network.add(), network.add())
    try network.nodes[a].share(lost, downloads: true)
    network.nodes[a].askForLength(of: writer.key, true)
    try network.nodes[b].share(older, downloads: false)
    // As many blocks, and the signature over all.
    let copy = try copy(writer, with: Array(0..<length))
    try network.nodes[c].share(copy, downloads: false)
    for node in [b, c] { try network.connect(a, node, key: writer.key) }
    try network.settle(flush: [a: lost])
    #expect(lost.heldBlocks == length && !network.nodes[a].isWhole(writer.key))
    for link in [0, 1] as [ConnectionID] { #expect(network.nodes[a].isSynced(link)) }
  }

  /// Has two nodes talk over their only connection.
  ///
  /// - Returns: how often one of them said that it is done.
  private func finish(
    _ network: inout Network, _ a: Int, _ b: Int, _ key: PublicKey, rounds: Int
  ) throws -> Int {
    var finished = 0
    for _ in 0..<rounds {
      let output = [network.nodes[a].takeOutput(of: 0), network.nodes[b].takeOutput(of: 0)]
      try network.nodes[b].receive(output[0], from: 0, now: 1)
      try network.nodes[a].receive(output[1], from: 0, now: 1)
      for node in [a, b] {
        for case .finished in network.nodes[node].takeEvents() { finished += 1 }
        network.nodes[node].announce(key)
      }
    }
    return finished
  }

  @Test("a connection that is not live ends where there is what neither side has")
  func gapUntilSynced() throws {
    var network = Network(seed: 15)
    let (source, _) = try source(&network.random, blocks: 50)
    let (a, b) = (network.add(), network.add())
    let (copyA, copyB) = (try copy(source, with: [3, 30]), try copy(source, with: [4, 5]))
    try network.nodes[a].share(copyA, downloads: true)
    try network.nodes[b].share(copyB, downloads: true)
    try network.connect(a, b, key: source.key, live: false)
    let finished = try finish(&network, a, b, source.key, rounds: 50)
    #expect(finished == 2 && copyA.heldBlocks == 4 && copyB.heldBlocks == 4)
  }

  @Test("blocks that are not durable yet are not offered, also where later ones are announced")
  func notDurable() throws {
    var network = Network(seed: 13)
    let (source, _) = try source(&network.random, blocks: 4)
    let (a, b, c) = (network.add(), network.add(), network.add())
    let copies = try (0..<2).map { _ in try Feed(files: .empty(), key: source.key) }
    try network.nodes[a].share(source, downloads: false)
    try network.nodes[b].share(copies[0], downloads: true)
    try network.nodes[c].share(copies[1], downloads: true)
    #expect(network.nodes[b].knownLength(source.key) == 0 && !network.nodes[b].isAnswered(source.key))
    try network.connect(a, b, key: source.key)
    try network.settle()
    #expect(copies[0].heldBlocks == 4)
    #expect(network.nodes[b].knownLength(source.key) == 4 && network.nodes[b].isAnswered(source.key))
    network.nodes[a].appended(try source.append(contentsOf: [[1]]), to: source.key)
    network.nodes[a].appended(try source.append(contentsOf: [[2], [3]]), to: source.key)
    network.nodes[a].announce(source.key, below: 5)
    try network.connect(a, c, key: source.key)
    try network.settle()
    #expect(copies[0].heldBlocks == 5 && copies[1].heldBlocks == 5)
    network.nodes[a].announce(source.key)
    try network.settle()
    #expect(copies[0].heldBlocks == 7 && copies[1].heldBlocks == 7)
  }

  @Test(
    "a clone gets everything, then what is appended, and the source knows", arguments: [false, true],
    UInt64(0)..<4)
  func live(encrypted: Bool, seed: UInt64) throws {
    var network = Network(seed: seed)
    var (feed, blocks) = try source(&network.random, blocks: 1500)
    let (a, b) = (network.add(), network.add())
    let clone = try Feed(files: .empty(), key: feed.key)
    try network.nodes[a].share(feed, downloads: false)
    try network.nodes[b].share(clone, downloads: true)
    try network.connect(a, b, key: feed.key, encrypted: encrypted)
    let flush = [a: feed, b: clone]
    try network.settle(flush: flush)
    try expectEqual(clone, blocks)
    #expect(network.nodes[a].fullyHeldBy(feed.key) == 1)
    #expect(network.nodes[a].isSynced(0) && network.nodes[b].isSynced(0))
    for count in [1, 3, 1] {
      let more = (0..<count).map { _ in network.random.bytes(20) }
      network.nodes[a].appended(try feed.append(contentsOf: more), to: feed.key)
      try feed.flush(durable: true)
      #expect(network.nodes[a].fullyHeldBy(feed.key) == 0)
      network.nodes[a].announce(feed.key)
      blocks += more
      try network.settle(flush: flush)
      try expectEqual(clone, blocks)
      #expect(network.nodes[a].fullyHeldBy(feed.key) == 1)
    }
    #expect(try Feed(files: clone.copiedFiles(), key: feed.key).recovery == .init())
    feed = clone
  }

  @Test("of several peers none is asked for a block that another was asked for, and blocks travel on")
  func several() throws {
    var network = Network(seed: 5)
    let (feed, blocks) = try source(&network.random, blocks: 2000)
    let nodes = (0..<4).map { _ in network.add() }
    try network.nodes[0].share(feed, downloads: false)
    var clones: [Int: Feed<MemoryStorage>] = [:]
    for node in nodes.dropFirst() {
      clones[node] = try Feed(files: .empty(), key: feed.key)
      try network.nodes[node].share(try #require(clones[node]), downloads: true)
    }
    // 0 - 1 - 2 - 3, and 0 - 2: 3 never meets the source.
    try network.connect(0, 1, key: feed.key)
    try network.connect(1, 2, key: feed.key)
    try network.connect(0, 2, key: feed.key)
    try network.connect(2, 3, key: feed.key)
    try network.settle(flush: clones)
    for (node, clone) in clones {
      try expectEqual(clone, blocks)
      #expect(Set(network.downloaded[node] ?? []).count == network.downloaded[node]?.count)
    }
    #expect(network.nodes[0].fullyHeldBy(feed.key) == 2)
    #expect(network.nodes[2].fullyHeldBy(feed.key) == 3)
  }

  @Test("a connection that is not live ends when both sides have everything")
  func untilSynced() throws {
    var network = Network(seed: 6)
    let (feed, blocks) = try source(&network.random, blocks: 100)
    let (a, b) = (network.add(), network.add())
    let clone = try Feed(files: .empty(), key: feed.key)
    try network.nodes[a].share(feed, downloads: false)
    try network.nodes[b].share(clone, downloads: true)
    try network.connect(a, b, key: feed.key, live: false)
    let finished = try finish(&network, a, b, feed.key, rounds: 2000)
    #expect(finished == 2)
    try expectEqual(clone, blocks)
  }

  @Test("a feed that is shared later opens on the connection that is there, and extensions pass")
  func laterFeed() throws {
    var network = Network(seed: 8)
    let (feed, _) = try source(&network.random, blocks: 10)
    let (second, blocks) = try source(&network.random, blocks: 50)
    let (a, b) = (network.add(), network.add())
    try network.nodes[a].share(feed, downloads: false)
    try network.nodes[b].share(try Feed(files: .empty(), key: feed.key), downloads: true)
    try network.connect(a, b, key: feed.key)
    try network.settle()
    try network.nodes[a].share(second, downloads: false)
    try network.settle()
    let clone = try Feed(files: .empty(), key: second.key)
    try network.nodes[b].share(clone, downloads: true)
    try network.settle()
    try expectEqual(clone, blocks)
    #expect(network.nodes[a].send(extension: "test", [1, 2, 3], feed: feed.key, on: 0))
    #expect(!network.nodes[a].send(extension: "unknown", [1], feed: feed.key, on: 0))
    try network.nodes[b].receive(network.nodes[a].takeOutput(of: 0), from: 0, now: 5)
    #expect(
      network.nodes[b].takeEvents().contains(.extension(0, feed.key, name: "test", payload: [1, 2, 3])))
  }

  @Test("requests are not answered while much waits to be sent, and are once it has left")
  func backpressure() throws {
    var random = SeededRandom(9)
    let seed = random.bytes(32)
    let feed = try Feed(files: .empty(), keyPair: seed.span.bytes.withUnsafeBytes { KeyPair(seed: $0) })
    let block = random.bytes(100_000)
    try feed.append(contentsOf: (0..<100).map { _ in block })
    let server = Replicator<MemoryStorage>()
    try server.share(feed, downloads: false)
    try server.connect(0, Session.Configuration(id: random.bytes(32)), first: feed.key)
    let client = Session(Session.Configuration(id: random.bytes(32)))
    let channel = try client.open(feed.key)
    for index in UInt64(0)..<100 { client.send(.request(Message.Request(index: index)), on: channel) }
    try server.receive(client.takeOutput(), from: 0, now: 1)
    var total = 0
    var rounds = 0
    while true {
      let output = server.takeOutput(of: 0)
      if output.isEmpty { break }
      #expect(output.count <= WireLimits.outputBytes + 200_000)
      total += output.count
      rounds += 1
      try server.setUnsent(WireLimits.outputBytes, on: 0)
      #expect(server.takeOutput(of: 0).isEmpty)
      try server.setUnsent(0, on: 0)
    }
    #expect(rounds >= 10)
    #expect(total > 10_000_000)
  }

  @Test("what a hostile peer sends is told apart, and not stored")
  func hostile() throws {
    var random = SeededRandom(10)
    let (feed, blocks) = try source(&random, blocks: 20)
    func attempt(_ attack: (Session, Int) throws -> Void) throws -> (WireError.Code?, Feed<MemoryStorage>) {
      let clone = try Feed(files: .empty(), key: feed.key)
      let victim = Replicator<MemoryStorage>()
      try victim.share(clone, downloads: true)
      try victim.connect(0, Session.Configuration(id: random.bytes(32)), first: feed.key)
      let attacker = Session(Session.Configuration(id: random.bytes(32)))
      let channel = try attacker.open(feed.key)
      try attack(attacker, channel)
      do throws(WireError) {
        try victim.receive(attacker.takeOutput(), from: 0, now: 1)
        return (nil, clone)
      } catch {
        return (error.code, clone)
      }
    }
    let proof = try feed.proof(of: 3, digest: 0, hashOnly: false, remoteTree: SparseBitfield())
    let offer = Message.have(Message.Have(start: 0, length: 20))
    let attacks: [(WireError.Code, (Session, Int) throws -> Void)] = [
      (.unasked, { $0.send(.data(Message.Data(index: 3, value: blocks[3], proof: proof)), on: $1) }),
      (.tooLarge, { $0.send(.have(Message.Have(start: 1 << 50)), on: $1) }),
      (.tooLarge, { $0.send(.have(Message.Have(start: 0, length: 1 << 40)), on: $1) }),
      (.tooLarge, { $0.send(.want(Message.Want(start: 0, length: 1 << 30)), on: $1) }),
      (
        .malformed,
        {
          $0.send(
            .have(Message.Have(start: 0, length: 8192, bitfield: [0xff, 0xff, 0xff, 0xff, 0x0f])), on: $1)
        }
      ),
      (
        .tooLarge,
        { session, channel in
          for index in UInt64(0)...UInt64(WireLimits.waitingRequests) + 100_000 {
            session.send(.request(Message.Request(index: index % 20)), on: channel)
          }
        }
      ),
      (.violation, { session, _ in session.send(.have(Message.Have(start: 0)), on: 9) }),
    ]
    for (expected, attack) in attacks {
      let (code, clone) = try attempt(attack)
      #expect(code == expected)
      #expect(clone.length == 0 && clone.heldBlocks == 0)
    }
    // A block that was asked for, but is another.
    let clone = try Feed(files: .empty(), key: feed.key)
    let victim = Replicator<MemoryStorage>()
    try victim.share(clone, downloads: true)
    try victim.connect(0, Session.Configuration(id: random.bytes(32)), first: feed.key)
    let attacker = Session(Session.Configuration(id: random.bytes(32)))
    let channel = try attacker.open(feed.key)
    attacker.send(offer, on: channel)
    try victim.receive(attacker.takeOutput(), from: 0, now: 1)
    attacker.send(.data(Message.Data(index: 3, value: blocks[4], proof: proof)), on: channel)
    #expect(throws: WireError.self) { try victim.receive(attacker.takeOutput(), from: 0, now: 2) }
    #expect(clone.length == 0 && clone.heldBlocks == 0)
  }

  @Test("random and cut bytes never do more than end the connection", arguments: UInt64(0)..<20)
  func fuzz(seed: UInt64) throws {
    var random = SeededRandom(seed)
    let (feed, _) = try source(&random, blocks: 30)
    let recording = Session(Session.Configuration(id: random.bytes(32), extensions: ["test"]))
    let channel = try recording.open(feed.key)
    recording.send(.have(Message.Have(start: 0, length: 30)), on: channel)
    recording.send(.want(Message.Want(start: 0, length: 1 << 20)), on: channel)
    for index in UInt64(0)..<10 {
      let proof = try feed.proof(of: index, digest: 0, hashOnly: false, remoteTree: SparseBitfield())
      recording.send(.request(Message.Request(index: index, nodes: random.next() >> 20)), on: channel)
      recording.send(
        .data(Message.Data(index: index, value: try feed.block(at: index), proof: proof)), on: channel)
      recording.send(.cancel(Message.Cancel(index: index)), on: channel)
      recording.send(.info(Message.Info(uploading: true, downloading: false)), on: channel)
    }
    let valid = recording.takeOutput()
    for _ in 0..<300 {
      var bytes = valid
      for _ in 0..<Int.random(in: 0...6, using: &random) {
        let place = Int.random(in: 0..<bytes.count, using: &random)
        switch UInt8.random(in: 0...3, using: &random) {
        case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes.remove(at: place)
        case 2: bytes.insert(contentsOf: random.bytes(3), at: place)
        default: bytes.removeLast(bytes.count - place - 1)
        }
      }
      let clone = try Feed(files: .empty(), key: feed.key)
      let node = Replicator<MemoryStorage>()
      try node.share(clone, downloads: true)
      try node.connect(0, Session.Configuration(id: random.bytes(32)), first: feed.key)
      while !bytes.isEmpty {
        let chunk = Array(bytes.prefix(Int.random(in: 1...400, using: &random)))
        bytes.removeFirst(chunk.count)
        guard (try? node.receive(chunk, from: 0, now: 1)) != nil else { break }
      }
      for index in 0..<clone.length where clone.has(index) {
        #expect(try clone.block(at: index) == feed.block(at: index))
      }
    }
  }
}

extension Feed<MemoryStorage> {
  /// The files as a restart finds them.
  fileprivate func copiedFiles() throws -> FeedFiles<MemoryStorage> {
    try flush(durable: true)
    return try files.copied()
  }
}
