import FoundationEssentials
import Glibc
import Hypercore
import HyphaControlAPI
import TestSupport
import Testing

/// All that a daemon does to its disk, while it is killed between any two calls, or one of them fails, and it is started again; then
/// the same once more on a file system whose power is cut, and a daemon that has to go on from what that leaves.
///
/// `HYPHA_DISK_STATES` says from how many states, `HYPHA_SEED` from which.
@Suite("A power cut under a daemon", .fewAtOnce, .timeLimit(.minutes(60))) struct DiskReplayTests {
  private static let states = getenv("HYPHA_DISK_STATES").flatMap { Int(String(cString: $0)) } ?? 24
  private static let seed = getenv("HYPHA_SEED").flatMap { UInt64(String(cString: $0)) } ?? 1

  /// What a daemon has promised at some moment.
  private struct Promise {
    var hyphalink: String?
    /// Texts of posts.
    var posts: Set<String> = []
    /// Keys of devices that were let in.
    var writers: Set<String> = []

    mutating func take(_ answer: Answer) {
      if answer.id >= 1000, answer.result?.id != nil { posts.insert(DiskReplayTests.text(answer.id)) }
      if let link = answer.result?.hyphalink { hyphalink = link }
      if let key = answer.result?.key { writers.insert(key) }
    }
  }

  private struct Answer: Decodable {
    struct Result: Decodable {
      var hyphalink: String?
      var id: String?
      var key: String?
    }
    var id: Int
    var result: Result?
  }

  /// Posts of a round have its number in the thousands. In even rounds there is one at a time.
  private static func text(_ request: Int) -> String { "post \(request)" }
  private static func isAlone(_ request: Int) -> Bool { request / 1000 % 2 == 0 }

  private static var passphrase: Secret {
    Secret(String(decoding: HyphactlTests.passphrase.dropLast(), as: UTF8.self))
  }

  /// The answers in what left by a socket.
  private func answers(_ call: DiskCall) -> [Answer] {
    guard call.kind == .output, call.bytes.first == UInt8(ascii: "{") else { return [] }
    return call.bytes.split(separator: UInt8(ascii: "\n")).compactMap {
      try? JSONDecoder().decode(Answer.self, from: Data($0))
    }
  }

  // MARK: - The order of calls

  /// Looks at each call whether what must come before it has.
  ///
  /// - Parameter posts: answered at least.
  private func expectOrder(_ calls: [DiskCall], posts: Int) throws {
    let disk = ReplayedDisk()
    var renamed: String?
    var (answered, marked, replaced) = (0, 0, 0)
    for call in calls {
      if call.kind == .output {
        if answers(call).contains(where: { $0.result?.hyphalink != nil }) {
          #expect(
            disk.hasDurableName("node.json"), "a hypha was told of before its record was durable")
        }
        for answer in answers(call) where answer.id >= 1000 && answer.result?.id != nil {
          answered += 1
          guard Self.isAlone(answer.id) else { continue }
          let late = disk.unsynced.filter {
            $0.hasPrefix("hypha/source/") && !$0.hasSuffix("/bitfield")
          }
          #expect(late.isEmpty, "\(Self.text(answer.id)) was acknowledged before a sync of \(late)")
          #expect(
            disk.hasDurableNames("hypha/source"),
            "\(Self.text(answer.id)) was acknowledged before its folder was synced")
        }
        continue
      }
      // The first that a process does is to lock the folder: the one before was killed.
      if let folder = renamed, call.path != "lock" {
        #expect(
          [.synced, .syncFailed].contains(call.kind) && call.path == folder,
          "\(folder) was not synced after a rename")
      }
      renamed = nil
      switch call.kind {
      case .written(let place) where call.name == "bitfield" && place > 0:
        marked += 1
        #expect(
          disk.hasDurableNames(call.folder), "the bitfield claims what is in a folder that may not be there")
        for name in ["key", "data", "tree", "signatures"] {
          #expect(
            !disk.unsynced.contains("\(call.folder)/\(name)"),
            "the bitfield claims what is not synced in \(name)")
        }
      case .renamed:
        replaced += 1
        #expect(!disk.unsynced.contains(call.path), "\(call.path) was renamed before it was synced")
        renamed = call.folder
      default: break
      }
      try disk.apply(call)
    }
    #expect(
      answered >= posts && marked > 10 && replaced > 2,
      "too little was done: \(answered), \(marked), \(replaced)")
  }

  // MARK: - Power cuts

  /// Cuts the power at moments of all kinds, has a daemon go on from what that may leave, and looks for what was promised.
  ///
  /// - Parameter promised: beside what was answered: after so many calls.
  private func cutPower(
    _ calls: [DiskCall], promised: [(calls: Int, posts: Set<String>)] = [], states: Int = states,
    _ random: inout SeededRandom
  ) async throws {
    let answered = calls.indices.filter { !answers(calls[$0]).isEmpty }
    let started = calls.indices.filter { calls[$0].path == "lock" }
    var moments: [Int: Int] = [:]
    for state in 0..<states {
      let moment =
        switch state % 3 {
        case 0: answered.randomElement(using: &random) ?? 0
        case 1:
          (started.randomElement(using: &random) ?? 0) + Int.random(in: 0..<60, using: &random)
        default: Int.random(in: calls.indices, using: &random)
        }
      moments[min(moment, calls.count - 1), default: 0] += 1
    }
    let disk = ReplayedDisk()
    var promise = Promise()
    for (place, call) in calls.enumerated() {
      try disk.apply(call)
      for answer in answers(call) { promise.take(answer) }
      for told in promised where told.calls == place { promise.posts.formUnion(told.posts) }
      for _ in 0..<moments[place, default: 0] {
        let node = try TestNode()
        try disk.cutPower(into: node.statePath, &random)
        try await expect(
          promise, of: node,
          "seed \(Self.seed), after call \(place) of \(calls.count), \(call.kind) \(call.path)")
      }
    }
  }

  private func expect(_ promise: Promise, of node: TestNode, _ moment: String) async throws {
    do { try await node.start() } catch {
      Issue.record("it does not start: \(error); \(moment)")
      return
    }
    let status = try node.client().call(NodeStatus.self, .init())
    if let link = promise.hyphalink { #expect(status.hyphalink == link, "\(moment)") }
    #expect(Set(status.feeds.map(\.key)).isSuperset(of: promise.writers), "\(moment)")
    guard status.hyphalink != nil else { return }
    var held = try texts(node)
    #expect(
      held.isSuperset(of: promise.posts), "\(promise.posts.subtracting(held)) are lost: \(moment)")
    let verified = try await node.ctl("verify")
    #expect(verified.status == 0, "\(verified): \(moment)")
    guard status.canPost else { return }
    _ = try node.client().call(PostsCreate.self, .init(text: "later"))
    held.insert("later")
    try await node.kill()
    try await node.start()
    #expect(
      try texts(node) == held, "\(moment)")
  }

  // MARK: - What the daemons do

  /// Calls after which a process is killed for sure: their letter, the end of the path, and one of how many such calls it may be.
  private static let lastCalls: [(kind: Character, path: String, of: Int)] = [
    ("m", "hypha", 1), ("m", "source", 1), ("m", "local", 1), ("c", "source/bitfield", 1),
    ("r", "secrets/writer.new", 1),
    ("w", "source/key", 1), ("w", "source/tree", 1), ("s", "source/signatures", 1),
    ("r", "node.json.new", 1),
    ("m", "", 2), ("w", "/key", 1), ("w", "source/signatures", 4), ("w", "source/data", 4),
    ("w", "source/tree", 4),
    ("s", "source/data", 4), ("s", "source/tree", 4), ("w", "source/bitfield", 4),
    ("c", "/data", 1),
  ]

  /// Says when the process that starts next is killed.
  private func plan(_ round: Int, of rounds: Int, _ disk: TestDisk, _ random: inout SeededRandom)
    throws
  {
    if round == rounds { return disk.killNoMore() }
    guard round <= Self.lastCalls.count else {
      return try disk.kill(after: Int.random(in: 1...120, using: &random))
    }
    let (kind, path, count) = Self.lastCalls[round - 1]
    try disk.kill(after: Int.random(in: 1...count, using: &random), kind, path)
  }

  /// Starts a daemon that may be killed meanwhile, or whose disk may fail.
  ///
  /// - Returns: whether it runs.
  private func start(_ node: TestNode, _ disk: TestDisk) async throws -> Bool {
    do { try await node.start() } catch {
      guard let ended = node.daemon?.poll(), ended.status == -SIGKILL || disk.fault != nil else {
        throw error
      }
      return false
    }
    return true
  }

  /// Has a daemon become a hypha's, if it is nobody's, post, and let a device in, as far as it gets.
  private func live(_ node: TestNode, round: Int, _ random: inout SeededRandom) async {
    if (try? node.client().call(NodeStatus.self, .init()))?.role == .uninitialised {
      _ = try? node.client().call(
        NodeInitialise.self,
        .init(domain: "example.org", passphrase: Self.passphrase, deviceName: "laptop"))
    }
    await post(node, round: round, 8)
    let device = Hex.encode(random.bytes(32))
    _ = try? node.client().call(DatabaseAuthorize.self, .init(key: device))
    await post(node, round: round + 100, 8)
  }

  /// Posts until it is done, or the daemon is gone.
  private func post(_ node: TestNode, round: Int, _ count: Int) async {
    let path = node.socket
    await Task(executorPreference: BlockingExecutor.shared) {
      guard let caller = try? RawCaller(path: path) else { return }
      let window = Self.isAlone(1000 * round) ? 1 : 4
      for number in 0..<count + window {
        if number >= window, (try? caller.line()) == nil { return }
        guard number < count else { continue }
        let id = 1000 * round + number
        let text = Self.text(id)
        let request =
          #"{"jsonrpc":"2.0","id":\#(id),"method":"posts.create","params":{"text":"\#(text)"}}"#
        if (try? caller.send(request)) == nil { return }
      }
    }.value
  }

  @Test("A device that posts and lets others in, killed between any two calls")
  func writer() async throws {
    var random = SeededRandom(Self.seed)
    let node = try TestNode()
    let disk = try await TestDisk(of: node)
    let rounds = 26
    var killed = 0
    for round in 1...rounds {
      try plan(round, of: rounds, disk, &random)
      if try await start(node, disk) { await live(node, round: round, &random) }
      if node.daemon?.poll()?.status == -SIGKILL { killed += 1 }
      try await node.kill()
    }
    #expect(killed > 10)
    let calls = disk.calls
    try expectOrder(calls, posts: 20)
    try await cutPower(calls, &random)
    print(
      "seed \(Self.seed): killed \(killed) times, \(calls.count) calls, power cut in \(Self.states) states"
    )
  }

  @Test("A device loses nothing, whichever call to its disk fails", arguments: [EIO, ENOSPC])
  func failing(error: CInt) async throws {
    var random = SeededRandom(Self.seed &+ UInt64(error))
    let lives = max(12, Self.states / 4)
    var (faults, ends) = (0, 0)
    for life in 0..<lives {
      let node = try TestNode()
      let disk = try await TestDisk(of: node)
      // In its first process, in which it becomes a hypha's, or in the next one.
      for round in 1...1 + life % 2 {
        let place = Int.random(in: 1...120, using: &random)
        if round == 1 + life % 2 { try disk.fail(after: place, error) }
        if try await start(node, disk) { await live(node, round: round, &random) }
        // What its own feed's files are worth is not known any more. Another device's that cannot be opened is tried again.
        let mustEnd = error == EIO && disk.fault?.hasPrefix("hypha/source/") == true
        let comment: Comment = "call \(place), \(disk.fault ?? "none")"
        if let ended = mustEnd ? try? await node.daemon?.end(within: 30) : node.daemon?.poll() {
          ends += 1
          #expect(ended.status == EX_IOERR || ended.status == EXIT_FAILURE, comment)
        } else {
          #expect(!mustEnd, comment)
        }
        try await node.kill()
      }
      if disk.fault != nil { faults += 1 }
      disk.failNoMore()
      let calls = disk.calls
      var promise = Promise()
      for call in calls { for answer in answers(call) { promise.take(answer) } }
      try await expect(
        promise, of: node,
        "seed \(Self.seed), life \(life), error \(error), \(disk.fault ?? "none")")
      try await node.kill()
      try await cutPower(calls, states: 2, &random)
    }
    #expect(faults > lives / 2)
    print("seed \(Self.seed): \(faults) of \(lives) disks failed with error \(error), \(ends) daemons ended")
  }

  @Test(
    "A node that keeps what another one writes, killed between any two calls, also while it is claimed"
  )
  func keeper() async throws {
    var random = SeededRandom(Self.seed &+ 1)
    let laptop = try await HyphactlTests.origin()
    // Writes, once it may, by way of the laptop.
    let phone = try await HyphactlTests.fresh()
    let writer = try phone.client().call(
      NodeInitialise.self,
      .init(hyphalink: try node(laptop).hyphalink, deviceName: "phone", writer: true)
    ).writer
    _ = try phone.client().call(ConnectionsAdd.self, .init(url: laptop.url))
    let server = try TestNode()
    let disk = try await TestDisk(of: server)
    var promised: [(calls: Int, posts: Set<String>)] = []
    let rounds = 22
    var killed = 0
    for round in 1...rounds {
      try plan(round, of: rounds, disk, &random)
      if try await start(server, disk) {
        try? connect(server, laptop)
        // When the server is killed as it makes the folder of the phone's feed.
        if Self.lastCalls[min(round, Self.lastCalls.count) - 1].path.isEmpty {
          _ = try laptop.client().call(DatabaseAuthorize.self, .init(key: try #require(writer)))
        }
        for number in 0..<4 {
          let posts: Set = ["\(round) \(number) by the laptop", "\(round) \(number) by the phone"]
          for (text, writer) in zip(
            posts.sorted(), [laptop, try node(phone).canPost ? phone : laptop])
          {
            _ = try writer.client().call(PostsCreate.self, .init(text: text))
          }
          try await eventually { try texts(laptop).isSuperset(of: posts) ? true : nil }
          let isTold = try await eventually("the server does not get the posts: \(server.log)") {
            if server.daemon?.poll() != nil { return false }
            let peers = try laptop.client().call(PeersList.self, .init()).peers
            // The phone is one of them.
            return peers.count == 2 && peers.allSatisfy(\.synced) ? true : nil
          }
          guard isTold else { break }
          promised.append((disk.calls.count - 1, posts))
        }
      }
      if server.daemon?.poll()?.status == -SIGKILL { killed += 1 }
      try await server.kill()
      _ = try? laptop.client().call(ConnectionsRemove.self, .init(url: server.url))
    }
    #expect(killed > 10 && promised.count > 10)
    let calls = disk.calls
    try expectOrder(calls, posts: 0)
    try await cutPower(calls, promised: promised, &random)
    print(
      "seed \(Self.seed): killed \(killed) times, \(calls.count) calls, power cut in \(Self.states) states"
    )
  }

  private func node(_ node: TestNode) throws -> NodeInfo {
    try node.client().call(NodeStatus.self, .init())
  }

  private func texts(_ node: TestNode) throws -> Set<String> {
    Set(try node.client().call(PostsList.self, .init(limit: 1000)).posts.map(\.text))
  }

  /// Has the server keep the laptop's hypha, if it does not yet, and connects the two.
  private func connect(_ server: TestNode, _ laptop: TestNode) throws {
    let isClaimed = try node(server).hyphalink != nil
    let code = isClaimed ? nil : try server.client().call(SetupCodeShow.self, .init()).code
    _ = try laptop.client().call(ConnectionsAdd.self, .init(url: server.url, setupCode: code))
  }
}
