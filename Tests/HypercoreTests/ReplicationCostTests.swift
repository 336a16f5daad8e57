import TestSupport
import Testing

@testable import Hypercore

/// What a peer can make this side do, remember or refrain from by saying things that cost it little.
@Suite("What a peer's words may cost") struct ReplicationCostTests {
  private let source: Feed<MemoryStorage>

  init() throws {
    source = try fortyBlocks(23)
  }

  private func clone(first count: UInt64 = 0) throws -> Feed<MemoryStorage> { try clone(0..<count) }

  private func clone(_ blocks: Range<UInt64>) throws -> Feed<MemoryStorage> {
    let clone = try Feed(files: FeedFiles<MemoryStorage>.empty(), key: source.key)
    for index in blocks {
      let proof = try source.proof(of: index, digest: 0, hashOnly: false, remoteTree: SparseBitfield())
      try clone.put(source.block(at: index), at: index, proof: proof)
    }
    return clone
  }

  private func data(_ index: UInt64) throws -> Message { try HypercoreTests.data(index, of: source) }

  private func have(_ start: UInt64, _ length: UInt64) -> Message {
    .have(Message.Have(start: start, length: length))
  }

  private func unhave(_ start: UInt64, _ length: UInt64) -> Message {
    .unhave(Message.Unhave(start: start, length: length))
  }

  /// A bitfield of so many blocks, all there: a run of ones.
  private func ones(_ start: UInt64, _ length: UInt64) -> Message {
    let bits = RunLengthBitfield.encode([UInt8](repeating: 255, count: Int(length) / 8))
    return .have(Message.Have(start: start, length: length, bitfield: bits))
  }

  // MARK: - Work

  @Test("however much is said at once of what there is, it is looked at once whether all of it is here")
  func looksOnce() throws {
    var victim = try Victim(clone(first: 40), downloads: false)
    let peer = try victim.connect()
    #expect(victim.code(peer, [have(0, 40)]) == nil)
    _ = victim.node.takeEvents()
    let words = (0..<100).flatMap { _ in [have(40, 1), unhave(40, 1)] }
    #expect(victim.code(peer, words) == nil)
    let events = victim.node.takeEvents()
    #expect(events.isEmpty, "\(events)")
  }

  @Test(
    "who speaks of the same millions of blocks again and again is sent away",
    .timeLimit(.minutes(Endless.minutes)))
  func repeated() throws {
    for flood in [have(0, 1 << 23), ones(0, 1 << 23)] {
      var victim = try Victim(clone(), downloads: false)
      let peer = try victim.connect()
      var sent: UInt64 = 0
      var code: WireError.Code?
      while code == nil, sent < 1000 {
        code = victim.code(peer, [flood])
        sent += 1
      }
      #expect(code == .tooLarge && sent <= WireLimits.workBlocks >> 23 + 1)
      // With time it may speak again, of less.
      let patient = try victim.connect()
      for second in 1..<200 {
        victim.now = UInt64(second) * 1000
        #expect(victim.code(patient, [ones(0, WireLimits.workBlocksPerSecond)]) == nil)
      }
    }
  }

  @Test("what is taken back costs nothing where nothing is", .timeLimit(.minutes(Endless.minutes)))
  func takenBack() throws {
    var victim = try Victim(clone(), downloads: false)
    let peer = try victim.connect()
    #expect(victim.code(peer, [ones(0, 1 << 23)]) == nil)
    let all = [Message](repeating: unhave(0, Limits.feedBlocks), count: 1000)
    for _ in 0..<20 { #expect(victim.code(peer, all) == nil) }
  }

  @Test("the search for what a peer has and is not here is not made twice, or paid for")
  func searches() throws {
    try source.append(contentsOf: [[UInt8]](repeating: [], count: 4096))
    let copy = try clone(1..<source.length)
    let shared = SharedFeed(copy, downloads: false)
    let peer = RemoteFeed(connection: 0, channel: 0)
    shared.peers = [peer]
    let all = 0..<source.length
    let words = source.length / 64
    func have(_ start: UInt64, _ length: UInt64) throws -> UInt64 {
      try peer.note(Message.Have(start: start, length: length))
      return shared.noteClaims(of: peer, about: start..<start + length)
    }
    #expect(try have(1, source.length - 1) >= words && shared.hasAll(of: peer))
    #expect(shared.noteClaims(of: peer, about: 0..<0) == 0)
    // What is here already leads to no further search.
    #expect(try have(2000, 64) <= 2 && peer.allFetchedBelow == source.length)
    for _ in 0..<3 {
      #expect(try have(0, 1) <= 2 && !shared.hasAll(of: peer) && peer.allFetchedBelow == 0)
      #expect(shared.noteClaims(of: peer, about: 0..<0) <= 1)
      try peer.note(Message.Unhave(start: 0))
      #expect(shared.noteClaims(of: peer, about: 0..<0) >= words && shared.hasAll(of: peer))
    }
    // The block comes from elsewhere.
    #expect(try have(0, 1) <= 2)
    let proof = try source.proof(of: 0, digest: 0, hashOnly: false, remoteTree: SparseBitfield())
    try copy.put(source.block(at: 0), at: 0, proof: proof)
    #expect(
      shared.hasAll(of: peer) && peer.allFetchedBelow == source.length && copy.heldBlocks == all.upperBound)
  }

  @Test("taking back what waits in a long queue is paid for", .timeLimit(.minutes(Endless.minutes)))
  func cancels() throws {
    try source.append(contentsOf: [[UInt8](repeating: 1, count: 2 << 20)])
    try source.flush(durable: true)
    var victim = try Victim(source, downloads: false)
    let peer = try victim.connect()
    // The first answer fills what may wait to be sent, so that all others wait.
    let request = Message.request(Message.Request(index: 40))
    #expect(victim.code(peer, [Message](repeating: request, count: WireLimits.waitingRequests)) == nil)
    var code: WireError.Code?
    var sent = 0
    while code == nil, sent < 1_000_000 {
      code = victim.code(
        peer, [Message](repeating: .cancel(Message.Cancel(index: 1 << 30)), count: 1000))
      sent += 1000
    }
    #expect(code == .tooLarge && sent < 50_000)
  }

  @Test("wants are paid for by what there is to look at")
  func wants() throws {
    var victim = try Victim(source, downloads: false)
    let peer = try victim.connect()
    // Of a short feed as often as one likes.
    for _ in 0..<40 {
      let want = Message.want(Message.Want(start: 0, length: 1 << 23))
      #expect(victim.code(peer, [Message](repeating: want, count: 1000)) == nil)
      _ = victim.node.takeOutput(of: peer.id)
      try victim.node.setUnsent(0, on: peer.id)
    }
  }

  // MARK: - Memory

  @Test("the bitfields of all feeds of a connection share one bound")
  func bitfields() throws {
    var random = SeededRandom(24)
    var victim = try Victim(clone(), downloads: false)
    let others = try (0..<8).map { _ in
      let seed = random.bytes(32)
      let pair = seed.span.bytes.withUnsafeBytes { KeyPair(seed: $0) }
      return try Feed(files: FeedFiles<MemoryStorage>.empty(), key: pair.publicKey)
    }
    for feed in others { try victim.node.share(feed, downloads: false) }
    let peer = try victim.connect()
    let channels = try others.map { try peer.session.open($0.key) }
    for channel in channels {
      peer.session.send(have(0, 1 << 22), on: channel)
    }
    #expect(victim.code(peer, []) == .tooLarge)
    // What was given back may be used for something else.
    let second = try victim.connect()
    let (one, other) = (try second.session.open(others[0].key), try second.session.open(others[1].key))
    for _ in 0..<4 {
      for channel in [one, other] {
        second.session.send(have(0, 1 << 23), on: channel)
        second.session.send(unhave(0, 1 << 23), on: channel)
      }
    }
    #expect(victim.code(second, []) == nil)
  }

  @Test("blocks asked for leave nothing behind once they are given up")
  func reserved() throws {
    let shared = SharedFeed(try clone(), downloads: true, fetchWindow: Limits.feedBlocks)
    for number in 0..<100 {
      let peer = RemoteFeed(connection: ConnectionID(number), channel: 0)
      shared.peers = [peer]
      for page in 0..<100 as Range<UInt64> {
        try peer.note(Message.Have(start: (UInt64(number) * 100 + page) << 13))
      }
      while let index = shared.nextToRequest(from: peer) {
        peer.requested.insert(index)
        shared.reserved.insert(index)
      }
      #expect(peer.requested.count == 100 && shared.reserved == peer.requested)
      shared.release(peer)
    }
    #expect(shared.reserved.isEmpty)
  }

  @Test(
    "what nodes fetch of feeds with strewn blocks, as many as there can be, fits what they may tell each other"
  )
  func strewn() throws {
    let budget = PeerBudget()
    for channel in 0..<WireLimits.channels {
      let peer = RemoteFeed(connection: 0, channel: channel, budget: budget)
      let blocks = stride(from: 0, through: WireLimits.fetchWindow, by: 8192)
      for block in blocks { try peer.note(Message.Have(start: block)) }
      // And all of it anew, as the answer to a want.
      var bits = [UInt8](repeating: 0, count: Int(WireLimits.fetchWindow / 8) + 1)
      for block in blocks { bits[Int(block / 8)] = 128 }
      try peer.note(Message.Have(start: 0, length: 1 << 20, bitfield: RunLengthBitfield.encode(bits)))
      #expect(peer.held.count == UInt64(Array(blocks).count))
    }
  }

  @Test(
    "who makes this side ask and reads none of it does not fill memory", .timeLimit(.minutes(Endless.minutes))
  )
  func askedInVain() throws {
    var victim = try Victim(clone(), downloads: true)
    let peer = try victim.connect()
    var code: WireError.Code?
    var rounds = 0
    while code == nil, rounds < 10_000 {
      let (here, there) = (UInt64(rounds & 1) << 13, UInt64(1 - rounds & 1) << 13)
      code = victim.code(peer, [have(here, 512), unhave(there, 512)])
      rounds += 1
      // The node's output is not taken.
      victim.now += 1
    }
    #expect(code == .tooLarge && rounds < 1000)
    // One that reads, and is patient, goes on.
    let patient = try victim.connect()
    for round in 0..<200 as Range<UInt64> {
      victim.now += 1000
      let (here, there) = ((round & 1) << 13, (1 - round & 1) << 13)
      #expect(victim.code(patient, [have(here, 100), unhave(there, 100)]) == nil)
      _ = try victim.read(patient)
    }
  }

  @Test("what was not asked for because too much waited is asked for when it has left")
  func heldUp() throws {
    try source.append(contentsOf: [[UInt8](repeating: 1, count: 2 << 20)])
    try source.flush(durable: true)
    let feed = try clone(first: 1)
    let proof = try source.proof(of: 40, digest: 0, hashOnly: false, remoteTree: SparseBitfield())
    try feed.put(source.block(at: 40), at: 40, proof: proof)
    var victim = try Victim(feed, downloads: true)
    let peer = try victim.connect()
    peer.session.send(.request(Message.Request(index: 40)), on: peer.channel)
    try victim.node.receive(peer.session.takeOutput(), from: peer.id, now: victim.now)
    // Two megabytes wait.
    peer.session.send(have(0, 40), on: peer.channel)
    try victim.node.receive(peer.session.takeOutput(), from: peer.id, now: victim.now)
    #expect(requests(try victim.read(peer)).isEmpty)
    try victim.node.setUnsent(0, on: peer.id)
    #expect(requests(try victim.read(peer)) == Array(1..<40))
  }

  @Test("messages that are not whole yet have a bound for all connections together")
  func unfinished() throws {
    var victim = try Victim(clone(), downloads: true)
    var codes: [WireError.Code?] = []
    for _ in 0..<20 {
      let peer = try victim.connect()
      // A message of 8 MiB, all but its last bytes.
      let length: [UInt8] = [0x80, 0x80, 0x80, 0x04]
      let part = length + [UInt8](repeating: 0, count: (8 << 20) - 8)
      do throws(WireError) {
        try victim.node.receive(part, from: peer.id, now: victim.now)
        codes.append(nil)
      } catch {
        codes.append(error.code)
        victim.node.disconnect(peer.id)
      }
    }
    #expect(codes.filter { $0 == nil }.count == WireLimits.partialBytes >> 23)
    #expect(codes.last == .tooLarge)
    // Small ones go on.
    let small = try victim.connect()
    try victim.node.receive([0x80, 0x80, 0x04, 1, 2, 3], from: small.id, now: victim.now)
  }

  // MARK: - Holding up others

  @Test("a block that somebody says it has and does not send is asked of others within a second")
  func withheld() throws {
    var victim = try Victim(clone(first: 20), downloads: true)
    let liars = try (0..<3).map { _ in try victim.connect() }
    for liar in liars { #expect(victim.code(liar, [have(20, 1000)]) == nil) }
    let honest = try victim.connect()
    #expect(victim.code(honest, [have(0, 21)]) == nil)
    #expect(requests(try victim.read(honest)).isEmpty)
    victim.now += 1000
    #expect(victim.node.tick(now: victim.now).isEmpty)
    #expect(requests(try victim.read(honest)) == [20])
    #expect(victim.code(honest, [try data(20)]) == nil)
    #expect(victim.feed.has(20))
    // A late answer is no offence.
    #expect(victim.code(liars[0], [try data(20)]) == nil)
  }

  @Test("a block that was asked of two is asked of neither twice")
  func askedOfTwo() throws {
    var victim = try Victim(clone(first: 20), downloads: true)
    let (slow, idle) = (try victim.connect(), try victim.connect())
    #expect(victim.code(slow, [have(20, 1)]) == nil)
    #expect(requests(try victim.read(slow)) == [20])
    #expect(victim.code(idle, [have(20, 1)]) == nil)
    victim.now += 1000
    _ = victim.node.tick(now: victim.now)
    #expect(requests(try victim.read(idle)) == [20])
    victim.node.disconnect(idle.id)
    #expect(requests(try victim.read(slow)).isEmpty)
    #expect(victim.code(slow, [try data(20)]) == nil)
  }

  @Test("who says that a writer's own feed is longer is believed for seconds, and not again")
  func ownFeed() throws {
    let key = source.key
    var victim = try Victim(source, downloads: true)
    let liar = try victim.connect()
    #expect(!victim.node.isFetching(key))
    #expect(victim.code(liar, [have(0, 41)]) == nil)
    #expect(victim.node.isFetching(key))
    var seconds = 0
    while victim.node.isFetching(key), seconds < 100 {
      victim.now += 1000
      seconds += 1
      _ = victim.node.tick(now: victim.now)
      // It is there all the while, and says so again.
      #expect(victim.code(liar, [have(40, 1)]) == nil)
    }
    #expect(seconds == Int(WireLimits.doubtMilliseconds) / 1000)
    #expect(victim.node.isDoubtful(liar.id, of: key))
    #expect(victim.code(liar, [unhave(40, 1), have(41, 5)]) == nil)
    #expect(!victim.node.isFetching(key))
    // Who takes back what it was asked for did not have it.
    let other = try victim.connect()
    #expect(victim.code(other, [have(60, 1)]) == nil)
    #expect(victim.node.isFetching(key))
    #expect(victim.code(other, [unhave(60, 1), have(61, 1)]) == nil)
    #expect(!victim.node.isFetching(key))
    // Nor is it believed from where it comes again.
    let again = try victim.connect(isDistrusted: true)
    #expect(victim.code(again, [have(0, 50)]) == nil)
    #expect(!victim.node.isFetching(key))
  }

  @Test("blocks that the owner's signature shows to be missing are waited for, whoever has them")
  func known() throws {
    let key = source.key
    var victim = try Victim(clone(), downloads: true)
    let peer = try victim.connect(isDistrusted: true)
    #expect(victim.code(peer, [have(0, 40)]) == nil)
    #expect(!victim.node.isFetching(key))
    #expect(victim.code(peer, [try data(7)]) == nil)
    // Forty blocks, of which one is here.
    #expect(victim.node.isFetching(key) && !victim.node.isDoubtful(peer.id, of: key))
  }

  @Test("a peer that takes back what it had is not waited for")
  func shorter() throws {
    var victim = try Victim(clone(first: 40), downloads: true)
    let peer = try victim.connect()
    #expect(victim.code(peer, [have(0, 1000)]) == nil)
    #expect(!victim.node.isComplete(source.key) && victim.node.knownLength(source.key) == 1000)
    #expect(victim.code(peer, [unhave(40, 900)]) == nil)
    #expect(victim.node.knownLength(source.key) == 1000)
    #expect(victim.code(peer, [unhave(940, 60)]) == nil)
    #expect(victim.node.knownLength(source.key) == 40 && victim.node.isComplete(source.key))
    #expect(victim.node.takeEvents().contains(.synced(source.key)))
  }

  // MARK: - Feeds that are shared late

  @Test("what peers said of a feed before it is shared ends theirs alone")
  func late() throws {
    var random = SeededRandom(25)
    let seed = random.bytes(32)
    let pair = seed.span.bytes.withUnsafeBytes { KeyPair(seed: $0) }
    let other = try Feed(files: FeedFiles<MemoryStorage>.empty(), key: pair.publicKey)
    var victim = try Victim(clone(), downloads: true)
    let (liar, honest) = (try victim.connect(), try victim.connect())
    let early = try liar.session.open(other.key)
    liar.session.send(try data(3), on: early)
    #expect(victim.code(liar, []) == nil)
    try victim.node.share(other, downloads: true)
    #expect(victim.code(honest, [have(0, 4)]) == nil)
    #expect(requests(try victim.read(honest)) == [0, 1, 2, 3])
    #expect(victim.code(liar, []) == .unasked)
    let gone = victim.node.tick(now: victim.now)
    #expect(gone.map(\.0) == [liar.id] && gone.first?.1.code == .unasked)
    victim.node.disconnect(liar.id)
    #expect(victim.node.tick(now: victim.now).isEmpty)
  }

  @Test("where more of a feed is of use again, only blocks that are here are announced")
  func raised() throws {
    let feed = try clone(first: 10)
    for index in [12, 13, 30] as [UInt64] {
      let proof = try source.proof(of: index, digest: 0, hashOnly: false, remoteTree: SparseBitfield())
      try feed.put(source.block(at: index), at: index, proof: proof)
    }
    var victim = try Victim(feed, downloads: true)
    victim.node.limit(source.key, to: 10)
    let peer = try victim.connect()
    peer.session.send(.want(Message.Want(start: 0, length: 1 << 20)), on: peer.channel)
    _ = try victim.deliver(peer)
    victim.node.limit(source.key, to: nil)
    victim.node.announce(source.key)
    let said = try victim.read(peer)
    #expect(
      said == [
        .have(Message.Have(start: 12, length: 2)), .have(Message.Have(start: 30)),
      ])
  }

  @Test("a fork that was shown is known, also where the search for its beginning is broken off")
  func brokenOff() throws {
    var random = SeededRandom(23)
    let seed = random.bytes(32)
    let fork = try Feed(
      files: FeedFiles<MemoryStorage>.empty(), keyPair: seed.span.bytes.withUnsafeBytes { KeyPair(seed: $0) })
    for index in 0..<12 as Range<UInt64> { _ = try fork.append(source.block(at: index)) }
    for index in 0..<28 { _ = try fork.append(Array("other \(index)".utf8)) }
    func forked(_ index: UInt64) throws -> Message {
      let proof = try fork.proof(of: index, digest: 0, hashOnly: false, remoteTree: SparseBitfield())
      return .data(Message.Data(index: index, value: try fork.block(at: index), proof: proof))
    }
    var victim = try Victim(clone(first: 39), downloads: true)
    let first = try victim.connect(as: 7)
    #expect(victim.code(first, [have(0, 40)]) == nil)
    #expect(victim.code(first, [try forked(39)]) == .unverified)
    victim.node.disconnect(first.id)
    let again = try victim.connect(as: 7)
    #expect(victim.code(again, [have(0, 40)]) == nil)
    var asked = requests(try victim.read(again))
    #expect(asked.count == 1)
    #expect(victim.code(again, [try forked(try #require(asked.first))]) == nil)
    asked = requests(try victim.read(again))
    try #require(asked.count == 1)
    let next = asked[0]
    #expect(victim.node.takeEvents().allSatisfy { if case .forked = $0 { false } else { true } })
    #expect(victim.code(again, [unhave(next, 1)]) == nil)
    let common = victim.node.takeEvents().compactMap {
      if case .forked(_, _, let common) = $0 { common } else { nil }
    }
    #expect(common.count == 1 && common.allSatisfy { $0 <= 12 })
  }
}
