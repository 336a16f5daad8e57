import Hypercore
import Hyperdb
import TestSupport
import Testing

@testable import Hypha

/// Nodes of one hypha, and connections between them by which messages and blocks pass.
final class Household {
  static let key = [UInt8](repeating: 7, count: 32)

  final class Node {
    let device: TestDevice
    var membership: Membership<MemoryStorage>
    /// Own connection numbers, the node at the other end, and its number for the same connection.
    var links: [ConnectionID: (node: Int, id: ConnectionID)] = [:]

    init(_ source: PublicKey, _ number: UInt8, hasKey: Bool, _ limits: MailboxLimits) throws {
      device = try TestDevice(source, number)
      membership = Membership(device.hypha, channelKey: hasKey ? Household.secret() : nil, mailbox: limits)
    }
  }

  static func secret() -> SecretBytes { SecretBytes(count: 32) { $0.copyBytes(from: key) } }

  var nodes: [Node] = []
  var now: Int64 = 1_700_000_000_000
  private var nextLink: ConnectionID = 1
  private var random = SeededRandom(1)
  /// Every message that went from one node to another.
  private(set) var carried: [(from: Int, to: Int, message: [UInt8])] = []
  let source: PublicKey

  /// - Parameter kinds: `o` the origin, `d` a device with the key, `r` a node without it.
  init(_ kinds: String, _ limits: MailboxLimits = MailboxLimits()) throws {
    source = try #require(PublicKey(FeedStore.secretKey(1)[32...]))
    for (place, kind) in kinds.enumerated() {
      nodes.append(try Node(source, UInt8(place) + (kind == "o" ? 1 : 2), hasKey: kind != "r", limits))
    }
  }

  func bytes(_ count: Int) -> [UInt8] { random.bytes(count) }

  @discardableResult
  func connect(_ a: Int, _ b: Int) -> ConnectionID {
    let (own, theirs) = (nextLink, nextLink + 1)
    nextLink += 2
    nodes[a].links[own] = (b, theirs)
    nodes[b].links[theirs] = (a, own)
    nodes[a].membership.connected(own)
    nodes[b].membership.connected(theirs)
    return own
  }

  func disconnect(_ a: Int, _ link: ConnectionID) {
    guard let (b, theirs) = nodes[a].links.removeValue(forKey: link) else { return }
    nodes[b].links[theirs] = nil
    nodes[a].membership.disconnected(link)
    nodes[b].membership.disconnected(theirs)
  }

  /// Carries messages, and blocks where these connect, until nothing moves.
  func settle() throws {
    var moves = true
    while moves {
      moves = false
      for (place, node) in nodes.enumerated() {
        for (link, (other, theirs)) in node.links {
          try nodes[other].device.pull(from: node.device)
          while let message = node.membership.nextMessage(for: link) {
            moves = true
            carried.append((place, other, message))
            nodes[other].membership.receive(message, from: theirs, address: "node \(place)", now: now)
          }
        }
        node.membership.tick(now: now)
      }
    }
  }

  /// Ends a node and starts it anew from what it saved.
  func restart(_ place: Int, hasKey: Bool) throws {
    for link in nodes[place].links.keys { disconnect(place, link) }
    let state = nodes[place].membership.encodeState()
    try nodes[place].device.restart()
    nodes[place].membership = Membership(
      nodes[place].device.hypha, channelKey: hasKey ? Self.secret() : nil, state: state)
    #expect(nodes[place].membership.isStateIntact)
  }

  func ask(_ place: Int, as name: String, lifetime: Int64 = 3_600_000) throws -> OwnRequest {
    try nodes[place].membership.request(name: name, lifetime: lifetime, now: now, random: bytes(40))
  }

  func pending(_ place: Int) -> [ReceivedRequest] {
    nodes[place].membership.requests(now: now).filter { $0.state == .pending }
  }

  func approve(_ id: RequestID, on place: Int) throws -> ReceivedRequest {
    try nodes[place].membership.approve(id, device: "laptop", now: now, random: bytes(24))
  }

  func deny(_ id: RequestID, on place: Int) throws -> ReceivedRequest {
    try nodes[place].membership.deny(id, device: "laptop", now: now, random: bytes(24))
  }

  func state(_ place: Int) -> OwnRequest.State? { nodes[place].membership.ownRequest(now: now)?.state }

  func drops(_ place: Int) -> Drops { nodes[place].membership.drops }
}

@Suite("Letting devices in")
struct MembershipTests {
  private func code(_ body: () throws -> Void) -> HyphaError.Code? {
    do { try body() } catch { return (error as? HyphaError)?.code }
    return nil
  }

  // MARK: - The flow

  @Test("A request passes nodes that cannot open it, each once, and the answer comes back")
  func flow() throws {
    let home = try Household("orrd")
    home.connect(0, 1)
    home.connect(1, 2)
    home.connect(1, 3)
    home.connect(2, 3)
    let own = try home.ask(3, as: "phone")
    #expect(own.state == .pending && own.words.count == 4)
    try home.settle()
    let request = try #require(home.pending(0).first)
    #expect(request.id == own.id && request.words == own.words && request.name == "phone")
    #expect(request.writer == home.nodes[3].device.store.own)
    #expect(home.nodes[0].membership.takeEvents() == [.requested(request)])
    let texts = home.carried.map(\.message)
    #expect(Set(texts).count == 1 && !home.carried.contains { $0.to == 3 && $0.from == 3 })
    for way in Dictionary(grouping: home.carried, by: { [$0.from, $0.to] }).values { #expect(way.count == 1) }
    #expect(home.nodes[1].membership.sealed.messages == 1 && home.nodes[2].membership.sealed.messages == 1)
    #expect(home.drops(0) == Drops() && home.drops(1) == Drops())

    #expect(try home.approve(request.id, on: 0).state == .approved)
    try home.settle()
    #expect(home.state(3) == .authorised)
    #expect(try home.nodes[3].device.hypha.canPost())
    #expect(
      home.nodes[3].membership.takeEvents().contains {
        if case .ownAnswered(let answered) = $0 { return answered.state == .authorised }
        return false
      })
    let device = try #require(try home.nodes[1].device.hypha.devices().last)
    #expect(device.name == "phone" && device.approvedBy == home.source && device.approved == home.now)
    #expect(code { _ = try home.approve(request.id, on: 0) } == .requestAnswered)
    #expect(code { _ = try home.ask(3, as: "phone") } == .isAuthorised)
    // Nobody is asked any more, and one who is revoked is not asking.
    #expect(home.nodes[3].membership.sealed.messages == 0)
    try home.nodes[0].device.hypha.revoke(request.writer, now: home.now)
    try home.settle()
    #expect(home.state(3) == .authorised)
    #expect(code { _ = try home.ask(3, as: "phone") } == .revoked)
  }

  @Test("A denial reaches the device and the other devices that may answer")
  func denial() throws {
    let home = try Household("ordd")
    home.connect(0, 1)
    home.connect(1, 2)
    home.connect(1, 3)
    let first = try home.ask(2, as: "tablet")
    try home.settle()
    _ = try home.approve(first.id, on: 0)
    try home.settle()
    let own = try home.ask(3, as: "phone")
    try home.settle()
    #expect(home.pending(0).map(\.id) == [own.id] && home.pending(2).map(\.id) == [own.id])
    // Who may not write may not answer.
    #expect(
      code {
        _ = try home.nodes[3].membership.deny(own.id, device: "x", now: home.now, random: home.bytes(24))
      } == .unknownRequest)
    #expect(try home.deny(own.id, on: 2).state == .denied)
    try home.settle()
    #expect(home.state(3) == .denied)
    #expect(home.pending(0).isEmpty && home.pending(2).isEmpty)
    #expect(code { _ = try home.approve(own.id, on: 0) } == .requestAnswered)
    let again = try home.ask(3, as: "phone")
    try home.settle()
    #expect(again.id != own.id && again.words != own.words && home.state(3) == .pending)
    _ = try home.approve(again.id, on: 0)
    try home.settle()
    #expect(home.state(3) == .authorised)
  }

  @Test("A request that one device approves while another denies it is approved on both")
  func bothAnswers() throws {
    let home = try Household("odd")
    let link = home.connect(0, 1)
    let tablet = try home.ask(1, as: "tablet")
    try home.settle()
    _ = try home.approve(tablet.id, on: 0)
    try home.settle()
    home.connect(0, 2)
    let phone = try home.ask(2, as: "phone")
    home.connect(1, 2)
    try home.settle()
    home.disconnect(0, link)
    for link in home.nodes[1].links.keys { home.disconnect(1, link) }
    _ = try home.deny(phone.id, on: 1)
    _ = try home.approve(phone.id, on: 0)
    _ = home.nodes[1].membership.takeEvents()
    home.connect(0, 1)
    home.connect(1, 2)
    try home.settle()
    for place in 0..<2 {
      let requests = home.nodes[place].membership.requests(now: home.now)
      #expect(requests.first { $0.id == phone.id }?.state == .approved)
    }
    #expect(home.state(2) == .authorised)
    #expect(home.nodes[1].membership.takeEvents().count == 1)
  }

  @Test("Owner, node between and device need never be on at the same time, and remember over a restart")
  func apart() throws {
    let home = try Household("ord")
    var link = home.connect(1, 2)
    let own = try home.ask(2, as: "phone")
    try home.settle()
    home.disconnect(1, link)
    try home.restart(1, hasKey: false)
    try home.restart(2, hasKey: true)
    #expect(home.state(2) == .pending && home.nodes[2].membership.ownRequest(now: home.now) == own)
    link = home.connect(0, 1)
    try home.settle()
    #expect(home.pending(0).map(\.id) == [own.id])
    try home.restart(0, hasKey: true)
    #expect(home.pending(0).map(\.id) == [own.id])
    _ = try home.deny(own.id, on: 0)
    // The answer waits until somebody connects.
    try home.restart(0, hasKey: true)
    home.connect(0, 1)
    try home.settle()
    try home.restart(1, hasKey: false)
    home.connect(1, 2)
    try home.settle()
    #expect(home.state(2) == .denied)
    // The answered request comes by again, from the device and the node between.
    home.connect(0, 1)
    home.connect(0, 2)
    try home.settle()
    #expect(home.pending(0).isEmpty && home.drops(0).repeated > 0)
  }

  @Test("Of two requests with one name, each is answered by its id or words only")
  func oneName() throws {
    let home = try Household("odd")
    home.connect(0, 1)
    home.connect(0, 2)
    let first = try home.ask(1, as: "My Phone")
    try home.settle()
    let owner = home.nodes[0].membership
    #expect(try owner.find(" my  PHONE", now: home.now).id == first.id)
    let second = try home.ask(2, as: "My Phone")
    try home.settle()
    #expect(code { _ = try owner.find("My Phone", now: home.now) } == .ambiguousRequest)
    #expect(try owner.find(second.words.joined(separator: " ").uppercased(), now: home.now).id == second.id)
    #expect(try owner.find(String(first.id.hex.prefix(8)), now: home.now).id == first.id)
    #expect(try owner.find(first.id.hex, now: home.now).id == first.id)
    #expect(code { _ = try owner.find("phone", now: home.now) } == .unknownRequest)
    _ = try home.approve(second.id, on: 0)
    try home.settle()
    #expect(home.state(2) == .authorised && home.state(1) == .pending)
    #expect(try owner.find("My Phone", now: home.now).id == first.id)
    #expect(
      code { _ = try owner.find(second.words.joined(separator: " "), now: home.now) } == .requestAnswered)
  }

  @Test("A device whose name is another one's words or id is not taken for it")
  func impostor() throws {
    let home = try Household("odd")
    let first = try home.ask(1, as: "phone")
    home.connect(0, 2)
    _ = try home.ask(2, as: first.words.joined(separator: " "))
    try home.settle()
    let owner = home.nodes[0].membership
    #expect(home.pending(0).count == 1)
    #expect(code { _ = try owner.find(first.words.joined(separator: " "), now: home.now) } == .unknownRequest)
    home.now += 7_200_000
    _ = try home.ask(2, as: first.id.hex)
    try home.settle()
    #expect(code { _ = try owner.find(first.id.hex, now: home.now) } == .unknownRequest)
    #expect(code { _ = try owner.find(String(first.id.hex.prefix(10)), now: home.now) } == .unknownRequest)
  }

  @Test("A request expires for everybody at the same time")
  func expiry() throws {
    let home = try Household("ord")
    home.connect(0, 1)
    home.connect(1, 2)
    let own = try home.ask(2, as: "phone", lifetime: 60_000)
    try home.settle()
    home.now += 59_999
    #expect(home.pending(0).count == 1 && home.state(2) == .pending)
    _ = home.nodes[0].membership.takeEvents()
    home.now += 1
    try home.settle()
    #expect(home.pending(0).isEmpty && home.state(2) == .expired)
    #expect(home.nodes[0].membership.requests(now: home.now).map(\.state) == [.expired])
    #expect(code { _ = try home.approve(own.id, on: 0) } == .requestExpired)
    #expect(code { _ = try home.nodes[0].membership.find("phone", now: home.now) } == .requestExpired)
    #expect(home.nodes[0].membership.takeEvents().count == 1)
    // What the mailbox holds goes, too, and in the end the memory of it.
    home.now += HyphaLimits.requestLifetime
    try home.settle()
    #expect(
      home.nodes[1].membership.sealed.messages == 0
        && home.nodes[0].membership.requests(now: home.now).isEmpty)
  }

  @Test("A request outlives a clock that jumps forward and back: it goes out again, and is approved once")
  func jumps() throws {
    let home = try Household("odrd")
    // Two may approve.
    home.connect(0, 1)
    let other = try home.ask(1, as: "tablet")
    try home.settle()
    _ = try home.approve(other.id, on: 0)
    try home.settle()

    // Nobody has the request yet when its clock jumps.
    let own = try home.ask(3, as: "phone")
    let before = home.now
    home.now += HyphaLimits.requestLifetime
    home.nodes[3].membership.tick(now: home.now)
    #expect(home.state(3) == .expired && home.nodes[3].membership.sealed.messages == 0)
    home.now = before + 1000
    home.nodes[3].membership.tick(now: home.now)
    #expect(home.state(3) == .pending && home.nodes[3].membership.sealed.messages == 1)
    #expect(code { _ = try home.ask(3, as: "phone") } == .requestPending)
    home.connect(2, 3)
    home.connect(2, 0)
    try home.settle()
    #expect(home.pending(0).map(\.id) == [own.id] && home.pending(1).isEmpty)
    home.connect(2, 1)
    try home.settle()
    #expect(home.pending(1).map(\.id) == [own.id])

    // Both clocks of those who may approve are ahead for a while; then one does.
    for place in 0..<2 { _ = home.nodes[place].membership.takeEvents() }
    let ahead = home.now + HyphaLimits.requestLifetime
    for place in 0..<2 {
      let membership = home.nodes[place].membership
      for _ in 0..<2 { membership.tick(now: ahead) }
      #expect(membership.takeEvents().count == 1 && membership.requests(now: ahead)[0].state == .expired)
      for _ in 0..<2 { membership.tick(now: home.now) }
      #expect(membership.takeEvents() == home.pending(place).map { .requested($0) })
    }
    _ = try home.approve(own.id, on: 1)
    try home.settle()
    #expect(home.state(3) == .authorised && home.pending(0).isEmpty)
    #expect(code { _ = try home.approve(own.id, on: 0) } == .requestAnswered)

    // One that was made while the clock was ahead can be made anew.
    let third = try Household("od")
    let right = third.now
    third.now += HyphaLimits.requestLifetime
    let early = try third.ask(1, as: "phone")
    third.now = right
    third.connect(0, 1)
    try third.settle()
    #expect(third.state(1) == .expired && third.pending(0).isEmpty)
    let anew = try third.ask(1, as: "phone")
    try third.settle()
    #expect(anew.id != early.id && third.pending(0).map(\.id) == [anew.id])

    // An answer counts that comes while the clock is ahead.
    let second = try Household("odd")
    second.connect(0, 1)
    let tablet = try second.ask(1, as: "tablet")
    try second.settle()
    _ = try second.approve(tablet.id, on: 0)
    second.connect(0, 2)
    let link = second.connect(1, 2)
    let phone = try second.ask(2, as: "phone")
    try second.settle()
    second.nodes[0].membership.tick(now: ahead)
    _ = try second.deny(phone.id, on: 1)
    let denial = try #require(second.nodes[1].membership.nextMessage(for: link))
    second.nodes[0].membership.receive(denial, from: link + 1, address: "tablet", now: ahead)
    #expect(second.pending(0).isEmpty)
    #expect(code { _ = try second.approve(phone.id, on: 0) } == .requestAnswered)
  }

  @Test(
    "A request that comes while the clock of who may answer is wrong is told of once that is right",
    arguments: [-31_536_000_000, -300_001, 3_600_000, 31_536_000_000])
  func wrongClock(by error: Int64) throws {
    let home = try Household("od")
    let link = home.connect(0, 1)
    let own = try home.ask(1, as: "phone")
    let membership = home.nodes[0].membership
    let request = try #require(home.nodes[1].membership.nextMessage(for: link + 1))
    for _ in 0..<2 {
      membership.receive(request, from: link, address: "phone", now: home.now + error)
      membership.tick(now: home.now + error)
    }
    #expect(membership.requests(now: home.now + error).isEmpty && membership.takeEvents().isEmpty)
    #expect(code { _ = try membership.find("phone", now: home.now + error) } == .unknownRequest)
    for _ in 0..<2 { membership.tick(now: home.now) }
    #expect(home.pending(0).map(\.id) == [own.id])
    #expect(membership.takeEvents() == home.pending(0).map { .requested($0) })
    _ = try home.approve(own.id, on: 0)
    try home.settle()
    #expect(home.state(1) == .authorised)

    // One that was denied elsewhere meanwhile is not.
    let second = try Household("od")
    let other = second.connect(0, 1)
    let denied = try second.ask(1, as: "phone")
    let owner = second.nodes[0].membership
    let asked = try #require(second.nodes[1].membership.nextMessage(for: other + 1))
    owner.receive(asked, from: other, address: "phone", now: second.now + error)
    let answer = AuthorisationAnswer(kind: .denied, id: denied.id, name: "desk", time: second.now)
    let message = SecureChannel(key: Household.secret()).seal(answer.encoded, nonce: second.bytes(24))
    owner.receive(message, from: other, address: "desk", now: second.now + error)
    owner.tick(now: second.now)
    #expect(second.pending(0).isEmpty)
  }

  @Test("As many requests that come at a wrong time are kept as can wait for an answer, the latest")
  func wrongClockBounds() throws {
    let home = try Household("o")
    let owner = home.nodes[0].membership
    owner.connected(1)
    let writer = try #require(PublicKey(FeedStore.secretKey(9)[32...]))
    for number in 0..<HyphaLimits.pendingRequests + 10 {
      let request = AuthorisationRequest(
        id: RequestID(home.bytes(16))!, name: "phone \(number)", writer: writer, created: home.now,
        expires: home.now + 60_000)
      owner.receive(
        try sealed(request, home, by: FeedStore.secretKey(9)), from: 1, address: "a",
        now: home.now - 3_600_000)
    }
    owner.tick(now: home.now)
    #expect(home.pending(0).count == HyphaLimits.pendingRequests && owner.drops.full == 0)
    #expect(!home.pending(0).contains { $0.name == "phone 9" })
  }

  // MARK: - Hostile messages

  private func sign(_ secretKey: [UInt8], _ hash: Hash) throws -> Signature {
    guard let pair = KeyPair.stored(secretKey) else { throw HyphaError(.readOnly, "no key pair") }
    return pair.sign(hash)
  }

  /// What a device with the passphrase can send, whatever it says.
  private func sealed(
    _ request: AuthorisationRequest, _ home: Household, by secretKey: [UInt8], _ hyphalink: PublicKey? = nil
  ) throws -> [UInt8] {
    let proof = try sign(secretKey, request.proven(of: hyphalink ?? home.source))
    return SecureChannel(key: Household.secret()).seal(request.encode(proof: proof), nonce: home.bytes(24))
  }

  @Test("Requests that are forged, late, early, for too long, or too many are dropped and counted")
  func hostile() throws {
    let home = try Household("o")
    let owner = home.nodes[0].membership
    owner.connected(1)
    let writer = try #require(PublicKey(FeedStore.secretKey(9)[32...]))
    let other = FeedStore.secretKey(10)
    func request(_ change: (inout AuthorisationRequest) throws -> Void) rethrows -> AuthorisationRequest {
      var request = AuthorisationRequest(
        id: RequestID(home.bytes(16))!, name: "phone", writer: writer, created: home.now,
        expires: home.now + 60_000)
      try change(&request)
      return request
    }
    func send(_ message: [UInt8]) -> Drops {
      let before = owner.drops
      owner.receive(message, from: 1, address: "a", now: home.now)
      var drops = owner.drops
      for path in [
        \Drops.malformed, \.oversized, \.unopened, \.forged, \.expired, \.mistimed, \.repeated, \.full,
        \.limited,
      ] { drops[keyPath: path] -= before[keyPath: path] }
      return drops
    }
    let own = FeedStore.secretKey(9)
    // A good one first, or nothing below would show anything.
    let good = try sealed(request { _ in }, home, by: own)
    #expect(send(good) == Drops() && home.pending(0).count == 1)
    #expect(send(good) == Drops(repeated: 1))
    #expect(send(try sealed(request { _ in }, home, by: other)) == Drops(forged: 1))
    #expect(send(try sealed(request { _ in }, home, by: own, writer)) == Drops(forged: 1))
    // Every field but the time it was made at is proven.
    let proven = request { _ in }
    let proof = try sign(own, proven.proven(of: home.source))
    for change in [
      { (request: inout AuthorisationRequest) in request.name = "phone!" },
      { $0.expires += 1 }, { $0.id = RequestID(home.bytes(16))! },
      { $0.writer = PublicKey(other[32...])! },
    ] {
      var changed = proven
      change(&changed)
      let message = SecureChannel(key: Household.secret()).seal(
        changed.encode(proof: proof), nonce: home.bytes(24))
      #expect(send(message) == Drops(forged: 1))
    }
    #expect(send(try sealed(request { $0.expires = home.now }, home, by: own)) == Drops(expired: 1))
    #expect(
      send(try sealed(request { $0.created += HyphaLimits.clockSkew + 1 }, home, by: own))
        == Drops(mistimed: 1))
    #expect(
      send(try sealed(request { $0.expires += HyphaLimits.requestLifetime }, home, by: own))
        == Drops(mistimed: 1))
    #expect(send(try sealed(request { $0.created += HyphaLimits.clockSkew }, home, by: own)) == Drops())
    let channel = SecureChannel(key: Household.secret())
    for text in [
      "", "[]", "{}", "{\"action\":\"authorise\"}", "{\"action\":\"dance\"}", "{\"action\":\"denied\"}",
      "\u{0}",
    ] {
      #expect(send(channel.seal(Array(text.utf8), nonce: home.bytes(24))) == Drops(malformed: 1), "\(text)")
    }
    let stranger = SecureChannel(key: SecretBytes(count: 32) { $0[0] = 1 })
    #expect(send(stranger.seal(Array("{}".utf8), nonce: home.bytes(24))) == Drops(unopened: 1))
    #expect(send(home.bytes(100)).malformed + send(home.bytes(0)).malformed >= 1)
    #expect(send([UInt8](repeating: 0, count: HyphaLimits.messageBytes + 1)) == Drops(oversized: 1))
    // An answer to what nobody asked changes nothing.
    let answer = AuthorisationAnswer(kind: .denied, id: RequestID(home.bytes(16))!, name: "x", time: home.now)
    #expect(send(channel.seal(answer.encoded, nonce: home.bytes(24))) == Drops())
    #expect(home.pending(0).count == 2)
    // The word that a device was let in does not let it in.
    let lie = AuthorisationAnswer(kind: .authorised, id: home.pending(0)[0].id, name: "x", time: home.now)
    #expect(send(channel.seal(lie.encoded, nonce: home.bytes(24))) == Drops())
    #expect(home.pending(0).count == 2)
  }

  @Test(
    "As many requests are remembered as fit, none forgotten before it expires, and a connection has its rate")
  func bounds() throws {
    let home = try Household("o")
    let owner = home.nodes[0].membership
    let writer = try #require(PublicKey(FeedStore.secretKey(9)[32...]))
    var messages: [[UInt8]] = []
    for number in 0..<HyphaLimits.pendingRequests + 10 {
      let request = AuthorisationRequest(
        id: RequestID(home.bytes(16))!, name: "phone \(number)", writer: writer, created: home.now,
        expires: home.now + 60_000)
      messages.append(try sealed(request, home, by: FeedStore.secretKey(9)))
    }
    owner.connected(1)
    for message in messages { owner.receive(message, from: 1, address: "a", now: home.now) }
    #expect(home.pending(0).count == HyphaLimits.pendingRequests && owner.drops.full == 10)
    for message in messages { owner.receive(message, from: 1, address: "a", now: home.now) }
    #expect(owner.drops.limited == 2 * messages.count - 512)
    home.now += 1000
    owner.receive(messages[0], from: 1, address: "a", now: home.now)
    owner.receive(messages[0], from: 1, address: "a", now: home.now)
    #expect(owner.drops.limited == 2 * messages.count - 511)
    // Denied or not, none is taken for a new one, also by one that has restarted.
    for request in home.pending(0) { _ = try home.deny(request.id, on: 0) }
    try home.restart(0, hasKey: true)
    let later = home.nodes[0].membership
    later.connected(2)
    for message in messages.prefix(HyphaLimits.pendingRequests) {
      later.receive(message, from: 2, address: "a", now: home.now)
    }
    #expect(home.pending(0).isEmpty && later.drops.repeated == HyphaLimits.pendingRequests)
  }

  @Test("The mailbox is bounded, and one address that floods it pushes out only its own")
  func mailbox() throws {
    let limits = MailboxLimits(messages: 10, bytes: 2000, age: 60_000)
    let home = try Household("r", limits)
    let relay = home.nodes[0].membership
    for peer in 1...4 { relay.connected(ConnectionID(peer)) }
    let channel = SecureChannel(key: Household.secret())
    func message(_ size: Int) -> [UInt8] {
      channel.seal([UInt8](repeating: 0, count: size), nonce: home.bytes(24))
    }
    let (good, other) = (message(100), message(100))
    relay.receive(good, from: 1, address: "good", now: home.now)
    relay.receive(good, from: 1, address: "good", now: home.now)
    relay.receive(good, from: 2, address: "other", now: home.now)
    #expect(relay.sealed.messages == 1)
    relay.receive(other, from: 2, address: "other", now: home.now)
    for _ in 0..<300 { relay.receive(message(100), from: 3, address: "flood", now: home.now) }
    #expect(relay.sealed.messages == 10)
    for _ in 0..<100 { relay.receive(message(1500), from: 3, address: "flood", now: home.now) }
    #expect(relay.sealed.bytes <= 2000)
    var received: [[UInt8]] = []
    while let message = relay.nextMessage(for: 4) { received.append(message) }
    #expect(received.contains(good) && received.contains(other))
    // Never back to whom it came from, nor twice.
    #expect(relay.nextMessage(for: 4) == nil)
    var back: [[UInt8]] = []
    while let message = relay.nextMessage(for: 1) { back.append(message) }
    #expect(!back.contains(good) && back.contains(other))
    #expect(relay.hasChanged)
    home.now += 60_000
    relay.tick(now: home.now)
    #expect(relay.sealed.messages == 0 && relay.sealed.bytes == 0)
  }

  @Test("A relay that tampers, repeats, reorders or holds back changes nothing but when")
  func tampering() throws {
    let home = try Household("odd")
    let first = try home.ask(1, as: "phone")
    let owner = home.nodes[0].membership
    owner.connected(1)
    home.nodes[1].membership.connected(1)
    home.nodes[2].membership.connected(1)
    let message = try #require(home.nodes[1].membership.nextMessage(for: 1))
    for place in stride(from: 0, to: message.count, by: 7) {
      var changed = message
      changed[place] ^= 0x20
      owner.receive(changed, from: 1, address: "a", now: home.now)
    }
    #expect(
      home.pending(0).isEmpty && owner.drops.malformed + owner.drops.unopened == (message.count + 6) / 7)
    for _ in 0..<20 { owner.receive(message, from: 1, address: "a", now: home.now) }
    #expect(home.pending(0).map(\.id) == [first.id])
    // Another device's request does not open as anything else there.
    home.nodes[2].membership.receive(message, from: 1, address: "a", now: home.now)
    #expect(home.state(2) == nil && home.pending(2).map(\.id) == [first.id])
    #expect(code { _ = try home.deny(first.id, on: 2) } == .readOnly)
    #expect(code { _ = try home.approve(first.id, on: 2) } == .readOnly)
    // An answer that comes before its request, and twice.
    _ = try home.deny(first.id, on: 0)
    let answer = try #require(owner.nextMessage(for: 1))
    home.nodes[1].membership.receive(answer, from: 1, address: "a", now: home.now)
    home.nodes[1].membership.receive(answer, from: 1, address: "a", now: home.now)
    #expect(home.state(1) == .denied)
  }

  // MARK: - State, words

  @Test("State that is damaged in any place is told apart, and nothing of it is used")
  func state() throws {
    let home = try Household("od")
    home.connect(0, 1)
    _ = try home.ask(1, as: "phone")
    try home.settle()
    for place in 0..<2 {
      let membership = home.nodes[place].membership
      #expect(membership.hasChanged)
      let state = membership.encodeState()
      #expect(!membership.hasChanged)
      let hypha = home.nodes[place].device.hypha
      let same = Membership(hypha, channelKey: Household.secret(), state: state)
      #expect(same.isStateIntact && same.encodeState() == state)
      for cut in stride(from: 0, to: state.count, by: 3) {
        var damaged = state
        damaged[cut] ^= 1
        for bytes in [damaged, Array(state[..<cut])] {
          let other = Membership(hypha, channelKey: Household.secret(), state: bytes)
          #expect(!other.isStateIntact && other.requests(now: home.now).isEmpty)
          #expect(other.ownRequest(now: home.now) == nil && other.sealed.messages == 0)
        }
      }
    }
  }

  @Test("Words and what is proven are as computed with another implementation of BLAKE2b")
  func knownAnswers() throws {
    let request = AuthorisationRequest(
      id: try #require(RequestID(hex: "000102030405060708090a0b0c0d0e0f")), name: "Zoë’s phone",
      writer: try #require(PublicKey([UInt8](repeating: 0x22, count: 32))), created: 0,
      expires: 1_800_000_000_123)
    let hyphalink = try #require(PublicKey([UInt8](repeating: 0x11, count: 32)))
    #expect(request.words(of: hyphalink).joined(separator: " ") == "frantic countdown ashen unnerve")
    #expect(
      request.proven(of: hyphalink).hex == "d4355a9eb3cc33c24344cd4c3c34684e989b04d1b99c16e4cfaa4a02ae1d6201")
  }
}
