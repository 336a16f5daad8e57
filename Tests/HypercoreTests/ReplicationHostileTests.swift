import TestSupport
import Testing

@testable import Hypercore

@Suite("Replication with peers that err, lie or flood")
struct ReplicationHostileTests {
  private let source: Feed<MemoryStorage>

  init() throws {
    source = try fortyBlocks(21)
  }

  private func clone() throws -> Feed<MemoryStorage> {
    try Feed(files: .empty(), key: source.key)
  }

  private func data(_ index: UInt64) throws -> Message { try HypercoreTests.data(index, of: source) }

  @Test("a block that a peer says it lost is asked of another")
  func lost() throws {
    var victim = try Victim(clone(), downloads: true)
    let first = try victim.connect()
    let second = try victim.connect()
    first.session.send(.have(Message.Have(start: 0, length: 4)), on: first.channel)
    #expect(requests(try victim.deliver(first)) == [0, 1, 2, 3])
    second.session.send(.have(Message.Have(start: 0, length: 4)), on: second.channel)
    #expect(requests(try victim.deliver(second)) == [])
    first.session.send(.unhave(Message.Unhave(start: 2)), on: first.channel)
    #expect(requests(try victim.deliver(first)) == [])
    #expect(requests(try victim.read(second)) == [2])
    // What the first is asked for still, it may send; what it gave up, it may not.
    #expect(victim.code(first, [try data(1)]) == nil)
    #expect(victim.code(first, [try data(2)]) == .unasked)
    #expect(victim.feed.heldBlocks == 1)
  }

  @Test("a block that a peer lied about is asked of another")
  func liedAbout() throws {
    var victim = try Victim(clone(), downloads: true)
    let liar = try victim.connect()
    let honest = try victim.connect()
    liar.session.send(.have(Message.Have(start: 0, length: 4)), on: liar.channel)
    #expect(requests(try victim.deliver(liar)) == [0, 1, 2, 3])
    honest.session.send(.have(Message.Have(start: 0, length: 4)), on: honest.channel)
    #expect(requests(try victim.deliver(honest)) == [])
    for index in UInt64(1)..<4 { #expect(victim.code(liar, [try data(index)]) == nil) }
    guard case .data(var false0) = try data(0) else { return }
    false0.value?[0] ^= 1
    #expect(victim.code(liar, [.data(false0)]) == .unverified)
    // It was the only one that the liar was asked for still.
    victim.node.disconnect(liar.id)
    #expect(requests(try victim.read(honest)) == [0])
  }

  @Test("what there is no room for is left out, connections stay, and what others have of it comes from them")
  func noRoom() throws {
    var victim = try Victim(clone(), downloads: true, mayFail: true)
    victim.feed.hasRoom = { blocks, bytes in blocks <= 20 && bytes <= 600 }
    let shorter = try other(20, then: 0)
    for round in 1...2 {
      let peer = try victim.connect()
      peer.session.send(.have(Message.Have(start: 0, length: 40)), on: peer.channel)
      var asked = requests(try victim.deliver(peer))
      #expect(!asked.isEmpty)
      var answered = 0
      while let index = asked.popLast() {
        #expect(victim.code(peer, [try data(index)]) == nil)
        asked += requests(try victim.read(peer))
        answered += 1
      }
      #expect(answered <= 40)
      #expect(victim.node.takeEvents().contains(.leftOut(source.key)))
      #expect(victim.node.isComplete(source.key))
      #expect(victim.feed.heldBlocks == (round == 1 ? 0 : 20))
      guard round == 1 else { break }
      // Under signatures of the shorter feed.
      let other = try victim.connect()
      other.session.send(.have(Message.Have(start: 0, length: 20)), on: other.channel)
      for index in requests(try victim.deliver(other)) {
        #expect(victim.code(other, [try HypercoreTests.data(index, of: shorter)]) == nil)
      }
      #expect(victim.feed.heldBlocks == 20 && victim.feed.length == 20)
    }
  }

  @Test("a feed that cannot be kept ends connections only where it may not fail", arguments: [true, false])
  func cannotBeKept(mayFail: Bool) throws {
    var victim = try Victim(clone(), downloads: true, mayFail: mayFail)
    let peer = try victim.connect()
    peer.session.send(.have(Message.Have(start: 0, length: 40)), on: peer.channel)
    #expect(!requests(try victim.deliver(peer)).isEmpty)
    #expect(victim.code(peer, [try data(0)]) == nil)
    _ = victim.feed.fail(FeedError(.storage(.full), "no room"))
    #expect(victim.code(peer, [try data(1)]) == (mayFail ? nil : .local(.storage(.full))))
    #expect(victim.node.takeEvents().contains(.leftOut(source.key)) == mayFail)
  }

  /// Another feed by the source's owner: the same up to a block, and then not.
  private func other(_ common: Int, then count: Int) throws -> Feed<MemoryStorage> {
    var random = SeededRandom(21)
    let seed = random.bytes(32)
    let feed = try Feed(
      files: FeedFiles<MemoryStorage>.empty(), keyPair: seed.span.bytes.withUnsafeBytes { KeyPair(seed: $0) })
    for index in 0..<UInt64(common) { _ = try feed.append(source.block(at: index)) }
    for index in 0..<count { _ = try feed.append(Array("other \(index)".utf8)) }
    return feed
  }

  @Test(
    "another feed that the same owner signed is found out, wherever they part, and frozen there",
    arguments: [(0, 40), (12, 18), (31, 3), (32, 30), (19, 60), (39, 1)], [20, 32, 40])
  func forks(_ shape: (common: Int, count: Int), held: Int) throws {
    var victim = try Victim(clone(), downloads: true)
    // As it came, block by block; signed in one piece.
    for index in 0..<UInt64(held) {
      let proof = try source.proof(
        of: index, digest: victim.feed.digest(of: index), hashOnly: false, remoteTree: SparseBitfield())
      try victim.feed.put(source.block(at: index), at: index, proof: proof)
    }
    #expect(victim.feed.length == 40)
    let fork = try other(shape.common, then: shape.count)
    let peer = Replicator<MemoryStorage>()
    try peer.share(fork, downloads: false)
    // What does not verify ends the connection; when the same node comes again, it is asked for proof.
    let first = meet(peer, victim, 1)
    var events = victim.node.takeEvents()
    if first != nil {
      #expect(first == .unverified && !events.contains { if case .forked = $0 { true } else { false } })
      #expect(meet(peer, victim, 2) == nil)
      events = victim.node.takeEvents()
    }
    var isForked = false
    for case .forked(let key, let found, let common) in events {
      isForked = true
      #expect(key == source.key && Fork(decoding: found.encode(), key: key) == found)
      #expect(common <= shape.common && (common == shape.common || shape.common >= held))
    }
    // Where nothing was asked for, there was nothing to notice.
    #expect(isForked || fork.length <= held)
    guard isForked else { return }
    // Even where more is of use, that node is not asked for it, and the next meeting is as quiet.
    victim.node.limit(source.key, to: nil)
    #expect(meet(peer, victim, 3) == nil && victim.feed.heldBlocks <= UInt64(max(held, shape.common)))
    victim.node.limit(source.key, to: UInt64(shape.common))
    let frozen = min(UInt64(shape.common), victim.node.knownLength(source.key))
    // Nothing more is asked for of the honest either, and nothing behind it is offered.
    let honest = try victim.connect()
    honest.session.send(.have(Message.Have(start: 0, length: 40)), on: honest.channel)
    honest.session.send(.want(Message.Want(start: 0, length: 1 << 20)), on: honest.channel)
    let said = try victim.deliver(honest)
    #expect(requests(said).allSatisfy { $0 < frozen })
    for case .have(let have) in said {
      #expect(have.bitfield != nil || have.start < frozen)
    }
    honest.session.send(.request(Message.Request(index: frozen)), on: honest.channel)
    #expect(try victim.deliver(honest).contains(.unhave(Message.Unhave(start: frozen))))
  }

  /// Has two nodes exchange all that they have to say, and then part.
  ///
  /// - Returns: what ended their connection before that.
  private func meet(_ peer: Replicator<MemoryStorage>, _ victim: Victim, _ number: UInt64) -> WireError.Code?
  {
    let id = ConnectionID(1000 + number)
    defer {
      peer.disconnect(id)
      victim.node.disconnect(id)
    }
    do throws(WireError) {
      try peer.connect(
        id,
        Session.Configuration(id: [UInt8](repeating: 7, count: 32), nonce: [UInt8](repeating: 1, count: 24)),
        first: source.key)
      try victim.node.connect(
        id,
        Session.Configuration(id: [UInt8](repeating: 8, count: 32), nonce: [UInt8](repeating: 2, count: 24)),
        first: source.key)
      for _ in 0..<1000 {
        let (there, here) = (peer.takeOutput(of: id), victim.node.takeOutput(of: id))
        if there.isEmpty && here.isEmpty { return nil }
        try victim.node.receive(there, from: id, now: victim.now)
        try peer.receive(here, from: id, now: victim.now)
      }
      return .tooLarge
    } catch {
      return error.code
    }
  }

  @Test("who sent what does not verify is asked for proof first, and sent away without")
  func noFork() throws {
    for lie in 0..<4 {
      var victim = try Victim(clone(), downloads: true)
      for index in UInt64(0)..<20 {
        try victim.feed.put(source.block(at: index), at: index, proof: proof(index))
      }
      let peer = try victim.connect(as: 77)
      peer.session.send(.have(Message.Have(start: 0, length: 21)), on: peer.channel)
      _ = try victim.deliver(peer)
      guard case .data(var bad) = try data(20) else { return }
      bad.value?[0] ^= 1
      #expect(victim.code(peer, [.data(bad)]) == .unverified)
      victim.node.disconnect(peer.id)
      // Others are not asked.
      let other = try victim.connect()
      other.session.send(.have(Message.Have(start: 0, length: 21)), on: other.channel)
      #expect(requests(try victim.deliver(other)) == [20])
      victim.node.disconnect(other.id)
      let again = try victim.connect(as: 77)
      again.session.send(.have(Message.Have(start: 0, length: 21)), on: again.channel)
      let asked = try victim.deliver(again).filter { if case .request = $0 { true } else { false } }
      #expect(asked == [.request(Message.Request(index: 20, nodes: 0))])
      guard case .data(var shown) = try data(20) else { return }
      switch lie {
      case 0: shown.value?[0] ^= 1
      case 1: shown.proof.signature = nil
      case 2: shown.proof.nodes.removeLast()
      default: break
      }
      let isTrue = lie == 3
      #expect(victim.code(again, [.data(shown)]) == (isTrue ? nil : .unverified))
      #expect(victim.node.takeEvents().allSatisfy { if case .forked = $0 { false } else { true } })
      // Who shows that all is well goes on as anybody else.
      if isTrue { #expect(requests(try victim.read(again)) == [20]) }
    }
  }

  private func proof(_ index: UInt64) throws -> Proof {
    try source.proof(of: index, digest: 0, hashOnly: false, remoteTree: SparseBitfield())
  }

  @Test("what was asked of a peer that is gone is asked of another")
  func gone() throws {
    var victim = try Victim(clone(), downloads: true)
    let first = try victim.connect()
    let second = try victim.connect()
    first.session.send(.have(Message.Have(start: 0, length: 40)), on: first.channel)
    #expect(requests(try victim.deliver(first)).count == 40)
    second.session.send(.have(Message.Have(start: 10, length: 30)), on: second.channel)
    #expect(requests(try victim.deliver(second)) == [])
    victim.node.disconnect(first.id)
    #expect(requests(try victim.read(second)).sorted() == Array(10..<40))
  }

  @Test("a peer that does not send what was asked for is given up, one that is only quiet is not")
  func timeOut() throws {
    var victim = try Victim(clone(), downloads: true)
    let peer = try victim.connect()
    var gone: [(ConnectionID, WireError)] = []
    // Quiet, but alive: it sends keep-alives.
    for _ in 0..<100 {
      victim.now += 1000
      gone = victim.node.tick(now: victim.now)
      #expect(gone.isEmpty)
      try victim.node.receive([0], from: peer.id, now: victim.now)
    }
    peer.session.send(.have(Message.Have(start: 0, length: 40)), on: peer.channel)
    #expect(requests(try victim.deliver(peer)).count == 40)
    var seconds: UInt64 = 0
    while gone.isEmpty, seconds < 1000 {
      victim.now += 1000
      seconds += 1
      gone = victim.node.tick(now: victim.now)
      try victim.node.receive([0], from: peer.id, now: victim.now)
    }
    #expect(gone.map(\.0) == [peer.id] && gone.first?.1.code == .timedOut)
    #expect(seconds == WireLimits.requestMilliseconds / 1000)
    // One that says nothing at all.
    let silent = try victim.connect()
    victim.node.disconnect(peer.id)
    seconds = 0
    gone = victim.node.tick(now: victim.now)
    while gone.isEmpty, seconds < 1000 {
      victim.now += 1000
      seconds += 1
      gone = victim.node.tick(now: victim.now)
      // It is sent keep-alives all the while.
      if seconds % 4 == 0 { #expect(!victim.node.takeOutput(of: silent.id).isEmpty) }
    }
    #expect(gone.map(\.0) == [silent.id] && gone.first?.1.code == .timedOut)
    #expect(seconds * 1000 > WireLimits.timeOutMilliseconds)
    #expect(seconds * 1000 < WireLimits.timeOutMilliseconds + 3000)
    // One that goes on saying that it is there, but not who.
    let nameless = Session(Session.Configuration(id: [UInt8](repeating: 9, count: 32)))
    _ = try nameless.open(victim.feed.key)
    try victim.node.connect(
      99, Session.Configuration(id: [UInt8](repeating: 0xff, count: 32)), first: victim.feed.key)
    victim.node.disconnect(silent.id)
    seconds = 0
    gone = victim.node.tick(now: victim.now)
    var drops = nameless.takeOutput().dropLast()
    while gone.isEmpty, seconds < 1000 {
      try victim.node.receive(drops.popFirst().map { [$0] } ?? [], from: 99, now: victim.now)
      victim.now += 1000
      seconds += 1
      gone = victim.node.tick(now: victim.now)
    }
    #expect(gone.map(\.0) == [99] && gone.first?.1.code == .timedOut && !drops.isEmpty)
    #expect(seconds == WireLimits.openingMilliseconds / 1000 + 1)
  }

  @Test("a peer that is there but reads nothing is given up before what it is told takes much memory")
  func unread() throws {
    var victim = try Victim(clone(), downloads: false)
    let peer = try victim.connect()
    let message = [UInt8](repeating: 1, count: WireLimits.extensionBytes)
    for _ in 0..<WireLimits.unreadBytes / message.count - 1 {
      #expect(victim.node.send(extension: "test", message, feed: source.key, on: peer.id))
    }
    #expect(victim.node.tick(now: victim.now).isEmpty)
    #expect(victim.node.send(extension: "test", message, feed: source.key, on: peer.id))
    let gone = victim.node.tick(now: victim.now)
    #expect(gone.map(\.0) == [peer.id] && gone.first?.1.code == .tooLarge)
    _ = victim.node.takeOutput(of: peer.id)
    #expect(victim.node.tick(now: victim.now).isEmpty)
  }

  @Test("blocks at the far end of what can be said cost no time", .timeLimit(.minutes(Endless.minutes)))
  func farAway() throws {
    var victim = try Victim(clone(), downloads: true, fetchWindow: Limits.feedBlocks)
    let peer = try victim.connect()
    for _ in 0..<2000 {
      peer.session.send(.have(Message.Have(start: Limits.feedBlocks - 1)), on: peer.channel)
      peer.session.send(.have(Message.Have(start: 0)), on: peer.channel)
      try victim.deliver(peer)
      peer.session.send(.unhave(Message.Unhave(start: 0, length: Limits.feedBlocks)), on: peer.channel)
      try victim.deliver(peer)
    }
    #expect(victim.code(peer, [.have(Message.Have(start: Limits.feedBlocks, length: 8))]) == .tooLarge)
  }

  @Test("haves strewn over all of a feed use bounded memory")
  func strewn() throws {
    var random = SeededRandom(22)
    var victim = try Victim(clone(), downloads: false)
    let peer = try victim.connect()
    var code: WireError.Code?
    var sent = 0
    while code == nil, sent < 100_000 {
      code = victim.code(
        peer,
        (0..<100).map { _ in
          .have(Message.Have(start: UInt64.random(in: 0..<Limits.feedBlocks, using: &random)))
        })
      sent += 100
    }
    #expect(code == .tooLarge)
    // Each takes a page of a kibibyte.
    #expect(sent > 1500 && sent <= WireLimits.remoteBitfieldBytes / 1024 + 200)
  }

  @Test(
    "a have too long, with a bitfield too long, or not at a byte's start is refused",
    arguments: [
      Message.Have(start: 0, length: 1 << 27),
      Message.Have(start: 0, length: Limits.feedBlocks),
      Message.Have(start: 1 << 50),
      Message.Have(start: Limits.feedBlocks - 1, length: 2),
      Message.Have(start: 3, length: 8192, bitfield: [7]),
      Message.Have(start: 0, length: 64, bitfield: [4 * 9 + 3]),
      Message.Have(start: 0, length: 1 << 24, bitfield: []),
      Message.Have(start: 0, length: 1, bitfield: [0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]),
      Message.Have(start: 0, length: 8192, bitfield: [20, 1, 2]),
      Message.Have(start: 0, length: 8192, bitfield: [0x80]),
      Message.Have(start: 0, length: 8192, bitfield: [UInt8](repeating: 0xff, count: 11)),
    ])
  func haves(have: Message.Have) throws {
    var victim = try Victim(clone(), downloads: true)
    let peer = try victim.connect()
    let code = victim.code(peer, [.have(have)])
    #expect(code == .tooLarge || code == .malformed)
  }

  @Test("a flood of wants is answered only as its answers leave, and too many end the connection")
  func wants() throws {
    // Every other block is held, so that the answers are long.
    let writer = source
    try writer.append(contentsOf: (0..<20_000).map { [UInt8(truncatingIfNeeded: $0)] })
    try writer.flush(durable: true)
    let feed = try clone()
    var tree = SparseBitfield()
    for index in stride(from: UInt64(0), to: writer.length, by: 8) {
      let proof = try writer.proof(
        of: index, digest: feed.digest(of: index), hashOnly: false, remoteTree: tree)
      tree = SparseBitfield()
      try feed.put(try writer.block(at: index), at: index, proof: proof)
    }
    var victim = try Victim(feed, downloads: false)
    let peer = try victim.connect()
    let want = Message.want(Message.Want(start: 0, length: 1 << 20))
    #expect(victim.code(peer, Array(repeating: want, count: 2000)) == nil)
    #expect(victim.node.takeOutput(of: peer.id).count < WireLimits.outputBytes + (1 << 20))
    let flood = Array(repeating: want, count: WireLimits.waitingRequests + 1)
    #expect(victim.code(peer, flood) == .tooLarge)
  }

  @Test("only blocks that are durable are offered or sent")
  func durable() throws {
    var victim = try Victim(source, downloads: false)
    let peer = try victim.connect()
    let held = source.length
    victim.node.appended(try source.append(contentsOf: [[1], [2], [3]]), to: source.key)
    peer.session.send(.want(Message.Want(start: 0, length: 1 << 20)), on: peer.channel)
    peer.session.send(.request(Message.Request(index: held + 1)), on: peer.channel)
    peer.session.send(.request(Message.Request(index: held + 1, hash: true)), on: peer.channel)
    for index in 0..<held { peer.session.send(.request(Message.Request(index: index)), on: peer.channel) }
    let remote = RemoteFeed(connection: 0, channel: 0)
    var unheld = 0
    let clone = try clone()
    for message in try victim.deliver(peer) {
      switch message {
      case .have(let have): try remote.note(have)
      case .data(let data):
        // Nor does a proof show that there are more.
        #expect(
          data.index < held && data.proof.nodes.allSatisfy { FlatTree.rightSpan($0.treeIndex) < 2 * held })
        try clone.put(data.value, at: data.index, proof: data.proof)
      case .unhave(let unhave):
        #expect(unhave.start == held + 1)
        unheld += 1
      default: break
      }
    }
    #expect(remote.held.count == held && remote.length == held && unheld == 2)
    #expect(clone.heldBlocks == held && clone.length == held)
    try source.flush(durable: true)
    victim.node.announce(source.key)
    let announced = try victim.read(peer)
    #expect(announced == [.have(Message.Have(start: held, length: 3))])
    peer.session.send(.request(Message.Request(index: held + 1)), on: peer.channel)
    guard case .data(let data) = try victim.deliver(peer).first else {
      Issue.record("no answer")
      return
    }
    #expect(data.index == held + 1 && data.value == [2])
  }

  @Test("a feed counts as fully held elsewhere only by who says it has every block of it")
  func fullyHeld() throws {
    var victim = try Victim(source, downloads: false)
    let peer = try victim.connect()
    let key = source.key
    // As many blocks as the feed has, but not its own.
    #expect(victim.code(peer, [.have(Message.Have(start: 1, length: 60))]) == nil)
    #expect(victim.node.fullyHeldBy(key) == 0 && !victim.node.isSynced(peer.id))
    #expect(victim.code(peer, [.have(Message.Have(start: 0))]) == nil)
    #expect(victim.node.fullyHeldBy(key) == 1)
    // The same node by another way is one node.
    let again = Session(Session.Configuration(id: [UInt8](repeating: 1, count: 32)))
    try victim.node.connect(9, Session.Configuration(id: [UInt8](repeating: 0xff, count: 32)), first: key)
    let channel = try again.open(key)
    again.send(.have(Message.Have(start: 0, length: 40)), on: channel)
    try victim.node.receive(again.takeOutput(), from: 9, now: 2)
    #expect(victim.node.fullyHeldBy(key) == 1)
    #expect(victim.code(peer, [.unhave(Message.Unhave(start: 7))]) == nil)
    #expect(victim.node.fullyHeldBy(key) == 1)
    victim.node.disconnect(9)
    #expect(victim.node.fullyHeldBy(key) == 0)
  }

  @Test("false blocks, nodes and signatures end the connection, and are not stored", arguments: 0..<8)
  func forged(kind: Int) throws {
    for index in UInt64(0)..<40 {
      var victim = try Victim(clone(), downloads: true)
      let peer = try victim.connect()
      #expect(victim.code(peer, [.have(Message.Have(start: 0, length: 40))]) == nil)
      guard case .data(var data) = try data(index) else { continue }
      let other = (index + 7) % 40
      switch kind {
      case 0: data.value = try source.block(at: other)
      case 1: data.value?.append(0)
      case 2: data.value = []
      case 3: data.proof.signature = nil
      case 4:
        data.proof.signature = try source.signature(at: 0) ?? Signature([UInt8](repeating: 1, count: 64))
      case 5: data.proof.nodes.removeFirst()
      case 6: data.proof.nodes[0].byteSize += 1
      default: data.proof.nodes[data.proof.nodes.count - 1].treeIndex += 2
      }
      let code = victim.code(peer, [.data(data)])
      #expect(code == .unverified, "block \(index)")
      #expect(victim.feed.length == 0 && victim.feed.heldBlocks == 0 && victim.feed.byteLength == 0)
      #expect(victim.node.takeEvents().allSatisfy { if case .downloaded = $0 { false } else { true } })
      // Another peer, who is honest, is asked for it and gives it.
      victim.node.disconnect(peer.id)
      let honest = try victim.connect()
      #expect(victim.code(honest, [.have(Message.Have(start: index))]) == nil)
      #expect(requests(try victim.read(honest)) == [index])
      #expect(victim.code(honest, [try self.data(index)]) == nil)
      #expect(try victim.feed.block(at: index) == source.block(at: index))
    }
  }

  @Test("a block once more, a hash in its stead, and one for a source are unasked for")
  func unasked() throws {
    var victim = try Victim(clone(), downloads: true)
    let peer = try victim.connect()
    #expect(victim.code(peer, [.have(Message.Have(start: 0, length: 40)), try data(5)]) == .unasked)
    let second = try victim.connect()
    #expect(victim.code(second, [.have(Message.Have(start: 0, length: 40))]) == nil)
    victim.node.disconnect(peer.id)
    #expect(victim.code(second, [try data(5)]) == nil)
    #expect(victim.code(second, [try data(5)]) == .unasked)
    let proof = try source.proof(of: 6, digest: 0, hashOnly: true, remoteTree: SparseBitfield())
    let third = try victim.connect()
    victim.node.disconnect(second.id)
    #expect(victim.code(third, [.have(Message.Have(start: 6))]) == nil)
    #expect(victim.code(third, [.data(Message.Data(index: 6, value: nil, proof: proof))]) == .unasked)
    #expect(victim.feed.heldBlocks == 1)
    var writer = try Victim(source, downloads: false)
    let fourth = try writer.connect()
    #expect(writer.code(fourth, [.have(Message.Have(start: 40)), try data(5)]) == .unasked)
  }

  @Test("requests for what is not here, or makes no sense, are answered without harm")
  func oddRequests() throws {
    var victim = try Victim(source, downloads: false)
    let peer = try victim.connect()
    let odd: [Message.Request] = [
      .init(index: 40), .init(index: 1 << 40), .init(index: 1 << 53), .init(index: 1 << 53, hash: true),
      .init(index: 1 << 53, nodes: 1 << 53), .init(index: 0, bytes: 1 << 53), .init(index: 3, nodes: 1),
      .init(index: 3, nodes: (1 << 53) - 1), .init(index: 39, nodes: 1 << 52), .init(index: 3, hash: true),
      .init(index: 3, bytes: nil, hash: nil, nodes: nil),
    ]
    for request in odd { peer.session.send(.request(request), on: peer.channel) }
    let answers = try victim.deliver(peer)
    #expect(answers.count == odd.count)
    for want in [
      Message.Want(start: 1, length: 8192), .init(start: 8192, length: 5), .init(start: 1 << 53, length: 0),
    ] {
      #expect(victim.code(peer, [.want(want), .unwant(want)]) == nil)
    }
    #expect(victim.code(peer, [.cancel(Message.Cancel(index: 1 << 53))]) == nil)
    #expect(victim.code(peer, [.info(Message.Info(uploading: nil, downloading: nil))]) == nil)
    #expect(try victim.read(peer).isEmpty)
  }

  @Test("requests taken back are not answered")
  func cancelled() throws {
    let writer = source
    try writer.append(contentsOf: (0..<4).map { [UInt8](repeating: $0, count: 2 << 20) })
    var victim = try Victim(writer, downloads: false)
    let peer = try victim.connect()
    for index in writer.length - 4..<writer.length {
      peer.session.send(.request(Message.Request(index: index)), on: peer.channel)
    }
    func received() throws -> [UInt64] {
      try victim.deliver(peer).compactMap { if case .data(let data) = $0 { data.index } else { nil } }
    }
    #expect(try received() == [40])
    peer.session.send(.cancel(Message.Cancel(index: 42)), on: peer.channel)
    peer.session.send(.cancel(Message.Cancel(index: 40)), on: peer.channel)
    #expect(try received() == [41])
    try victim.node.setUnsent(0, on: peer.id)
    #expect(try received() == [43])
  }
}
