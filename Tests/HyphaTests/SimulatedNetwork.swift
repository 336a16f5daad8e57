import Hypercore
import Hypha
import TestSupport
import Testing

/// A hypha's nodes in one process, and a network between them that delays, splits, cuts and divides as a seed has it.
///
/// Time is the simulation's own: nothing waits. With deterministic hashing (`SWIFT_DETERMINISTIC_HASHING=1`) the same seed
/// gives the same run, which ``trace`` tells.
final class SimulatedNetwork {
  /// How much of what can go wrong does.
  struct Weather {
    /// Out of a thousand steps of 50 milliseconds each.
    var cuts = 4
    var kills = 2
    /// How many kills of a hundred are power cuts.
    var powerCuts = 50
    var partitions = 1
    /// Ends of connections that read nothing for a while.
    var stalls = 3
    /// Offers to servers by who has no hypha to give.
    var offers = 20
    /// Disks that fail at some call soon, once or from then on.
    var faults = 3
    /// Clocks that go ahead by hours or days, and come back.
    var jumps = 2
    /// Milliseconds of delay.
    var delay: ClosedRange<Int64> = 1...400
    /// Milliseconds that clocks are apart.
    var skew: ClosedRange<Int64> = -120_000...120_000
  }

  private struct Packet {
    var due: Int64
    var bytes: [UInt8]
  }

  /// One connection, seen from both ends.
  private final class Wire {
    let ends: [(place: Int, id: ConnectionID)]
    /// On the way to each end, in order.
    var inFlight: [[Packet]] = [[], []]
    /// Until when each end reads nothing.
    var stalledUntil: [Int64] = [0, 0]

    init(_ ends: [(Int, ConnectionID)]) {
      self.ends = ends
    }
  }

  /// Milliseconds of one step.
  private static let step: Int64 = 50
  /// Bytes on their way before a connection takes no more, as a socket's buffer has it.
  private static let bufferBytes = 64 << 10

  let seed: UInt64
  private(set) var nodes: [SimulatedNode] = []
  private(set) var random: SeededRandom
  private(set) var now: Int64 = 0
  /// Grows with everything but signs of life.
  private var activity = 0
  /// A hash of everything that happened.
  private(set) var trace: UInt64 = 0xCBF2_9CE4_8422_2325
  private var wires: [Wire] = []
  private var nextID: ConnectionID = 1
  /// Who wants to be connected to whom.
  private let wanted: [(Int, Int)]
  private var notBefore: [Int64]
  /// Nodes on the other side of a division, until when.
  private var apart: (places: Set<Int>, until: Int64) = ([], 0)
  private var upAt: [Int: Int64] = [:]
  /// Nodes whose clock is ahead, until when, and by how much.
  private var ahead: [Int: (until: Int64, by: Int64)] = [:]
  /// How often a node has ended because its disk failed.
  private(set) var failures = 0
  var weather: Weather?

  /// The first is the origin, connected to all servers; then servers, connected to each other in a ring; then devices and readers,
  /// each connected to one or two servers; the last is a stranger.
  init(seed: UInt64, servers: Int, devices: Int, readers: Int, weather: Weather) throws {
    self.seed = seed
    self.weather = weather
    var random = SeededRandom(seed)
    let source = try #require(PublicKey(FeedStore.secretKey(1)[32...]))
    let kinds: [SimulatedNode.Kind] =
      [.origin] + Array(repeating: .server, count: servers) + Array(repeating: .device, count: devices)
      + Array(repeating: .reader, count: readers) + [.stranger]
    for (place, kind) in kinds.enumerated() {
      let key: PublicKey? =
        kind == .origin ? source : kind == .stranger ? PublicKey([9] + source.bytes[1...]) : nil
      let node = try SimulatedNode(place, kind, of: key)
      node.skew = Int64.random(in: weather.skew, using: &random)
      nodes.append(node)
    }
    var wanted: [(Int, Int)] = []
    for server in 1...servers where servers > 1 { wanted.append((server, server % servers + 1)) }
    for server in 1...servers { wanted.append((0, server)) }
    for device in servers + 1...servers + devices + readers {
      let first = Int.random(in: 1...servers, using: &random)
      wanted.append((device, first))
      if servers > 1, Bool.random(using: &random) { wanted.append((device, first % servers + 1)) }
    }
    self.wanted = wanted
    // The stranger may be first.
    notBefore = wanted.map { $0.0 == 0 ? Int64.random(in: 0...10_000, using: &random) : 0 }
    self.random = random
  }

  /// The wall clock of a node.
  var wall: Int64 { 1_700_000_000_000 + now }

  /// All that have to do with the hypha.
  var members: [SimulatedNode] { nodes.filter { $0.kind != .stranger } }

  /// Mixes a number into the trace.
  func note(_ numbers: Int...) {
    for number in numbers {
      trace = (trace ^ UInt64(truncatingIfNeeded: number)) &* 0x100_0000_01B3
    }
  }

  /// Lets 50 milliseconds pass.
  func advance() throws {
    now += Self.step
    try misbehave()
    try connect()
    for wire in wires { try deliver(wire) }
    for node in nodes where node.isUp {
      var ended: [ConnectionID] = []
      try attempt(node) { ended = try node.tick(wall, monotonic: UInt64(now)) }
      for id in ended {
        if let wire = wires.first(where: { $0.ends.contains { $0.place == node.place && $0.id == id } }) {
          cut(wire)
        }
      }
    }
    for wire in wires { try pump(wire) }
    for node in nodes where node.isUp {
      try attempt(node) { try node.checkBounds("seed \(seed), node \(node.place), at \(now)") }
    }
  }

  /// No more faults, all nodes up, and time until nothing moves: `false` if that does not come.
  func settle(within milliseconds: Int64) throws -> Bool {
    weather = nil
    apart = ([], 0)
    for node in nodes { node.fault = nil }
    for (place, _) in upAt { upAt[place] = now }
    for (place, _) in ahead { ahead[place]?.until = now }
    for wire in wires { wire.stalledUntil = [0, 0] }
    for wire in wires where isStrange(wire) { cut(wire) }
    var quiet = 0
    let end = now + milliseconds
    while now < end {
      let before = activity
      try advance()
      // Longer than any delay and any wait for a connection.
      quiet = before == activity && upAt.isEmpty && wires.count == wanted.count ? quiet + 1 : 0
      if quiet > 60 { return true }
    }
    return false
  }

  // MARK: - Faults

  private func misbehave() throws {
    for (place, time) in upAt.sorted(by: { $0.key < $1.key }) where time <= now {
      upAt[place] = nil
      try nodes[place].start()
      note(1, place)
    }
    for (place, jump) in ahead.sorted(by: { $0.key < $1.key }) where jump.until <= now {
      ahead[place] = nil
      nodes[place].skew -= jump.by
    }
    guard let weather else { return }
    func happens(_ outOfThousand: Int) -> Bool { Int.random(in: 0..<1000, using: &random) < outOfThousand }
    if happens(weather.cuts * 4), let wire = wires.randomElement(using: &random) { cut(wire) }
    if happens(weather.kills * 4) {
      let place = Int.random(in: 0..<nodes.count, using: &random)
      if nodes[place].isUp { kill(place, powerCuts: weather.powerCuts) }
    }
    // A server is at its most delicate while it is claimed.
    for node in nodes where node.isUp && node.claim.candidate != nil && happens(weather.kills * 10) {
      kill(node.place, powerCuts: weather.powerCuts)
    }
    if happens(weather.faults * 4), let node = nodes.randomElement(using: &random), node.isUp {
      let kind = SimulatedDisk.Fault.allCases.randomElement(using: &random) ?? .refused
      node.fault = (Int.random(in: 0..<15, using: &random), kind, Bool.random(using: &random))
    }
    if happens(weather.offers * 4) { try offer() }
    if happens(40), let wire = wires.first(where: { isStrange($0) }) { cut(wire) }
    if happens(weather.stalls * 4), let wire = wires.randomElement(using: &random) {
      wire.stalledUntil[Int.random(in: 0...1, using: &random)] =
        now + Int64.random(in: 1000...15_000, using: &random)
    }
    if happens(weather.jumps * 4), let place = nodes.indices.randomElement(using: &random),
      ahead[place] == nil
    {
      // Messages in mailboxes, which are kept for seven days, outlive it; some requests do not.
      let jump = Int64.random(in: 600_000...3 * 86_400_000, using: &random)
      ahead[place] = (now + Int64.random(in: 1000...10_000, using: &random), jump)
      nodes[place].skew += jump
      note(7, place)
    }
    if now >= apart.until, happens(weather.partitions * 4) {
      let places = nodes.indices.filter { _ in Bool.random(using: &random) }
      apart = (Set(places), now + Int64.random(in: 1000...10_000, using: &random))
      for wire in wires where isDivided(wire.ends[0].place, wire.ends[1].place) { cut(wire) }
      note(3, places.count)
    }
  }

  /// Has a node do something, which ends it if its disk fails.
  func attempt(_ node: SimulatedNode, _ work: () throws -> Void) throws {
    var failure: (any Error)?
    do { try work() } catch { failure = error }
    if node.isUp, node.hasFailed {
      failures += 1
      kill(node.place, powerCuts: 50)
      note(15, node.place)
    } else if let failure {
      throw failure
    }
  }

  private func kill(_ place: Int, powerCuts: Int) {
    disconnect(place)
    let isPowerCut = Int.random(in: 0..<100, using: &random) < powerCuts
    nodes[place].kill(leaving: isPowerCut ? nodes[place].cutPower(&random) : nil)
    upAt[place] = now + Int64.random(in: 100...5000, using: &random)
    note(2, place)
  }

  private func disconnect(_ place: Int) {
    for wire in wires where wire.ends.contains(where: { $0.place == place }) { cut(wire) }
  }

  /// The stranger tries to claim a server, with the right code or another.
  private func offer() throws {
    let (stranger, servers) = (nodes[nodes.count - 1], nodes.filter { $0.kind == .server && $0.isUp })
    guard stranger.isUp, let server = servers.randomElement(using: &random),
      !wires.contains(where: { $0.ends[0].place == stranger.place && $0.ends[1].place == server.place })
    else { return }
    try attempt(server) {
      guard try isClaimed(server, by: stranger) else { return }
      stranger.passOn(random.bytes(24))
      try connect(stranger.place, server.place)
    }
  }

  private func isStrange(_ wire: Wire) -> Bool { nodes[wire.ends[0].place].kind == .stranger }

  private func isDivided(_ one: Int, _ other: Int) -> Bool {
    now < apart.until && apart.places.contains(one) != apart.places.contains(other)
  }

  /// Ends a connection: what was on its way is lost.
  private func cut(_ wire: Wire) {
    wires.removeAll { $0 === wire }
    for end in wire.ends where nodes[end.place].isUp { nodes[end.place].disconnect(end.id) }
    note(4, Int(wire.ends[0].id))
  }

  // MARK: - Connections

  private func connect() throws {
    for (place, (one, other)) in wanted.enumerated() where now >= notBefore[place] {
      guard nodes[one].isUp, nodes[other].isUp, !isDivided(one, other),
        !wires.contains(where: { $0.ends[0].place == one && $0.ends[1].place == other })
      else { continue }
      activity += 1
      notBefore[place] = now + Int64.random(in: 500...2000, using: &random)
      try attempt(nodes[one]) {
        try attempt(nodes[other]) {
          if try isAdmitted(nodes[one], at: nodes[other]) { try connect(one, other) }
        }
      }
    }
  }

  private func connect(_ one: Int, _ other: Int) throws {
    let ends = [(one, nextID), (other, nextID + 1)]
    nextID += 2
    // First of all, so that it is cut where an end's disk fails.
    wires.append(Wire(ends))
    note(5, one, other)
    for (place, id) in ends {
      // As the daemon has it: a name for as long as it runs.
      try nodes[place].connect(
        id, sessionID: [UInt8](repeating: UInt8(place), count: 32), nonce: random.bytes(24))
    }
  }

  /// Whether a server takes a connection. Who does not know the hypha yet asks the server for it first.
  private func isAdmitted(_ node: SimulatedNode, at server: SimulatedNode) throws -> Bool {
    if node.kind == .origin { return try isClaimed(server, by: node) }
    // Before it is claimed, a server knows of none.
    guard let key = server.record?.key else { return false }
    if node.record == nil, node.kind != .server {
      try node.read(key)
      note(8, node.place)
    }
    return node.record?.key == key
  }

  /// An owner offers a hypha to a server, now and then with a wrong code.
  private func isClaimed(_ server: SimulatedNode, by owner: SimulatedNode) throws -> Bool {
    guard let key = owner.record?.key else { return false }
    let isWrong = weather != nil && Int.random(in: 0..<3, using: &random) == 0
    let (held, taken, code) = (server.record?.key, server.claim.candidate, server.claim.code?.text ?? "")
    let answer = try server.answer(
      to: key, code: isWrong ? "00000-00000" : code, from: owner.place, monotonic: now)
    note(9, owner.place, server.place, isWrong ? 1 : 0)
    let comment: Comment = "seed \(seed), server \(server.place), at \(now)"
    switch answer {
    case .accept: #expect(held == key || !isWrong && held == nil && taken == key, comment)
    case .begin: #expect(held == nil && taken == nil && !isWrong, comment)
    case .refuse(.otherHypha): #expect(held != nil && held != key && owner.kind == .stranger, comment)
    case .refuse(.wrongCode): #expect(held == nil && isWrong, comment)
    case .refuse(.tooManyAttempts): #expect(held == nil, comment)
    case .refuse(.otherOffer): #expect(held == nil && taken != nil && taken != key, comment)
    case .refuse: Issue.record("\(answer)")
    }
    return answer == .accept || answer == .begin
  }

  /// A reader becomes a device that can ask to be let in.
  func signIn(_ node: SimulatedNode) throws {
    disconnect(node.place)
    try node.signIn()
    note(14, node.place)
  }

  private func deliver(_ wire: Wire) throws {
    for side in 0...1 {
      while now >= wire.stalledUntil[side], let packet = wire.inFlight[side].first, packet.due <= now,
        wires.contains(where: { $0 === wire })
      {
        wire.inFlight[side].removeFirst()
        let end = wire.ends[side]
        note(6, Int(end.id), packet.bytes.count, packet.bytes.hashValue)
        if packet.bytes.count > 1 { activity += 1 }
        try attempt(nodes[end.place]) {
          try nodes[end.place].receive(packet.bytes, from: end.id, now: wall, monotonic: UInt64(now))
        }
      }
    }
  }

  private func pump(_ wire: Wire) throws {
    for side in 0...1 {
      let end = wire.ends[side]
      let other = 1 - side
      while true {
        let unsent = wire.inFlight[other].reduce(0) { $0 + $1.bytes.count }
        guard unsent < Self.bufferBytes else {
          try attempt(nodes[end.place]) { try nodes[end.place].setUnsent(unsent, on: end.id) }
          break
        }
        var bytes: ArraySlice<UInt8> = []
        try attempt(nodes[end.place]) { bytes = try nodes[end.place].output(end.id, unsent: unsent)[...] }
        if bytes.isEmpty || !wires.contains(where: { $0 === wire }) { break }
        while !bytes.isEmpty {
          let count = Int.random(in: 1...max(1, min(bytes.count, 1 << 14)), using: &random)
          // In order on one connection, in any order between connections.
          let last = wire.inFlight[other].last?.due ?? 0
          let due = max(last, now + Int64.random(in: weather?.delay ?? 1...20, using: &random))
          wire.inFlight[other].append(Packet(due: due, bytes: Array(bytes.prefix(count))))
          bytes = bytes.dropFirst(count)
        }
      }
    }
  }
}
